//! The session is suspended on purpose, or goes on.

use std::task::{Context, Poll};

use cloak_base::Instant;
use cloak_wire::{Code, Frame};

use super::Driver;
use crate::api::{Wish, Wished};
use crate::lane::Lane;

impl Driver {
    /// Does what the application asks for; true when it asked. What it wrote before is read by then.
    pub(super) fn wishes(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(application) = &mut self.application else { return false };
        let Poll::Ready(wish) = application.poll_wish(cx) else { return false };
        self.grant(now, wish);
        true
    }

    pub(super) fn grant(&mut self, now: Instant, Wish { what, answer }: Wish) {
        let granted = match what {
            Wished::Suspend if self.moves.is_under_way() => Err(Code::Moving),
            Wished::Suspend => self.session.suspend(now),
            Wished::Resume => self.session.resume(now),
        };
        // The lane closes before anything else that comes on it is read, and whoever asked finds the session
        // listed as it is.
        self.events(now);
        self.show();
        // Who does not wait for the answer does not need it.
        let _ = answer.send(granted);
    }

    /// Closes a lane in order, since this end pauses: what is still on its way is read and dropped, or a reset
    /// would overtake the code.
    pub(super) fn close_in_order(&self, mut lane: Lane) {
        lane.connection.queue(&Frame::Close { code: Code::Paused });
        self.shared.tasks.spawn(lane.connection.close());
    }
}
