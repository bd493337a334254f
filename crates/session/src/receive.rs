//! The receiving direction: what arrived, what the application took, what the peer may send.
//!
//! Offsets in order: `told` (acknowledged to the peer) <= `delivered` (accepted by the
//! application) <= `received` (arrived). Bytes between the last two are held here, or are with the
//! driver until it says what became of them.

use std::time::Duration;

use cloak_base::Instant;
use cloak_wire::Received;

use crate::credit::Window;
use crate::error::{CapsuleError, Violation};
use crate::queue::Queue;
use crate::{Config, Memory};

/// An acknowledgement does not wait once so many bytes were delivered: two full reads.
const ACK_EVERY: u64 = 512 << 10;
/// Once so many were, it waits only [`SHORTLY`]: they may be all that the sender has room for.
const ACK_SHORTLY: u64 = 8 << 10;
const SHORTLY: Duration = Duration::from_millis(25);

/// State of the receiving direction.
#[derive(Debug)]
pub(crate) struct Receive {
    received: u64,
    delivered: u64,
    /// Offset of the peer's `Fin`, once it arrived.
    fin: Option<u64>,
    /// Whether `Event::Finish` was given out.
    finish_told: bool,
    held: Queue,
    /// Bytes that the driver was offered and has neither delivered nor held.
    offered: u64,
    /// Highest offset, exclusive, that the peer was told it may send. Never falls.
    limit: u64,
    window: Window,
    /// Offset, exclusive, from which on nothing is acknowledged yet: that it was delivered is not
    /// known where our copy is kept.
    kept: u64,
    /// `delivered` as the peer was told last.
    told: u64,
    ack_now: bool,
    ack_at: Option<Instant>,
    ack_delay: Duration,
}

