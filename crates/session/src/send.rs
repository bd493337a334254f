//! The sending direction: bytes of the application, kept until the peer's application has them.
//!
//! Offsets in order: `acked` (delivered at the peer) and `next` (to be put on the lane) <=
//! `sent_max` (highest that was on any lane) <= `end`. The end of the stream, `Fin`, occupies one
//! offset after the last byte; it needs no credit, since it needs no room.
//!
//! Bytes are freed below both `acked` and `next`. During a replay, an acknowledgement of what came
//! on the lane before may overtake it; the replayed bytes still have to go out, because the
//! receiver counts positions from where it declared the lane to begin.

use cloak_wire::Sent;

use crate::Memory;
use crate::chunk::size_for;
use crate::error::{CapsuleError, Violation};
use crate::queue::{Queue, to_usize};
use crate::session::OFFSET_MAX;

/// State of the sending direction.
#[derive(Debug)]
pub(crate) struct Send {
    /// Bytes that may have to be sent.
    queue: Queue,
    acked: u64,
    next: u64,
    sent_max: u64,
    /// Highest offset, exclusive, that the peer has given credit for.
    limit: u64,
    /// Offset, exclusive, from which on nothing is sent yet: its copy is not kept.
    kept: u64,
    /// Offset of `Fin`, once the application has finished.
    fin: Option<u64>,
    /// Most bytes to keep at present, and at all.
    buffer: u64,
    buffer_max: u64,
    /// Bytes of the next chunk: what the application's last burst needed, or more than this one has
    /// brought so far.
    chunk: usize,
    /// Bytes read since the last read that did not fill its room.
    burst: usize,
    /// Room that was handed out last.
    room: usize,
}

/// What goes on the lane next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// So many bytes from this offset.
    Data(u64, u64),
    Fin,
}

impl Send {
    pub(crate) fn new(offset: u64, buffer: u64, buffer_max: u64) -> Self {
        Self {
            queue: Queue::at(offset),
            acked: offset,
            next: offset,
            sent_max: offset,
            limit: offset,
            kept: u64::MAX,
            fin: None,
            buffer: buffer.min(buffer_max),
            buffer_max,
            chunk: size_for(0),
            burst: 0,
            room: 0,
        }
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    pub(crate) fn sent_max(&self) -> u64 {
        self.sent_max
    }

    /// Offset of the end of the stream, once the application has finished.
    pub(crate) fn fin(&self) -> Option<u64> {
        self.fin
    }

    /// The offset after the last byte.
    pub(crate) fn bytes_end(&self) -> u64 {
        self.queue.end()
    }

    /// Nothing is sent from this offset on; what was stays sent.
    pub(crate) fn keep_below(&mut self, offset: u64) {
        self.kept = offset;
    }

    /// Whether a copy of all that was sent is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.sent_max <= self.kept
    }

    /// The offset after the last one, that of `Fin` included.
    pub(crate) fn end(&self) -> u64 {
        self.fin.map_or(self.queue.end(), |fin| fin + 1)
    }

    /// The peer takes everything below `credit`.
    pub(crate) fn grant(&mut self, credit: u64) {
        self.limit = self.limit.max(credit);
    }

    pub(crate) fn held(&self) -> u64 {
        self.queue.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether something is on its way that the peer has not acknowledged.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.acked < self.sent_max
    }

    /// Whether the peer has delivered everything and shut down.
    pub(crate) fn is_complete(&self) -> bool {
        self.fin.is_some_and(|fin| self.acked > fin)
    }

    /// Room for the application's bytes, and whether the ledger was the reason for there being
    /// none.
    pub(crate) fn space(&mut self, memory: &Memory) -> (&mut [u8], bool) {
        if self.fin.is_some() {
            return (&mut [], false);
        }
        if self.queue.len() >= self.buffer && self.is_buffer_the_limit() && !memory.is_short() {
            self.buffer = (self.buffer * 2).min(self.buffer_max);
        }
        let most = self.buffer.saturating_sub(self.queue.len());
        if most == 0 {
            return (&mut [], false);
        }
        let room = self.queue.room(memory, self.chunk.min(size_for(to_usize(most))));
        let refused = room.is_empty();
        self.room = room.len().min(to_usize(most));
        (&mut room[..self.room], refused)
    }

    /// Counts what was written into [`Send::space`].
    pub(crate) fn wrote(&mut self, len: usize) {
        self.queue.wrote(len);
        self.burst = self.burst.saturating_add(len);
        match len {
            0 => {}
            // The application has more.
            _ if len == self.room => self.chunk = size_for(self.burst.saturating_add(1)),
            _ => self.chunk = size_for(std::mem::take(&mut self.burst)),
        }
    }

