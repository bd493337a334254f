//! From this machine: all addresses of a name are tried, IPv6 and IPv4 in turn, each a moment
//! after the one before (RFC 8305, without its sorting rules, which the system's resolver applies).

use std::net::SocketAddr;
use std::time::Duration;

use cloak_node::Code;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::io_code;
use crate::destination::Destination;

/// Connects to an ordinary destination.
///
/// # Errors
/// As [`addresses`] and [`connect_to`].
pub(super) async fn connect(destination: &Destination) -> Result<TcpStream, Code> {
    connect_to(addresses(destination).await?).await
}

/// Where an ordinary destination is, in the order to try.
///
/// # Errors
/// [`Code::HostUnreachable`], [`Code::Timeout`].
pub(crate) async fn addresses(destination: &Destination) -> Result<Vec<SocketAddr>, Code> {
    match destination {
        Destination::Address(address) if is_unconnectable(address) => Err(Code::HostUnreachable),
        Destination::Address(address) => Ok(vec![*address]),
        Destination::Name { name, port } => resolve(name, *port).await,
        Destination::Cloak { .. } => Err(Code::UnknownName),
    }
}

/// Connects to the first of these addresses that answers.
///
/// # Errors
/// [`Code::HostUnreachable`], [`Code::ConnectionRefused`], [`Code::Timeout`], [`Code::Busy`].
pub(crate) async fn connect_to(addresses: Vec<SocketAddr>) -> Result<TcpStream, Code> {
    let raced = timeout(CONNECT_TIMEOUT, race(addresses)).await.map_err(|_| Code::Timeout)?;
    let stream = raced?;
    // Latency of small writes matters more than their number; a socket that cannot is used as is.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Looks up a name and a port; the addresses in the order to try them.
pub(super) async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Code> {
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((name, port))).await;
    in_turns(found.map_err(|_| Code::Timeout)?.map_err(|_| Code::HostUnreachable)?)
}

/// What a lookup found, in the order to try.
///
/// # Errors
/// [`Code::HostUnreachable`]: nothing.
pub(crate) fn in_turns(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Code> {
    let (mut v6, mut v4): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let rounds = v6.len().max(v4.len());
    let (mut v6, mut v4) = (v6.drain(..), v4.drain(..));
    let turns = (0..rounds).flat_map(|_| [v6.next(), v4.next()]).flatten();
    let addresses: Vec<_> = turns.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() { Err(Code::HostUnreachable) } else { Ok(addresses) }
}

/// The first connection that succeeds; the most telling failure if none does.
pub(super) async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, Code> {
    let mut attempts = JoinSet::new();
    let mut failure = Code::HostUnreachable;
    let mut waiting = addresses.into_iter();
    loop {
        match waiting.next() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let last = waiting.len() == 0;
        tokio::select! {
            biased;
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = io_code(&error),
                Err(_) => {}
            },
            () = sleep(STAGGER), if !last => {}
        }
    }
}

/// Multicast and reserved addresses, where no TCP connection can lead. Programs that invent such
/// addresses for names (proxychains) send the name itself; whoever sends the address has lost it.
fn is_unconnectable(address: &SocketAddr) -> bool {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.is_multicast() || ip.octets()[0] >= 240,
        std::net::IpAddr::V6(ip) => ip.is_multicast(),
    }
}

/// Longest wait for the addresses of a name.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Head start of each address before the next is tried too.
const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
