//! The transport without sessions: two relays with a connection of Cloak's between them, one for
//! each stream. What a session adds (kept bytes, acknowledgements, credit) is what Cloak costs more.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use cloak_tests::client;
use cloak_transport::{Connection, RecvError, SEND_MAX, SocketOptions, Tls};
use cloak_wire::Item;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Path, SEALED};
use crate::child::{Child, Role};
use crate::plan::Load;

/// Seeds of the two devices.
const NEAR: [u8; 32] = [1; 32];
const FAR: [u8; 32] = [2; 32];

#[derive(Debug)]
pub(crate) struct Sealed {
    near: Child,
    far: Child,
}

impl Sealed {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let far = Child::start(Role::SealedFar, Some(server));
        Self { near: Child::start(Role::SealedNear, Some(far.address())), far }
    }
}

impl Path for Sealed {
    fn name(&self) -> &'static str {
        SEALED
    }

    fn dial(&self) -> std::net::TcpStream {
        client::dial(self.near.address()).expect("the relay listens")
    }

    fn ends(&self) -> Vec<u32> {
        vec![self.near.id(), self.far.id()]
    }

    /// A stream costs a handshake here, and that is not what is compared.
    fn carries(&self, load: Load) -> bool {
        load == Load::Bulk
    }
}

fn tls(seed: &[u8; 32]) -> Tls {
    Tls::new(seed).expect("the TLS library takes a seed")
}

/// The side of the application.
pub(crate) async fn near(application: TcpStream, target: SocketAddr) -> io::Result<()> {
    let dialled = Connection::dial(target, &tls(&NEAR), None, &SocketOptions::default()).await;
    Relay::new(application, dialled.map_err(io::Error::other)?).run().await
}

/// The side of the server.
pub(crate) async fn far(accepted: TcpStream, target: SocketAddr) -> io::Result<()> {
    let accepted = Connection::accept(accepted, &tls(&FAR), &SocketOptions::default()).await;
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    Relay::new(server, accepted.map_err(io::Error::other)?).run().await
}

/// One stream between a socket and a connection.
struct Relay {
    socket: TcpStream,
    connection: Connection,
    buffer: Box<[u8]>,
    /// Bytes that the socket did not take at once.
    held: Vec<u8>,
    /// The socket's end was read; the connection's was.
    ended: [bool; 2],
    /// That end was passed on.
    passed: [bool; 2],
}

impl Relay {
    fn new(socket: TcpStream, connection: Connection) -> Self {
        let buffer = vec![0; SEND_MAX].into_boxed_slice();
        Self { socket, connection, buffer, held: Vec::new(), ended: [false; 2], passed: [false; 2] }
    }

    async fn run(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = true;
        while moved {
            moved = self.send(cx)?;
            moved |= self.receive(cx)?;
            if self.passed == [true; 2] {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// From the socket to the connection.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        // Writing first: it makes room, and nothing would wake us for that again.
        let flushed = if self.ended[0] && !self.passed[0] {
            self.connection.poll_close(cx).map_ok(|()| self.passed[0] = true)
        } else {
            self.connection.poll_flush(cx)
        };
        if let Poll::Ready(flushed) = flushed {
            flushed?;
        }
        let room = self.connection.room();
        if room == 0 || self.ended[0] {
            return Ok(false);
        }
        let mut space = ReadBuf::new(&mut self.buffer[..room]);
        if Pin::new(&mut self.socket).poll_read(cx, &mut space)?.is_pending() {
            return Ok(false);
        }
        self.ended[0] = space.filled().is_empty();
        self.connection.queue_data(space.filled());
        Ok(true)
    }

    /// From the connection to the socket.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.held.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.held) {
                Poll::Pending => return Ok(false),
                Poll::Ready(written) => drop(self.held.drain(..written?)),
            }
        }
        if self.ended[1] {
            self.passed[1] |= Pin::new(&mut self.socket).poll_shutdown(cx).is_ready();
            return Ok(false);
        }
        let Self { socket, held, .. } = self;
        let mut socket_cx = Context::from_waker(cx.waker());
        let mut handler = |item: Item<'_>| {
            let Item::Data(mut data) = item else { return Ok(()) };
            while held.is_empty() && !data.is_empty() {
                match Pin::new(&mut *socket).poll_write(&mut socket_cx, data) {
                    Poll::Pending => break,
                    Poll::Ready(written) => data = &data[written?..],
                }
            }
            held.extend_from_slice(data);
            Ok::<(), io::Error>(())
        };
        match self.connection.poll_recv(cx, &mut handler) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(RecvError::Closed)) => {
                self.ended[1] = true;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(io::Error::other(error)),
        }
    }
}
