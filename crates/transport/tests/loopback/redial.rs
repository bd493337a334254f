//! Races and redials against real sockets.

use std::cell::Cell;
use std::sync::Arc;

use cloak_base::Rng;
use cloak_transport::{
    Connection, DialError, Dialler, RACE_STAGGER, RaceError, Redial, SocketOptions, SystemClock,
    TlsError, race,
};

use crate::support::{DEADLINE, listen, probe, tls};

fn dialler(seed: u8) -> Dialler {
    Dialler::new(tls(seed), SocketOptions::default(), Arc::new(SystemClock))
}

#[tokio::test]
async fn the_wrong_device_and_a_closed_port_lose_the_race() {
    let (wrong, wrong_addr) = listen().await;
    let (right, right_addr) = listen().await;
    let (closed, closed_addr) = listen().await;
    drop(closed);
    let (dialler, options) = (dialler(1), SocketOptions::default());
    let (wrong_tls, right_tls) = (tls(3), tls(2));
    let candidates = [closed_addr, wrong_addr, right_addr];
    let serve_wrong = async {
        loop {
            let (tcp, _) = wrong.accept().await.unwrap();
            assert!(Connection::accept(tcp, &wrong_tls, &options).await.is_err());
        }
    };
    let serve_right = async {
        let (tcp, _) = right.accept().await.unwrap();
        Connection::accept(tcp, &right_tls, &options).await.unwrap()
    };
    let expected = Some(right_tls.device());
    let meet =
        async { tokio::join!(race(&candidates, &dialler, expected, RACE_STAGGER), serve_right,) };
    let (won, mut accepted) = tokio::select! {
        met = tokio::time::timeout(DEADLINE, meet) => met.unwrap(),
        () = serve_wrong => unreachable!("it serves for ever"),
    };
    let mut won = won.unwrap();
    assert_eq!((won.peer(), won.peer_addr()), (right_tls.device(), right_addr));
    won.send(&probe(1)).await.unwrap();
    assert_eq!(accepted.recv().await, Ok(probe(1)));

    let lost = tokio::select! {
        lost = race(&candidates[..2], &dialler, expected, RACE_STAGGER) => lost,
        () = async {
            let (tcp, _) = wrong.accept().await.unwrap();
            let _ = Connection::accept(tcp, &wrong_tls, &options).await;
            std::future::pending().await
        } => unreachable!("pending"),
    };
    let refused = DialError::Io(std::io::ErrorKind::ConnectionRefused);
    let other = TlsError::WrongPeer { expected: right_tls.device(), found: wrong_tls.device() };
    let failed = vec![(closed_addr, refused), (wrong_addr, DialError::Tls(other))];
    assert_eq!(lost.unwrap_err(), RaceError::AllFailed(failed));
}

/// More of them than may lead nowhere: what meets its device is not counted.
#[tokio::test]
async fn dials_that_meet_their_device_are_not_bounded() {
    let (listener, addr) = listen().await;
    let (dialler, acceptor, options) = (dialler(1), tls(2), SocketOptions::default());
    let accept = async || {
        let (tcp, _) = listener.accept().await.unwrap();
        Connection::accept(tcp, &acceptor, &options).await.unwrap()
    };
    for dial in 0..150 {
        tokio::select! {
            biased;
            dialled = dialler.dial(addr, Some(acceptor.device())) => {
                assert!(dialled.is_ok(), "{dial}: {dialled:?}");
            }
            () = async { loop { accept().await; } } => unreachable!("it serves for ever"),
        }
    }
}

#[tokio::test]
async fn redial_finds_a_listener_that_moved_to_another_port() {
    let (closed, closed_addr) = listen().await;
    drop(closed);
    let (moved, moved_addr) = listen().await;
    let (dialler, acceptor, options) = (dialler(1), tls(2), SocketOptions::default());
    let clock = Arc::new(SystemClock);
    let mut redial = Redial::new(dialler, acceptor.device(), clock, Rng::from_u64(1));
    let asked = Cell::new(0);
    let locators = || {
        asked.set(asked.get() + 1);
        // The new locator becomes known only after some attempts.
        if asked.get() < 3 { vec![closed_addr] } else { vec![closed_addr, moved_addr] }
    };
    let meet = async {
        tokio::join!(redial.next(locators), async {
            let (tcp, _) = moved.accept().await.unwrap();
            Connection::accept(tcp, &acceptor, &options).await.unwrap()
        })
    };
    let (found, accepted) = tokio::time::timeout(DEADLINE, meet).await.unwrap();
    assert_eq!(found.peer_addr(), moved_addr);
    assert_eq!(found.local_addr(), accepted.peer_addr());
}
