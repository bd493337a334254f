//! Transports of which nobody has shown yet who they are.
//!
//! A device key costs a stranger nothing, so the end of TLS proves little: a transport goes on
//! counting until whoever reads its `Hello` has verified it. See docs/PROTOCOL.md, "Transports".

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::locator::host;

/// One transport on its way from accept to a verified `Hello`, in the counts of its source and of
/// all; dropping it ends that.
#[derive(Debug)]
pub struct HalfOpen {
    sources: Arc<Sources>,
    source: IpAddr,
    deadline: Instant,
    _room: OwnedSemaphorePermit,
}

impl HalfOpen {
    /// By when the peer's `Hello` has to be verified.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = sources.entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// How many are half-open, by source and in all.
#[derive(Debug)]
pub(super) struct HalfOpens {
    sources: Arc<Sources>,
    room: Arc<Semaphore>,
    per_source: usize,
}

/// A source without any has no entry.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<IpAddr, usize>>);

impl HalfOpens {
    pub(super) fn new(per_source: usize, total: usize) -> Self {
        let room = Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS)));
        Self { sources: Arc::default(), room, per_source }
    }

    /// Whether one more may begin.
    pub(super) fn has_room(&self) -> bool {
        self.room.available_permits() > 0
    }

    /// Waits until one more may begin.
    pub(super) async fn wait_for_room(&self) {
        // It is taken in `enter`, by the same task. The semaphore is never closed.
        let _ = self.room.acquire().await;
    }

    /// Counts a transport from `ip`; none where there are too many.
    pub(super) fn enter(&self, ip: IpAddr, deadline: Instant) -> Option<HalfOpen> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let source = host(ip);
        let mut counts = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= self.per_source {
            return None;
        }
        *count += 1;
        Some(HalfOpen { sources: Arc::clone(&self.sources), source, deadline, _room: room })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::deadline_after;

    #[tokio::test]
    async fn sources_are_counted_by_address_or_by_64() {
        let half_open = HalfOpens::new(2, usize::MAX);
        let enter = |ip: &str| half_open.enter(ip.parse().unwrap(), deadline_after(Duration::ZERO));
        let first = enter("192.0.2.1").unwrap();
        let second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        drop(second);
        let held = [enter("2001:db8::1").unwrap(), enter("2001:db8::3").unwrap()];
        assert!(enter("2001:db8::2").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop(held);
        assert!(half_open.sources.0.lock().unwrap().is_empty());
    }
}
