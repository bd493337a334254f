//! Bytes and frames through a connection: whole, in order, in any pieces.

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;

use cloak_transport::{Connection, RecvError, SEND_MAX, SocketOptions};
use cloak_wire::Item;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Checker, DEADLINE, drain, exchange, listen, pair, pair_with, probe, stream, tiny, tls,
};

#[tokio::test]
async fn both_directions_at_once_through_tiny_buffers() {
    const TOTAL: u64 = 256 << 10;
    let (mut dialler, mut acceptor) = pair_with(&tiny()).await;
    let (there, back) =
        tokio::join!(exchange(&mut dialler, TOTAL, 50_000), exchange(&mut acceptor, TOTAL, 700));
    assert_eq!((there.received, back.received), (TOTAL, TOTAL));
    assert_eq!((dialler.buffered(), acceptor.buffered()), (0, 0));
}

#[tokio::test]
async fn large_transfers_in_full_pieces() {
    const TOTAL: u64 = 32 << 20;
    let (mut dialler, mut acceptor) = pair().await;
    let (there, back) = tokio::join!(
        exchange(&mut dialler, TOTAL, SEND_MAX),
        exchange(&mut acceptor, TOTAL, SEND_MAX)
    );
    assert_eq!((there.received, back.received), (TOTAL, TOTAL));
    assert_eq!(dialler.unsent(), 0);
    // The kernel may put off its acknowledgement of the last bytes.
    let acked = async {
        while dialler.progress().unwrap().acked <= TOTAL {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, acked).await.unwrap();
    assert!(dialler.progress().unwrap().received > TOTAL);
}

#[tokio::test]
async fn frames_and_data_keep_their_order() {
    let (mut dialler, mut acceptor) = pair().await;
    let mut sent = 0;
    for len in [1, 10, 4000, 4096, 5000, 20_000, 0, 3] {
        dialler.queue(&probe(sent));
        dialler.queue_data(&stream(sent, len));
        sent += len as u64;
    }
    poll_fn(|cx| dialler.poll_flush(cx)).await.unwrap();
    let mut received = 0;
    let mut order = Vec::new();
    while received < sent {
        let mut handler = |item: Item<'_>| {
            match item {
                Item::Frame(frame) => order.push((frame, received)),
                Item::Data(data) => {
                    assert_eq!(data, stream(received, data.len()));
                    received += data.len() as u64;
                }
            }
            Ok::<(), Infallible>(())
        };
        poll_fn(|cx| acceptor.poll_recv(cx, &mut handler)).await.unwrap();
    }
    assert_eq!(order.len(), 8);
    for (frame, offset) in order {
        assert_eq!(frame, probe(offset));
    }
}

#[tokio::test]
async fn room_shrinks_with_what_is_queued() {
    let (mut dialler, acceptor) = pair_with(&tiny()).await;
    assert_eq!(dialler.room(), SEND_MAX);
    dialler.queue_data(&stream(0, SEND_MAX));
    assert_eq!(dialler.room(), 0);
    assert!(dialler.unsent() > SEND_MAX);
    drop(acceptor);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffers() {
    let (mut dialler, mut acceptor) = pair().await;
    assert_eq!((dialler.buffered(), acceptor.buffered()), (0, 0));
    tokio::join!(
        exchange(&mut dialler, 1 << 20, SEND_MAX),
        exchange(&mut acceptor, 1 << 20, SEND_MAX)
    );
    dialler.send(&probe(1)).await.unwrap();
    assert_eq!(acceptor.recv().await, Ok(probe(1)));
    assert_eq!((dialler.buffered(), acceptor.buffered()), (0, 0));
    assert!(size_of::<Connection>() < 1024, "{}", size_of::<Connection>());
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let (mut dialler, acceptor) = pair_with(&tiny()).await;
    let end = poll_fn(|cx| {
        for number in 0..1_000_000 {
            dialler.queue(&probe(number));
            if let Poll::Ready(Err(error)) = dialler.poll_flush(cx) {
                return Poll::Ready(error.kind());
            }
            assert!(dialler.buffered() < 1 << 20);
        }
        panic!("no limit");
    });
    assert_eq!(end.await, std::io::ErrorKind::OutOfMemory);
    drop(acceptor);
}

#[tokio::test]
async fn recv_keeps_what_follows_and_loses_nothing_when_cancelled() {
    let (mut dialler, mut acceptor) = pair().await;
    let cancelled = poll_fn(|cx| {
        let mut recv = std::pin::pin!(acceptor.recv());
        Poll::Ready(recv.as_mut().poll(cx).is_pending())
    });
    assert!(cancelled.await);
    dialler.queue(&probe(1));
    dialler.queue(&probe(2));
    dialler.queue_data(&stream(0, 100));
    poll_fn(|cx| dialler.poll_flush(cx)).await.unwrap();
    assert_eq!(acceptor.recv().await, Ok(probe(1)));
    let mut checker = Checker::default();
    let mut handler = |item: Item<'_>| {
        checker.take(item);
        Ok::<(), Infallible>(())
    };
    let taken = poll_fn(|cx| acceptor.poll_recv(cx, &mut handler)).await.unwrap();
    assert!(taken > 0);
    assert_eq!((checker.received, checker.frames), (100, vec![probe(2)]));
    assert_eq!(acceptor.buffered(), 0);
}

