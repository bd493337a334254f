//! What is left of ended sessions, so that a clean end never looks like a loss.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cloak_base::{Instant, SessionId};
use cloak_wire::{Code, SessionFrame};

/// Tombstones of ended sessions: bounded, the oldest goes first, kept for `linger`.
#[derive(Debug)]
pub struct Tombstones {
    max: usize,
    linger: Duration,
    rows: BTreeMap<SessionId, Tombstone>,
    /// In order of insertion.
    order: VecDeque<(Instant, SessionId)>,
}

#[derive(Debug, Clone, Copy)]
struct Tombstone {
    delivered: u64,
    code: Code,
    since: Instant,
}

impl Tombstones {
    /// At most `max` of them, each for `linger`.
    pub fn new(max: usize, linger: Duration) -> Self {
        Self { max, linger, rows: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Remembers how a session ended: its final `delivered` and the code of its
    /// [`End`](crate::End). A second one for the same session is ignored.
    pub fn insert(&mut self, now: Instant, session: SessionId, delivered: u64, code: Code) {
        self.expire(now);
        if self.max == 0 || self.rows.contains_key(&session) {
            return;
        }
        if self.order.len() == self.max {
            self.drop_oldest();
        }
        self.rows.insert(session, Tombstone { delivered, code, since: now });
        self.order.push_back((now, session));
    }

    /// The answer to a `Resume` or repeated `Open` of a session that does not exist (any more).
    pub fn answer(&self, now: Instant, session: SessionId) -> SessionFrame {
        let row = self.rows.get(&session).filter(|row| now.since(row.since) < self.linger);
        let (code, delivered) = row.map_or((Code::Gone, 0), |row| (row.code, row.delivered));
        SessionFrame::Gone { session, code, delivered }
    }

    /// Whether the session ended here within `linger`: a repeated `Open` must not open it again.
    pub fn contains(&self, now: Instant, session: SessionId) -> bool {
        self.rows.get(&session).is_some_and(|row| now.since(row.since) < self.linger)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= self.linger) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, session)) = self.order.pop_front() {
            self.rows.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    #[test]
    fn bounded_in_number_and_time() {
        let at = |seconds| Instant::from_micros(seconds * 1_000_000);
        let mut tombstones = Tombstones::new(2, Duration::from_secs(10));
        for byte in 1..=3 {
            tombstones.insert(at(u64::from(byte)), id(byte), 7, Code::Closed);
        }
        assert!(!tombstones.contains(at(3), id(1)), "the oldest went first");
        let gone = |session, code, delivered| SessionFrame::Gone { session, code, delivered };
        assert_eq!(tombstones.answer(at(3), id(2)), gone(id(2), Code::Closed, 7));
        assert_eq!(tombstones.answer(at(12), id(2)), gone(id(2), Code::Gone, 0));
        tombstones.insert(at(3), id(3), 9, Code::Reset);
        assert_eq!(tombstones.answer(at(3), id(3)), gone(id(3), Code::Closed, 7));
        tombstones.insert(at(100), id(4), 0, Code::Reset);
        assert_eq!(tombstones.len(), 1);
    }
}
