//! Dials, and bounds how often each target is dialled.
//!
//! Peers say where they are, and many of them may name one address that is none of theirs. So dials
//! that lead nowhere are bounded by target, whoever named it; those that meet the device they look
//! for are not. See docs/PROTOCOL.md, "Bindings".

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_wire::Cookie;
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::connection::{Connection, DialError, SocketOptions};
use crate::locator::host;
use crate::relay::{HopError, open_hop};
use crate::tls::Tls;

/// Dials to one target that may be under way or have failed, at once: the lanes of four devices
/// behind one address, 32 each.
const TARGET_BURST: u32 = 128;
/// One more each: the retries of ten devices behind one address, while an outage is young.
const TARGET_EVERY: Duration = Duration::from_millis(32);
/// Targets with dials that led nowhere lately. 160 records and 64 hints name fewer than 2048.
const TARGETS_MAX: usize = 2048;

/// Opens transports as one device. Clones share what they know of the targets.
#[derive(Clone)]
pub struct Dialler {
    tls: Tls,
    options: SocketOptions,
    clock: Arc<dyn Clock>,
    targets: Arc<Mutex<Targets>>,
}

impl Dialler {
    /// A dialler that has dialled nobody yet.
    pub fn new(tls: Tls, options: SocketOptions, clock: Arc<dyn Clock>) -> Self {
        Self { tls, options, clock, targets: Arc::default() }
    }

    /// As [`Connection::dial`], unless too many dials to that target led nowhere lately.
    ///
    /// # Errors
    /// See [`DialError`]; [`DialError::Busy`] before anything was sent.
    ///
    /// # Cancel safety
    /// Dropping the future closes the attempt, which then counts as one that led nowhere.
    pub async fn dial(
        &self,
        addr: SocketAddr,
        expected: Option<DeviceId>,
    ) -> Result<Connection, DialError> {
        let target = host(addr.ip());
        if !self.targets().take(target, self.clock.now()) {
            return Err(DialError::Busy);
        }
        let connection = Connection::dial(addr, &self.tls, expected, &self.options).await?;
        self.targets().give_back(target);
        Ok(connection)
    }

    /// As [`open_hop`], unless too many dials to that target led nowhere lately.
    ///
    /// # Errors
    /// See [`HopError`]; [`io::ErrorKind::QuotaExceeded`](std::io::ErrorKind) before anything was
    /// sent.
    ///
    /// # Cancel safety
    /// As for [`Dialler::dial`].
    pub async fn hop(&self, addr: SocketAddr, cookie: &Cookie) -> Result<TcpStream, HopError> {
        let target = host(addr.ip());
        if !self.targets().take(target, self.clock.now()) {
            return Err(HopError::Io(std::io::ErrorKind::QuotaExceeded));
        }
        let hop = open_hop(addr, cookie, &self.options).await?;
        self.targets().give_back(target);
        Ok(hop)
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, Targets> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialler").field("device", &self.tls.device()).finish_non_exhaustive()
    }
}

/// A bucket of dials for each target; one that is full has no entry.
#[derive(Debug, Default)]
struct Targets(HashMap<IpAddr, Bucket>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    /// Until when what was taken out has come back.
    since: Instant,
}

impl Targets {
    /// Whether the target may be dialled once more.
    fn take(&mut self, target: IpAddr, now: Instant) -> bool {
        if self.0.len() >= TARGETS_MAX && !self.0.contains_key(&target) {
            self.0.retain(|_, bucket| {
                bucket.refill(now);
                bucket.left < TARGET_BURST
            });
            if self.0.len() >= TARGETS_MAX {
                return false;
            }
        }
        let bucket = self.0.entry(target).or_insert(Bucket { left: TARGET_BURST, since: now });
        bucket.refill(now);
        let may = bucket.left > 0;
        bucket.left -= u32::from(may);
        may
    }

    /// The dial met whom it looked for.
    fn give_back(&mut self, target: IpAddr) {
        if let Some(bucket) = self.0.get_mut(&target) {
            bucket.left = (bucket.left + 1).min(TARGET_BURST);
        }
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let due = now.since(self.since).as_micros() / TARGET_EVERY.as_micros();
        let due = u32::try_from(due).unwrap_or(TARGET_BURST).min(TARGET_BURST);
        let full = self.left + due >= TARGET_BURST;
        self.left = (self.left + due).min(TARGET_BURST);
        // A full bucket gathers nothing; another keeps the time that made no whole dial.
        self.since = if full { now } else { self.since + TARGET_EVERY * due };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn take(targets: &mut Targets, target: &str, now: Instant) -> bool {
        targets.take(host(target.parse().unwrap()), now)
    }

    #[test]
    fn a_target_is_dialled_a_hundred_times_then_thirty_a_second() {
        let (mut targets, start) = (Targets::default(), Instant::from_micros(1_000_000));
        for dial in 0..TARGET_BURST {
            assert!(take(&mut targets, "192.0.2.1", start), "{dial}");
        }
        assert!(!take(&mut targets, "192.0.2.1", start));
        assert!(!take(&mut targets, "::ffff:192.0.2.1", start), "the same target");
        assert!(take(&mut targets, "192.0.2.2", start), "another");

        let dials = |targets: &mut Targets, from: u64, to: u64| {
            let at = (from..to).map(|millis| start + Duration::from_millis(millis));
            at.filter(|now| take(targets, "192.0.2.1", *now)).count()
        };
        assert_eq!(dials(&mut targets, 1, 1001), 31);
        assert_eq!(dials(&mut targets, 1001, 2001), 31);
    }

    #[test]
    fn dials_that_meet_their_device_are_not_bounded() {
        let (mut targets, now) = (Targets::default(), Instant::ZERO);
        for _ in 0..10 * TARGET_BURST {
            assert!(take(&mut targets, "2001:db8::1", now));
            targets.give_back(host("2001:db8::1".parse().unwrap()));
        }
    }

    #[test]
    fn targets_are_forgotten_when_they_are_left_alone_and_never_too_many() {
        let (mut targets, now) = (Targets::default(), Instant::ZERO);
        let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        for n in 0..TARGETS_MAX {
            assert!(targets.take(address(n), now));
        }
        assert!(!targets.take(address(TARGETS_MAX), now));
        assert!(targets.take(address(TARGETS_MAX), now + TARGET_EVERY));
        assert_eq!(targets.0.len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_many_name_is_soon_left_alone() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tls = Tls::new(&[1; 32]).unwrap();
        let dialler = Dialler::new(tls, SocketOptions::default(), Arc::new(SystemClock));
        let refused = Err(DialError::Io(std::io::ErrorKind::ConnectionRefused));
        let mut outcomes = Vec::new();
        for _ in 0..8 * TARGET_BURST {
            outcomes.push(dialler.dial(closed, None).await.map(|_| ()));
        }
        assert!(outcomes[..128].iter().all(|outcome| *outcome == refused));
        assert!(outcomes.contains(&Err(DialError::Busy)));
    }
}
