//! The application's side: bytes in and out, its end of file, its death.

use std::time::Duration;

use cloak_base::Instant;
use cloak_wire::Code;

use super::spill::Spill;
use super::timers::{IDLE_MAX, MEMORY_WAIT_MAX, MEMORY_WAIT_MIN};
use super::{Leaving, Phase, Session, Tell};
use crate::lane::Greeting;
use crate::{End, Event, Role};

impl Session {
    /// Responder: the backend is connected.
    pub fn opened(&mut self, now: Instant) {
        let now = self.tick(now);
        if self.role == Role::Responder && matches!(self.phase, Phase::Opening(_)) {
            self.phase = Phase::Open;
            self.moved_at = now;
            self.greet_current(Greeting::Opened);
        }
        self.settle();
    }

    /// Responder: the session is not opened. Ends it as soon as the initiator knows.
    pub fn refuse(&mut self, now: Instant, code: Code) {
        self.tick(now);
        if self.role == Role::Responder && matches!(self.phase, Phase::Opening(_)) {
            self.greet_current(Greeting::Refused(code));
            self.leave(End::Lost(code), Tell::Nothing);
        }
        self.settle();
    }

    /// Room for bytes of the application, charged to the ledger; give back what is not used with
    /// [`wrote`](Self::wrote). Empty means back-pressure: the buffer or the ledger is full, the
    /// session is not open yet, or the application has finished.
    pub fn space(&mut self) -> &mut [u8] {
        if self.phase != Phase::Open || !self.spill.is_here() {
            return &mut [];
        }
        let (room, refused) = self.send.space(&self.memory);
        if refused && self.memory_retry.is_none() {
            let longer = (self.memory_wait * 2).clamp(MEMORY_WAIT_MIN, MEMORY_WAIT_MAX);
            self.memory_wait = longer;
            self.memory_retry = Some(self.now + longer);
        } else if !refused {
            self.memory_wait = Duration::ZERO;
        }
        room
    }

    /// The application's next `len` bytes are in the room that [`space`](Self::space) gave; zero
    /// gives the room back.
    pub fn wrote(&mut self, now: Instant, len: usize) {
        let now = self.tick(now);
        self.send.wrote(len);
        if len > 0 {
            self.moved(now);
        }
        self.settle();
    }

    /// The application's end of file, after everything it wrote.
    pub fn finish(&mut self, now: Instant) {
        let now = self.tick(now);
        if self.phase == Phase::Open && !self.send.is_finished() {
            self.send.finish();
            self.moved(now);
        }
        self.settle();
    }

    /// The application died, or an operator closes the session: both directions end now, and all
    /// bytes kept are dropped. The session stays until the peer knows, for `linger` at most. Does nothing
    /// while this end is away.
    pub fn reset(&mut self, now: Instant, code: Code) {
        self.tick(now);
        match self.phase {
            // The peer may not know of the session: its own deadline and our tombstone tell it.
            Phase::Opening(_) if self.role == Role::Initiator => self.end(End::Reset(code)),
            Phase::Opening(_) => {
                self.greet_current(Greeting::Refused(code));
                self.leave(End::Reset(code), Tell::Nothing);
            }
            Phase::Open | Phase::Taking => self.leave(End::Reset(code), Tell::Reset(code)),
            // It is not ours to end: see `take_back`.
            Phase::Away { .. } | Phase::Leaving(_) | Phase::Ended(_) => {}
        }
        self.settle();
    }

    /// The session cannot go on here: ends it at once. The peer learns it from the tombstone.
    pub fn lose(&mut self, now: Instant, code: Code) {
        self.tick(now);
        if !self.is_ended() {
            self.end(End::Lost(code));
        }
        self.settle();
    }

    /// The first contiguous bytes that wait for the application; empty when none do.
    pub fn held(&self) -> &[u8] {
        self.receive.held()
    }

    /// Whether the application has finished.
    pub fn has_finished(&self) -> bool {
        self.send.is_finished()
    }

    /// Whether the application was told that the peer's has finished.
    pub fn peer_has_finished(&self) -> bool {
        self.receive.is_complete()
    }

    /// Keeps bytes from [`handle_data`](Self::handle_data) that the application did not take.
    pub fn hold(&mut self, bytes: &[u8]) {
        self.receive.hold(&self.memory, bytes);
    }

    /// The application took `len` more bytes, of those that are held, or else of those that
    /// [`handle_data`](Self::handle_data) has just given.
    pub fn delivered(&mut self, now: Instant, len: usize) {
        self.now = self.now.max(now);
        self.busy_at = self.now;
        let may_grow = !self.memory.is_short();
        let escrow = self.escrow_round_trip().unwrap_or_default();
        let rtt = self.rtt.smoothed().map(|rtt| rtt + escrow);
        if self.receive.deliver(self.now, len as u64, rtt, may_grow) {
            self.ask_round_trip();
        }
        self.settle();
    }

    /// The application's write side is shut down, after [`Event::Finish`].
    pub fn fin_delivered(&mut self, now: Instant) {
        let now = self.tick(now);
        self.receive.fin_delivered(now);
        self.settle();
    }

    /// The outcome is settled: bytes are dropped, and the other end hears what it has yet to hear.
    pub(super) fn leave(&mut self, end: End, tell: Tell) {
        let until = match tell {
            Tell::Nothing => self.now + IDLE_MAX,
            // Who takes us for suspended on purpose does not ask: it would wait for `linger`.
            Tell::Closed if !self.pause.owed => self.now + self.config.closing_max,
            Tell::Closed | Tell::Reset(_) => self.now + self.config.linger,
        };
        if tell == Tell::Closed {
            // Whoever takes this end from now on finds that it is over, or else all that is missing.
            self.leave_escrow();
        } else {
            self.send.abandon();
            self.receive.abandon();
            self.spill = Spill::default();
        }
        // The other end is to hear of it.
        self.pause.here = false;
        self.phase = Phase::Leaving(Leaving { end, tell, until });
    }

    /// The session is over. An outcome that was settled before stays.
    pub(super) fn end(&mut self, end: End) {
        let end = match self.phase {
            Phase::Leaving(leaving) => leaving.end,
            _ => end,
        };
        let told = !matches!(self.phase, Phase::Open);
        if let Phase::Opening(_) = self.phase
            && self.role == Role::Initiator
            && let End::Lost(code) = end
        {
            self.events.push_back(Event::Refused(code));
        }
        self.evict_all(end.code());
        if std::mem::take(&mut self.wanted) {
            self.events.push_back(Event::LaneUnwanted);
        }
        if !told && let End::Reset(code) | End::Lost(code) = end {
            self.events.push_back(Event::ResetApplication(code));
        }
        self.send.abandon();
        self.receive.abandon();
        self.escrow = None;
        self.phase = Phase::Ended(end);
        self.events.push_back(Event::Ended(end));
    }

    /// Bytes moved, in either direction.
    pub(super) fn moved(&mut self, now: Instant) {
        let expecting = self.expecting_until().is_some_and(|until| now <= until);
        if !expecting && let Some(lane) = self.current.and_then(|id| self.lane_mut(id)) {
            lane.liveness.expect(now);
        }
        self.moved_at = now;
    }
}
