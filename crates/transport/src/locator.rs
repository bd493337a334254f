//! Which addresses may be dialled.
//!
//! Locators come from other peers, so a liar could make every gateway of a realm connect to a
//! victim, or to a service that listens on loopback only. See docs/PROTOCOL.md, "Opening a
//! transport".

use std::net::{IpAddr, SocketAddr};

/// The address with IPv4 in its own form: `::ffff:192.0.2.1` is `192.0.2.1`.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}
