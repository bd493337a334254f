//! Which addresses may be dialled.
//!
//! Locators come from other peers, so a liar could make every gateway of a realm connect to a
//! victim, or to a service that trusts loopback or the local network. Every address goes through
//! [`dialable`] right before the dial, in the form in which it will be dialled. See
//! docs/PROTOCOL.md, "Opening a transport".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::watch::own_subnets;

/// The address with IPv4 in its own form: `::ffff:192.0.2.1` is `192.0.2.1`.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// What may be dialled beyond public addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Loopback addresses: only where our own overlay listener is bound to loopback, as in a
    /// demonstration with several gateways on one machine.
    pub loopback: bool,
    /// Which private addresses.
    pub private: Private,
}

/// Private addresses (RFC 1918, RFC 6598, RFC 4193) that may be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// Those on these subnets, normally our own.
    Subnets(Vec<Subnet>),
    /// All: a setting for realms inside a routed private network.
    Any,
}

/// Addresses that share their first `prefix` bits with `ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// Any address of the subnet.
    pub ip: IpAddr,
    /// Length of the common prefix in bits; at most 32 or 128.
    pub prefix: u8,
}

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocatorError {
    /// Not the address of one host: unspecified, multicast, broadcast, reserved.
    #[error("not the address of a host")]
    NotAHost,
    /// Port 0.
    #[error("port 0")]
    NoPort,
    /// Link-local: it means something else on every link.
    #[error("link-local address")]
    LinkLocal,
    /// Loopback, and our own listener is not bound to it.
    #[error("loopback address")]
    Loopback,
    /// Private, and not on one of the permitted subnets.
    #[error("private address that is not on an own subnet")]
    Private,
}

impl Default for Private {
    fn default() -> Self {
        Self::Subnets(Vec::new())
    }
}

impl Policy {
    /// The policy of a gateway whose overlay listener is bound to `listening`, with the subnets
    /// that this machine has now. Ask again when the network has changed.
    pub fn of_this_machine(listening: &[SocketAddr]) -> Self {
        Self {
            loopback: listening.iter().any(|addr| canonical(*addr).ip().is_loopback()),
            private: Private::Subnets(own_subnets()),
        }
    }
}

impl Subnet {
    /// Whether `ip` is one of the subnet's addresses.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= u32::from(self.prefix.min(32))
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= u32::from(self.prefix.min(128))
            }
            _ => false,
        }
    }
}

/// Whether `addr`, which another peer supplied, may be dialled.
///
/// # Errors
/// The first rule that forbids it.
pub fn dialable(addr: SocketAddr, policy: &Policy) -> Result<(), LocatorError> {
    if addr.port() == 0 {
        return Err(LocatorError::NoPort);
    }
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => dialable_v4(ip, policy),
        IpAddr::V6(ip) => match embedded(ip) {
            // Where a translator or a tunnel takes it: the same rules hold there.
            Some(inner) => dialable_v4(inner, policy),
            None => dialable_v6(ip, policy),
        },
    }
}

fn dialable_v4(ip: Ipv4Addr, policy: &Policy) -> Result<(), LocatorError> {
    let [a, b, ..] = ip.octets();
    if a == 0 || a >= 224 {
        // "This network", multicast, reserved, broadcast.
        Err(LocatorError::NotAHost)
    } else if ip.is_loopback() {
        policy.loopback.then_some(()).ok_or(LocatorError::Loopback)
    } else if ip.is_link_local() {
        Err(LocatorError::LinkLocal)
    } else if ip.is_private() || (a == 100 && b & 0xc0 == 64) {
        policy.private.permits(ip.into())
    } else {
        Ok(())
    }
}

fn dialable_v6(ip: Ipv6Addr, policy: &Policy) -> Result<(), LocatorError> {
    if ip.is_loopback() {
        policy.loopback.then_some(()).ok_or(LocatorError::Loopback)
    } else if ip.is_unicast_link_local() {
        Err(LocatorError::LinkLocal)
    } else if ip.is_unique_local() {
        policy.private.permits(ip.into())
    } else if ip.segments()[0] & 0xe000 == 0x2000 {
        // 2000::/3, all there is of global unicast.
        Ok(())
    } else {
        Err(LocatorError::NotAHost)
    }
}

