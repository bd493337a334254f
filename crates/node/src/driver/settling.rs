//! An application that cannot tell where it was is parted from: the kernel is asked what it has not read.
//!
//! It is given no more, and nothing of its socket is touched, until it has read everything, or has read
//! nothing for a while. A program that reads is through its socket's bytes within milliseconds, and the next
//! one goes on exactly behind them; of one that is stuck it is known what it has not read. Only then the
//! other end is asked for a move, or the stream ended. What the program says meanwhile goes out. When the other end
//! has agreed, the kernel is asked once more: what the program reads after that comes twice, never too little.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_wire::Code;
use tokio::sync::oneshot;

use super::Driver;

/// Pause between two questions.
const AGAIN_AFTER: Duration = Duration::from_millis(5);
/// A program that has read nothing for so long is taken to read no more.
const STUCK_AFTER: Duration = Duration::from_millis(500);
/// One that goes on reading is not waited for any longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);

/// Who waits until an application reads no more.
pub(super) struct Settling {
    next: Next,
    /// The last answer, and since when it is the same.
    unread: Option<u64>,
    since: Instant,
    ask_at: Instant,
    until: Instant,
}

/// What an application is parted from for.
pub(super) enum Next {
    /// The session is held.
    Hold(oneshot::Sender<Result<(), Code>>),
    /// It goes to a device, if the other end agrees.
    Move(DeviceId),
}

impl Settling {
    pub(super) fn new(now: Instant, next: Next) -> Self {
        Self { next, unread: None, since: now, ask_at: now, until: now + SETTLED_WITHIN }
    }

    pub(super) fn is_for_move(&self) -> bool {
        matches!(self.next, Next::Move(_))
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.ask_at
    }

    /// Takes an answer; true once there is no need to ask again.
    fn note(&mut self, now: Instant, unread: Option<u64>) -> bool {
        let Some(unread) = unread else { return true };
        if self.unread.replace(unread) != Some(unread) {
            self.since = now;
        }
        self.ask_at = now + AGAIN_AFTER;
        unread == 0 || now >= self.until || now.since(self.since) >= STUCK_AFTER
    }
}

impl Driver {
    /// Asks how much the application has not read, and goes on with what waits for that once it is known.
    pub(super) fn ask_reading(&mut self, now: Instant) {
        let Some(settling) = &self.moves.settling else { return };
        if settling.ask_at > now {
            return;
        }
        let unread = self.unread();
        let is_settled = self.moves.settling.as_mut().is_some_and(|one| one.note(now, unread));
        if !is_settled {
            return;
        }
        let Some(Settling { next, unread, .. }) = self.moves.settling.take() else { return };
        match next {
            Next::Move(to) => {
                self.moves.is_settled = true;
                self.ask(now, to);
            }
            Next::Hold(hold) => {
                self.part_to_hold(now, unread);
                let _ = hold.send(Ok(()));
            }
        }
    }

    /// How many of the bytes that the application was given it has not read now, where that can be told.
    pub(super) fn unread(&self) -> Option<u64> {
        let unread = self.application.as_ref().and_then(|application| application.unread());
        unread.map(|unread| self.tail.of_given(unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: Next = Next::Move(DeviceId::from_bytes([1; 32]));

    #[test]
    fn who_reads_is_waited_for_and_who_does_not_is_not() {
        let at = |millis: u64| Instant::from_micros(1_000_000 + millis * 1000);
        let mut reads = Settling::new(at(0), NEXT);
        assert!(!reads.note(at(0), Some(100)) && !reads.note(at(200), Some(90)));
        assert!(!reads.note(at(699), Some(90)) && reads.note(at(700), Some(90)), "stuck");
        assert!(reads.note(at(701), None) && reads.unread == Some(90), "gone: the last counts");

        let mut slow = Settling::new(at(0), NEXT);
        assert!((0..2000).step_by(100).all(|ms| !slow.note(at(ms), Some(5000 - ms))));
        assert!(slow.note(at(2000), Some(1)), "for ever");

        let mut done = Settling::new(at(0), NEXT);
        assert!(done.note(at(0), Some(0)) && done.unread == Some(0));
        let mut elsewhere = Settling::new(at(0), NEXT);
        assert!(elsewhere.note(at(0), None) && elsewhere.unread.is_none());
    }
}
