//! Frames of a session, on the lane it rides.

use std::fmt;

use cloak_base::{DeviceId, Epoch, Generation, SessionId};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::{Code, EARLY_MAX};

/// The secret of a session: 32 random bytes drawn by its initiator. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Secret(#[n(0)] pub ByteArray<32>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// HMAC-SHA-256 under the session's secret; see docs/PROTOCOL.md for what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Proof(#[n(0)] pub ByteArray<32>);

/// What the initiator wants to reach at the responder.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Target {
    /// The service exposed at this port.
    #[n(0)]
    Service(#[n(0)] u16),
    /// A host of the ordinary Internet, through an exit: a name or an address, and a port.
    #[n(1)]
    Host(#[n(0)] String, #[n(1)] u16),
}

/// Opens a session; idempotent by (initiator entity, session).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Open {
    /// The new session.
    #[n(0)]
    pub session: SessionId,
    /// Its secret.
    #[n(1)]
    pub secret: Secret,
    /// What it is for.
    #[n(2)]
    pub target: Target,
    /// Highest offset, exclusive, that the responder may send.
    #[n(3)]
    pub credit: u64,
    /// Rank of this `Open`, together with the initiator's role: a repeated one has a higher epoch.
    #[n(4)]
    pub epoch: Epoch,
    /// The first bytes of the initiator's stream.
    #[n(5)]
    pub early: Early,
}

/// What the application has said before its session is open, at most [`EARLY_MAX`] bytes. Never
/// printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Early(Vec<u8>);

impl Early {
    /// The front of `bytes`, as much as may go early.
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(EARLY_MAX)].to_vec())
    }
}

impl std::ops::Deref for Early {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl<C> Encode<C> for Early {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Early {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        if bytes.len() > EARLY_MAX {
            return Err(minicbor::decode::Error::message("too many early bytes"));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// The answer to an [`Open`] that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Opened {
    /// Highest offset, exclusive, that the initiator may send.
    #[n(0)]
    pub credit: u64,
}

/// Asks to continue a session on this lane.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Resume {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// Rank of this resume, together with the sender's role.
    #[n(1)]
    pub epoch: Epoch,
    /// The sender has every byte below this offset; data on this lane starts here.
    #[n(2)]
    pub received: u64,
    /// Of `received`, what the sender's application has accepted.
    #[n(3)]
    pub delivered: u64,
    /// Highest offset, exclusive, that the other end may send. Never below `received`.
    #[n(4)]
    pub credit: u64,
    /// Shows that the sender knows the session's secret, on this connection.
    #[n(5)]
    pub proof: Proof,
}

/// The answer to a [`Resume`] that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Resumed {
    /// The epoch that was accepted.
    #[n(0)]
    pub epoch: Epoch,
    /// As in [`Resume::received`].
    #[n(1)]
    pub received: u64,
    /// As in [`Resume::delivered`].
    #[n(2)]
    pub delivered: u64,
    /// As in [`Resume::credit`].
    #[n(3)]
    pub credit: u64,
    /// As in [`Resume::proof`], for the other direction.
    #[n(4)]
    pub proof: Proof,
}

/// A frame of a session, other than its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionFrame {
    /// Opens a session.
    Open(Open),
    /// The session is open.
    Opened(Opened),
    /// The session is not opened, and never was.
    Refused {
        /// Why.
        code: Code,
    },
    /// Asks to continue on this lane.
    Resume(Resume),
    /// The session continues on this lane.
    Resumed(Resumed),
    /// There is nothing to resume: the session ended (its tombstone says how), or is not known.
    Gone {
        /// The session that was asked for.
        session: SessionId,
        /// How it ended; [`Code::Gone`] when not even a tombstone is left.
        code: Code,
        /// Final `delivered` of the sender, for a clean end.
        delivered: u64,
    },
    /// What the application accepted, and how far the other end may send.
    Ack {
        /// Every byte below this offset was accepted by the application's socket.
        delivered: u64,
        /// Highest offset, exclusive, that may be sent.
        credit: u64,
    },
    /// The last byte was sent; occupies one offset.
    Fin,
    /// The application reset its connection: both directions end now.
    Reset {
        /// Why.
        code: Code,
    },
    /// Asks for an `Alive` with the same number.
    Probe {
        /// Chosen by the sender.
        number: u64,
        /// The sender takes the lane for dead: it has waited in vain for any frame. Tells the other
        /// end of a path that works in one direction only.
        unheard: bool,
    },
    /// Answers a `Probe`.
    Alive {
        /// Of the probe.
        number: u64,
    },
    /// The session is over on this lane and nothing of it follows.
    Idle,
    /// Asks to hand the sender's end over to another device.
    Move {
        /// Of the owner after the sender.
        generation: Generation,
        /// That device.
        to: DeviceId,
    },
    /// The sender's end may be handed over: nothing but a `Resume` of this generation, by the device
    /// that was named or the one that asked, makes either its owner.
    MayMove {
        /// Of the `Move`.
        generation: Generation,
    },
    /// It may not.
    Stay {
        /// Of the `Move`.
        generation: Generation,
        /// Why.
        code: Code,
    },
    /// Asks that a device which has a copy of the sender's end in escrow may take it from now on, or that
    /// none may.
    Escrow {
        /// Of the owner after the sender.
        generation: Generation,
        /// That device.
        to: Option<DeviceId>,
        /// Which copy: the one that it has now, or had last.
        copy: u64,
    },
    /// It is so from now on; with a code, no device may.
    Escrowed {
        /// Of the `Escrow`.
        generation: Generation,
        /// Why not.
        code: Option<Code>,
    },
}
