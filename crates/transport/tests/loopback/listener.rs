//! What strangers may cost, and that friends get through meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cloak_transport::{
    Accepted, Connection, Cookies, DialError, Listener, ListenerLimits, ListenerStats,
    SocketOptions, SystemClock, listen,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{DEADLINE, probe, tls};

fn listener(limits: ListenerLimits) -> (Listener, SocketAddr) {
    let socket = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let cookies = Cookies::new(Arc::new(SystemClock));
    (Listener::new(vec![socket], tls(2), SocketOptions::default(), limits, cookies), addr)
}

/// Runs the listener until its counters are as wanted; nobody may get through meanwhile.
async fn drive(listener: &mut Listener, wanted: impl Fn(ListenerStats) -> bool) {
    let driving = async {
        while !wanted(listener.stats()) {
            let turn = tokio::time::timeout(Duration::from_millis(5), listener.accept()).await;
            assert!(turn.is_err(), "a stranger got through");
        }
    };
    tokio::time::timeout(DEADLINE, driving).await.unwrap();
}

/// Dials and, when that works, also waits until the listener gave the connection out.
async fn dial(listener: &mut Listener, addr: SocketAddr) -> Result<Connection, DialError> {
    let (tls, options) = (tls(1), SocketOptions::default());
    let mut dial = std::pin::pin!(Connection::dial(addr, &tls, None, &options));
    tokio::select! {
        dialled = &mut dial => {
            if dialled.is_ok() {
                listener.accept().await;
            }
            dialled
        }
        _ = listener.accept() => dial.await,
    }
}

async fn dial_and_accept(listener: &mut Listener, addr: SocketAddr) -> (Accepted, Connection) {
    let (tls, options) = (tls(1), SocketOptions::default());
    let dial = Connection::dial(addr, &tls, None, &options);
    let (dialled, accepted) = tokio::join!(dial, listener.accept());
    (accepted, dialled.unwrap())
}

#[tokio::test]
async fn half_open_connections_are_capped_per_source() {
    let limits = ListenerLimits { per_source: 2, ..ListenerLimits::default() };
    let (mut listener, addr) = listener(limits);
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    drive(&mut listener, |stats| (stats.accepted, stats.refused) == (2, 1)).await;
    assert_eq!(silent[2].read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    assert!(dial(&mut listener, addr).await.is_err(), "same source");

    // Another source is not concerned.
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let _other = other.connect(addr).await.unwrap();
    drive(&mut listener, |stats| stats.accepted == 3).await;

    // What was greeted does not count, nor does what has gone.
    silent.clear();
    drive(&mut listener, |stats| stats.failed >= 2).await;
    let mut friends = Vec::new();
    for _ in 0..5 {
        friends.push(dial(&mut listener, addr).await.unwrap());
    }
    assert_eq!(listener.stats().authenticated, 5);
}

#[tokio::test]
async fn half_open_connections_are_capped_in_all() {
    let limits = ListenerLimits { total: 2, ..ListenerLimits::default() };
    let (mut listener, addr) = listener(limits);
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    drive(&mut listener, |stats| stats.accepted == 2).await;
    // The third waits in the kernel until there is room.
    silent.remove(0);
    drive(&mut listener, |stats| stats.accepted == 3).await;
    assert_eq!(listener.stats().refused, 0);
}

/// A device key costs nothing: who has proved one and says no `Hello` is as half-open as before.
#[tokio::test]
async fn half_open_ends_with_the_hello_not_with_tls() {
    let limits = ListenerLimits { per_source: 2, total: 3, ..ListenerLimits::default() };
    let (mut listener, addr) = listener(limits);
    let (first, _quiet) = dial_and_accept(&mut listener, addr).await;
    let (second, _quieter) = dial_and_accept(&mut listener, addr).await;
    assert!(dial(&mut listener, addr).await.is_err(), "same source");
    assert_eq!(listener.stats().refused, 1);

    // The two greeted ones make room, the one that another source holds does not.
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let _other = other.connect(addr).await.unwrap();
    drive(&mut listener, |stats| stats.accepted == 3).await;
    let _waits = TcpStream::connect(addr).await.unwrap();
    drop(first.half_open);
    drop(second.half_open);
    drive(&mut listener, |stats| stats.accepted == 4).await;
    assert!(dial(&mut listener, addr).await.is_ok());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the deadline is one of tokio's timers")]
async fn time_for_the_hello_runs_from_the_accept() {
    let limits = ListenerLimits { deadline: Duration::from_secs(7), ..ListenerLimits::default() };
    let (mut listener, addr) = listener(limits);
    let (front, relay) = crate::support::listen().await;
    let (tls, options) = (tls(1), SocketOptions::default());
    let through = async {
        let (mut near, _) = front.accept().await.unwrap();
        let mut far = TcpStream::connect(addr).await.unwrap();
        drive(&mut listener, |stats| stats.accepted == 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::resume();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => panic!("the relay ended"),
            accepted = listener.accept() => accepted,
        }
    };
    let (_dialled, accepted) = tokio::join!(Connection::dial(relay, &tls, None, &options), through);
    let left = accepted.half_open.deadline() - tokio::time::Instant::now();
    assert!(left <= Duration::from_secs(4), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn handshake_has_a_deadline() {
    let (mut listener, addr) = listener(ListenerLimits::default());
    let mut slow = TcpStream::connect(addr).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    drive(&mut listener, |stats| stats.timed_out == 1).await;
    assert_eq!(slow.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn several_sockets_and_both_families_are_served() {
    let sockets: Vec<_> = ["[::]:0", "127.0.0.1:0"]
        .iter()
        .map(|addr| listen(addr.parse().unwrap()).unwrap())
        .collect();
    let options = SocketOptions::default();
    let (limits, cookies) = (ListenerLimits::default(), Cookies::new(Arc::new(SystemClock)));
    let mut listener = Listener::new(sockets, tls(2), options.clone(), limits, cookies);
    let addrs = listener.local_addrs();
    let [dual, v4] = addrs[..] else { panic!("{addrs:?}") };
    let dialler = tls(1);
    for addr in [v4, ([127, 0, 0, 1], dual.port()).into(), ([0u16; 8], dual.port()).into()] {
        let (dialled, mut accepted) =
            tokio::join!(Connection::dial(addr, &dialler, None, &options), listener.accept());
        let (mut dialled, accepted) = (dialled.unwrap(), &mut accepted.connection);
        assert_eq!(accepted.peer_addr(), dialled.local_addr(), "in canonical form");
        dialled.send(&probe(1)).await.unwrap();
        assert_eq!(accepted.recv().await, Ok(probe(1)));
    }
}

#[tokio::test]
async fn dropping_the_listener_ends_its_handshakes() {
    let (mut listener, addr) = listener(ListenerLimits::default());
    let mut silent = TcpStream::connect(addr).await.unwrap();
    drive(&mut listener, |stats| stats.accepted == 1).await;
    drop(listener);
    let end = tokio::time::timeout(DEADLINE, silent.read(&mut [0; 1])).await.unwrap();
    assert_eq!(end.unwrap_or(0), 0);
}
