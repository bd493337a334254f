//! How much a host relays: circuits in all and for each peer, bytes of each, and their rate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloak_base::{DeviceId, Instant};

use crate::clock::Clock;

/// What is moved at a time: less is not worth a system call.
const GRANT_MIN: u64 = 4 * 1024;
/// A bucket holds what comes in this time.
const BURST: Duration = Duration::from_millis(250);

/// Limits of a host. The defaults suit a small machine on a home line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Circuits in all; each costs two descriptors, and two pipes of 256 KiB while bytes are stuck.
    pub circuits: usize,
    /// Circuits of which one device is an end.
    pub circuits_per_peer: usize,
    /// Bytes that one circuit may carry, both ways together; its ends may ask for another.
    pub bytes: u64,
    /// Bytes per second that the circuits which one device asked for may carry, both ways together.
    pub rate: u64,
    /// A circuit that carries nothing for this long is closed. Peer channels probe far more often.
    pub idle: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            circuits: 256,
            circuits_per_peer: 64,
            bytes: 64 << 30,
            rate: 32 << 20,
            idle: Duration::from_secs(3600),
        }
    }
}

/// Why there is no place for a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// There are as many as there may be.
    #[error("too many circuits")]
    Full,
    /// One of the two devices has as many as it may.
    #[error("too many circuits of one device")]
    PeerFull,
}

/// The circuits of a host. Clones are the same ones.
#[derive(Clone)]
pub struct Relaying {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    limits: RelayLimits,
    circuits: usize,
    /// A device without circuits has no entry.
    peers: HashMap<DeviceId, PeerShare>,
}

struct PeerShare {
    circuits: usize,
    bucket: Arc<Mutex<Bucket>>,
}

/// A circuit's place, until dropped.
pub struct Place {
    relaying: Relaying,
    ends: [DeviceId; 2],
    limits: RelayLimits,
    bucket: Arc<Mutex<Bucket>>,
}

/// Bytes that may be moved now.
#[derive(Debug)]
struct Bucket {
    left: u64,
    since: Instant,
}

impl Relaying {
    /// No circuit yet.
    pub fn new(limits: RelayLimits, clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::new(Mutex::new(State { limits, ..State::default() })) }
    }

    /// Takes over other limits, for circuits that are opened from now on.
    pub fn limit(&self, limits: RelayLimits) {
        self.state().limits = limits;
    }

    /// Circuits that have a place.
    pub fn circuits(&self) -> usize {
        self.state().circuits
    }

    /// A place for a circuit that `asker` wants to `target`.
    ///
    /// # Errors
    /// See [`RelayRefusal`].
    pub fn admit(&self, asker: DeviceId, target: DeviceId) -> Result<Place, RelayRefusal> {
        let now = self.clock.now();
        let mut state = self.state();
        let limits = state.limits;
        if state.circuits >= limits.circuits {
            return Err(RelayRefusal::Full);
        }
        let ends = [asker, target];
        let count = |device| state.peers.get(device).map_or(0, |peer| peer.circuits);
        if ends.iter().any(|end| count(end) >= limits.circuits_per_peer) {
            return Err(RelayRefusal::PeerFull);
        }
        state.circuits += 1;
        for end in ends {
            state.peers.entry(end).or_insert_with(|| PeerShare::new(now)).circuits += 1;
        }
        let bucket = Arc::clone(&state.peers[&asker].bucket);
        Ok(Place { relaying: self.clone(), ends, limits, bucket })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Relaying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relaying").field("circuits", &self.circuits()).finish_non_exhaustive()
    }
}

impl PeerShare {
    fn new(now: Instant) -> Self {
        Self { circuits: 0, bucket: Arc::new(Mutex::new(Bucket { left: 0, since: now })) }
    }
}

impl Place {
    pub(super) fn limits(&self) -> RelayLimits {
        self.limits
    }

    pub(super) fn now(&self) -> Instant {
        self.relaying.clock.now()
    }

    /// Waits until bytes may be moved; gives how many, at most `most`.
    pub(super) async fn grant(&self, most: u64) -> u64 {
        loop {
            let granted = self.bucket().take(self.now(), self.limits.rate, most);
            match granted {
                Ok(bytes) => return bytes,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Gives back what was granted and not moved.
    pub(super) fn give_back(&self, bytes: u64) {
        self.bucket().left += bytes;
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.relaying.state();
        state.circuits -= 1;
        for end in self.ends {
            let Some(peer) = state.peers.get_mut(&end) else { continue };
            peer.circuits -= 1;
            if peer.circuits == 0 {
                state.peers.remove(&end);
            }
        }
    }
}

impl Bucket {
    /// Takes up to `most` bytes, or says how long to wait for some.
    fn take(&mut self, now: Instant, rate: u64, most: u64) -> Result<u64, Duration> {
        let rate = rate.max(1);
        let burst = part(rate, BURST).max(GRANT_MIN);
        let earned = part(rate, now.since(self.since));
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(burst);
            self.since = now;
        }
        let least = most.min(GRANT_MIN);
        if self.left < least {
            let micros = (least - self.left).saturating_mul(1_000_000).div_ceil(rate);
            return Err(Duration::from_micros(micros).max(Duration::from_millis(1)));
        }
        let taken = self.left.min(most);
        self.left -= taken;
        Ok(taken)
    }
}

/// What comes at `rate` bytes per second in `time`.
fn part(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn device(n: u8) -> DeviceId {
        DeviceId::from_bytes([n; 32])
    }

    #[test]
    fn relay_is_bounded_in_bytes_rate_and_peers() {
        let limits = RelayLimits { circuits: 3, circuits_per_peer: 2, ..RelayLimits::default() };
        let relaying = Relaying::new(limits, Arc::new(SystemClock));
        let refusal = |from, to| relaying.admit(device(from), device(to)).err();
        let first = relaying.admit(device(1), device(2)).unwrap();
        let second = relaying.admit(device(3), device(1)).unwrap();
        assert_eq!(refusal(1, 4), Some(RelayRefusal::PeerFull));
        assert_eq!(refusal(4, 1), Some(RelayRefusal::PeerFull));
        let third = relaying.admit(device(4), device(5)).unwrap();
        assert_eq!(refusal(6, 7), Some(RelayRefusal::Full));
        drop(first);
        assert_eq!(refusal(1, 4), None);
        drop((second, third));
        assert_eq!(relaying.circuits(), 0);
        assert!(relaying.state().peers.is_empty());
    }

    #[test]
    fn a_bucket_gives_its_rate_and_little_more_at_once() {
        let mut now = Instant::from_micros(1);
        let mut bucket = Bucket { left: 0, since: now };
        let mut moved = 0;
        for _ in 0..1000 {
            now = now + Duration::from_millis(10);
            while let Ok(bytes) = bucket.take(now, 100_000, 64 * 1024) {
                moved += bytes;
            }
        }
        assert!((990_000..=1_000_000).contains(&moved), "{moved}");
        now = now + Duration::from_secs(3600);
        assert_eq!(bucket.take(now, 100_000, u64::MAX), Ok(25_000));
        let wait = bucket.take(now, 100_000, 64 * 1024).unwrap_err();
        assert!(bucket.take(now + wait, 100_000, 64 * 1024).is_ok());
    }
}
