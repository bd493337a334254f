//! Maxima of tables and rates. Whoever goes beyond one is refused, or dropped with a code.

use cloak_base::Instant;

/// Links that a peer keeps at a time, all roles together. A root of degree 20 with 8 extra links and
/// 64 guests uses 92; the rest is for links that pass.
pub(crate) const LINKS_MAX: usize = 192;
/// Dials in flight.
pub(crate) const DIALS_MAX: usize = 32;
/// Messages that wait for one dial.
pub(crate) const WAITING_MAX: usize = 8;
/// Lost neighbours whose return is noticed.
pub(crate) const MISSED_MAX: usize = 32;
/// Remembered peers.
pub(crate) const REMEMBERED_MAX: usize = 32;
/// Routed messages whose next hop has not acknowledged them.
pub(crate) const PENDING_MAX: usize = 512;
/// Questions of our own that are not answered yet.
pub(crate) const QUESTIONS_MAX: usize = 256;
/// Records of our own.
pub(crate) const PUBLISHED_MAX: usize = 64;
/// Cached records.
pub(crate) const CACHED_MAX: usize = 64;
/// Hops of a routed message.
pub(crate) const HOPS_MAX: u8 = 48;
/// Places that are being filled.
pub(crate) const VACANCIES_MAX: usize = 64;
/// Orphans that wait for the holder of one place.
pub(crate) const CLAIMS_MAX: usize = 64;
/// Candidates for one place.
pub(crate) const CANDIDATES_MAX: usize = 8;
/// Seconds of its rate that a neighbour may send at once.
const BURST_SECONDS: u64 = 4;

/// How many messages a neighbour may still send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    millis: u64,
    at: Instant,
}

impl Budget {
    pub(crate) fn full(per_second: u32, now: Instant) -> Self {
        Self { millis: u64::from(per_second) * BURST_SECONDS * 1000, at: now }
    }

    /// Takes one message out; false when there is none left.
    pub(crate) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let rate = u64::from(per_second);
        let earned = now.since(self.at).as_micros().min(60_000_000) as u64 * rate / 1000;
        self.millis = (self.millis + earned).min(rate * BURST_SECONDS * 1000);
        self.at = now;
        let left = self.millis >= 1000;
        self.millis -= if left { 1000 } else { 0 };
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_fills_at_its_rate() {
        let mut now = Instant::ZERO;
        let mut budget = Budget::full(10, now);
        assert_eq!((0..50).filter(|_| budget.take(10, now)).count(), 40);
        now = Instant::from_micros(1_000_000);
        assert_eq!((0..50).filter(|_| budget.take(10, now)).count(), 10);
    }
}
