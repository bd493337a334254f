//! Messages of a peer channel, and of a connection that redeems an invitation.

use std::net::SocketAddr;

use cloak_base::{DeviceId, SessionId};
use minicbor::bytes::ByteVec;

use crate::{Code, Cookie, Serials};

/// A frame of a peer channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerFrame {
    /// A signed binding, the sender's own or one it passes on.
    Binding {
        /// As `identity` encodes it.
        record: ByteVec,
    },
    /// A message between two overlay peers that are linked.
    Overlay {
        /// As `overlay` encodes it.
        message: ByteVec,
    },
    /// The sender cannot reach the receiver, or wants a locator proved: dial me.
    DialBack {
        /// Comes back in [`Purpose::Proof`](crate::Purpose::Proof) where `at` is given.
        cookie: u64,
        /// The locator to prove; none asks for a lane ([`Purpose::Reverse`](crate::Purpose::Reverse)).
        at: Option<SocketAddr>,
    },
    /// Resume these sessions: the sender cannot reach the receiver.
    Nudge {
        /// At most [`NUDGE_MAX`](crate::NUDGE_MAX).
        sessions: Vec<SessionId>,
    },
    /// The revocation lists that the sender holds.
    Serials(Serials),
    /// Asks for the lists with at least these serials.
    FetchRevocations(Serials),
    /// A signed revocation list.
    Revocations {
        /// As `identity` encodes it.
        list: ByteVec,
    },
    /// Asks a registrar for a membership that lasts longer.
    Renew {
        /// The present membership, as `identity` encodes it.
        membership: ByteVec,
    },
    /// The renewed membership.
    Renewed {
        /// As `identity` encodes it.
        membership: ByteVec,
    },
    /// Asks the holder of our entity's key, or a steward, for a device certificate that lasts longer.
    Certify {
        /// The present certificate, as `identity` encodes it.
        certificate: ByteVec,
    },
    /// The renewed device certificate.
    Certified {
        /// As `identity` encodes it.
        certificate: ByteVec,
    },
    /// The receiver is a steward of the entity that both belong to.
    Appoint {
        /// The steward certificate, as `identity` encodes it.
        certificate: ByteVec,
    },
    /// Asks for an invitation to be redeemed; only on a connection with `Purpose::Join`.
    Redeem {
        /// As `identity` encodes it.
        request: ByteVec,
    },
    /// The invitation is redeemed.
    Redeemed {
        /// As `identity` encodes it.
        grant: ByteVec,
    },
    /// The last request is refused.
    Refused {
        /// Why.
        code: Code,
    },
    /// Asks the receiver for a circuit: two hops, one to each of us, spliced.
    Circuit {
        /// Chosen by the sender; unique among those it asks this host for.
        circuit: u64,
        /// The device at the other end: a peer of the receiver, or of one of that device's hosts.
        to: DeviceId,
        /// Whose the circuit is, where the sender is a host and asks for somebody else. The receiver
        /// passes it on no further.
        from: Option<DeviceId>,
    },
    /// Open the hop of this circuit: dial the sender, where this link was dialled, and show the
    /// cookie. Whoever did not dial the link answers with a `Hop` of its own, and is dialled.
    Hop {
        /// As in the `Circuit`; on the other side of the host, chosen by the host.
        circuit: u64,
        /// Who asked for the circuit, where the receiver did not.
        from: Option<DeviceId>,
        /// Counts once, for ten seconds, for the receiver only.
        cookie: Cookie,
    },
    /// There will be no such circuit.
    NoCircuit {
        /// As in the `Circuit`.
        circuit: u64,
        /// Why.
        code: Code,
    },
    /// Asks for an `Alive` with the same number.
    Probe {
        /// Chosen by the sender.
        number: u64,
    },
    /// Answers a `Probe`.
    Alive {
        /// Of the probe.
        number: u64,
    },
}