    /// Takes the application's first bytes, which go with `Open`.
    pub(crate) fn early(&mut self, memory: &Memory, bytes: &[u8]) {
        self.queue.push(memory, bytes);
    }

    /// All there is goes with `Open`, again where it went before.
    pub(crate) fn send_early(&mut self) -> &[u8] {
        let base = self.queue.start();
        self.next = self.queue.end();
        self.sent_max = self.sent_max.max(self.next);
        self.queue.slice(base, u64::MAX)
    }

    pub(crate) fn finish(&mut self) {
        self.fin.get_or_insert(self.queue.end());
    }

    /// Everything is on its way and the peer would take more: a larger buffer would be faster.
    fn is_buffer_the_limit(&self) -> bool {
        self.next >= self.queue.end().min(self.kept) && self.limit > self.next
    }

    /// What to send next, at most `max` bytes. `early_fin` is a planted bug.
    pub(crate) fn poll(&mut self, max: usize, early_fin: bool) -> Option<Next> {
        self.free();
        let end = self.queue.end();
        if self.is_fin_due() || (early_fin && self.next < end && self.fin.is_some()) {
            self.next = end + 1;
            self.sent_max = self.sent_max.max(self.next);
            return Some(Next::Fin);
        }
        let most = self.sendable().saturating_sub(self.next).min(max as u64);
        let len = self.queue.slice(self.next, most).len() as u64;
        if len == 0 {
            return None;
        }
        let from = self.next;
        self.next += len;
        self.sent_max = self.sent_max.max(self.next);
        Some(Next::Data(from, len))
    }

    /// Whether [`Send::poll`] has bytes to send.
    pub(crate) fn has_data(&self) -> bool {
        self.next < self.sendable()
    }

    /// The offset after the last byte that may be sent now.
    fn sendable(&self) -> u64 {
        self.limit.min(self.queue.end()).min(self.kept)
    }

    fn is_fin_due(&self) -> bool {
        self.fin == Some(self.next) && self.kept > self.next
    }

    /// Whether [`Send::poll`] has bytes or the end of the stream to send.
    pub(crate) fn has_more(&self) -> bool {
        self.has_data() || self.is_fin_due()
    }

    pub(crate) fn slice(&self, offset: u64, len: u64) -> &[u8] {
        self.queue.slice(offset, len)
    }

    /// The peer's application has everything below `delivered`; the peer takes everything below
    /// `credit`. Both only rise.
    pub(crate) fn acknowledge(&mut self, delivered: u64, credit: u64) -> Result<(), Violation> {
        if delivered > self.sent_max {
            return Err(Violation::Offset);
        }
        self.acked = self.acked.max(delivered);
        self.limit = self.limit.max(credit);
        self.free();
        Ok(())
    }

    /// Frees what is neither to be sent on this lane nor on another.
    fn free(&mut self) {
        self.queue.release(self.acked.min(self.next));
    }

    /// Checks what a `Resume` or `Resumed` says, without taking it.
    pub(crate) fn check(
        &self,
        received: u64,
        delivered: u64,
        credit: u64,
    ) -> Result<(), Violation> {
        if received > self.sent_max || delivered > received {
            return Err(Violation::Offset);
        }
        if credit < received { Err(Violation::Credit) } else { Ok(()) }
    }

    /// Whether bytes from `received` on are still here.
    pub(crate) fn can_replay(&self, received: u64) -> bool {
        received >= self.acked
    }

    /// A lane on which the next byte is the one at `received`; checked before.
    pub(crate) fn replay_from(&mut self, received: u64) {
        debug_assert!(self.can_replay(received) && received <= self.sent_max, "checked before");
        self.next = received;
    }

    /// Drops all bytes: nothing more is sent. Offsets stay, for the peer's resume.
    pub(crate) fn abandon(&mut self) {
        self.queue.clear(self.queue.end());
        self.fin = None;
    }

    /// Where the stream stands, and its bytes from `acked` on.
    pub(crate) fn pack(&self) -> (Sent, Vec<u8>) {
        (self.standing(), self.copy(self.acked, usize::MAX))
    }

    /// Where the stream stands.
    pub(crate) fn standing(&self) -> Sent {
        Sent { acked: self.acked, sent: self.sent_max, credit: self.limit, fin: self.fin }
    }

    /// A copy of the bytes from an offset on, at most `max` of them.
    pub(crate) fn copy(&self, from: u64, max: usize) -> Vec<u8> {
        let end = self.queue.end().min(from.saturating_add(max as u64));
        let (mut at, mut bytes) = (from, Vec::new());
        while at < end {
            let slice = self.queue.slice(at, end - at);
            bytes.extend_from_slice(slice);
            at += slice.len() as u64;
        }
        bytes
    }