/// The IPv4 address inside a NAT64 (64:ff9b::/96) or 6to4 (2002::/16) address.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = ip.octets();
    let inner = match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => &bytes[12..16],
        [0x2002, ..] => &bytes[2..6],
        _ => return None,
    };
    <[u8; 4]>::try_from(inner).ok().map(Ipv4Addr::from)
}

impl Private {
    fn permits(&self, ip: IpAddr) -> Result<(), LocatorError> {
        match self {
            Self::Any => Ok(()),
            Self::Subnets(subnets) if subnets.iter().any(|subnet| subnet.contains(ip)) => Ok(()),
            Self::Subnets(_) => Err(LocatorError::Private),
        }
    }
}

/// Who is counted where hosts are: an IPv4 address, or the /64 that one IPv6 host has to itself.
pub(crate) fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &Policy, ip: &str) -> Result<(), LocatorError> {
        dialable(SocketAddr::new(ip.parse().unwrap(), 7140), policy)
    }

    fn subnet(ip: &str, prefix: u8) -> Subnet {
        Subnet { ip: ip.parse().unwrap(), prefix }
    }

    #[test]
    fn peer_supplied_locators_are_no_attack_tool() {
        use LocatorError as E;
        let policy = Policy::default();
        for (ips, expected) in [
            (&["8.8.8.8", "2600::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"][..], Ok(())),
            (&["127.0.0.1", "127.9.9.9", "::1"], Err(E::Loopback)),
            (&["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"], Err(E::Loopback)),
            (&["169.254.169.254", "fe80::1", "::ffff:169.254.1.1"], Err(E::LinkLocal)),
            (&["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"], Err(E::Private)),
            (&["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:c0a8:101::1"], Err(E::Private)),
            (&["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "255.255.255.255"], Err(E::NotAHost)),
            (&["240.0.0.1", "ff02::1", "::7f00:1", "fec0::1", "100::1"], Err(E::NotAHost)),
            (&["172.32.0.1", "100.128.0.1", "11.0.0.1"], Ok(())),
        ] {
            for ip in ips {
                assert_eq!(check(&policy, ip), expected, "{ip}");
            }
        }
        assert_eq!(dialable("8.8.8.8:0".parse().unwrap(), &policy), Err(E::NoPort));
    }

    #[test]
    fn settings_open_what_they_say_and_no_more() {
        let demo = Policy { loopback: true, ..Policy::default() };
        assert_eq!(check(&demo, "127.0.0.1"), Ok(()));
        assert_eq!(check(&demo, "::1"), Ok(()));
        assert_eq!(check(&demo, "10.0.0.1"), Err(LocatorError::Private));

        let own = Private::Subnets(vec![subnet("192.168.1.77", 24), subnet("fd12::5", 64)]);
        let home = Policy { private: own, ..Policy::default() };
        assert_eq!(check(&home, "192.168.1.1"), Ok(()));
        assert_eq!(check(&home, "::ffff:192.168.1.1"), Ok(()));
        assert_eq!(check(&home, "192.168.2.1"), Err(LocatorError::Private));
        assert_eq!(check(&home, "fd12::ffff"), Ok(()));
        assert_eq!(check(&home, "fd13::5"), Err(LocatorError::Private));

        let any = Policy { private: Private::Any, ..Policy::default() };
        assert_eq!(check(&any, "10.0.0.1"), Ok(()));
        assert_eq!(check(&any, "127.0.0.1"), Err(LocatorError::Loopback));
        assert_eq!(check(&any, "169.254.1.1"), Err(LocatorError::LinkLocal));
    }

    #[test]
    fn subnets_hold_their_prefix() {
        assert!(subnet("10.0.0.0", 8).contains("10.255.0.1".parse().unwrap()));
        assert!(!subnet("10.0.0.1", 32).contains("10.0.0.2".parse().unwrap()));
        assert!(subnet("10.0.0.1", 0).contains("8.8.8.8".parse().unwrap()));
        assert!(!subnet("::", 0).contains("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn only_ipv4_changes_its_form() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:5".parse().unwrap());
        let scoped: SocketAddr = "[fe80::1%3]:5".parse().unwrap();
        assert_eq!(canonical(scoped), scoped);
    }
}
