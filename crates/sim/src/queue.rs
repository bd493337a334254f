//! What is to happen, in the order in which it does.
//!
//! A wheel of buckets of about a millisecond for the next four seconds, where nearly everything in
//! an overlay happens, and a heap for what is later. Only the bucket that is being emptied is kept
//! in order. Events of the same microsecond come out in the order in which they were put in, so a
//! run depends on nothing but its inputs.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use cloak_base::Instant;

/// Bits of a bucket's width in microseconds.
const WIDTH_BITS: u32 = 10;
/// Buckets of the wheel.
const BUCKETS: usize = 4096;

/// Events and their times. Nothing can be put before what was taken out last.
pub struct Queue<E> {
    /// Number of the bucket that is being emptied, since the origin of time.
    bucket: u64,
    /// Whether its turn has just come.
    turned: bool,
    /// What was in it when its turn came, the next event last.
    present: Vec<Entry<E>>,
    /// What was put in it since, and everything before it.
    late: BinaryHeap<Reverse<Entry<E>>>,
    wheel: Vec<Vec<Entry<E>>>,
    in_wheel: usize,
    far: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

struct Entry<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> Queue<E> {
    /// An empty queue at the origin of time.
    pub fn new() -> Self {
        Self {
            bucket: 0,
            turned: false,
            present: Vec::new(),
            late: BinaryHeap::new(),
            wheel: std::iter::repeat_with(Vec::new).take(BUCKETS).collect(),
            in_wheel: 0,
            far: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Puts an event in. What lies in the past happens next.
    pub fn push(&mut self, at: Instant, event: E) {
        let entry = Entry { at, sequence: self.sequence, event };
        self.sequence += 1;
        let bucket = bucket_of(at);
        if bucket <= self.bucket {
            self.late.push(Reverse(entry));
        } else if bucket - self.bucket < BUCKETS as u64 {
            self.wheel[slot(bucket)].push(entry);
            self.in_wheel += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// Takes the next event out unless it is later than `until`.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, E)> {
        while self.present.is_empty() && self.late.is_empty() {
            self.turn(bucket_of(until))?;
        }
        let (next, late) = (self.present.last(), self.late.peek().map(|Reverse(entry)| entry));
        let is_late = next.is_none_or(|next| late.is_some_and(|late| late < next));
        if (if is_late { late } else { next })?.at > until {
            return None;
        }
        let late = if is_late { self.late.pop() } else { None };
        let entry = late.map(|Reverse(entry)| entry).or_else(|| self.present.pop())?;
        Some((entry.at, entry.event))
    }

    /// Whether another bucket's turn came since the last time that this was asked.
    pub fn has_turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    /// What is left in the bucket whose turn it is, the next event last.
    pub fn present(&self) -> impl Iterator<Item = &E> {
        self.present.iter().map(|entry| &entry.event)
    }

    /// The number of events in it.
    pub fn len(&self) -> usize {
        self.present.len() + self.late.len() + self.in_wheel + self.far.len()
    }

    /// Whether nothing is to happen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes on to the next bucket, but not beyond `last`.
    fn turn(&mut self, last: u64) -> Option<()> {
        if self.bucket >= last {
            return None;
        }
        self.bucket = if self.in_wheel > 0 { self.bucket + 1 } else { self.far_bucket(last) };
        // The emptied row's memory is the bucket's for its next round.
        std::mem::swap(&mut self.present, &mut self.wheel[slot(self.bucket)]);
        self.in_wheel -= self.present.len();
        while self.far.peek().is_some_and(|next| bucket_of(next.0.at) <= self.bucket) {
            self.present.extend(self.far.pop().map(|Reverse(entry)| entry));
        }
        self.turned = true;
        self.present.sort_unstable_by(|a, b| b.cmp(a));
        Some(())
    }

    /// Where to jump to while the wheel is empty.
    fn far_bucket(&self, last: u64) -> u64 {
        self.far.peek().map_or(last, |next| bucket_of(next.0.at).min(last))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Entry<E> {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.sequence)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

fn bucket_of(at: Instant) -> u64 {
    at.as_micros() >> WIDTH_BITS
}

fn slot(bucket: u64) -> usize {
    usize::try_from(bucket % BUCKETS as u64).expect("invariant: a remainder is small")
}

#[cfg(test)]
mod tests {
    use cloak_base::Rng;

    use super::*;

    /// Random pushes between pops come out as a sorted list would have them.
    #[test]
    fn events_come_out_by_time_and_then_by_turn() {
        let mut rng = Rng::from_u64(3);
        let (mut queue, mut expected, mut taken) = (Queue::new(), Vec::new(), Vec::new());
        let (mut now, mut number) = (0, 0u64);
        for _ in 0..3000 {
            for _ in 0..rng.below(3) {
                let reach = [1, 2000, 5_000_000, 400_000_000][rng.below(4) as usize];
                let at = now + rng.below(reach);
                queue.push(Instant::from_micros(at), number);
                expected.push((at, number));
                number += 1;
            }
            let until = now + rng.below(2_000_000);
            while let Some((at, event)) = queue.pop(Instant::from_micros(until)) {
                now = at.as_micros();
                taken.push((now, event));
            }
            now = until;
        }
        while let Some((at, event)) = queue.pop(Instant::from_micros(u64::MAX)) {
            taken.push((at.as_micros(), event));
        }
        expected.sort_unstable();
        assert_eq!(taken, expected);
        assert!(queue.is_empty());
    }

    #[test]
    fn nothing_later_than_asked_for_comes_out() {
        let mut queue = Queue::new();
        queue.push(Instant::from_micros(100), ());
        queue.push(Instant::from_micros(9_000_000), ());
        assert_eq!(queue.pop(Instant::from_micros(99)), None);
        assert!(queue.pop(Instant::from_micros(100)).is_some());
        assert_eq!(queue.pop(Instant::from_micros(8_999_999)), None);
        assert_eq!(queue.len(), 1);
        assert!(queue.pop(Instant::from_micros(9_000_000)).is_some());
    }
}
