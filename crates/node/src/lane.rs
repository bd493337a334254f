//! A lane: an authenticated transport on which sessions ride, one at a time.
//!
//! Built once both `Hello`s were exchanged and verified; or, for a session that waits, as soon as
//! our own is queued, so that its first frame shares a flight with it. Moves by value between the
//! pool, the session that rides it and the acceptor that waits for the next session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cloak_base::DeviceId;
use cloak_session::{LaneId, LaneUp};
use cloak_transport::Connection;
use cloak_wire::{Code, Frame, Nonce};

use crate::peer::{Greeting, Lent, Peer};

/// Frames behind an `Idle`, at most: an opener waits for its answer after the first few.
const UNREAD_MAX: usize = 8;

/// See the module.
pub(crate) struct Lane {
    /// Unique in this process.
    pub(crate) id: LaneId,
    /// The transport.
    pub(crate) connection: Connection,
    /// The device at the other end.
    pub(crate) peer: Arc<Peer>,
    /// Our own device.
    pub(crate) local: DeviceId,
    /// Our nonce of this connection.
    pub(crate) local_nonce: Nonce,
    /// The other end's; none until its `Hello` has come, which is the first frame then.
    pub(crate) peer_nonce: Option<Nonce>,
    /// The place of a dial of ours in the peer's count, until the peer's `Hello` has come.
    pub(crate) lent: Option<Lent>,
    /// Frames that came behind the last session's `Idle`: they belong to what comes next.
    pub(crate) unread: VecDeque<Frame>,
    /// Whether we open sessions on it (we dialled it, or asked for it), or the other end does.
    pub(crate) opener: Opener,
}

/// Which end opens sessions on a lane. Exactly one does, so that an idle lane has one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// We do; when idle the lane waits in our pool.
    Local,
    /// The peer does; when idle we wait for its next `Open` or `Resume`.
    Peer,
}

impl Lane {
    /// What a session needs to know of the lane.
    pub(crate) fn up(&self) -> LaneUp {
        LaneUp {
            lane: self.id,
            we_dialled: self.opener == Opener::Local,
            local_nonce: self.local_nonce,
            peer_nonce: self.peer_nonce,
            local: self.local,
            peer: self.connection.peer(),
        }
    }

    /// Says how the greeting ended, where it had not.
    pub(crate) fn greeted(&mut self, greeting: Greeting) {
        if let Some(lent) = self.lent.take() {
            lent.end(greeting);
        }
    }

    /// Keeps a frame for the next session.
    ///
    /// # Errors
    /// The opener does not wait for its answer.
    pub(crate) fn keep_unread(&mut self, frame: Frame) -> Result<(), Code> {
        if self.unread.len() == UNREAD_MAX {
            return Err(Code::Violation);
        }
        self.unread.push_back(frame);
        Ok(())
    }

    /// Whether an idle lane still has a connection, as far as the kernel knows. The other end sends
    /// nothing on an idle lane, so anything that arrives disqualifies it as well.
    pub(crate) fn is_healthy(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let flushed = !matches!(self.connection.poll_flush(&mut cx), Poll::Ready(Err(_)));
        flushed && self.connection.poll_recv(&mut cx, &mut |_| Err(())).is_pending()
    }
}
