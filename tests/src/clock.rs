//! Time for whole-system tests, and the only ways to wait.
//!
//! Another process cannot call back, so at a process boundary the event wait is a condition polled
//! every [`POLL`] under a deadline: [`wait_until`] and [`wait_for`]. A test never sleeps in the hope
//! that something has happened meanwhile. [`Pace`] is not a wait but the load itself: bytes per second.

use std::time::{Duration, Instant};

/// Pause between two looks at a condition.
pub const POLL: Duration = Duration::from_millis(20);

/// The one reading of the clock in this package.
#[expect(clippy::disallowed_methods, reason = "tests of real processes measure real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The one pause, behind everything that waits.
#[expect(clippy::disallowed_methods, reason = "an event of another process cannot wake us")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Whether the long runs were asked for (`CLOAK_FULL=1`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("CLOAK_FULL").is_some_and(|value| value == "1")
}

/// Waits until `condition` gives something, and returns it.
///
/// # Panics
/// With `what` when it gave nothing `within` the time allowed.
#[track_caller]
pub fn wait_for<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < within, "waited {within:?} in vain: {what}");
        pause(POLL);
    }
}

/// Waits until `condition` holds, and returns how long that took.
///
/// # Panics
/// With `what` when it did not hold `within` the time allowed.
#[track_caller]
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = now();
    wait_for(what, within, || condition().then(|| start.elapsed()))
}

/// Asserts that `condition` holds at every look during `span`: for what must *not* happen.
///
/// # Panics
/// With `what` as soon as it does not hold.
#[track_caller]
pub fn holds_for(what: &str, span: Duration, mut condition: impl FnMut() -> bool) {
    let start = now();
    while start.elapsed() < span {
        assert!(condition(), "after {:?}: {what}", start.elapsed());
        pause(POLL);
    }
}

/// Calls `action` every `period` for `span`: a fault schedule, for example a cut each 200 ms.
pub fn every(period: Duration, span: Duration, mut action: impl FnMut()) {
    let start = now();
    let mut next = period;
    while next <= span {
        pause(next.saturating_sub(start.elapsed()));
        action();
        next += period;
    }
}

/// Meters a stream to a number of bytes per second.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    start: Instant,
    sent: u64,
}

impl Pace {
    /// Starts now.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), start: now(), sent: 0 }
    }

    /// Counts `bytes` and pauses until they are due.
    pub fn spend(&mut self, bytes: u64) {
        self.sent += bytes;
        let due = Duration::from_micros(
            u64::try_from(u128::from(self.sent) * 1_000_000 / u128::from(self.bytes_per_second))
                .unwrap_or(u64::MAX),
        );
        pause(due.saturating_sub(self.start.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_awaited_and_its_time_told() {
        let start = now();
        let took = wait_until("100 ms pass", Duration::from_secs(5), || {
            start.elapsed() >= Duration::from_millis(100)
        });
        assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(2), "{took:?}");
    }

    #[test]
    #[should_panic(expected = "in vain: the impossible")]
    fn a_deadline_is_kept() {
        wait_until("the impossible", Duration::from_millis(50), || false);
    }

    #[test]
    fn a_pace_is_kept() {
        let start = now();
        let mut pace = Pace::new(100_000);
        (0..10).for_each(|_| pace.spend(2_000));
        assert!(start.elapsed() >= Duration::from_millis(195), "{:?}", start.elapsed());
    }

    #[test]
    fn a_schedule_runs_as_often_as_it_says() {
        let mut times = 0;
        every(Duration::from_millis(10), Duration::from_millis(100), || times += 1);
        assert_eq!(times, 10);
    }
}