    /// Of a copy: `bytes` follow those that are here, or begin at `acked` where that is beyond.
    pub(crate) fn follow(
        &mut self,
        memory: &Memory,
        acked: u64,
        fin: Option<u64>,
        bytes: &[u8],
    ) -> Result<(), CapsuleError> {
        let start = fin.map_or(acked, |fin| fin.min(acked));
        let end = start.max(self.queue.end()).checked_add(bytes.len() as u64);
        let end = end.filter(|end| *end <= OFFSET_MAX).ok_or(CapsuleError::Offsets)?;
        let last = end + u64::from(fin.is_some());
        let has_moved = self.fin.is_some() && (self.fin != fin || !bytes.is_empty());
        if has_moved || acked < self.acked || acked > last || fin.is_some_and(|fin| fin != end) {
            return Err(CapsuleError::Offsets);
        }
        if start > self.queue.end() {
            self.queue.clear(start);
        }
        self.queue.push(memory, bytes);
        (self.acked, self.next, self.sent_max, self.fin) = (acked, acked, last, fin);
        self.free();
        Ok(())
    }

    /// Becomes what [`Send::pack`] gave.
    pub(crate) fn unpack(
        &mut self,
        memory: &Memory,
        sent: &Sent,
        bytes: &[u8],
    ) -> Result<(), CapsuleError> {
        let Sent { acked, sent: sent_max, credit, fin } = *sent;
        let start = fin.map_or(acked, |fin| fin.min(acked));
        let end = start.checked_add(bytes.len() as u64).ok_or(CapsuleError::Offsets)?;
        let last = end.saturating_add(u64::from(fin.is_some()));
        if fin.is_some_and(|fin| fin != end) || acked > sent_max || sent_max > last {
            return Err(CapsuleError::Offsets);
        }
        *self = Self::new(start, self.buffer, self.buffer_max);
        self.queue.push(memory, bytes);
        (self.acked, self.next, self.sent_max) = (acked, acked, sent_max);
        (self.limit, self.fin) = (credit, fin);
        Ok(())
    }

    /// Gives all bytes away; [`Send::restore`] brings them back.
    pub(crate) fn take(&mut self) -> Queue {
        let start = self.queue.start();
        std::mem::replace(&mut self.queue, Queue::at(start))
    }

