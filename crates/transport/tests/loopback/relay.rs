//! Circuits: hops opened with cookies, spliced at a host that sees ciphertext only.
#![expect(
    clippy::disallowed_methods,
    reason = "tests measure real time, and their tasks end with their runtime"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloak_transport::{
    Carrier, Connection, Cookies, DialError, HopError, Listener, ListenerLimits, RecvError,
    RelayLimits, Relaying, STATUS_TIMEOUT, SocketOptions, SpliceEnd, SystemClock, Waiting,
    open_hop, splice,
};
use cloak_wire::Cookie;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{DEADLINE, drain, exchange, listen, pair, raw_client, stream, tls};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A host with its listener; devices 1 and 2 are the ends, 3 is the host.
struct Host {
    addr: SocketAddr,
    cookies: Cookies,
    relaying: Relaying,
    listening: JoinHandle<()>,
}

impl Host {
    fn start(limits: RelayLimits) -> Self {
        let cookies = Cookies::new(Arc::new(SystemClock));
        let socket = cloak_transport::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = socket.local_addr().unwrap();
        let options = SocketOptions::default();
        let limit = ListenerLimits::default();
        let mut listener = Listener::new(vec![socket], tls(3), options, limit, cookies.clone());
        let listening = tokio::spawn(async move {
            loop {
                listener.accept().await;
            }
        });
        let relaying = Relaying::new(limits, Arc::new(SystemClock));
        Self { addr, cookies, relaying, listening }
    }

    fn issue(&self, n: u8, source: IpAddr) -> Waiting {
        self.cookies.issue(Cookie([n; 32].into()), tls(n).device(), source).unwrap()
    }

    async fn open(&self, cookie: u8) -> Result<TcpStream, HopError> {
        open_hop(self.addr, &Cookie([cookie; 32].into()), &SocketOptions::default()).await
    }

