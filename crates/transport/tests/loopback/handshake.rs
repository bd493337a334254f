//! Who gets through a handshake, and what happens to everybody else.

use cloak_base::DeviceId;
use cloak_transport::{
    AcceptError, Connection, DialError, HANDSHAKE_TIMEOUT, RecvError, SocketOptions, TlsError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{DEADLINE, drain, listen, meet, pair, probe, raw_client, tls};

#[tokio::test]
async fn both_ends_know_each_other() {
    let (mut dialler, mut acceptor) = pair().await;
    assert_eq!((dialler.peer(), acceptor.peer()), (tls(2).device(), tls(1).device()));
    assert!(dialler.is_dialler() && !acceptor.is_dialler());
    assert_eq!(dialler.local_addr(), acceptor.peer_addr());
    assert_eq!(acceptor.local_addr(), dialler.peer_addr());
    dialler.send(&probe(1)).await.unwrap();
    acceptor.send(&probe(2)).await.unwrap();
    assert_eq!(acceptor.recv().await, Ok(probe(1)));
    assert_eq!(dialler.recv().await, Ok(probe(2)));
}

#[tokio::test]
async fn the_key_exchange_is_hybrid() {
    let (dialler, acceptor) = pair().await;
    assert_eq!(dialler.key_exchange(), Some("X25519MLKEM768"));
    assert_eq!(acceptor.key_exchange(), Some("X25519MLKEM768"));
}

#[tokio::test]
async fn the_dialled_device_must_answer() {
    let options = SocketOptions::default();
    let found = tls(2).device();
    assert!(meet(Some(found), &options).await.0.is_ok());

    let expected = DeviceId::from_bytes([9; 32]);
    let (dialled, accepted) = meet(Some(expected), &options).await;
    let wrong = TlsError::WrongPeer { expected, found };
    assert_eq!(dialled.unwrap_err(), DialError::Tls(wrong));
    // The dialler said so before it showed its own key.
    assert!(matches!(accepted.unwrap_err(), AcceptError::Tls(TlsError::Alert(_))));
}

/// What `accept` makes of a client that writes these bytes and then closes or stays silent.
async fn accept_garbage(bytes: &[u8], close: bool) -> Option<AcceptError> {
    let (mut client, accepted) = raw_client().await;
    client.write_all(bytes).await.unwrap();
    if close {
        client.shutdown().await.unwrap();
    }
    let (tls, options) = (tls(2), SocketOptions::default());
    let accept = Connection::accept(accepted, &tls, &options);
    // In paused time, the deadline comes as soon as there is nothing left to do.
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await;
    accepted.ok().map(|result| result.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn strangers_end_with_a_typed_error() {
    let malformed = Some(AcceptError::Tls(TlsError::Malformed));
    assert_eq!(accept_garbage(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false).await, malformed);
    assert_eq!(accept_garbage(&[0xff; 5000], false).await, malformed);
    assert_eq!(accept_garbage(b"", true).await, Some(AcceptError::Closed));
    assert_eq!(accept_garbage(b"\x05\x01\x00", true).await, malformed);
    assert_eq!(accept_garbage(b"\x16\x03", true).await, Some(AcceptError::Closed));
}

#[tokio::test(start_paused = true)]
async fn random_bytes_never_get_through_nor_panic() {
    let mut rng = cloak_base::Rng::from_u64(1);
    for _ in 0..200 {
        let mut bytes = vec![0; usize::try_from(rng.below(6000)).unwrap()];
        rng.fill(&mut bytes);
        // Half of them look like a handshake record, which gets them further.
        if rng.chance(1, 2) && bytes.len() > 9 {
            bytes[..6].copy_from_slice(&[0x16, 3, 1, 0x10, 0, 1]);
        }
        assert!(accept_garbage(&bytes, true).await.is_some());
    }
}

/// The first flight of a dialler.
async fn client_hello() -> Vec<u8> {
    let (listener, addr) = listen().await;
    let (tls, options) = (tls(1), SocketOptions::default());
    let dial = Connection::dial(addr, &tls, None, &options);
    let listen = async {
        let mut hello = vec![0; 4096];
        let len = listener.accept().await.unwrap().0.read(&mut hello).await.unwrap();
        hello.truncate(len);
        hello
    };
    tokio::join!(dial, listen).1
}

#[tokio::test(start_paused = true)]
async fn half_a_client_hello_is_waited_for_or_closed() {
    let hello = client_hello().await;
    assert!(hello.len() > 1200, "the hybrid key share is in it");
    for len in [1, 5, 6, 100, hello.len() / 2, hello.len() - 1] {
        assert_eq!(accept_garbage(&hello[..len], false).await, None);
        assert_eq!(accept_garbage(&hello[..len], true).await, Some(AcceptError::Closed));
    }
    // A whole one without the rest gets no further either.
    assert_eq!(accept_garbage(&hello, true).await, Some(AcceptError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_bent_client_hello_is_refused() {
    let hello = client_hello().await;
    for index in (0..hello.len()).step_by(13) {
        let mut bent = hello.clone();
        bent[index] ^= 0x55;
        assert!(accept_garbage(&bent, true).await.is_some(), "byte {index}");
    }
}

#[tokio::test]
async fn records_that_come_with_the_handshake_are_kept() {
    // The dialler's last flight and its first frames arrive in one piece, and the acceptor speaks
    // before it listens.
    let (listener, addr) = listen().await;
    let (dialler, acceptor, options) = (tls(1), tls(2), SocketOptions::default());
    let (held, mut relay) = raw_client().await;
    let forward = async {
        let (mut inbound, _) = listener.accept().await.unwrap();
        let mut flight = vec![0; 16384];
        let len = inbound.read(&mut flight).await.unwrap();
        relay.write_all(&flight[..len]).await.unwrap();
        let len = relay.read(&mut flight).await.unwrap();
        inbound.write_all(&flight[..len]).await.unwrap();
        (inbound, relay, flight)
    };
    let dial = async {
        let mut connection = Connection::dial(addr, &dialler, None, &options).await.unwrap();
        for number in 0..3 {
            connection.send(&probe(number)).await.unwrap();
        }
        connection
    };
    let accept = async { Connection::accept(held, &acceptor, &options).await.unwrap() };
    let rest = async {
        let (mut connection, (mut inbound, mut relay, mut flight)) = tokio::join!(dial, forward);
        let len = inbound.read(&mut flight).await.unwrap();
        relay.write_all(&flight[..len]).await.unwrap();
        let (mut from, mut to) = (inbound, relay);
        let copy = tokio::io::copy_bidirectional(&mut from, &mut to);
        tokio::select! {
            frame = connection.recv() => frame,
            _ = copy => unreachable!("both ends are open"),
        }
    };
    let answer = async {
        let mut connection = accept.await;
        assert!(connection.buffered() > 0, "frames came with the handshake");
        connection.send(&probe(9)).await.unwrap();
        for number in 0..3 {
            assert_eq!(connection.recv().await, Ok(probe(number)));
        }
        assert_eq!(connection.buffered(), 0);
    };
    let (answered, ()) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(rest, answer) }).await.unwrap();
    assert_eq!(answered, Ok(probe(9)));
}

#[tokio::test]
async fn the_acceptors_refusal_reaches_a_dialler_that_is_already_done() {
    // In TLS 1.3 the dialler finishes first; here the acceptor never gets its last flight.
    let (listener, addr) = listen().await;
    let (dialler, acceptor, options) = (tls(1), tls(2), SocketOptions::default());
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let accepting = Connection::accept(tcp, &acceptor, &options);
        // Long enough for the answer, dropped before the end.
        let _ = tokio::time::timeout(std::time::Duration::ZERO, accepting).await;
    };
    let (dialled, ()) = tokio::join!(Connection::dial(addr, &dialler, None, &options), accept);
    match dialled {
        Ok(mut connection) => {
            let (_, end) = drain(&mut connection).await;
            assert!(matches!(end, RecvError::Cut | RecvError::Io(_)), "{end:?}");
        }
        Err(error) => assert!(matches!(error, DialError::Closed | DialError::Io(_)), "{error:?}"),
    }
}
