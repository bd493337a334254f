//! The application's connection to the proxy port, and bytes that were read from it too early.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use cloak_node::Application;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::ingress::Slot;

/// An application's connection. It counts against the limit of connections as long as it lives,
/// wherever it is handed on to.
pub(crate) struct Client {
    socket: Socket,
    /// Bytes that the socket has taken, the answers of the proxy port included.
    written: u64,
    _slot: Option<Slot>,
}

pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Client {
    pub(crate) fn new(socket: Socket, slot: Option<Slot>) -> Self {
        Self { socket, written: 0, _slot: slot }
    }

    fn count(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &wrote {
            self.written += *count as u64;
        }
        wrote
    }

    /// Makes the coming drop a reset, where the socket knows resets.
    pub(crate) fn prepare_reset(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // A lost race with the application's own close leaves nothing to reset.
            let _ = stream.set_zero_linger();
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.socket {
            Socket::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Socket::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        delegate!(this, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = delegate!(this, stream => stream.poll_write(cx, buf));
        this.count(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = delegate!(this, stream => stream.poll_write_vectored(cx, bufs));
        this.count(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        delegate!(this, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        delegate!(this, stream => stream.poll_shutdown(cx))
    }
}

impl Application for Client {
    fn reset(self: Box<Self>) {
        self.prepare_reset();
    }

    fn has_failed(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => Application::has_failed(stream),
            Socket::Unix(stream) => Application::has_failed(stream),
        }
    }

    #[cfg(target_os = "linux")]
    fn unread(&self) -> Option<u64> {
        let Socket::Tcp(stream) = &self.socket else { return None };
        let (peer, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let read = crate::sock_diag::read_by_peer(peer, local)?;
        Some(self.written.saturating_sub(read))
    }
}

/// A stream whose first bytes were already read.
pub(crate) struct Prefixed<S> {
    pub(crate) early: BytesMut,
    pub(crate) inner: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Prefixed<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { early: BytesMut::new(), inner }
    }

    /// Reads more into `early`; `Ok(0)` means that the application ended its direction.
    ///
    /// # Cancel safety
    /// Safe: a cancelled read took nothing.
    pub(crate) async fn read_early(&mut self) -> io::Result<usize> {
        self.early.reserve(EARLY_READ);
        self.inner.read_buf(&mut self.early).await
    }

    /// Ends the connection so that what was written arrives: closing a socket with unread bytes
    /// would be a reset, which may overtake it.
    pub(crate) async fn close(mut self) {
        if self.inner.shutdown().await.is_err() {
            return;
        }
        for _ in 0..LINGER_READS_MAX {
            self.early.clear();
            let read = tokio::time::timeout(LINGER, self.read_early()).await;
            if !matches!(read, Ok(Ok(1..))) {
                return;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            if buf.remaining() >= SMALL_READ {
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            // Requests are read in bits and pieces, but come in one.
            ready!(poll_read_into(&mut this.inner, cx, &mut this.early, EARLY_READ))?;
        }
        let len = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early[..len]);
        this.early.advance(len);
        if this.early.is_empty() {
            this.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: Application> Application for Prefixed<S> {
    fn reset(self: Box<Self>) {
        Box::new(self.inner).reset();
    }

    fn has_failed(&self) -> bool {
        self.inner.has_failed()
    }

    fn unread(&self) -> Option<u64> {
        self.inner.unread()
    }
}

/// Reads what has arrived into `buf`, at most `room` bytes; the number read, 0 at the end.
pub(crate) fn poll_read_into<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<usize>> {
    let mut chunk = [0; EARLY_READ];
    let mut chunk = ReadBuf::new(&mut chunk[..room.min(EARLY_READ)]);
    ready!(Pin::new(stream).poll_read(cx, &mut chunk))?;
    buf.extend_from_slice(chunk.filled());
    Poll::Ready(Ok(chunk.filled().len()))
}

/// Bytes read at a time while a request is being read.
const EARLY_READ: usize = 4096;
/// A read of less takes what follows with it.
const SMALL_READ: usize = 1024;
/// Most reads, and longest pause between two, of a connection that was refused.
const LINGER_READS_MAX: usize = 64;
const LINGER: std::time::Duration = std::time::Duration::from_millis(500);
