//! What is left of ended sessions, so that a clean end never looks like a loss.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cloak_base::{Instant, SessionId};
use cloak_wire::{Code, SessionFrame};

/// Tombstones kept at most: about 8 MiB of them.
const TOMBSTONES_MAX: usize = 65_536;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// Its final `delivered`.
    pub delivered: u64,
    /// Of its [`End`](crate::End).
    pub code: Code,
}

/// Tombstones of ended sessions: bounded, the oldest goes first, kept for `linger`. The key is the
/// session with whatever else a peer has to match to be told, such as its device.
#[derive(Debug)]
pub struct Tombstones<K> {
    max: usize,
    linger: Duration,
    rows: BTreeMap<K, (Instant, Tombstone)>,
    /// In order of insertion.
    order: VecDeque<(Instant, K)>,
}

impl<K: Ord + Copy> Tombstones<K> {
    /// None yet; each is kept for `linger`.
    pub fn new(linger: Duration) -> Self {
        Self::with_max(linger, TOMBSTONES_MAX)
    }

    /// At most `max` of them.
    pub fn with_max(linger: Duration, max: usize) -> Self {
        Self { max, linger, rows: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Remembers how a session ended. A second one for the same key is ignored.
    pub fn insert(&mut self, now: Instant, key: K, tombstone: Tombstone) {
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= self.linger) {
            self.drop_oldest();
        }
        if self.max == 0 || self.rows.contains_key(&key) {
            return;
        }
        if self.order.len() == self.max {
            self.drop_oldest();
        }
        self.rows.insert(key, (now, tombstone));
        self.order.push_back((now, key));
    }

    /// How the session ended, if that is not longer ago than `linger`.
    pub fn get(&self, now: Instant, key: &K) -> Option<Tombstone> {
        let row = self.rows.get(key).filter(|(since, _)| now.since(*since) < self.linger);
        row.map(|(_, tombstone)| *tombstone)
    }

    /// The answer to a `Resume`, or to a repeated `Open`, of a session that is not here (any more).
    pub fn answer(&self, now: Instant, key: &K, session: SessionId) -> SessionFrame {
        let unknown = Tombstone { delivered: 0, code: Code::Gone };
        let Tombstone { delivered, code } = self.get(now, key).unwrap_or(unknown);
        SessionFrame::Gone { session, code, delivered }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.rows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_number_and_time() {
        let at = |seconds| Instant::from_micros(seconds * 1_000_000);
        let id = |byte| SessionId::from_bytes([byte; 16]);
        let closed = Tombstone { delivered: 7, code: Code::Closed };
        let mut tombstones = Tombstones::with_max(Duration::from_secs(10), 2);
        for byte in 1..=3 {
            tombstones.insert(at(u64::from(byte)), id(byte), closed);
        }
        assert_eq!(tombstones.get(at(3), &id(1)), None, "the oldest went first");
        let gone = |session, code, delivered| SessionFrame::Gone { session, code, delivered };
        let answer = tombstones.answer(at(3), &id(2), id(2));
        assert_eq!(answer, gone(id(2), Code::Closed, 7));
        let answer = tombstones.answer(at(12), &id(2), id(2));
        assert_eq!(answer, gone(id(2), Code::Gone, 0));
        tombstones.insert(at(3), id(3), Tombstone { delivered: 9, code: Code::Reset });
        assert_eq!(tombstones.get(at(3), &id(3)), Some(closed), "the first one stays");
        tombstones.insert(at(100), id(4), closed);
        assert_eq!(tombstones.len(), 1);
    }
}
