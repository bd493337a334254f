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

/// Tombstones of ended sessions, kept for `linger` and bounded. When there is no room, the peer that
/// has most of them loses its oldest: whoever ends sessions without end pushes out its own, not those
/// of others. `P` is what tells peers apart, such as a device.
#[derive(Debug)]
pub struct Tombstones<P> {
    max: usize,
    linger: Duration,
    len: usize,
    /// A peer without any has no entry.
    peers: BTreeMap<P, Row>,
}

/// The tombstones of one peer.
#[derive(Debug, Default)]
struct Row {
    ended: BTreeMap<SessionId, (Instant, Tombstone)>,
    /// In order of insertion.
    order: VecDeque<(Instant, SessionId)>,
}

impl<P: Ord + Copy> Tombstones<P> {
    /// None yet; each is kept for `linger`.
    pub fn new(linger: Duration) -> Self {
        Self::with_max(linger, TOMBSTONES_MAX)
    }

    /// At most `max` of them.
    pub fn with_max(linger: Duration, max: usize) -> Self {
        Self { max, linger, len: 0, peers: BTreeMap::new() }
    }

    /// Remembers how a session with a peer ended. A second one for the same session is ignored.
    pub fn insert(&mut self, now: Instant, peer: P, session: SessionId, tombstone: Tombstone) {
        if let Some(row) = self.peers.get_mut(&peer) {
            self.len -= row.expire(now, self.linger);
        }
        let is_known = self.peers.get(&peer).is_some_and(|row| row.ended.contains_key(&session));
        if self.max == 0 || is_known {
            return;
        }
        if self.len == self.max {
            self.make_room(now);
        }
        let row = self.peers.entry(peer).or_default();
        row.ended.insert(session, (now, tombstone));
        row.order.push_back((now, session));
        self.len += 1;
    }

    /// Forgets how a session with a peer ended: it is on that device again.
    pub fn forget(&mut self, peer: &P, session: SessionId) {
        if let Some(row) = self.peers.get_mut(peer)
            && row.ended.remove(&session).is_some()
        {
            row.order.retain(|(_, other)| *other != session);
            self.len -= 1;
        }
    }

    /// How the session ended, if that is not longer ago than `linger`.
    pub fn get(&self, now: Instant, peer: &P, session: SessionId) -> Option<Tombstone> {
        let found = self.peers.get(peer)?.ended.get(&session);
        let found = found.filter(|(since, _)| now.since(*since) < self.linger);
        found.map(|(_, tombstone)| *tombstone)
    }

    /// The answer to a `Resume`, or to a repeated `Open`, of a session that is not here (any more).
    pub fn answer(&self, now: Instant, peer: &P, session: SessionId) -> SessionFrame {
        let unknown = Tombstone { delivered: 0, code: Code::Gone };
        let Tombstone { delivered, code } = self.get(now, peer, session).unwrap_or(unknown);
        SessionFrame::Gone { session, code, delivered }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops what is over, or else one of whoever has most.
    fn make_room(&mut self, now: Instant) {
        let linger = self.linger;
        self.len -= self.peers.values_mut().map(|row| row.expire(now, linger)).sum::<usize>();
        if self.len == self.max
            && let Some(most) = self.peers.values_mut().max_by_key(|row| row.order.len())
        {
            self.len -= usize::from(most.drop_oldest());
        }
        self.peers.retain(|_, row| !row.order.is_empty());
    }
}

impl Row {
    /// Drops what is over; gives how many that were.
    fn expire(&mut self, now: Instant, linger: Duration) -> usize {
        let before = self.order.len();
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= linger) {
            self.drop_oldest();
        }
        before - self.order.len()
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.order.pop_front();
        oldest.is_some_and(|(_, session)| self.ended.remove(&session).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Tombstone = Tombstone { delivered: 7, code: Code::Closed };

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    #[test]
    fn bounded_in_number_and_time() {
        let mut tombstones = Tombstones::with_max(Duration::from_secs(10), 2);
        for byte in 1..=3 {
            tombstones.insert(at(u64::from(byte)), 'p', id(byte), CLOSED);
        }
        assert_eq!(tombstones.get(at(3), &'p', id(1)), None, "the oldest went first");
        let gone = |session, code, delivered| SessionFrame::Gone { session, code, delivered };
        assert_eq!(tombstones.answer(at(3), &'p', id(2)), gone(id(2), Code::Closed, 7));
        assert_eq!(tombstones.answer(at(3), &'q', id(2)), gone(id(2), Code::Gone, 0));
        assert_eq!(tombstones.answer(at(12), &'p', id(2)), gone(id(2), Code::Gone, 0));
        let second = Tombstone { delivered: 9, code: Code::Reset };
        tombstones.insert(at(3), 'p', id(3), second);
        assert_eq!(tombstones.get(at(3), &'p', id(3)), Some(CLOSED), "the first one stays");
        tombstones.insert(at(100), 'p', id(4), CLOSED);
        assert_eq!(tombstones.len(), 1);
    }

    #[test]
    fn one_peer_pushes_out_its_own() {
        let mut tombstones = Tombstones::with_max(Duration::from_secs(1000), 8);
        for byte in 1..=3 {
            tombstones.insert(at(1), 'p', id(byte), CLOSED);
        }
        for byte in 0..=255 {
            tombstones.insert(at(2), 'q', id(byte), CLOSED);
        }
        assert_eq!(tombstones.len(), 8);
        assert!((1..=3).all(|byte| tombstones.get(at(2), &'p', id(byte)).is_some()));
        assert!(tombstones.get(at(2), &'q', id(250)).is_none());
        assert!((251..=255).all(|byte| tombstones.get(at(2), &'q', id(byte)).is_some()));
        tombstones.insert(at(3), 'r', id(1), CLOSED);
        assert!(tombstones.get(at(3), &'r', id(1)).is_some(), "there is room for others");
        // What is over makes room before anything else.
        tombstones.insert(at(1001), 'r', id(2), CLOSED);
        assert!(tombstones.get(at(1001), &'q', id(252)).is_some());
        assert_eq!(tombstones.len(), 6);
    }
}