#[tokio::test]
async fn data_where_a_frame_is_expected_is_an_error() {
    let (mut dialler, mut acceptor) = pair().await;
    dialler.queue_data(b"x");
    dialler.send(&probe(1)).await.unwrap();
    let end = acceptor.recv().await;
    assert_eq!(end, Err(RecvError::Handler(cloak_transport::UnexpectedData)));
    assert_eq!(acceptor.recv().await, Err(RecvError::Stopped));
}

#[tokio::test]
async fn a_handlers_error_stops_receiving_but_not_a_last_word() {
    let (mut dialler, mut acceptor) = pair().await;
    exchange_few(&mut dialler).await;
    let mut handler = |_: Item<'_>| Err("no");
    let end = poll_fn(|cx| acceptor.poll_recv(cx, &mut handler)).await;
    assert_eq!(end, Err(RecvError::Handler("no")));
    let end = poll_fn(|cx| acceptor.poll_recv(cx, &mut handler)).await;
    assert_eq!(end, Err(RecvError::Stopped));
    acceptor.send(&probe(7)).await.unwrap();
    assert_eq!(dialler.recv().await, Ok(probe(7)));
}

async fn exchange_few(connection: &mut Connection) {
    for number in 0..10 {
        connection.queue(&probe(number));
    }
    poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
}

/// Copies one direction in pieces of the given sizes, over and over.
async fn fragment(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    pieces: &[usize],
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut sizes = pieces.iter().copied().cycle();
    loop {
        let len = from.read(&mut buffer).await.unwrap_or(0);
        let mut rest = &buffer[..len];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
            if to.write_all(piece).await.is_err() {
                return;
            }
            rest = more;
            // The receiver sees the piece by itself, most of the time.
            tokio::task::yield_now().await;
        }
        if len == 0 {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// A pair whose bytes travel both ways through a relay that cuts them into `pieces`.
async fn run_fragmented(pieces: &[usize], total: u64) {
    let (back, target) = listen().await;
    let (front, addr) = listen().await;
    let (dialler_tls, acceptor_tls, options) = (tls(1), tls(2), SocketOptions::default());
    let relay = async {
        let (client, _) = front.accept().await.unwrap();
        let server = TcpStream::connect(target).await.unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let (client, server) = (client.into_split(), server.into_split());
        tokio::join!(fragment(client.0, server.1, pieces), fragment(server.0, client.1, pieces));
    };
    let dial = async {
        let mut connection = Connection::dial(addr, &dialler_tls, None, &options).await.unwrap();
        connection.send(&probe(1)).await.unwrap();
        let checker = exchange(&mut connection, total, 1000).await;
        assert_eq!((checker.received, checker.frames), (total, vec![probe(2)]));
        connection.close().await;
    };
    let accept = async {
        let (tcp, _) = back.accept().await.unwrap();
        let mut connection = Connection::accept(tcp, &acceptor_tls, &options).await.unwrap();
        connection.queue(&probe(2));
        let checker = exchange(&mut connection, total, 40_000).await;
        assert_eq!((checker.received, checker.frames), (total, vec![probe(1)]));
        assert_eq!(drain(&mut connection).await.1, RecvError::Closed);
    };
    tokio::join!(relay, dial, accept);
}

#[tokio::test]
async fn one_byte_at_a_time() {
    run_fragmented(&[1], 40_000).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_fragmentation_gives_the_same_bytes(
        pieces in prop::collection::vec(prop_oneof![1usize..40, 1usize..20_000], 1..20),
        total in 1u64..200_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_fragmented(&pieces, total));
    }
}
