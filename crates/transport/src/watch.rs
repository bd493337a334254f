//! Notices that the network changed, and that the machine slept.
//!
//! [`NetworkWatch`] says that links, addresses or routes changed; whether that concerns a certain
//! lane is for its owner to find out with [`source_for`]. [`WakeWatch`] says that we slept.

mod netlink;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use cloak_base::Instant;

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
}

#[derive(Debug)]
enum Source {
    /// The kernel tells.
    Netlink(Netlink),
    /// Addresses are compared now and then.
    Polling(BTreeSet<IpAddr>),
}

impl NetworkWatch {
    /// Starts watching. Must be called within a tokio runtime.
    pub fn start() -> Self {
        match Netlink::open() {
            Ok(netlink) => Self { source: Source::Netlink(netlink) },
            Err(error) => {
                tracing::info!(%error, "no rtnetlink: comparing addresses every 5 s instead");
                Self::polling()
            }
        }
    }

    fn polling() -> Self {
        Self { source: Source::Polling(all_addresses()) }
    }

    /// Waits for the next change; a flurry within 200 ms counts as one.
    ///
    /// # Cancel safety
    /// Cancel safe, but for a change that is being debounced: a caller that drops the future must
    /// look at the addresses itself.
    pub async fn changed(&mut self) {
        loop {
            match &mut self.source {
                Source::Netlink(netlink) => match netlink.changed().await {
                    Ok(()) => {
                        tokio::time::sleep(DEBOUNCE).await;
                        netlink.skip_pending();
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "rtnetlink failed: comparing addresses instead");
                        *self = Self::polling();
                        // What was missed meanwhile is unknown.
                        return;
                    }
                },
                Source::Polling(before) => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    let after = all_addresses();
                    if *before != after {
                        *before = after;
                        return;
                    }
                }
            }
        }
    }
}

/// Tells when the machine slept: boot time ran on and monotonic time did not.
pub struct WakeWatch {
    clock: Arc<dyn Clock>,
    now: Instant,
    boot: Instant,
}

impl WakeWatch {
    /// Starts watching.
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let (now, boot) = (clock.now(), clock.boot());
        Self { clock, now, boot }
    }

    /// Waits until the machine woke from a sleep of more than 2 s, and says how long it slept. The
    /// cost is one timer a second.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn woke(&mut self) -> Duration {
        loop {
            tokio::time::sleep(WAKE_INTERVAL).await;
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

    #[test]
    fn a_sleep_is_noticed_once_and_a_calendar_jump_is_not() {
        let clock = Arc::new(SkewedClock::default());
        let mut watch = WakeWatch::start(clock.clone());
        assert_eq!(watch.check(), None);
        clock.set_wall_ahead(8 * 3600);
        assert_eq!(watch.check(), None);
        clock.sleep(Duration::from_secs(8 * 3600));
        let slept = watch.check().unwrap();
        assert_eq!(slept.as_secs() / 60, 8 * 60);
        assert_eq!(watch.check(), None);
        clock.sleep(Duration::from_secs(1));
        assert_eq!(watch.check(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waking_is_told_within_a_second() {
        let clock = Arc::new(SkewedClock::default());
        let mut watch = WakeWatch::start(clock.clone());
        clock.sleep(Duration::from_secs(60));
        let woke = tokio::time::timeout(WAKE_INTERVAL * 2, watch.woke()).await;
        assert!(woke.unwrap() >= Duration::from_secs(59));
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
    async fn polling_sees_no_change_where_there_is_none() {
        let mut watch = NetworkWatch::polling();
        let quiet = tokio::time::timeout(POLL_INTERVAL * 3, watch.changed()).await;
        assert!(quiet.is_err());
        watch.source = Source::Polling(BTreeSet::new());
        tokio::time::timeout(POLL_INTERVAL * 2, watch.changed()).await.unwrap();
    }
}
