//! One authenticated transport to a peer device: TCP, TLS 1.3, and the frames inside.
//!
//! A connection serves as a lane or as a peer channel; it does not know which. It holds no buffers
//! while it is idle: a poll reads into a buffer of the thread, decrypts in place and hands the data
//! to its handler from there; only the front of a record that has not fully arrived, and sealed
//! bytes that the socket did not take, stay behind. See docs/PROTOCOL.md, "Opening a transport".
//!
//! Whoever owns a connection polls it: [`Connection::poll_recv`] until it is pending, then
//! [`Connection::poll_flush`], because reading may leave something to answer (a TLS key update).

mod carrier;
mod error;
mod handshake;
mod outgoing;
mod scratch;
mod socket;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_wire::{DATA_MAX, Decoder, Frame, Item, data_header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::{Engine, State, TlsError};
pub use carrier::Carrier;
pub use error::{RecvError, UnexpectedData};
pub use handshake::{AcceptError, DialError, HANDSHAKE_TIMEOUT};
pub(crate) use outgoing::Outgoing;
use scratch::{LEFT_OVER_MAX, READ_MAX, Scratch};
pub use socket::{Progress, SocketOptions};

/// Payload bytes that may be queued before a flush; also the size of a full write.
pub const SEND_MAX: usize = 256 * 1024;
/// Payload up to this size is copied into one record with the frames before it: cheaper than a
/// record of its own.
const COALESCE_MAX: usize = 4 * 1024;
/// Bytes that may wait for a peer that does not read before the connection is given up: a full cap
/// of payload and as much again in control frames, more than any honest exchange queues.
const BACKLOG_MAX: usize = 2 * SEND_MAX;
/// Bytes read at once by [`Connection::recv`], which keeps what follows its frame.
const RECV_READ_MAX: usize = 16 * 1024;
/// Time that [`Connection::close`] waits for the peer's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// One authenticated transport. Everything about it moves with the value.
pub struct Connection {
    carrier: Carrier,
    /// The host through which it runs, where it is not direct.
    via: Option<DeviceId>,
    engine: Engine,
    side: Side,
    peer: DeviceId,
    local_addr: SocketAddr,
    peer_addr: SocketAddr,
    decoder: Decoder,
    /// The front of a record that has not fully arrived; below [`LEFT_OVER_MAX`].
    left_over: Vec<u8>,
    /// Opened bytes that are not decoded yet: what came with the end of the handshake, and what
    /// follows the frame that `recv` gave out. At most a read of those two.
    received: Vec<u8>,
    /// Frames that are not sealed yet.
    plain: Vec<u8>,
    out: Outgoing,
    /// How receiving ended; repeated by every later poll.
    ended: Option<RecvError<Infallible>>,
    sending: Sending,
}

/// Which end of the TCP connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Dialler,
    Acceptor,
}

/// What may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// `close_notify` is queued; nothing may follow it.
    Closing,
    /// The end of the stream was sent.
    Closed,
    /// TLS failed. An alert may be queued.
    Failed,
    /// The peer does not read what it makes us send.
    Overflowed,
}

impl Connection {
    /// The authenticated device at the other end.
    pub fn peer(&self) -> DeviceId {
        self.peer
    }

    /// Our address of this connection, IPv4 never in its IPv6 form.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The peer's address of this connection, IPv4 never in its IPv6 form.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// The host whose circuit carries this connection; none where it is direct. The addresses are
    /// those of the hop then.
    pub fn via(&self) -> Option<DeviceId> {
        self.via
    }

    /// True where we dialled.
    pub fn is_dialler(&self) -> bool {
        self.side == Side::Dialler
    }

