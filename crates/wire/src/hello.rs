//! `Hello`: the first frame in each direction of every transport.

use std::net::SocketAddr;

use cloak_base::{Incarnation, RealmId};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

use crate::Cookie;

/// Protocol version spoken by this crate; also in the ALPN name `cloak/1`.
pub const VERSION: u16 = 1;

/// Fresh random bytes of one end, drawn for one transport connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Nonce(#[n(0)] pub ByteArray<32>);

/// Why a transport was opened. The dialler's counts; the acceptor repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Purpose {
    /// The peer channel of this device pair.
    #[n(0)]
    Peer,
    /// A lane, for one session after the other.
    #[n(1)]
    Lane,
    /// An invitation is to be redeemed; no credentials are carried.
    #[n(2)]
    Join,
    /// Shows that a locator works, in answer to a `DialBack` with this cookie.
    #[n(3)]
    Proof {
        /// The cookie of the `DialBack`.
        #[n(0)]
        cookie: u64,
    },
    /// A lane that the acceptor asked for by a `DialBack` without a locator: the acceptor opens
    /// sessions on it, as if it had dialled.
    #[n(4)]
    Reverse {
        /// The cookie of the `DialBack`.
        #[n(0)]
        cookie: u64,
    },
    /// A hop of a circuit, where a plain one found no answer: `Data` carries what a plain one would.
    #[n(5)]
    Hop {
        /// Of the `Hop` that asked for it.
        #[n(0)]
        cookie: Cookie,
    },
}

/// Serial numbers of the revocation lists a peer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Serials {
    /// Of the realm's list.
    #[n(0)]
    pub realm: u64,
    /// Of the list of the sender's own entity.
    #[n(1)]
    pub entity: u64,
}

/// The first frame in each direction. Both ends send theirs without waiting for the other.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`VERSION`].
    #[n(0)]
    pub version: u16,
    /// Realm of the sender.
    #[n(1)]
    pub realm: RealmId,
    /// The sender's certificates as `identity` encodes them; empty for [`Purpose::Join`].
    #[n(2)]
    pub credentials: ByteVec,
    /// What the sender knows of revocations.
    #[n(3)]
    pub serials: Serials,
    /// The sender's present run.
    #[n(4)]
    pub incarnation: Incarnation,
    /// Fresh for this connection.
    #[n(5)]
    pub nonce: Nonce,
    /// Why the transport was opened.
    #[n(6)]
    pub purpose: Purpose,
    /// The address at which the sender sees the receiver.
    #[n(7)]
    pub observed: Option<SocketAddr>,
    /// The port on which the sender accepts transports, when it does.
    #[n(8)]
    pub listening: Option<u16>,
}
