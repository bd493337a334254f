//! What comes out of a session.

use cloak_base::DeviceId;
use cloak_wire::{Code, SessionFrame};

use crate::LaneId;

/// Something to put on a lane.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// A control frame.
    Frame(SessionFrame),
    /// The next bytes of the stream, for one `Data` frame; never empty.
    Data(&'a [u8]),
}

/// Something the driver has to do or may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Initiator: the responder has connected; bytes may be written. (The responder is told
    /// nothing: it called [`opened`](crate::Session::opened).)
    Opened,
    /// Initiator: the responder refuses, or did not answer in time. `Ended` follows.
    Refused(Code),
    /// A lane is needed: dial one, or ask the peer to, until `LaneUnwanted`.
    LaneWanted,
    /// No further lane is needed.
    LaneUnwanted,
    /// Close this lane, with this code, even if it looks alive. The session has forgotten it.
    Evict {
        /// The lane.
        lane: LaneId,
        /// Why.
        code: Code,
    },
    /// Nothing of this session is, or will be, on this lane: it may carry another one. The session
    /// has forgotten it.
    LaneFree(LaneId),
    /// Everything up to the end of the peer's stream is delivered: shut down the application's
    /// write side, then call [`fin_delivered`](crate::Session::fin_delivered).
    Finish,
    /// End the application's connection the way a crash does.
    ResetApplication(Code),
    /// No lane is known to work.
    Suspended,
    /// A lane works again.
    Resumed,
    /// Memory may be freed: [`take_buffers`](crate::Session::take_buffers) and keep them elsewhere.
    Spill,
    /// The buffers are needed: [`restore_buffers`](crate::Session::restore_buffers).
    Unspill,
    /// This end may go to the device that was named: it is away from now on. Give that device the
    /// [`capsule`](crate::Session::capsule).
    MayMove,
    /// This end may not go; it is as before.
    Stay(Code),
    /// The other end has agreed that this is its peer: after [`adopt`](crate::Session::adopt) or
    /// [`take_back`](crate::Session::take_back).
    Taken,
    /// The other end may go to this device, which resumes if it does.
    PeerMoving(DeviceId),
    /// The other end is on this device from now on: the one it may have gone to, or the one before.
    PeerMoved(DeviceId),
    /// Another device may take this end if ours dies, see
    /// [`begin_escrow`](crate::Session::begin_escrow).
    Escrowed,
    /// It may not, and what it has of this end is worth nothing any more.
    EscrowEnded(Code),
    /// This device may take the other end if its owner dies; or none may.
    PeerEscrow(Option<DeviceId>),
    /// It is over. Always last; keep a tombstone and drop the session.
    Ended(End),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Both streams were delivered to their end.
    Closed,
    /// An application, or an operator, at one of the ends cut it short.
    Reset(Code),
    /// It could not go on, or was refused.
    Lost(Code),
    /// This end is on another device.
    Moved,
}

impl End {
    /// The code for its tombstone.
    pub fn code(self) -> Code {
        match self {
            Self::Closed => Code::Closed,
            Self::Moved => Code::Moved,
            Self::Reset(code) | Self::Lost(code) => code,
        }
    }
}
