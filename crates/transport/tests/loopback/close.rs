//! How connections end.

use std::future::poll_fn;

use cloak_transport::{Connection, RecvError, SocketOptions, TlsError};
use cloak_wire::{Item, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{drain, listen, pair, probe, stream, tls};

#[tokio::test]
async fn closing_delivers_everything_before_it() {
    let (mut dialler, mut acceptor) = pair().await;
    dialler.queue_data(&stream(0, 100_000));
    dialler.queue(&probe(1));
    // Bytes that the dialler never reads must not turn its close into a reset.
    acceptor.send(&probe(5)).await.unwrap();
    let (received, ()) = tokio::join!(
        async {
            let received = drain(&mut acceptor).await;
            acceptor.close().await;
            received
        },
        dialler.close()
    );
    let (checker, end) = received;
    assert_eq!(
        (checker.received, checker.frames, end),
        (100_000, vec![probe(1)], RecvError::Closed)
    );
}

#[tokio::test]
async fn the_closed_half_sends_no_more_and_the_other_half_still_does() {
    let (mut dialler, mut acceptor) = pair().await;
    poll_fn(|cx| dialler.poll_close(cx)).await.unwrap();
    assert_eq!(drain(&mut acceptor).await.1, RecvError::Closed);
    dialler.queue(&probe(1));
    assert_eq!(dialler.unsent(), 0);
    let kind = dialler.send(&probe(1)).await.unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::BrokenPipe);
    acceptor.send(&probe(2)).await.unwrap();
    assert_eq!(dialler.recv().await, Ok(probe(2)));
    poll_fn(|cx| acceptor.poll_close(cx)).await.unwrap();
    assert_eq!(drain(&mut dialler).await.1, RecvError::Closed);
    poll_fn(|cx| dialler.poll_close(cx)).await.unwrap();
}

#[tokio::test]
async fn an_abort_is_a_reset() {
    let (mut dialler, acceptor) = pair().await;
    acceptor.abort();
    assert_eq!(drain(&mut dialler).await.1, RecvError::Io(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn the_end_is_repeated() {
    let (mut dialler, acceptor) = pair().await;
    drop(acceptor);
    let (_, first) = drain(&mut dialler).await;
    assert_eq!(first, RecvError::Cut);
    assert_eq!(drain(&mut dialler).await.1, first);
    assert_eq!(dialler.recv().await, Err(RecvError::Cut));
}

/// A connection whose bytes pass through the test's hands on their way to the acceptor.
async fn tampered(
    tamper: impl FnOnce(&mut Vec<u8>),
    frames: u64,
) -> RecvError<std::convert::Infallible> {
    let (back, target) = listen().await;
    let (front, addr) = listen().await;
    let (dialler_tls, acceptor_tls, options) = (tls(1), tls(2), SocketOptions::default());
    let (dialled, accepted, (mut client, mut server)) = tokio::join!(
        Connection::dial(addr, &dialler_tls, None, &options),
        async {
            let (tcp, _) = back.accept().await.unwrap();
            Connection::accept(tcp, &acceptor_tls, &options).await
        },
        async {
            let (mut client, _) = front.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
            let mut buffer = vec![0; 16384];
            // Three flights: hello, answer, finished.
            for flight in 0..3 {
                let (from, to) = if flight == 1 {
                    (&mut server, &mut client)
                } else {
                    (&mut client, &mut server)
                };
                let len = from.read(&mut buffer).await.unwrap();
                to.write_all(&buffer[..len]).await.unwrap();
            }
            (client, server)
        }
    );
    let (mut dialler, mut acceptor) = (dialled.unwrap(), accepted.unwrap());
    for number in 0..frames {
        dialler.queue(&probe(number));
    }
    poll_fn(|cx| dialler.poll_flush(cx)).await.unwrap();
    poll_fn(|cx| dialler.poll_close(cx)).await.unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    tamper(&mut bytes);
    server.write_all(&bytes).await.unwrap();
    server.shutdown().await.unwrap();
    let (_, end) = drain(&mut acceptor).await;
    // After a cut a last word may still go out; after forged bytes only the alert does.
    let last_word = acceptor.send(&probe(1)).await;
    assert_eq!(last_word.is_err(), matches!(end, RecvError::Tls(_)), "{last_word:?}");
    end
}

#[tokio::test]
async fn a_cut_in_mid_record_is_a_cut() {
    assert_eq!(tampered(|_| (), 3).await, RecvError::Closed);
    for keep in [0, 1, 4, 5, 6, 20] {
        assert_eq!(tampered(|bytes| bytes.truncate(keep), 3).await, RecvError::Cut, "{keep}");
    }
}

#[tokio::test]
async fn forged_records_end_the_connection() {
    let malformed = RecvError::Tls(TlsError::Malformed);
    assert_eq!(tampered(|bytes| bytes[10] ^= 1, 3).await, malformed);
    assert_eq!(tampered(|bytes| *bytes = vec![0xff; 100], 3).await, malformed);
    let replayed = |bytes: &mut Vec<u8>| {
        let first = bytes.clone();
        bytes.splice(0..0, first[..first.len() - 24].to_vec());
    };
    assert_eq!(tampered(replayed, 3).await, malformed);
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection() {
    let (mut dialler, mut acceptor) = pair().await;
    // A Data header that promises fewer bytes than come lets the rest be read as frames.
    dialler.queue_data(&[]);
    dialler.queue_data(&[0xee; 4]);
    poll_fn(|cx| dialler.poll_flush(cx)).await.unwrap();
    let mut handler = |item: Item<'_>| match item {
        Item::Data(data) => {
            assert_eq!(data, [0xee; 4]);
            Err(WireError::UnknownType { kind: data[0] })
        }
        Item::Frame(frame) => panic!("{frame:?}"),
    };
    let end = poll_fn(|cx| acceptor.poll_recv(cx, &mut handler)).await;
    assert_eq!(end, Err(RecvError::Handler(WireError::UnknownType { kind: 0xee })));
}
