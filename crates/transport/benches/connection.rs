//! What a connection costs: bytes through loopback TCP, sealed and opened, against the same socket
//! without TLS; a small frame there and back; a handshake.
//!
//! Both ends share one thread, so the figures count the work of both.
#![expect(clippy::unwrap_used, reason = "a benchmark stops where anything fails")]

use std::convert::Infallible;
use std::future::poll_fn;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

use cloak_transport::{Connection, SEND_MAX, SocketOptions, Tls};
use cloak_wire::{Frame, Item, SessionFrame};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Bytes of one bulk round.
const BULK: usize = 16 << 20;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(connect, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

async fn handshake(dialler: &Tls, acceptor: &Tls) -> (Connection, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, options) = (listener.local_addr().unwrap(), SocketOptions::default());
    let (dialled, accepted) =
        tokio::join!(Connection::dial(addr, dialler, Some(acceptor.device()), &options), async {
            Connection::accept(listener.accept().await.unwrap().0, acceptor, &options).await
        });
    (dialled.unwrap(), accepted.unwrap())
}

/// Keeps the sender's queue full and empties the receiver's until `BULK` bytes went through.
async fn bulk(from: &mut Connection, to: &mut Connection, data: &[u8]) {
    let (mut sent, mut received) = (0, 0);
    poll_fn(|cx| {
        let mut busy = true;
        while busy {
            busy = false;
            while sent < BULK && from.room() > 0 {
                let piece = data.len().min(from.room()).min(BULK - sent);
                from.queue_data(&data[..piece]);
                sent += piece;
            }
            if from.unsent() > 0 {
                busy |= from.poll_flush(cx).map(Result::unwrap).is_ready();
            }
            let mut handler = |item: Item<'_>| {
                if let Item::Data(data) = item {
                    received += black_box(data).len();
                }
                Ok::<(), Infallible>(())
            };
            busy |= to.poll_recv(cx, &mut handler).map(Result::unwrap).is_ready();
        }
        if received == BULK { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The same over the bare sockets.
async fn plain(from: &mut TcpStream, to: &mut TcpStream, data: &[u8], buffer: &mut [u8]) {
    let (mut sent, mut received) = (0, 0);
    poll_fn(|cx| {
        let mut busy = true;
        while busy {
            busy = false;
            if sent < BULK {
                let piece = &data[..data.len().min(BULK - sent)];
                if let Poll::Ready(written) = Pin::new(&mut *from).poll_write(cx, piece) {
                    sent += written.unwrap();
                    busy = true;
                }
            }
            if let Poll::Ready(read) = poll_read(to, cx, buffer) {
                received += read;
                busy = true;
            }
        }
        if received == BULK { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn poll_read(tcp: &mut TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
    let mut space = ReadBuf::new(buffer);
    Pin::new(tcp).poll_read(cx, &mut space).map(|read| {
        read.unwrap();
        space.filled().len()
    })
}

fn benches(criterion: &mut Criterion) {
    let (dialler, acceptor) = (Tls::new(&[1; 32]).unwrap(), Tls::new(&[2; 32]).unwrap());
    let runtime = runtime();
    let data = vec![7; SEND_MAX];

    let mut group = criterion.benchmark_group("bulk");
    group.throughput(Throughput::Bytes(BULK.try_into().unwrap())).sample_size(20);
    let (mut from, mut to) = runtime.block_on(sockets());
    let mut buffer = vec![0; 256 * 1024];
    group.bench_function("plain tcp", |bencher| {
        bencher.iter(|| runtime.block_on(plain(&mut from, &mut to, &data, &mut buffer)));
    });
    let (mut from, mut to) = runtime.block_on(handshake(&dialler, &acceptor));
    for (name, piece) in [("128 KiB pieces", SEND_MAX), ("16 KiB", 16 << 10), ("1 KiB", 1 << 10)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(bulk(&mut from, &mut to, &data[..piece])));
        });
    }
    group.finish();

    let frame = Frame::Session(SessionFrame::Probe { number: 1, unheard: false });
    criterion.bench_function("frame there and back", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                from.send(&frame).await.unwrap();
                to.recv().await.unwrap();
                to.send(&frame).await.unwrap();
                from.recv().await.unwrap();
            });
        });
    });
    criterion.bench_function("handshake", |bencher| {
        bencher.iter(|| {
            let (dialled, accepted) = runtime.block_on(handshake(&dialler, &acceptor));
            dialled.abort();
            drop(accepted);
        });
    });
}

criterion_group!(connection, benches);
criterion_main!(connection);
