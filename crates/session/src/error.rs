//! What a peer can do wrong on a lane.

use cloak_wire::Code;

/// Why a lane has to be closed. The session has already forgotten it: no [`Event::Evict`] follows,
/// the driver closes it with [`LaneError::code`].
///
/// [`Event::Evict`]: crate::Event::Evict
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// Peer: it does not know the session's secret on this connection. Only the lane ends.
    #[error("the proof is wrong")]
    BadProof,
    /// Peer, or nobody: the attempt was overtaken by another. Only the lane ends.
    #[error("the rank is not above the committed one")]
    StaleRank,
    /// Peer: a frame that may not come on this lane now. Only the lane ends.
    #[error("unexpected frame")]
    Unexpected,
    /// Peer: it broke a rule on the lane it may use. The session has ended, with
    /// [`Event::Ended`](crate::Event::Ended).
    #[error("violation: {0}")]
    Violation(#[from] Violation),
    /// Nobody: this end is away, see [`Session::hand_over`](crate::Session::hand_over). Only the lane
    /// ends.
    #[error("this end is being handed over")]
    Moving,
    /// Nobody: this end is suspended on purpose, see [`Session::suspend`](crate::Session::suspend). Only
    /// the lane ends.
    #[error("this end is suspended on purpose")]
    Paused,
    /// Resource: memory is short; resume later. Only the lane ends.
    #[error("memory is short")]
    Busy,
    /// Nobody: the lane is not, or no longer, one of this session.
    #[error("the lane is not one of this session")]
    UnknownLane,
    /// The driver broke a rule of the interface.
    #[error("bug in the driver: {0}")]
    Bug(&'static str),
}

impl LaneError {
    /// The code to close the lane with.
    pub fn code(self) -> Code {
        match self {
            Self::BadProof => Code::BadProof,
            Self::StaleRank => Code::StaleRank,
            Self::Unexpected | Self::Violation(_) | Self::Bug(_) => Code::Violation,
            Self::Moving => Code::Moving,
            Self::Paused => Code::Paused,
            Self::Busy => Code::Busy,
            Self::UnknownLane => Code::Closed,
        }
    }
}

/// The rule that a peer broke with a valid rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An offset beyond what was sent to it, or below what it has acknowledged.
    #[error("an offset outside what is acknowledged and sent")]
    Offset,
    /// Credit below what the sender has received.
    #[error("credit below what was received")]
    Credit,
    /// Bytes beyond the credit it was given.
    #[error("bytes beyond the credit")]
    Overrun,
    /// Bytes after the end of its stream, or the end at another place than before.
    #[error("the end of the stream moved")]
    EndMoved,
    /// It asks to go as another generation than the next one, or to another device than before.
    #[error("not the next generation, or another device")]
    Generation,
    /// It says that the session is over, and it is not.
    #[error("idle before the end")]
    IdleEarly,
}

/// Why buffers cannot be restored. The session is as before; reset it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Local misuse: they were not taken, or are already back.
    #[error("the buffers are not away")]
    NotAway,
    /// Another number of bytes than was taken.
    #[error("{found} bytes instead of the {expected} that were taken")]
    Length {
        /// Bytes that were taken.
        expected: u64,
        /// Bytes that came back.
        found: u64,
    },
}

/// Why a capsule cannot be continued here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// More bytes than a session may keep here, in one direction or the other: `buffer_max`.
    #[error("more bytes than a session may keep here")]
    TooLarge,
    /// Its offsets contradict each other, or its bytes.
    #[error("offsets that contradict each other")]
    Offsets,
}