    /// Name of the key exchange, for `doctor` and tests.
    pub fn key_exchange(&self) -> Option<&'static str> {
        self.engine.key_exchange()
    }

    /// What the kernel knows of the path, where it tells.
    pub fn progress(&self) -> Option<Progress> {
        socket::progress(self.carrier.tcp())
    }

    /// Bytes of memory held in buffers, for the ledger; zero while idle.
    pub fn buffered(&self) -> usize {
        self.left_over.capacity()
            + self.received.capacity()
            + self.plain.capacity()
            + self.out.capacity()
    }

    /// Reads what the socket has, once, and hands every item to `handler` in order. `Ready(Ok(n))`:
    /// n bytes were taken in, at most 272 KiB; call again, no waker is registered. Follow it with
    /// [`poll_flush`](Self::poll_flush).
    ///
    /// # Errors
    /// The end of the connection, clean or not, see [`RecvError`]; every later call repeats it.
    /// When the handler fails, the rest of what was read is dropped and receiving is over; a last
    /// frame can still be sent.
    pub fn poll_recv<E>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Poll<Result<usize, RecvError<E>>> {
        if !self.received.is_empty() {
            let plain = std::mem::take(&mut self.received);
            let handled = decode(&mut self.decoder, &plain, handler);
            return Poll::Ready(self.end_unless_ok(handled).map(|()| plain.len()));
        }
        let mut handled = Ok(());
        let read = ready!(self.poll_read(cx, READ_MAX, &mut |decoder, plain| {
            if handled.is_ok() {
                handled = decode(decoder, plain, handler);
            }
        }));
        self.end_unless_ok(handled)?;
        Poll::Ready(read.map_err(RecvError::widen))
    }

    /// Queues a control frame, behind everything queued before.
    pub fn queue(&mut self, frame: &Frame) {
        if self.sending == Sending::Open {
            frame.encode(&mut self.plain);
            self.check_backlog();
        }
    }

    /// Queues bytes of the application's stream, behind everything queued before. They are sealed
    /// straight from `data`. Queue no more than [`room`](Self::room).
    pub fn queue_data(&mut self, data: &[u8]) {
        for piece in data.chunks(DATA_MAX) {
            if self.sending != Sending::Open {
                return;
            }
            self.plain.extend_from_slice(&data_header(piece.len()));
            if self.plain.len() + piece.len() <= COALESCE_MAX {
                self.plain.extend_from_slice(piece);
            } else {
                self.seal_plain();
                self.seal(piece);
            }
            self.check_backlog();
        }
    }

    /// Payload bytes that may be queued before the next flush.
    pub fn room(&self) -> usize {
        SEND_MAX.saturating_sub(self.unsent())
    }

    /// Bytes that are queued and that the socket did not take yet.
    pub fn unsent(&self) -> usize {
        self.plain.len() + self.out.len()
    }

    /// Writes what is queued. `Ready(Ok)`: nothing is left.
    ///
    /// # Errors
    /// The connection is broken for sending; [`io::ErrorKind::OutOfMemory`] when the peer does not
    /// read what it makes us send, [`io::ErrorKind::BrokenPipe`] when TLS failed.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sending == Sending::Overflowed {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        self.seal_plain();
        while self.out.len() > 0 {
            match ready!(Pin::new(&mut self.carrier).poll_write(cx, self.out.unsent()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.out.consume(written),
            }
        }
        ready!(Pin::new(&mut self.carrier).poll_flush(cx))?;
        // Only now: an alert may have been queued.
        let has_failed = self.sending == Sending::Failed;
        Poll::Ready(if has_failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) })
    }

    /// Queues a frame and writes all that is queued.
    ///
    /// # Errors
    /// As [`poll_flush`](Self::poll_flush); [`io::ErrorKind::BrokenPipe`] after a close, too.
    ///
    /// # Cancel safety
    /// The frame is queued at the first poll; a later flush sends it.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        if matches!(self.sending, Sending::Closing | Sending::Closed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.queue(frame);
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The next control frame; what came after it is kept. For `Hello` and the like.
    ///
    /// # Errors
    /// The end of the connection, see [`RecvError`], or data where a frame was expected.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that arrived is lost.
    pub async fn recv(&mut self) -> Result<Frame, RecvError<UnexpectedData>> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            std::future::poll_fn(|cx| self.poll_receive(cx)).await.map_err(RecvError::widen)?;
        }
    }

    /// Says that nothing more will be sent (`close_notify`, then FIN), behind everything queued.
    /// The peer's bytes can still be received. To be sure that the last frame arrives, keep on
    /// receiving until the peer's end, as [`close`](Self::close) does: a socket dropped with
    /// unread bytes resets the connection, and a reset may overtake what was sent.
    ///
    /// # Errors
    /// As [`poll_flush`](Self::poll_flush).
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sending == Sending::Open {
            self.seal_plain();
            let said = self.engine.close_notify(&mut self.left_over, &mut self.out);
            self.sending = if said.is_ok() { Sending::Closing } else { Sending::Failed };
        }
        ready!(self.poll_flush(cx))?;
        if self.sending != Sending::Closed {
            ready!(Pin::new(&mut self.carrier).poll_shutdown(cx))?;
            self.sending = Sending::Closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is queued, ends the connection, and waits up to a second for the peer's end, so
    /// that the last frames arrive.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn close(mut self) {
        let closing = async {
            std::future::poll_fn(|cx| self.poll_close(cx)).await?;
            let mut ignore = |_: Item<'_>| Ok::<(), Infallible>(());
            while std::future::poll_fn(|cx| self.poll_recv(cx, &mut ignore)).await.is_ok() {}
            Ok::<(), io::Error>(())
        };
        // Too late or broken: closed is closed.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Ends the connection at once: unsent bytes are dropped and the peer sees a reset.
    pub fn abort(self) {
        self.carrier.abort();
    }

    /// Reads once and hands what was opened to `sink`, in one piece.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        sink: &mut dyn FnMut(&mut Decoder, &[u8]),
    ) -> Poll<Result<usize, RecvError<Infallible>>> {
        if let Some(end) = &self.ended {
            return Poll::Ready(Err(end.clone()));
        }
        Scratch::lend(|scratch| {
            let mut space = ReadBuf::new(scratch.read_space(max));
            let filled = ready!(Pin::new(&mut self.carrier).poll_read(cx, &mut space));
            let read = space.filled().len();
            let outcome = match filled {
                Ok(()) if read > 0 => self.open(scratch, read, sink),
                Ok(()) => Err(RecvError::Cut),
                Err(error) => Err(RecvError::Io(error.kind())),
            };
            // What was handled before the end counts; the next call tells of the end.
            self.ended = outcome.err();
            Poll::Ready(match &self.ended {
                Some(end) if read == 0 => Err(end.clone()),
                _ => Ok(read),
            })
        })
    }

    /// Opens the records of what was left over and then `read`, and keeps what is left over now.
    /// That is kept whatever happens: the engine wants to see it even to send.
    fn open(
        &mut self,
        scratch: &mut Scratch,
        read: usize,
        sink: &mut dyn FnMut(&mut Decoder, &[u8]),
    ) -> Result<(), RecvError<Infallible>> {
        let (sealed, plain) = scratch.join(&self.left_over, read);
        let mut gather = |record: &[u8]| plain.extend_from_slice(record);
        let (used, state) = self.engine.open(sealed, &mut self.out, &mut gather);
        self.left_over = sealed[used..].to_vec();
        if !plain.is_empty() {
            sink(&mut self.decoder, plain);
        }
        match state {
            Ok(State::Open | State::Handshaking) if self.left_over.len() <= LEFT_OVER_MAX => Ok(()),
            Ok(State::Open | State::Handshaking) => Err(RecvError::Tls(TlsError::Misbehaved)),
            Ok(State::PeerClosed) if self.decoder.is_between_frames() => Err(RecvError::Closed),
            Ok(State::PeerClosed) => Err(RecvError::Cut),
            Err(error) => {
                self.stop_sending(Sending::Failed);
                Err(RecvError::Tls(error))
            }
        }
    }

    /// Reads once into `received`, for [`recv`](Self::recv).
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RecvError<Infallible>>> {
        let mut received = std::mem::take(&mut self.received);
        let mut sink = |_: &mut Decoder, plain: &[u8]| received.extend_from_slice(plain);
        let read = self.poll_read(cx, RECV_READ_MAX, &mut sink);
        self.received = received;
        read.map_ok(|_| ())
    }

    /// The next frame of `received`; none when more must be read.
    fn next_frame(&mut self) -> Result<Option<Frame>, RecvError<UnexpectedData>> {
        let mut rest = &self.received[..];
        let item = match self.decoder.next(&mut rest) {
            Ok(Some(Item::Frame(frame))) => Ok(Some(frame)),
            Ok(Some(Item::Data(_))) => Err(RecvError::Handler(UnexpectedData)),
            Ok(None) => Ok(None),
            Err(error) => Err(RecvError::Wire(error)),
        };
        self.received = if item.is_ok() { rest.to_vec() } else { Vec::new() };
        self.end_unless_ok(item)
    }

    /// After an error of the decoder or the handler, receiving is over.
    fn end_unless_ok<T, E>(&mut self, handled: Result<T, RecvError<E>>) -> Result<T, RecvError<E>> {
        if let Err(error) = &handled {
            self.ended = Some(error.without_handler());
        }
        handled
    }

    fn seal_plain(&mut self) {
        if !self.plain.is_empty() {
            let plain = std::mem::take(&mut self.plain);
            self.seal(&plain);
        }
    }

    fn seal(&mut self, plain: &[u8]) {
        if self.engine.seal(&mut self.left_over, plain, &mut self.out).is_err() {
            self.stop_sending(Sending::Failed);
        }
    }

    fn check_backlog(&mut self) {
        if self.unsent() > BACKLOG_MAX {
            self.out = Outgoing::default();
            self.stop_sending(Sending::Overflowed);
        }
    }

    fn stop_sending(&mut self, why: Sending) {
        self.plain = Vec::new();
        self.sending = why;
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

fn decode<E>(
    decoder: &mut Decoder,
    mut plain: &[u8],
    handler: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), RecvError<E>> {
    while let Some(item) = decoder.next(&mut plain).map_err(RecvError::Wire)? {
        handler(item).map_err(RecvError::Handler)?;
    }
    Ok(())
}
