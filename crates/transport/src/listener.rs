//! Accepts transports.
//!
//! Anyone may connect, so what a stranger costs is bounded: handshakes have a deadline, and their
//! number is capped per source and in all. A transport counts until its `Hello` was verified, which
//! is done above; so is what a known device may do.

mod half_open;

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cloak_wire::PREAMBLE_MAGIC;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout_at};

use crate::clock::deadline_after;
use crate::connection::{AcceptError, Connection, HANDSHAKE_TIMEOUT, SocketOptions};
use crate::relay::{Cookies, accept_hop};
use crate::tls::Tls;
pub use half_open::HalfOpen;
use half_open::HalfOpens;

/// TCP connections that wait in the kernel for us to accept them.
const BACKLOG: i32 = 1024;
/// Pause after the system ran out of descriptors or memory, which no retry can hurry.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(250);

/// Limits on transports whose `Hello` has not been verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Transports from one IPv4 address or IPv6 /64 at once. An honest device has at most 32 dials
    /// in flight; some may share an address.
    pub per_source: usize,
    /// Transports in all at once; each holds at most 20 KiB and a descriptor.
    pub total: usize,
    /// Time from accept to a verified `Hello`.
    pub deadline: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self { per_source: 64, total: 1024, deadline: HANDSHAKE_TIMEOUT }
    }
}

/// What became of TCP connections. `accepted` is the sum of `authenticated`, `hops`, `failed`,
/// `timed_out` and the handshakes under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerStats {
    /// TCP connections accepted and let through to a handshake.
    pub accepted: u64,
    /// TCP connections closed at once, because their source has too many transports half-open.
    pub refused: u64,
    /// Handshakes that succeeded.
    pub authenticated: u64,
    /// Hops of circuits, opened with a cookie that counted.
    pub hops: u64,
    /// Handshakes that failed, and hops.
    pub failed: u64,
    /// Handshakes that were not over at the deadline.
    pub timed_out: u64,
}

/// A transport whose device key is proved, and nothing else.
#[derive(Debug)]
pub struct Accepted {
    /// The transport.
    pub connection: Connection,
    /// Counts against its source, until dropped: to be kept until the peer's `Hello` is verified.
    pub half_open: HalfOpen,
}

/// Accepts transports on some sockets, and runs their handshakes.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    tls: Tls,
    options: SocketOptions,
    /// Time from accept to a verified `Hello`.
    deadline: Duration,
    half_open: HalfOpens,
    /// Those of the hops that are expected.
    cookies: Cookies,
    /// Each is half-open, so there are as many at most.
    handshakes: JoinSet<Outcome>,
    stats: ListenerStats,
    /// Which socket is asked first, so that a busy one does not starve the others.
    turn: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// How a handshake went; none at the deadline.
type Outcome = Option<Result<Opened, AcceptError>>;

/// What a TCP connection became.
enum Opened {
    Transport(Box<Accepted>),
    /// Whoever waited for the hop has it.
    Hop,
}

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
    /// A listener on sockets that are bound already; see [`listen`]. Hops that are opened with one
    /// of the `cookies` go to whoever waits for them.
    pub fn new(
        sockets: Vec<TcpListener>,
        tls: Tls,
        options: SocketOptions,
        limits: ListenerLimits,
        cookies: Cookies,
    ) -> Self {
        Self {
            sockets,
            tls,
            options,
            deadline: limits.deadline,
            half_open: HalfOpens::new(limits.per_source, limits.total),
            cookies,
            handshakes: JoinSet::new(),
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

    /// The next transport whose device key is proved. Handshakes under way go on between calls; new ones start
    /// only within a call.
    ///
    /// # Cancel safety
    /// Cancel safe. Dropping the listener ends the handshakes.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            let has_room = self.half_open.has_room();
            tokio::select! {
                biased;
                Some(ended) = self.handshakes.join_next() => {
                    // A handshake that panicked is one that failed.
                    let outcome = ended.unwrap_or(Some(Err(AcceptError::Closed)));
                    if let Some(accepted) = self.count(outcome) {
                        return accepted;
                    }
                }
                () = self.half_open.wait_for_room(), if !has_room => {}
                () = wait(&mut self.pause) => self.pause = None,
                accepted = poll_fn(|cx| poll_accept(&self.sockets, self.turn, cx)),
                    if has_room && self.pause.is_none() =>
                {
                    self.turn = self.turn.wrapping_add(1);
                    self.handle_accepted(accepted);
                }
            }
        }
    }

    fn handle_accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((tcp, from)) => {
                match self.half_open.enter(from.ip(), deadline_after(self.deadline)) {
                    Some(half_open) => self.start(tcp, half_open),
                    None => self.stats.refused += 1,
                }
            }
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(%error, "cannot accept transports");
                self.pause = Some(Box::pin(sleep(EXHAUSTED_PAUSE)));
            }
            // The connection was gone before it was accepted.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }

    fn start(&mut self, tcp: TcpStream, half_open: HalfOpen) {
        self.stats.accepted += 1;
        let (tls, options) = (self.tls.clone(), self.options.clone());
        let cookies = self.cookies.clone();
        self.handshakes.spawn(async move {
            let deadline = half_open.deadline();
            let opening = async {
                let mut first = [0];
                if tcp.peek(&mut first).await? == 1 && first[0] == PREAMBLE_MAGIC[0] {
                    let hop = accept_hop(tcp, &cookies, &options).await;
                    return hop.map(|()| Opened::Hop).map_err(|_| AcceptError::Closed);
                }
                let connection = Connection::accept(tcp, &tls, &options).await?;
                Ok(Opened::Transport(Box::new(Accepted { connection, half_open })))
            };
            timeout_at(deadline, opening).await.ok()
        });
    }

    fn count(&mut self, outcome: Outcome) -> Option<Accepted> {
        match outcome {
            Some(Ok(Opened::Transport(accepted))) => {
                self.stats.authenticated += 1;
                Some(*accepted)
            }
            Some(Ok(Opened::Hop)) => {
                self.stats.hops += 1;
                None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_is_told_from_a_lost_connection() {
        assert!(is_exhausted(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_exhausted(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
