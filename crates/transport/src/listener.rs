//! Accepts transports.
//!
//! Anyone may connect, so what a stranger costs is bounded: handshakes have a deadline, and their
//! number is capped per source and in all. A source counts only until it has proved a device key;
//! what a known device may do is decided above.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::connection::{AcceptError, Connection, HANDSHAKE_TIMEOUT, SocketOptions};
use crate::tls::Tls;

/// TCP connections that wait in the kernel for us to accept them.
const BACKLOG: i32 = 1024;
/// Pause after the system ran out of descriptors or memory, which no retry can hurry.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(250);

/// Limits on connections that have not proved a device key yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Handshakes from one IPv4 address or IPv6 /64 at once. An honest device has at most 32 dials
    /// in flight; some may share an address.
    pub per_source: usize,
    /// Handshakes in all at once; each holds at most 20 KiB and a descriptor.
    pub total: usize,
    /// Time for a handshake.
    pub deadline: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self { per_source: 64, total: 1024, deadline: HANDSHAKE_TIMEOUT }
    }
}

/// What became of TCP connections. `accepted` is the sum of `authenticated`, `failed`, `timed_out`
/// and the handshakes under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerStats {
    /// TCP connections accepted and let through to a handshake.
    pub accepted: u64,
    /// TCP connections closed at once, because their source has too many handshakes under way.
    pub refused: u64,
    /// Handshakes that succeeded.
    pub authenticated: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Handshakes that were not over at the deadline.
    pub timed_out: u64,
}

/// Accepts transports on some sockets, and runs their handshakes.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    tls: Tls,
    options: SocketOptions,
    limits: ListenerLimits,
    /// At most `limits.total`.
    handshakes: JoinSet<Outcome>,
    half_open: Arc<HalfOpen>,
    stats: ListenerStats,
    /// Which socket is asked first, so that a busy one does not starve the others.
    turn: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// How a handshake went; none at the deadline.
type Outcome = Option<Result<Connection, AcceptError>>;

/// Binds a socket to listen on. `[::]` takes IPv4 too, and where the system has no IPv6 it becomes
/// `0.0.0.0`. Must be called within a tokio runtime.
///
/// # Errors
/// The address is taken, not ours, or not permitted.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    match bind(addr) {
        Err(error) if addr.ip() == Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, addr.port()).into())
        }
        bound => bound,
    }
}

impl Listener {
    /// A listener on sockets that are bound already; see [`listen`].
    pub fn new(
        sockets: Vec<TcpListener>,
        tls: Tls,
        options: SocketOptions,
        limits: ListenerLimits,
    ) -> Self {
        Self {
            sockets,
            tls,
            options,
            limits,
            handshakes: JoinSet::new(),
            half_open: Arc::default(),
            stats: ListenerStats::default(),
            turn: 0,
            pause: None,
        }
    }

    /// The addresses that are listened on.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// What happened so far.
    pub fn stats(&self) -> ListenerStats {
        self.stats
    }

    /// The next authenticated connection. Handshakes under way go on between calls; new ones start
    /// only within a call.
    ///
    /// # Cancel safety
    /// Cancel safe. Dropping the listener ends the handshakes.
    pub async fn accept(&mut self) -> Connection {
        loop {
            let is_free = self.handshakes.len() < self.limits.total;
            tokio::select! {
                biased;
                Some(ended) = self.handshakes.join_next() => {
                    // A handshake that panicked is one that failed.
                    let outcome = ended.unwrap_or(Some(Err(AcceptError::Closed)));
                    if let Some(connection) = self.count(outcome) {
                        return connection;
                    }
                }
                () = wait(&mut self.pause) => self.pause = None,
                accepted = poll_fn(|cx| poll_accept(&self.sockets, self.turn, cx)),
                    if is_free && self.pause.is_none() =>
                {
                    self.turn = self.turn.wrapping_add(1);
                    self.handle_accepted(accepted);
                }
            }
        }
    }

    fn handle_accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((tcp, from)) => match self.half_open.enter(from.ip(), self.limits.per_source) {
                Some(permit) => self.start(tcp, permit),
                None => self.stats.refused += 1,
            },
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(%error, "cannot accept transports");
                self.pause = Some(Box::pin(sleep(EXHAUSTED_PAUSE)));
            }
            // The connection was gone before it was accepted.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }

    fn start(&mut self, tcp: TcpStream, permit: Permit) {
        self.stats.accepted += 1;
        let (tls, options, deadline) =
            (self.tls.clone(), self.options.clone(), self.limits.deadline);
        self.handshakes.spawn(async move {
            let _permit = permit;
            timeout(deadline, Connection::accept(tcp, &tls, &options)).await.ok()
        });
    }

    fn count(&mut self, outcome: Outcome) -> Option<Connection> {
        match outcome {
            Some(Ok(connection)) => {
                self.stats.authenticated += 1;
                Some(connection)
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "handshake");
                self.stats.failed += 1;
                None
            }
            None => {
                self.stats.timed_out += 1;
                None
            }
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait until the connections of the last run are forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}

fn poll_accept(
    sockets: &[TcpListener],
    turn: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    for offset in 0..sockets.len() {
        let socket = &sockets[(turn.wrapping_add(offset)) % sockets.len()];
        if let Poll::Ready(accepted) = socket.poll_accept(cx) {
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}

async fn wait(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Handshakes under way, by source. A source without any has no entry.
#[derive(Debug, Default)]
struct HalfOpen(Mutex<HashMap<IpAddr, usize>>);

/// One handshake under way; dropping it ends the count.
#[derive(Debug)]
struct Permit {
    half_open: Arc<HalfOpen>,
    source: IpAddr,
}

impl HalfOpen {
    fn enter(self: &Arc<Self>, from: IpAddr, max: usize) -> Option<Permit> {
        let source = source(from);
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Permit { half_open: self.clone(), source })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut sources = self.half_open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = sources.entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Who is counted: an IPv4 address, or the /64 that one IPv6 host has to itself.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_counted_by_address_or_by_64() {
        let half_open = Arc::new(HalfOpen::default());
        let enter = |ip: &str, max| half_open.enter(ip.parse().unwrap(), max);
        let first = enter("192.0.2.1", 2).unwrap();
        let second = enter("::ffff:192.0.2.1", 2).unwrap();
        assert!(enter("192.0.2.1", 2).is_none());
        assert!(enter("192.0.2.2", 2).is_some());
        drop(first);
        assert!(enter("192.0.2.1", 2).is_some());
        drop(second);
        let held = enter("2001:db8::1", 1).unwrap();
        assert!(enter("2001:db8::2", 1).is_none());
        assert!(enter("2001:db8:0:1::1", 1).is_some());
        drop(held);
        assert!(half_open.0.lock().unwrap().is_empty());
    }

    #[test]
    fn exhaustion_is_told_from_a_lost_connection() {
        assert!(is_exhausted(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_exhausted(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
