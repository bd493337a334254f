//! Which addresses belong to the Internet at large, and which to this machine and its networks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the Internet at large: not one of IANA's special-purpose
/// registries (RFC 6890) that lead nowhere, to one machine, or into one network. An IPv4 address in
/// an IPv6 one counts as what it leads to.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !SPECIAL_V4.iter().any(|(base, bits)| begins_v4(ip, Ipv4Addr::from(*base), *bits))
        }
        IpAddr::V6(ip) if ip.segments()[..6] == NAT64 => {
            let [.., a, b, c, d] = ip.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(ip) => {
            // Of IPv6, only this part is given out for the Internet.
            let is_global = ip.segments()[0] & 0xe000 == 0x2000;
            let base = |[a, b, c]: [u16; 3]| Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
            is_global && !SPECIAL_V6.iter().any(|(begin, bits)| begins_v6(ip, base(*begin), *bits))
        }
    }
}

/// The networks that this machine is on, with its own addresses.
#[derive(Debug)]
pub(super) struct OwnNetworks(Vec<(IpAddr, u32)>);

impl OwnNetworks {
    /// Those of the present.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) fn read() -> io::Result<Self> {
        let network = |interface: if_addrs::Interface| match interface.addr {
            if_addrs::IfAddr::V4(v4) => (v4.ip.into(), u32::from(v4.prefixlen)),
            if_addrs::IfAddr::V6(v6) => (v6.ip.into(), u32::from(v6.prefixlen)),
        };
        Ok(Self(if_addrs::get_if_addrs()?.into_iter().map(network).collect()))
    }

    /// Whether an address is in one of them.
    pub(super) fn contain(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        // A prefix of no bits is everybody's.
        self.0.iter().any(|(own, bits)| *own == ip || (*bits > 0 && is_beside(ip, *own, *bits)))
    }
}

fn is_beside(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => begins_v4(one, other, bits),
        (IpAddr::V6(one), IpAddr::V6(other)) => begins_v6(one, other, bits),
        _ => false,
    }
}

/// Whether the first `bits` are the same; there is at least one.
fn begins_v4(ip: Ipv4Addr, base: Ipv4Addr, bits: u32) -> bool {
    ip.to_bits() >> (32 - bits) == base.to_bits() >> (32 - bits)
}

fn begins_v6(ip: Ipv6Addr, base: Ipv6Addr, bits: u32) -> bool {
    ip.to_bits() >> (128 - bits) == base.to_bits() >> (128 - bits)
}

/// IPv4 addresses that are no Internet host's: base and length of the prefix.
const SPECIAL_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // behind a carrier's NAT
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local; where clouds keep their secrets
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, and broadcast
];

/// The same of the global part of IPv6.
const SPECIAL_V6: [([u16; 3], u32); 4] = [
    ([0x2001, 0, 0], 23), // protocol assignments: Teredo, which embeds IPv4, and others
    ([0x2001, 0xdb8, 0], 32), // documentation
    ([0x2002, 0, 0], 16), // 6to4, which embeds IPv4
    ([0x3fff, 0, 0], 20), // documentation
];

/// Where a translator puts the IPv4 Internet (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_machine_or_network_are_told_from_the_internet() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for ip in ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1"] {
            assert!(public(ip), "{ip}");
            assert!(public(&format!("::ffff:{ip}")), "{ip} mapped");
            assert!(public(&format!("64:ff9b::{ip}")), "{ip} translated");
            assert!(!public(&format!("::{ip}")), "{ip} compatible");
        }
        for ip in ["2606:4700::1111", "2001:4860:4860::8888", "2a00::1", "3ffe::1"] {
            assert!(public(ip), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!public(ip), "{ip}");
            assert!(!public(&format!("::ffff:{ip}")), "{ip} mapped");
            assert!(!public(&format!("64:ff9b::{ip}")), "{ip} translated");
        }
        for ip in [
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!public(ip), "{ip}");
        }
    }

    #[test]
    fn the_networks_of_this_machine_are_known() {
        let own = OwnNetworks::read().unwrap();
        for ip in ["127.0.0.1", "127.1.2.3", "::ffff:127.0.0.1"] {
            assert!(own.contain(ip.parse().unwrap()), "{ip}");
        }
        let own = OwnNetworks(vec![
            ([198, 51, 7, 5].into(), 22),
            ("2a00:1:2:3::5".parse().unwrap(), 64),
            ([9, 9, 9, 9].into(), 32),
            ([8, 8, 4, 4].into(), 0),
        ]);
        for (ip, contained) in [
            ("198.51.7.5", true),
            ("198.51.4.1", true),
            ("::ffff:198.51.4.1", true),
            ("198.51.8.1", false),
            ("2a00:1:2:3:ffff::1", true),
            ("2a00:1:2:4::5", false),
            ("9.9.9.9", true),
            ("9.9.9.8", false),
            ("8.8.4.4", true),
            ("8.8.8.8", false),
        ] {
            assert_eq!(own.contain(ip.parse().unwrap()), contained, "{ip}");
        }
    }
}
