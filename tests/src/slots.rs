//! How many heavy tests of one suite run at the same time.
//!
//! The test runner starts as many threads as there are cores, whatever a test costs. A test that
//! starts gateways takes a [`Slot`]; one that measures time takes them all.

use std::sync::{Condvar, Mutex};

/// Realms that may run side by side on the two cores that the suite is made for.
pub const SLOTS: usize = 4;

static FREE: Mutex<usize> = Mutex::new(SLOTS);
static RETURNED: Condvar = Condvar::new();
/// Tests that want all slots queue here, so that two of them never hold a half each.
static TAKING: Mutex<()> = Mutex::new(());

/// The right to run gateways; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    count: usize,
}

impl Slot {
    /// Waits for one slot.
    #[must_use]
    pub fn take() -> Self {
        Self::take_many(1)
    }

    /// Waits until no other test has one: for tests that measure time or CPU.
    #[must_use]
    pub fn take_all() -> Self {
        Self::take_many(SLOTS)
    }

    fn take_many(count: usize) -> Self {
        let _queue = TAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while *free < count {
            free = RETURNED.wait(free).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *free -= count;
        Self { count }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += self.count;
        RETURNED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_test_that_takes_all_runs_alone() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for index in 0..8 {
                scope.spawn(move || {
                    let alone = index % 4 == 0;
                    let _slot = if alone { Slot::take_all() } else { Slot::take() };
                    let before = RUNNING.fetch_add(1, Ordering::SeqCst);
                    assert!(before < if alone { 1 } else { SLOTS });
                    std::thread::yield_now();
                    RUNNING.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }
}
