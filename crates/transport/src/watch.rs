//! Notices that the network changed, and that the machine slept.
//!
//! [`NetworkWatch`] says that links, addresses or routes changed; whether that concerns a certain
//! lane is for its owner to find out with [`source_for`]. [`WakeWatch`] says that we slept.

mod netlink;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::Instant;
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use crate::clock::Clock;
use crate::locator::Subnet;
use netlink::Netlink;

/// Changes come in flurries (an address, its routes, the link); this is how long one lasts.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often addresses are compared where the kernel does not tell.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How often the clocks are compared.
const WAKE_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest sleep that is reported; the two clocks are not read at the same time.
const SLEEP_MIN: Duration = Duration::from_secs(2);

/// Tells when links, addresses or routes of this machine change.
#[derive(Debug)]
pub struct NetworkWatch {
    source: Source,
    /// When the change that was noticed will have settled.
    settling: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Source {
    /// The kernel tells.
    Netlink(Netlink),
    /// Addresses are compared now and then.
    Polling(Interval, BTreeSet<IpAddr>),
}

impl NetworkWatch {
    /// Starts watching. Must be called within a tokio runtime.
    pub fn start() -> Self {
        let source = Netlink::open().map(Source::Netlink).unwrap_or_else(|error| {
            tracing::info!(%error, "no rtnetlink: comparing addresses every 5 s instead");
            Source::polling()
        });
        Self { source, settling: None }
    }

    /// Waits for the next change; a flurry within 200 ms counts as one.
    ///
    /// # Cancel safety
    /// Cancel safe: no change is lost, and no wait starts over.
    pub async fn changed(&mut self) {
        if self.settling.is_none() {
            self.source.changed().await;
            self.settling = Some(Box::pin(sleep(DEBOUNCE)));
        }
        if let Some(settling) = &mut self.settling {
            settling.await;
        }
        self.settling = None;
        self.source.skip_pending();
    }
}

impl Source {
    fn polling() -> Self {
        Self::Polling(every(POLL_INTERVAL), all_addresses())
    }

    async fn changed(&mut self) {
        loop {
            match self {
                Self::Netlink(netlink) => match netlink.changed().await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%error, "rtnetlink failed: comparing addresses instead");
                        *self = Self::polling();
                        // What was missed meanwhile is unknown.
                        return;
                    }
                },
                Self::Polling(interval, before) => {
                    interval.tick().await;
                    let after = all_addresses();
                    if *before != after {
                        *before = after;
                        return;
                    }
                }
            }
        }
    }

    fn skip_pending(&mut self) {
        if let Self::Netlink(netlink) = self {
            netlink.skip_pending();
        }
    }
}

/// Tells when the machine slept: boot time ran on and monotonic time did not.
pub struct WakeWatch {
    clock: Arc<dyn Clock>,
    interval: Interval,
    now: Instant,
    boot: Instant,
}

impl WakeWatch {
    /// Starts watching. Must be called within a tokio runtime.
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let (now, boot) = (clock.now(), clock.boot());
        Self { clock, interval: every(WAKE_INTERVAL), now, boot }
    }

    /// Waits until the machine woke from a sleep of more than 2 s, and says how long it slept. The
    /// cost is one timer a second.
    ///
    /// # Cancel safety
    /// Cancel safe: no wait starts over.
    pub async fn woke(&mut self) -> Duration {
        loop {
            self.interval.tick().await;
            if let Some(slept) = self.check() {
                return slept;
            }
        }
    }

    /// How long the machine slept since the last check, when that is worth reporting.
    fn check(&mut self) -> Option<Duration> {
        let (now, boot) = (self.clock.now(), self.clock.boot());
        let slept = boot.since(self.boot).saturating_sub(now.since(self.now));
        (self.now, self.boot) = (now, boot);
        (slept > SLEEP_MIN).then_some(slept)
    }
}

/// Addresses of this machine's interfaces that other machines could dial: neither loopback nor
/// link-local, multicast or unspecified. In ascending order.
pub fn interface_addresses() -> Vec<IpAddr> {
    all_addresses().into_iter().filter(|ip| is_routable(*ip)).collect()
}

