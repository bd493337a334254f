//! The single place of the program that reads clocks.
//!
//! State machines take time as an argument; drivers get it from a [`Clock`]. There are three,
//! because a laptop sleeps: one that stops meanwhile (all timers run on it), one that does not (the
//! difference shows that we slept), and the calendar (certificates, people).

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use cloak_base::{Instant, UnixTime};
use rustix::time::{ClockId, clock_gettime};

/// Reads clocks. Shared as `Arc<dyn Clock>`.
pub trait Clock: Send + Sync + 'static {
    /// Time that does not pass while the machine sleeps (`CLOCK_MONOTONIC`).
    fn now(&self) -> Instant;

    /// Time that also passes while the machine sleeps (`CLOCK_BOOTTIME`). It has an origin of its
    /// own: compare it only with itself.
    fn boot(&self) -> Instant;

    /// Calendar time; it may jump either way.
    fn wall(&self) -> UnixTime;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        read(ClockId::Monotonic)
    }

    fn boot(&self) -> Instant {
        read(ClockId::Boottime)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime(since.map_or(0, |since| since.as_secs()))
    }
}

/// The system's clocks with offsets, so that a test can put the machine to sleep for eight hours, or
/// set its calendar wrong, without waiting.
#[derive(Debug, Default)]
pub struct SkewedClock {
    boot_micros: AtomicI64,
    wall_seconds: AtomicI64,
}

impl SkewedClock {
    /// What a sleep of this length looks like afterwards: boot and calendar time have jumped,
    /// monotonic time has not.
    pub fn sleep(&self, length: Duration) {
        let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        self.boot_micros.fetch_add(micros, Relaxed);
        self.wall_seconds.fetch_add(micros / 1_000_000, Relaxed);
    }

    /// Moves calendar time by this many seconds, back when negative.
    pub fn set_wall_ahead(&self, seconds: i64) {
        self.wall_seconds.store(seconds, Relaxed);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn boot(&self) -> Instant {
        let micros = SystemClock.boot().as_micros();
        Instant::from_micros(micros.saturating_add_signed(self.boot_micros.load(Relaxed)))
    }

    fn wall(&self) -> UnixTime {
        let seconds = SystemClock.wall().0;
        UnixTime(seconds.saturating_add_signed(self.wall_seconds.load(Relaxed)))
    }
}

/// The deadline `at` in the form that tokio's timers take.
#[expect(clippy::disallowed_methods, reason = "timers need tokio's own reading of the clock")]
pub fn deadline(clock: &dyn Clock, at: Instant) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(clock.now())
}

/// The deadline that is `time` from now.
#[expect(clippy::disallowed_methods, reason = "timers need tokio's own reading of the clock")]
pub(crate) fn deadline_after(time: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + time
}

/// Waits until `at`.
///
/// # Cancel safety
/// Cancel safe: a new call waits for the same time.
pub async fn sleep_until(clock: &dyn Clock, at: Instant) {
    tokio::time::sleep(at.since(clock.now())).await;
}

fn read(id: ClockId) -> Instant {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_micros(seconds.saturating_mul(1_000_000) + nanos / 1000)
}

/// A clock that follows tokio's paused time.
#[cfg(test)]
pub(crate) struct PausedClock(tokio::time::Instant);

#[cfg(test)]
impl PausedClock {
    #[expect(clippy::disallowed_methods, reason = "follows tokio's paused clock")]
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[cfg(test)]
impl Clock for PausedClock {
    #[expect(clippy::disallowed_methods, reason = "follows tokio's paused clock")]
    fn now(&self) -> Instant {
        Instant::ZERO + (tokio::time::Instant::now() - self.0)
    }

    fn boot(&self) -> Instant {
        self.now()
    }

    fn wall(&self) -> UnixTime {
        UnixTime(self.now().as_micros() / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: Duration = Duration::from_secs(8 * 3600);

    #[test]
    fn a_sleep_shows_between_boot_and_monotonic_time() {
        let clock = SkewedClock::default();
        let (now, boot, wall) = (clock.now(), clock.boot(), clock.wall());
        clock.sleep(NIGHT);
        assert!(clock.now().since(now) < Duration::from_secs(60));
        assert!(clock.boot().since(boot) >= NIGHT);
        assert!(clock.wall().since(wall) >= NIGHT);
    }

    #[test]
    fn clock_jump_8h_forward_and_back() {
        let clock = SkewedClock::default();
        let (now, boot) = (clock.now(), clock.boot());
        clock.set_wall_ahead(8 * 3600);
        let ahead = clock.wall();
        clock.set_wall_ahead(-8 * 3600);
        assert!(ahead.since(clock.wall()) >= NIGHT);
        assert!(clock.now().since(now) < Duration::from_secs(60));
        assert!(clock.boot().since(boot) < Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_become_timers() {
        let clock = PausedClock::start();
        let at = clock.now() + Duration::from_secs(5);
        tokio::time::sleep_until(deadline(&clock, at)).await;
        assert!(clock.now() >= at && clock.now() < at + Duration::from_millis(10));
        sleep_until(&clock, at).await;
    }
}
