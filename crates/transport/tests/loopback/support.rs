//! Pairs of connections, raw clients and byte patterns.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_transport::{AcceptError, Connection, DialError, RecvError, SocketOptions, Tls};
use cloak_wire::{Frame, Item, SessionFrame};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn tls(seed: u8) -> Tls {
    Tls::new(&[seed; 32]).unwrap()
}

pub(crate) fn probe(number: u64) -> Frame {
    Frame::Session(SessionFrame::Probe { number, unheard: false })
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Small kernel buffers: every write is a partial one, every read finds part of a record.
pub(crate) fn tiny() -> SocketOptions {
    SocketOptions {
        send_buffer: Some(8 * 1024),
        receive_buffer: Some(8 * 1024),
        unsent_max: 4 * 1024,
        ..SocketOptions::default()
    }
}

/// What both ends of a handshake see when device 1 dials device 2.
pub(crate) async fn meet(
    expected: Option<DeviceId>,
    options: &SocketOptions,
) -> (Result<Connection, DialError>, Result<Connection, AcceptError>) {
    let (listener, addr) = listen().await;
    let (dialler, acceptor) = (tls(1), tls(2));
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        Connection::accept(tcp, &acceptor, options).await
    };
    let dial = Connection::dial(addr, &dialler, expected, options);
    tokio::time::timeout(DEADLINE, async { tokio::join!(dial, accept) }).await.unwrap()
}

pub(crate) async fn pair_with(options: &SocketOptions) -> (Connection, Connection) {
    let (dialler, acceptor) = meet(None, options).await;
    (dialler.unwrap(), acceptor.unwrap())
}

pub(crate) async fn pair() -> (Connection, Connection) {
    pair_with(&SocketOptions::default()).await
}

/// One end of the handshake is a raw socket that the test drives.
pub(crate) async fn raw_client() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen().await;
    let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// Byte `offset` of the stream that every transfer test sends.
pub(crate) fn pattern(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[5] ^ offset.to_le_bytes()[0]
}

pub(crate) fn stream(from: u64, len: usize) -> Vec<u8> {
    (from..).take(len).map(pattern).collect()
}

/// Checks that what arrives is the pattern, and counts it.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) received: u64,
    pub(crate) frames: Vec<Frame>,
}

impl Checker {
    pub(crate) fn take(&mut self, item: Item<'_>) {
        match item {
            Item::Frame(frame) => self.frames.push(frame),
            Item::Data(data) => {
                for &byte in data {
                    assert_eq!(byte, pattern(self.received), "at {}", self.received);
                    self.received += 1;
                }
            }
        }
    }
}

/// Sends `total` pattern bytes in pieces and receives until as many came, both at once.
pub(crate) async fn exchange(connection: &mut Connection, total: u64, piece: usize) -> Checker {
    let mut checker = Checker::default();
    let mut sent = 0;
    let all = poll_fn(|cx| {
        loop {
            while connection.room() > 0 && sent < total {
                let left = usize::try_from(total - sent).unwrap_or(usize::MAX);
                let data = stream(sent, piece.min(connection.room()).min(left));
                connection.queue_data(&data);
                sent += data.len() as u64;
            }
            let flushed = connection.poll_flush(cx).map(Result::unwrap).is_ready();
            let mut handler = |item: Item<'_>| {
                checker.take(item);
                Ok::<(), Infallible>(())
            };
            let read = connection.poll_recv(cx, &mut handler).map(Result::unwrap).is_ready();
            if checker.received >= total && sent == total && flushed {
                return Poll::Ready(());
            }
            if !read && (!flushed || sent == total) {
                return Poll::Pending;
            }
        }
    });
    tokio::time::timeout(DEADLINE, all).await.unwrap();
    checker
}

/// How receiving on a connection ends, and what came before that.
pub(crate) async fn drain(connection: &mut Connection) -> (Checker, RecvError<Infallible>) {
    let mut checker = Checker::default();
    let end = async {
        loop {
            let mut handler = |item: Item<'_>| {
                checker.take(item);
                Ok(())
            };
            if let Err(end) = poll_fn(|cx| connection.poll_recv(cx, &mut handler)).await {
                return end;
            }
        }
    };
    let end = tokio::time::timeout(DEADLINE, end).await.unwrap();
    (checker, end)
}