/// Subnets that this machine's interfaces are on, without loopback and link-local ones.
pub(crate) fn own_subnets() -> Vec<Subnet> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces
        .iter()
        .map(|interface| match &interface.addr {
            if_addrs::IfAddr::V4(v4) => Subnet { ip: v4.ip.into(), prefix: v4.prefixlen },
            if_addrs::IfAddr::V6(v6) => Subnet { ip: v6.ip.into(), prefix: v6.prefixlen },
        })
        .filter(|subnet| is_routable(subnet.ip))
        .collect()
}

/// The address from which this machine would now dial `dest`; none without a route. A lane whose
/// local address differs has lost its path, or there is a better one. Sends nothing.
pub fn source_for(dest: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match dest {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a datagram socket only looks up the route.
    probe.connect(dest).ok()?;
    Some(probe.local_addr().ok()?.ip().to_canonical())
}

/// A timer that keeps its pace whatever its owner does meanwhile.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn all_addresses() -> BTreeSet<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(|interface| interface.ip().to_canonical()).collect()
}

pub(crate) fn is_routable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SkewedClock;

    #[tokio::test]
    async fn a_sleep_is_noticed_once_and_a_calendar_jump_is_not() {
        let clock = Arc::new(SkewedClock::default());
        let mut watch = WakeWatch::start(clock.clone());
        assert_eq!(watch.check(), None);
        clock.set_wall_ahead(8 * 3600);
        assert_eq!(watch.check(), None);
        clock.sleep(Duration::from_secs(8 * 3600));
        let slept = watch.check().unwrap();
        // The clocks are read one after the other.
        assert_eq!((slept + Duration::from_secs(30)).as_secs() / 60, 8 * 60);
        assert_eq!(watch.check(), None);
        clock.sleep(Duration::from_secs(1));
        assert_eq!(watch.check(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waking_is_told_within_a_second_even_to_a_busy_owner() {
        let clock = Arc::new(SkewedClock::default());
        let mut watch = WakeWatch::start(clock.clone());
        clock.sleep(Duration::from_secs(60));
        for _ in 0..11 {
            let turn = tokio::time::timeout(WAKE_INTERVAL / 10, watch.woke()).await;
            if let Ok(slept) = turn {
                assert!(slept >= Duration::from_secs(59));
                return;
            }
        }
        panic!("not told");
    }

    #[test]
    fn the_source_is_our_own_address() {
        assert_eq!(source_for("127.0.0.1:9".parse().unwrap()), Some(Ipv4Addr::LOCALHOST.into()));
        for ip in interface_addresses() {
            assert_eq!(source_for(SocketAddr::new(ip, 9)), Some(ip));
            assert!(own_subnets().iter().any(|subnet| subnet.contains(ip)));
        }
    }

    #[test]
    fn only_addresses_that_others_could_dial_are_published() {
        for bad in ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "::", "224.0.0.1"] {
            assert!(!is_routable(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.0.0.1", "192.0.2.1", "fd00::1", "2001:db8::1"] {
            assert!(is_routable(good.parse().unwrap()), "{good}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polling_sees_changes_and_only_those() {
        let mut watch = NetworkWatch { source: Source::polling(), settling: None };
        let quiet = tokio::time::timeout(POLL_INTERVAL * 3, watch.changed()).await;
        assert!(quiet.is_err());

        let Source::Polling(_, before) = &mut watch.source else { unreachable!() };
        before.clear();
        // The change is noticed within the interval and told after it settled, also to an owner
        // that has other things to do every 50 ms.
        let told = async { while timeout_50ms(watch.changed()).await.is_err() {} };
        tokio::time::timeout(POLL_INTERVAL + 3 * DEBOUNCE, told).await.unwrap();
    }

    async fn timeout_50ms<F: Future>(future: F) -> Result<F::Output, tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::from_millis(50), future).await
    }
}