    /// Takes back bytes that [`Send::take`] gave away.
    pub(crate) fn restore(&mut self, memory: &Memory, bytes: &[u8]) {
        debug_assert!(self.queue.is_empty(), "nothing is written while they are away");
        self.queue.push(memory, bytes);
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::DeviceId;

    use super::*;
    use crate::Ledger;

    fn memory() -> Memory {
        Ledger::new(64 << 20).account(DeviceId::from_bytes([1; 32]))
    }

    fn fill(send: &mut Send, memory: &Memory, len: usize) -> usize {
        let mut written = 0;
        while written < len {
            let room = send.space(memory).0.len().min(len - written);
            if room == 0 {
                break;
            }
            send.wrote(room);
            written += room;
        }
        written
    }

    #[test]
    fn a_full_ledger_leaves_a_trickle_to_each_session() {
        let memory = Ledger::new(1 << 20).account(DeviceId::from_bytes([1; 32]));
        memory.charge(1 << 20);
        let mut send = Send::new(0, 1 << 16, 1 << 16);
        assert_eq!(fill(&mut send, &memory, 1 << 16), 4 << 10, "and no more");
        assert!(send.space(&memory).1, "the ledger is the reason");
        send.grant(1 << 16);
        assert_eq!(send.poll(1 << 16, false), Some(Next::Data(0, 4 << 10)));
        send.acknowledge(4 << 10, 1 << 16).unwrap();
        assert_eq!(fill(&mut send, &memory, 1 << 16), 4 << 10, "it goes on");
    }

    /// How many bytes each read brings while the application says `burst` and waits for all of it to
    /// be acknowledged.
    fn reads(send: &mut Send, memory: &Memory, burst: usize) -> Vec<usize> {
        let mut reads = Vec::new();
        let mut left = burst;
        while left > 0 {
            let read = send.space(memory).0.len().min(left);
            send.wrote(read);
            left -= read;
            reads.push(read);
        }
        let end = send.end();
        send.grant(end);
        while send.poll(1 << 20, false).is_some() {}
        send.acknowledge(end, end).unwrap();
        reads
    }

    #[test]
    fn rooms_follow_what_the_application_says_at_a_time() {
        let (memory, mut send) = (memory(), Send::new(0, 1 << 20, 1 << 20));
        let kib = |all: &[usize]| all.iter().map(|one| one << 10).collect::<Vec<_>>();
        assert_eq!(reads(&mut send, &memory, 100), [100]);
        assert_eq!(reads(&mut send, &memory, 6 << 10), kib(&[4, 2]), "it did not know");
        assert_eq!(reads(&mut send, &memory, 6 << 10), kib(&[6]), "now it does");
        assert_eq!(reads(&mut send, &memory, 340 << 10), kib(&[16, 64, 256, 4]), "a stream");
        assert_eq!(reads(&mut send, &memory, 100), [100]);
        assert_eq!(
            reads(&mut send, &memory, 6 << 10),
            kib(&[4, 2]),
            "it holds no more than a page"
        );
    }

    #[test]
    fn fin_is_forwarded_once_after_the_last_byte() {
        let (memory, mut send) = (memory(), Send::new(0, 1 << 16, 1 << 16));
        fill(&mut send, &memory, 10);
        send.finish();
        send.acknowledge(0, 6).unwrap();
        assert_eq!(send.poll(100, false), Some(Next::Data(0, 6)));
        assert_eq!(send.poll(100, false), None, "no credit for the rest");
        send.acknowledge(6, 10).unwrap();
        assert_eq!(send.poll(100, false), Some(Next::Data(6, 4)));
        assert_eq!(send.poll(100, false), Some(Next::Fin), "needs no credit");
        assert_eq!(send.poll(100, false), None);
        assert_eq!(send.acknowledge(12, 10), Err(Violation::Offset));
        send.acknowledge(11, 10).unwrap();
        assert!(send.is_complete() && memory.held() == 0);
    }

    #[test]
    fn catch_up_is_streamed() {
        let (memory, mut send) = (memory(), Send::new(0, 4 << 20, 4 << 20));
        assert_eq!(fill(&mut send, &memory, 8 << 20), 4 << 20, "bounded by the buffer");
        send.acknowledge(0, 8 << 20).unwrap();
        while send.poll(16 << 10, false).is_some() {}
        send.replay_from(0);
        let Some(Next::Data(0, len)) = send.poll(16 << 10, false) else { panic!("nothing") };
        assert!(len <= 16 << 10, "a replay goes out in pieces like everything else");
    }

    #[test]
    fn the_buffer_grows_only_when_it_is_the_limit() {
        let (memory, mut send) = (memory(), Send::new(0, 1 << 16, 1 << 18));
        assert_eq!(fill(&mut send, &memory, 1 << 20), 1 << 16);
        assert!(send.space(&memory).0.is_empty(), "nothing was sent yet");
        send.acknowledge(0, 1 << 30).unwrap();
        while send.poll(usize::MAX, false).is_some() {}
        assert_eq!(fill(&mut send, &memory, 1 << 20), 1 << 16, "doubled");
        while send.poll(usize::MAX, false).is_some() {}
        assert_eq!(fill(&mut send, &memory, 1 << 20), 1 << 17);
        while send.poll(usize::MAX, false).is_some() {}
        assert_eq!(fill(&mut send, &memory, 1 << 20), 0, "the maximum");
    }

    #[test]
    fn an_acknowledgement_may_overtake_the_replay() {
        let (memory, mut send) = (memory(), Send::new(0, 1 << 16, 1 << 16));
        fill(&mut send, &memory, 10);
        send.acknowledge(0, 20).unwrap();
        while send.poll(100, false).is_some() {}
        send.replay_from(2);
        assert_eq!(send.poll(3, false), Some(Next::Data(2, 3)));
        send.acknowledge(9, 20).unwrap();
        assert_eq!(send.poll(100, false), Some(Next::Data(5, 5)), "no gap on the lane");
        assert!(send.slice(5, 5).len() == 5 && !send.can_replay(8));
        send.acknowledge(10, 20).unwrap();
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn hostile_offsets_are_found() {
        let (memory, mut send) = (memory(), Send::new(0, 1 << 16, 1 << 16));
        fill(&mut send, &memory, 10);
        send.acknowledge(0, 10).unwrap();
        while send.poll(100, false).is_some() {}
        send.acknowledge(4, 10).unwrap();
        assert_eq!(send.check(11, 0, 20), Err(Violation::Offset), "never sent");
        assert_eq!(send.check(u64::MAX, u64::MAX, u64::MAX), Err(Violation::Offset));
        assert_eq!(send.check(8, 9, 20), Err(Violation::Offset), "delivered before received");
        assert_eq!(send.check(8, 8, 7), Err(Violation::Credit));
        assert_eq!(send.check(8, 8, 8), Ok(()));
        assert!(!send.can_replay(3) && send.can_replay(4));
    }
}
