//! Whose connection it is: the kernel knows the owner of each socket of this machine.
//!
//! A unix socket tells its peer's user directly. For TCP over loopback the other end is looked up
//! in the kernel's table of sockets, where it stands with our two addresses exchanged.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::process::geteuid;

/// Whether the owner of the connection from `peer` to `local` is this process's user. Connections
/// from other machines, which have no row in the table, are not concerned; whatever address a user
/// of this machine connects from, there is a row.
///
/// Blocks: it reads the table of all TCP sockets.
///
/// # Errors
/// The table cannot be read.
pub(crate) fn admits_tcp(peer: SocketAddr, local: SocketAddr) -> io::Result<bool> {
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    Ok(match owner(peer, local)? {
        Some(uid) => uid == geteuid().as_raw(),
        None => !is_loopback(peer) && !is_loopback(local) && peer.ip() != local.ip(),
    })
}

/// Whether a unix socket's peer is this process's user.
pub(crate) fn admits_unix(peer_uid: u32) -> bool {
    peer_uid == geteuid().as_raw()
}

fn owner(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = match std::fs::read_to_string(table) {
            Ok(text) => text,
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if let Some(uid) = text.lines().skip(1).find_map(|line| row(line, peer, local)) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// The owner in one row of the table, if it is the socket at `from` connected to `to`.
fn row(line: &str, from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let is = |text: &str, address: SocketAddr| {
        parse(text) == Some((address.ip().to_canonical(), address.port()))
    };
    let matches = is(columns.next()?, from) && is(columns.next()?, to);
    matches.then(|| columns.nth(4)?.parse().ok()).flatten()
}

/// An address as the kernel prints it: 32-bit words of the machine's byte order in hexadecimal.
fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let text = words.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
    };
    let ip = match words.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let octets: [u8; 16] =
                [word(0)?, word(1)?, word(2)?, word(3)?].concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_the_kernels_table_are_understood() {
        let row4 = "   3: 0100007F:A1B2 0100007F:0438 01 00000000:00000000 00:00000000 00000000  1000        0 12345 1";
        let row6 = "   0: 00000000000000000000000001000000:A1B2 00000000000000000000000001000000:0438 01 00000000:00000000 00:00000000 00000000 65534 0 1 1";
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(row(row4, address("127.0.0.1:41394"), address("127.0.0.1:1080")), Some(1000));
        assert_eq!(row(row4, address("127.0.0.1:1080"), address("127.0.0.1:41394")), None);
        assert_eq!(row(row6, address("[::1]:41394"), address("[::1]:1080")), Some(65534));
        assert_eq!(row("", address("[::1]:1"), address("[::1]:2")), None);
    }

    #[test]
    fn our_own_connections_are_ours() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let local = listener.local_addr().unwrap();
            let client = std::net::TcpStream::connect(local).unwrap();
            assert!(admits_tcp(client.local_addr().unwrap(), local).unwrap());
        }
    }
}
