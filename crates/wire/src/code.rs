//! The one table of codes: why a request was refused, why a session or a connection ended.

use std::fmt;

use minicbor::{Decode, Encode};

/// Who has to act on a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The other end broke the protocol.
    Peer,
    /// The request cannot be met as asked.
    Request,
    /// A limit or a resource: the same request may succeed later.
    Resource,
    /// Nobody: an orderly end.
    Nobody,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal $blame:ident;)*) => {
        /// A code on the wire, in `Cloak-Error`, in JSON and in logs. Numbers are never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code of a later version.
            Other(u16),
        }

        impl Code {
            /// Every code of this version.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The name, as people and scripts see it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "other",
                }
            }

            /// Who has to act.
            pub fn blame(self) -> Blame {
                match self {
                    $(Self::$name => Blame::$blame,)*
                    Self::Other(_) => Blame::Request,
                }
            }
        }

        impl From<u16> for Code {
            fn from(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

codes! {
    /// An orderly end.
    Closed = 0 "closed" Nobody;
    /// The gateway is stopping.
    ShuttingDown = 1 "shutting-down" Nobody;
    /// The application reset its connection.
    Reset = 2 "reset" Nobody;
    /// An operator closed the session.
    Cancelled = 3 "cancelled" Nobody;

    /// No binding is known for the name.
    UnknownName = 16 "unknown-name" Request;
    /// The device exposes no service at that port.
    NoService = 17 "no-service" Request;
    /// The service's backend refused the connection.
    BackendRefused = 18 "backend-refused" Request;
    /// The service does not admit this entity.
    NotAllowed = 19 "not-allowed" Request;
    /// No path to the peer could be opened.
    PeerUnreachable = 20 "peer-unreachable" Resource;
    /// A step took longer than its deadline.
    Timeout = 21 "timeout" Resource;
    /// A limit is reached; try again later.
    Busy = 22 "busy" Resource;
    /// The destination may not be reached through this proxy.
    OutboundDenied = 23 "outbound-denied" Request;
    /// An ordinary Internet destination refused the connection.
    ConnectionRefused = 24 "connection-refused" Request;
    /// An ordinary Internet destination cannot be reached.
    HostUnreachable = 25 "host-unreachable" Resource;
    /// The name is not a valid Cloak name.
    BadName = 26 "bad-name" Request;

    /// A frame that cannot be decoded.
    Malformed = 32 "malformed" Peer;
    /// A frame that may not come here, or an offset out of range.
    Violation = 33 "violation" Peer;
    /// No common protocol version.
    Version = 34 "version" Peer;
    /// The peer belongs to another realm.
    WrongRealm = 35 "wrong-realm" Peer;
    /// The certificates do not show what they should.
    Unauthenticated = 36 "unauthenticated" Peer;
    /// A certificate is expired or not yet valid; a clock may be wrong.
    Expired = 37 "expired" Peer;
    /// The entity or device was revoked.
    Revoked = 38 "revoked" Peer;
    /// The answering device is not the one that was asked for.
    WrongPeer = 39 "wrong-peer" Peer;
    /// A `Resume` whose rank is not above the committed one.
    StaleRank = 40 "stale-rank" Peer;
    /// A `Resume` whose proof is wrong.
    BadProof = 41 "bad-proof" Peer;

    /// More messages than anybody needs.
    Flood = 42 "flood" Peer;
    /// A place in the overlay without a certificate for it.
    FalseAddress = 43 "false-address" Peer;
    /// A record that its publisher did not sign.
    FalseRecord = 44 "false-record" Peer;

    /// The session is not known here, or no longer.
    Gone = 48 "gone" Resource;
    /// The peer was suspended for longer than `linger`.
    LingerExceeded = 49 "linger-exceeded" Resource;
    /// The peer's gateway restarted and could not keep the session.
    PeerRestarted = 50 "peer-restarted" Resource;
    /// Buffers could not be kept.
    StorageFailed = 51 "storage-failed" Resource;

    /// This end of the session is on another device.
    Moved = 52 "moved" Nobody;
    /// This end of the session is being handed over to another device.
    Moving = 53 "moving" Resource;
    /// The session cannot be moved: its state, or its service, does not allow it.
    NotMovable = 54 "not-movable" Request;
    /// One of its ends has suspended the session on purpose.
    Paused = 55 "paused" Nobody;
    /// Another device has taken the asker's end of the session.
    Superseded = 56 "superseded" Nobody;

    /// The invitation is not known to this device, or its secret is wrong.
    InvitationUnknown = 64 "invitation-unknown" Request;
    /// The invitation was already redeemed.
    InvitationUsed = 65 "invitation-used" Request;
    /// The invitation has expired.
    InvitationExpired = 66 "invitation-expired" Request;
    /// The name is taken, or not the one the invitation fixes.
    NameTaken = 67 "name-taken" Request;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "code {number}"),
            known => f.write_str(known.as_str()),
        }
    }
}

impl std::error::Error for Code {}

impl<C> Encode<C> for Code {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Code {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from(code.number()), *code);
            for other in &Code::ALL[index + 1..] {
                assert_ne!(code.number(), other.number());
                assert_ne!(code.as_str(), other.as_str());
            }
        }
        assert_eq!(Code::from(9999), Code::Other(9999));
    }
}
