//! What carries a connection's bytes: a TCP connection, or a hop of a circuit that is wrapped in TLS.
//!
//! A hop is plain TCP wherever that works. Where something on the way swallows what is not TLS, the
//! hop is a [`Connection`] of its own to the host, and its `Data` carries the circuit's bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cloak_wire::Item;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Connection, RecvError, UnexpectedData};

/// See the module.
#[derive(Debug)]
pub enum Carrier {
    /// Plain TCP.
    Tcp(TcpStream),
    /// `Data` of a connection to the host.
    Wrapped(Box<Wrapped>),
}

/// A connection as a byte stream: what its `Data` carries.
#[derive(Debug)]
pub struct Wrapped {
    connection: Connection,
    /// Bytes of one read that were not taken yet; at most 272 KiB.
    received: Vec<u8>,
    taken: usize,
}

impl Carrier {
    /// Carries bytes over a connection on which nothing but `Data` follows in either direction.
    pub fn wrapped(connection: Connection) -> Self {
        Self::Wrapped(Box::new(Wrapped { connection, received: Vec::new(), taken: 0 }))
    }

    /// The TCP connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Wrapped(wrapped) => wrapped.connection.carrier.tcp(),
        }
    }

    /// Ends it at once: the other end sees a reset.
    pub(crate) fn abort(self) {
        // Where it fails, the connection is gone already.
        let _ = self.tcp().set_zero_linger();
    }
}

impl From<TcpStream> for Carrier {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Wrapped(wrapped) => wrapped.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Wrapped(wrapped) => wrapped.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Wrapped(wrapped) => wrapped.connection.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Wrapped(wrapped) => wrapped.connection.poll_close(cx),
        }
    }
}

impl Wrapped {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.taken == self.received.len() {
            self.taken = 0;
            self.received = Vec::new();
            let received = &mut self.received;
            let mut keep = |item: Item<'_>| match item {
                Item::Data(data) => {
                    received.extend_from_slice(data);
                    Ok(())
                }
                Item::Frame(_) => Err(UnexpectedData),
            };
            match ready!(self.connection.poll_recv(cx, &mut keep)) {
                Ok(_) => {
                    // Reading may have left something to answer; what fails shows at the next write.
                    let _ = self.connection.poll_flush(cx);
                }
                Err(RecvError::Closed) => return Poll::Ready(Ok(())),
                Err(RecvError::Io(kind)) => return Poll::Ready(Err(kind.into())),
                Err(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let count = buf.remaining().min(self.received.len() - self.taken);
        buf.put_slice(&self.received[self.taken..self.taken + count]);
        self.taken += count;
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.room() == 0 {
            ready!(self.connection.poll_flush(cx))?;
        }
        let count = bytes.len().min(self.connection.room());
        self.connection.queue_data(&bytes[..count]);
        match self.connection.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }
}