impl Receive {
    pub(crate) fn new(offset: u64, config: &Config, now: Instant) -> Self {
        Self {
            received: offset,
            delivered: offset,
            fin: None,
            finish_told: false,
            held: Queue::at(offset),
            offered: 0,
            limit: offset,
            window: Window::new(config.idle_credit, config.buffer_max, offset, now),
            kept: u64::MAX,
            told: offset,
            ack_now: false,
            ack_at: None,
            ack_delay: config.ack_delay,
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn held_len(&self) -> u64 {
        self.held.len()
    }

    pub(crate) fn held(&self) -> &[u8] {
        self.held.slice(self.held.start(), u64::MAX)
    }

    /// Whether the peer's stream is delivered to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.fin.is_some_and(|fin| self.delivered > fin)
    }

    /// Whether the driver has said what became of all it was offered.
    pub(crate) fn is_resolved(&self) -> bool {
        self.offered == 0
    }

    /// Takes the bytes that came at `position`: gives those that are new.
    pub(crate) fn data<'d>(
        &mut self,
        position: u64,
        bytes: &'d [u8],
    ) -> Result<&'d [u8], Violation> {
        let end = position + bytes.len() as u64;
        if self.fin.is_some_and(|fin| end > fin) {
            return Err(Violation::EndMoved);
        }
        if end > self.limit {
            return Err(Violation::Overrun);
        }
        let known = self.received.saturating_sub(position).min(bytes.len() as u64);
        let known = usize::try_from(known).expect("invariant: not above a slice's length");
        let fresh = &bytes[known..];
        self.received += fresh.len() as u64;
        self.offered += fresh.len() as u64;
        Ok(fresh)
    }

    /// Takes the bytes that came with an `Open`, for which no credit was given yet; holds those that
    /// are new.
    pub(crate) fn early(
        &mut self,
        memory: &Memory,
        base: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        self.limit = self.limit.max(base + bytes.len() as u64);
        let fresh = self.data(base, bytes)?;
        self.hold(memory, fresh);
        Ok(())
    }

    /// Takes the `Fin` that came at `position`.
    pub(crate) fn fin(&mut self, position: u64) -> Result<(), Violation> {
        match self.fin {
            None if position == self.received => {
                self.fin = Some(position);
                self.received += 1;
                Ok(())
            }
            Some(fin) if fin == position => Ok(()),
            _ => Err(Violation::EndMoved),
        }
    }

    /// Keeps bytes that the application did not take.
    pub(crate) fn hold(&mut self, memory: &Memory, bytes: &[u8]) {
        debug_assert!(bytes.len() as u64 <= self.offered, "holds more than it was offered");
        if self.held.is_empty() {
            self.held.clear(self.delivered);
        }
        self.held.push(memory, bytes);
        self.offered = self.offered.saturating_sub(bytes.len() as u64);
    }

    /// Counts bytes that the application took. `rtt`, `may_grow`: for the window. True when that
    /// needs to know the round trip, now or soon.
    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        len: u64,
        rtt: Option<Duration>,
        may_grow: bool,
    ) -> bool {
        if self.held.is_empty() {
            debug_assert!(len <= self.offered, "delivers more than it was offered");
            self.offered = self.offered.saturating_sub(len);
        } else {
            debug_assert!(len <= self.held.len(), "delivers more than is held");
        }
        self.delivered += len;
        self.held.release(self.delivered);
        let needs_rtt = self.window.is_half_used(self.delivered);
        self.window.delivered(now, self.delivered, rtt, may_grow);
        self.schedule_ack(now);
        needs_rtt
    }

    /// What may be acknowledged.
    fn acknowledged(&self) -> u64 {
        self.delivered.min(self.kept).max(self.told)
    }

    /// Nothing is acknowledged from this offset on; what was stays acknowledged.
    pub(crate) fn keep_below(&mut self, now: Instant, offset: u64) {
        self.kept = offset;
        self.schedule_ack(now);
    }

    /// Whether it is kept that all was delivered that was acknowledged.
    pub(crate) fn is_kept(&self) -> bool {
        self.told <= self.kept
    }

    fn schedule_ack(&mut self, now: Instant) {
        let untold = self.acknowledged() - self.told;
        if untold >= ACK_EVERY.min(self.window.size() / 2) {
            self.ack_now = true;
        } else if untold >= ACK_SHORTLY {
            let at = now + SHORTLY.min(self.ack_delay);
            self.ack_at = Some(self.ack_at.map_or(at, |due| due.min(at)));
        } else if untold > 0 {
            self.ack_soon(now);
        }
    }

    /// Whether the application's write side is to be shut down; true once.
    pub(crate) fn poll_finish(&mut self) -> bool {
        let due = self.fin == Some(self.delivered) && !self.finish_told;
        self.finish_told |= due;
        due
    }

    /// The application's write side is shut down. Its own end often follows at once, so the
    /// acknowledgement waits for it.
    pub(crate) fn fin_delivered(&mut self, now: Instant) {
        if self.fin == Some(self.delivered) {
            self.delivered += 1;
            self.schedule_ack(now);
        }
    }

    /// Makes an acknowledgement due with whatever is sent next, or after a while.
    pub(crate) fn ack_soon(&mut self, now: Instant) {
        self.ack_at.get_or_insert(now + self.ack_delay);
    }

    /// Makes an acknowledgement due at once.
    pub(crate) fn ack_now(&mut self) {
        self.ack_now = true;
    }

    /// Whether an acknowledgement is due; `in_company`: something else is sent anyway.
    pub(crate) fn is_ack_due(&self, in_company: bool) -> bool {
        self.ack_now || (in_company && self.acknowledged() > self.told)
    }

    /// When an acknowledgement has waited long enough.
    pub(crate) fn ack_at(&self) -> Option<Instant> {
        self.ack_at
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            (self.ack_at, self.ack_now) = (None, true);
        }
    }

    /// What to tell the peer: `delivered` and credit. Counts as told.
    pub(crate) fn tell(&mut self) -> (u64, u64) {
        (self.told, self.ack_now, self.ack_at) = (self.acknowledged(), false, None);
        (self.told, self.credit())
    }

    /// What the peer may send, where `delivered` is not said.
    pub(crate) fn credit(&mut self) -> u64 {
        let limit = self.acknowledged() + self.window.size();
        self.limit = self.limit.max(limit).max(self.received);
        self.limit
    }

    /// Drops bytes that the application did not take; the peer still has them. True when there
    /// were any.
    pub(crate) fn drop_held(&mut self) -> bool {
        let any = !self.held.is_empty();
        if any {
            self.received = self.delivered;
            self.fin = None;
            self.held.clear(self.delivered);
        }
        any
    }

    /// Where the stream stands. Nothing may be held.
    pub(crate) fn pack(&self) -> Received {
        debug_assert_eq!(self.held_len() + self.offered, 0, "dropped before");
        Received { delivered: self.delivered, credit: self.limit, fin: self.fin }
    }

    /// Where the stream stands for who has a copy, with the most credit that may be given before it hears
    /// of more: what is held is not a part of it, the peer still has it.
    pub(crate) fn copy(&self) -> Received {
        let credit = self.limit.max(self.delivered + self.window.max());
        let fin = self.fin.filter(|fin| *fin <= self.delivered);
        Received { delivered: self.delivered, credit, fin }
    }

    /// Becomes what [`Receive::pack`] gave.
    pub(crate) fn unpack(&mut self, from: &Received) -> Result<(), CapsuleError> {
        let Received { delivered, credit, fin } = *from;
        let received = fin.map_or(delivered, |fin| fin.saturating_add(1));
        if fin.is_some_and(|fin| fin != delivered && fin.checked_add(1) != Some(delivered)) {
            return Err(CapsuleError::Offsets);
        }
        (self.received, self.delivered, self.told) = (received, delivered, delivered);
        (self.limit, self.fin) = (credit.max(received), fin);
        self.finish_told = fin.is_some_and(|fin| fin < delivered);
        self.held.clear(delivered);
        Ok(())
    }

    /// Drops all bytes; nothing more is delivered. Offsets stay.
    pub(crate) fn abandon(&mut self) {
        self.held.clear(self.received);
        self.offered = 0;
        self.ack_at = None;
        self.ack_now = false;
        self.finish_told = true;
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::DeviceId;

    use super::*;
    use crate::Ledger;

    const NOW: Instant = Instant::from_micros(1);

    fn receive() -> (Memory, Receive) {
        let memory = Ledger::new(1 << 20).account(DeviceId::from_bytes([1; 32]));
        let mut receive = Receive::new(0, &Config::default(), NOW);
        assert_eq!(receive.tell(), (0, 16 << 10));
        (memory, receive)
    }

    #[test]
    fn no_byte_lost_no_byte_doubled() {
        let (memory, mut receive) = receive();
        assert_eq!(receive.data(0, b"abcdef"), Ok(&b"abcdef"[..]));
        receive.deliver(NOW, 2, None, true);
        receive.hold(&memory, b"cdef");
        assert_eq!(receive.data(3, b"defgh"), Ok(&b"gh"[..]), "what is known is dropped");
        receive.hold(&memory, b"gh");
        assert_eq!(receive.data(0, b"abc"), Ok(&b""[..]));
        assert_eq!(receive.held(), b"cdefgh");
        assert!(receive.drop_held());
        assert_eq!((receive.received(), receive.held()), (2, &b""[..]));
        assert_eq!(receive.data(2, b"cd"), Ok(&b"cd"[..]));
    }

    #[test]
    fn a_stream_ends_where_it_ends() {
        let (_, mut receive) = receive();
        receive.data(0, b"abc").unwrap();
        assert_eq!(receive.fin(2), Err(Violation::EndMoved));
        assert_eq!((receive.fin(3), receive.fin(3)), (Ok(()), Ok(())), "a replay");
        assert_eq!(receive.data(3, b"d"), Err(Violation::EndMoved));
        assert_eq!(receive.data(1, b"bc"), Ok(&b""[..]));
        assert!(!receive.poll_finish(), "not delivered");
        receive.deliver(NOW, 3, None, true);
        assert!(receive.poll_finish() && !receive.poll_finish());
        assert!(!receive.is_complete());
        receive.fin_delivered(NOW);
        assert!(receive.is_complete() && !receive.is_ack_due(false));
        assert!(receive.is_ack_due(true), "with our own end");
    }

    #[test]
    fn credit_is_a_limit_and_never_falls() {
        let (_, mut receive) = receive();
        let flood = vec![0; (16 << 10) + 1];
        assert_eq!(receive.data(0, &flood), Err(Violation::Overrun));
        assert!(receive.data(0, &flood[1..]).is_ok());
        assert_eq!(receive.tell(), (0, 16 << 10), "nothing was delivered");
        receive.deliver(NOW, 1, None, true);
        assert_eq!(receive.tell(), (1, (16 << 10) + 1));
        receive.deliver(NOW, 0, None, true);
        assert!(!receive.is_ack_due(false));
        receive.deliver(NOW, 8 << 10, None, true);
        assert!(receive.is_ack_due(false), "half of the window");
    }
}
