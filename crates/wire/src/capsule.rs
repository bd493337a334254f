//! An end of a session, packed for another device.

use cloak_base::{DeviceId, Epoch, Generation, Incarnation, SessionId, UnixTime};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::{Secret, Target};

/// Everything that the next owner of an end needs, but for the bytes that are not acknowledged, which
/// follow it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Capsule {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// Whether it is the initiator's end.
    #[n(1)]
    pub initiator: bool,
    /// The session's secret from this generation on.
    #[n(2)]
    pub secret: Secret,
    /// Of the next owner.
    #[n(3)]
    pub generation: Generation,
    /// Of the other end's owner.
    #[n(4)]
    pub peer_generation: Generation,
    /// The other end's run: a later one has lost the session.
    #[n(5)]
    pub peer_run: Option<Incarnation>,
    /// What the session is for.
    #[n(6)]
    pub target: Target,
    /// No resume had a higher one.
    #[n(7)]
    pub epoch: Epoch,
    /// The stream to the other end.
    #[n(8)]
    pub sent: Sent,
    /// The stream from it.
    #[n(9)]
    pub received: Received,
    /// How often the session changed its lane.
    #[n(10)]
    pub resumes: u64,
}

/// Where the stream to the other end stands. The capsule's bytes begin at `acked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Sent {
    /// Every byte below was accepted by the other end's application.
    #[n(0)]
    pub acked: u64,
    /// The next offset that was on no lane yet.
    #[n(1)]
    pub sent: u64,
    /// Highest offset, exclusive, for which the other end gave credit.
    #[n(2)]
    pub credit: u64,
    /// Offset of the end of the stream, once the application has finished.
    #[n(3)]
    pub fin: Option<u64>,
}

/// Where the stream from the other end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Received {
    /// Every byte below was accepted by the application.
    #[n(0)]
    pub delivered: u64,
    /// Highest offset, exclusive, for which the other end was given credit.
    #[n(1)]
    pub credit: u64,
    /// Offset of the end of the stream, where all before it was delivered.
    #[n(2)]
    pub fin: Option<u64>,
}

/// Hands an end of a session over to the receiver. Its bytes follow as `Data`: those that are not
/// acknowledged, those that the application had and has not read, the application's own state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HandOver {
    /// The end.
    #[n(0)]
    pub capsule: Capsule,
    /// How many there are of each.
    #[n(1)]
    pub bytes: [u64; 3],
    /// The device at the other end.
    #[n(2)]
    pub peer: DeviceId,
    /// That device's record, as it published it, where the sender has one.
    #[n(3)]
    pub record: Option<ByteVec>,
    /// When the session was opened.
    #[n(4)]
    pub opened_at: UnixTime,
    /// How many bytes the application had not read, where that is known; never less than there are of those.
    #[n(5)]
    pub not_read: Option<u64>,
    /// Where the session moves for the sender's load: sessions of this service that it has. The receiver
    /// takes it only while it has noticeably fewer.
    #[n(6)]
    pub load: Option<u32>,
}

impl HandOver {
    /// Whether the application can have left that much unread: no more than was delivered to it, and no more than
    /// it says.
    pub fn is_unread_possible(&self) -> bool {
        let Received { delivered, fin, .. } = self.capsule.received;
        let [_, unread, _] = self.bytes;
        let given = fin.map_or(delivered, |fin| fin.min(delivered));
        unread <= given && self.not_read.is_none_or(|not_read| unread <= not_read)
    }
}

/// A copy of an end of a session, to be kept in case that its owner dies. The bytes that are not
/// acknowledged follow as `Data`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Deposit {
    /// The end, as the receiver would own it.
    #[n(0)]
    pub capsule: Capsule,
    /// How many bytes there are.
    #[n(1)]
    pub bytes: u64,
    /// The device at the other end.
    #[n(2)]
    pub peer: DeviceId,
    /// That device's record, as it published it, where the sender has one.
    #[n(3)]
    pub record: Option<ByteVec>,
    /// When the session was opened.
    #[n(4)]
    pub opened_at: UnixTime,
}

/// What has changed of an end since its copy was made. The bytes that the application wrote since
/// follow as `Data`: they begin where the copy's end, or at `acked` where that is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    /// As in [`Sent::acked`].
    #[n(0)]
    pub acked: u64,
    /// As in [`Sent::fin`], where all before it is in the copy.
    #[n(1)]
    pub fin: Option<u64>,
    /// As in [`Received::delivered`].
    #[n(2)]
    pub delivered: u64,
    /// As in [`Received::fin`].
    #[n(3)]
    pub peer_fin: Option<u64>,
    /// How many bytes follow.
    #[n(4)]
    pub bytes: u64,
}

/// An end of a session that its owner would hand over, if the receiver wants it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// The session.
    #[n(0)]
    pub session: SessionId,
    /// Whether it is the initiator's end.
    #[n(1)]
    pub initiator: bool,
    /// What the session is for.
    #[n(2)]
    pub target: Target,
    /// Name of the entity at the other end.
    #[n(3)]
    pub peer: String,
}