    /// Both ends' hops, and how the circuit between them ends.
    async fn circuit(&self) -> (TcpStream, TcpStream, JoinHandle<(SpliceEnd, u64)>) {
        let place = self.relaying.admit(tls(1).device(), tls(2).device()).unwrap();
        let (mut one, mut two) = (self.issue(1, HOME), self.issue(2, HOME));
        let spliced = tokio::spawn(async move {
            let (one, two) = (one.hop().await.unwrap(), two.hop().await.unwrap());
            splice(one, two, &place).await
        });
        (self.open(1).await.unwrap(), self.open(2).await.unwrap(), spliced)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn ends(one: impl Into<Carrier>, two: impl Into<Carrier>) -> (Connection, Connection) {
    let (dialler, acceptor, via) = (tls(1), tls(2), tls(3).device());
    let (one, two) = tokio::join!(
        Connection::dial_over(one.into(), &dialler, acceptor.device(), via),
        Connection::accept_over(two.into(), &acceptor, via),
    );
    (one.unwrap(), two.unwrap())
}

async fn ended(spliced: JoinHandle<(SpliceEnd, u64)>) -> (SpliceEnd, u64) {
    tokio::time::timeout(DEADLINE, spliced).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_hop_opens_once_with_its_neighbours_cookie() {
    let host = Host::start(RelayLimits::default());
    let mut waiting = host.issue(1, HOME);
    let other = host.issue(2, "127.0.0.2".parse().unwrap());
    assert_eq!(host.open(9).await.unwrap_err(), HopError::Refused, "unknown");
    assert_eq!(host.open(2).await.unwrap_err(), HopError::Refused, "of another neighbour");
    let _hop = host.open(1).await.unwrap();
    assert!(waiting.hop().await.is_some());
    assert_eq!(host.open(1).await.unwrap_err(), HopError::Refused, "used");
    drop(other);
    assert_eq!(host.open(2).await.unwrap_err(), HopError::Refused, "taken back");
}

#[tokio::test]
async fn the_ends_talk_through_a_host() {
    let host = Host::start(RelayLimits::default());
    let (one, two, spliced) = host.circuit().await;
    let (mut one, mut two) = ends(one, two).await;
    assert_eq!((one.peer(), two.peer()), (tls(2).device(), tls(1).device()));
    assert_eq!((one.via(), two.via()), (Some(tls(3).device()), Some(tls(3).device())));
    let total = 8 << 20;
    let (from_two, from_one) =
        tokio::join!(exchange(&mut one, total, 70_000), exchange(&mut two, total, 9_999));
    assert_eq!((from_two.received, from_one.received), (total, total));
    let closing = async {
        let (_, end) = drain(&mut two).await;
        assert_eq!(end, RecvError::Closed);
        two.close().await;
    };
    tokio::join!(one.close(), closing);
    let (end, moved) = ended(spliced).await;
    assert_eq!(end, SpliceEnd::Closed);
    assert!(moved > 2 * total, "{moved}");
    assert_eq!(host.relaying.circuits(), 0);
}

#[tokio::test]
async fn half_closes_and_resets_travel() {
    let host = Host::start(RelayLimits::default());
    let (mut one, mut two, spliced) = host.circuit().await;
    one.write_all(b"last words").await.unwrap();
    one.shutdown().await.unwrap();
    let mut heard = Vec::new();
    two.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"last words");
    two.write_all(&stream(0, 300_000)).await.unwrap();
    two.shutdown().await.unwrap();
    let mut heard = Vec::new();
    one.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, stream(0, 300_000));
    assert_eq!(ended(spliced).await.0, SpliceEnd::Closed);

    let (one, mut two, spliced) = host.circuit().await;
    one.set_zero_linger().unwrap();
    drop(one);
    let error = two.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ended(spliced).await.0, SpliceEnd::Broken(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_wrapped_hop_is_copied() {
    let host = Host::start(RelayLimits::default());
    let place = host.relaying.admit(tls(1).device(), tls(2).device()).unwrap();
    let (outer, at_host) = pair().await;
    let (plain, plain_at_host) = raw_client().await;
    let spliced = tokio::spawn(async move {
        splice(Carrier::wrapped(at_host), plain_at_host.into(), &place).await
    });
    let (mut one, mut two) = ends(Carrier::wrapped(outer), plain).await;
    let total = 3 << 20;
    let (from_two, from_one) =
        tokio::join!(exchange(&mut one, total, 70_000), exchange(&mut two, total, 9_999));
    assert_eq!((from_two.received, from_one.received), (total, total));
    one.abort();
    let (_, end) = drain(&mut two).await;
    assert_ne!(end, RecvError::Closed);
    assert!(matches!(ended(spliced).await.0, SpliceEnd::Broken(_)));
}

#[tokio::test]
async fn relay_is_bounded_in_bytes_rate_and_peers() {
    let limits = RelayLimits { bytes: 400_000, rate: 1_000_000, ..RelayLimits::default() };
    let host = Host::start(limits);
    let (mut one, mut two, spliced) = host.circuit().await;
    let begun = Instant::now();
    let sending = tokio::spawn(async move { one.write_all(&stream(0, 1_000_000)).await });
    let mut heard = Vec::new();
    let end = two.read_to_end(&mut heard).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(heard.len() <= 400_000, "{}", heard.len());
    let (end, moved) = ended(spliced).await;
    assert_eq!(end, SpliceEnd::TooMuch);
    assert!((400_000..=400_000 + 64 * 1024).contains(&moved), "{moved}");
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    let _ = sending.await;

    host.relaying.limit(RelayLimits { idle: Duration::from_millis(50), ..limits });
    let (_one, _two, spliced) = host.circuit().await;
    assert_eq!(ended(spliced).await, (SpliceEnd::Idle, 0));

    host.relaying.limit(RelayLimits { circuits_per_peer: 0, ..limits });
    assert!(host.relaying.admit(tls(1).device(), tls(2).device()).is_err());
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_told_from_one_that_refuses() {
    let (silent, addr) = listen().await;
    let begun = Instant::now();
    let cookie = Cookie([1; 32].into());
    let options = SocketOptions::default();
    let opened = open_hop(addr, &cookie, &options).await;
    assert_eq!(opened.unwrap_err(), HopError::Silent);
    assert!(begun.elapsed() >= STATUS_TIMEOUT);
    drop(silent);
    let refused = open_hop(addr, &cookie, &options).await;
    assert_eq!(refused.unwrap_err(), HopError::Io(io::ErrorKind::ConnectionRefused));
}

/// The host answers the preamble, takes everything, and forwards nothing.
#[tokio::test(start_paused = true)]
async fn half_open_relay() {
    let (hop, _held) = raw_client().await;
    let (one, two) = (tls(1), tls(2));
    let dialled = Connection::dial_over(hop.into(), &one, two.device(), tls(3).device()).await;
    assert_eq!(dialled.unwrap_err(), DialError::Timeout);
}
