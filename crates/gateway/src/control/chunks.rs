//! The form of a stream on the control socket, which tells an orderly end from a broken one.
//!
//! A unix socket knows no reset: whatever becomes of its other side reads as an end of file, and half
//! a download would look whole. So each direction is a row of chunks, each after a header of 4 bytes:
//! the length of what follows, [`Header::End`], or [`Header::Reset`]. A socket that ends where no end
//! was said is broken too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cloak_node::Application;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Bytes of a header.
pub const HEADER_LEN: usize = 4;
/// Longest chunk.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// So many bytes follow, at least one and at most [`CHUNK_BYTES_MAX`].
    Bytes(usize),
    /// This direction has ended in order. Only a `Reset` may follow.
    End,
    /// The session is broken: what came may be less than was sent.
    Reset,
}

impl Header {
    /// As sent: a number of four bytes, the most significant first.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        match self {
            Self::Bytes(count) => u32::try_from(count).unwrap_or(RESET - 1),
            Self::End => END,
            Self::Reset => RESET,
        }
        .to_be_bytes()
    }

    /// Reads one; `None` for a length that no chunk has.
    pub fn from_bytes(bytes: [u8; HEADER_LEN]) -> Option<Self> {
        match u32::from_be_bytes(bytes) {
            END => Some(Self::End),
            RESET => Some(Self::Reset),
            length => {
                let length = usize::try_from(length).ok()?;
                (length <= CHUNK_BYTES_MAX).then_some(Self::Bytes(length))
            }
        }
    }
}

const END: u32 = 0;
const RESET: u32 = u32::MAX;

/// The gateway's end of such a stream, as an application.
pub(super) struct Chunked {
    socket: UnixStream,
    reading: Reading,
    unsent: Unsent,
    /// Whether the end of our direction was said.
    ended: bool,
}

enum Reading {
    /// So many bytes of a header have come.
    Header([u8; HEADER_LEN], usize),
    /// So many bytes of a chunk are to come.
    Bytes(usize),
    Ended,
}

/// What the socket has not taken of a chunk that was begun: at most [`CHUNK_BYTES_MAX`] and a header. A
/// chunk once promised has to be whole, whoever writes next.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Chunked {
    pub(super) fn new(socket: UnixStream) -> Self {
        let reading = Reading::Header([0; HEADER_LEN], 0);
        Self { socket, reading, unsent: Unsent::default(), ended: false }
    }

    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Reading::Header(header, filled) = &mut self.reading else { return Poll::Ready(Ok(())) };
        while *filled < HEADER_LEN {
            let mut rest = ReadBuf::new(&mut header[*filled..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut rest))?;
            match rest.filled().len() {
                0 => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                count => *filled += count,
            }
        }
        self.reading = match Header::from_bytes(*header) {
            Some(Header::Bytes(count)) => Reading::Bytes(count),
            Some(Header::End) => Reading::Ended,
            Some(Header::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        };
        Poll::Ready(Ok(()))
    }

    /// Writes what is left of a chunk.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, unsent, .. } = self;
        while unsent.sent < unsent.bytes.len() {
            let rest = &unsent.bytes[unsent.sent..];
            match ready!(Pin::new(&mut *socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => unsent.sent += sent,
            }
        }
        *unsent = Unsent::default();
        Poll::Ready(Ok(()))
    }

    /// Writes a chunk, and keeps what the socket does not take.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        header: Header,
        bytes: &[u8],
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        let header = header.to_bytes();
        let parts = [io::IoSlice::new(&header), io::IoSlice::new(bytes)];
        let sent = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &parts))?;
        if sent < HEADER_LEN + bytes.len() {
            self.unsent = Unsent { bytes: [&header, bytes].concat(), sent };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Chunked {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_header(cx))?;
        let Reading::Bytes(left) = &mut this.reading else { return Poll::Ready(Ok(())) };
        let room = buf.remaining().min(*left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut this.socket).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        if count == 0 && room > 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.advance(count);
        *left -= count;
        if *left == 0 {
            this.reading = Reading::Header([0; HEADER_LEN], 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chunked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = buf.len().min(CHUNK_BYTES_MAX);
        ready!(this.poll_send(cx, Header::Bytes(count), &buf[..count]))?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    /// Says that this direction has ended. The socket itself stays open, for a `Reset` may follow.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            ready!(this.poll_send(cx, Header::End, &[]))?;
            this.ended = true;
        }
        this.poll_unsent(cx)
    }
}

impl Application for Chunked {
    fn reset(self: Box<Self>) {
        // In the middle of a chunk, and where there is no room, the end of the socket tells it too.
        if self.unsent.bytes.is_empty() {
            let _ = self.socket.try_write(&Header::Reset.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Chunked, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Chunked::new(ours), theirs)
    }

    async fn read_all(sent: &[&[u8]]) -> (Vec<u8>, Option<io::ErrorKind>) {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(&sent.concat()).await.unwrap();
        drop(theirs);
        let mut read = Vec::new();
        let result = ours.read_to_end(&mut read).await;
        (read, result.err().map(|error| error.kind()))
    }

    #[tokio::test]
    async fn only_an_end_that_was_said_is_one() {
        let (bytes, end) = (Header::Bytes(5).to_bytes(), Header::End.to_bytes());
        let whole = (b"whole".to_vec(), None);
        assert_eq!(read_all(&[&bytes, b"whole", &end]).await, whole);
        let reset = |read: &[u8]| (read.to_vec(), Some(io::ErrorKind::ConnectionReset));
        assert_eq!(read_all(&[&bytes, b"whole"]).await, reset(b"whole"));
        assert_eq!(read_all(&[&bytes, b"who"]).await, reset(b"who"));
        assert_eq!(read_all(&[&bytes[..3]]).await, reset(b""));
        assert_eq!(read_all(&[&bytes, b"whole", &Header::Reset.to_bytes()]).await, reset(b"whole"));
        let long = u32::try_from(CHUNK_BYTES_MAX + 1).unwrap().to_be_bytes();
        assert_eq!(read_all(&[&long]).await, (Vec::new(), Some(io::ErrorKind::InvalidData)));
    }

    #[tokio::test]
    async fn chunks_are_whole_however_slowly_they_are_taken() {
        let (mut ours, theirs) = pair();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut read = Vec::new();
        let mut theirs = Chunked::new(theirs);
        let sending = async {
            // Pieces of other lengths than what the socket takes, each offered anew.
            for piece in sent.chunks(77_777) {
                ours.write_all(piece).await.unwrap();
            }
            ours.shutdown().await.unwrap();
        };
        let (_, received) = tokio::join!(sending, theirs.read_to_end(&mut read));
        received.unwrap();
        assert!(read == sent, "{} of {} bytes", read.len(), sent.len());
    }

    #[tokio::test]
    async fn a_chunk_that_was_begun_is_whole_whoever_ends_the_stream() {
        let (mut ours, theirs) = pair();
        let sent = vec![7; CHUNK_BYTES_MAX];
        let (mut taken, cx) = (0, &mut Context::from_waker(std::task::Waker::noop()));
        while let Poll::Ready(count) = Pin::new(&mut ours).poll_write(cx, &sent) {
            taken += count.unwrap();
        }
        assert!(!ours.unsent.bytes.is_empty(), "the socket is full in the middle of a chunk");
        let (mut theirs, mut read) = (Chunked::new(theirs), Vec::new());
        let (ended, received) = tokio::join!(ours.shutdown(), theirs.read_to_end(&mut read));
        ended.unwrap();
        received.unwrap();
        assert_eq!(read.len(), taken);
    }

    #[tokio::test]
    async fn a_reset_follows_even_an_end() {
        let (mut ours, mut theirs) = pair();
        ours.write_all(b"x").await.unwrap();
        ours.shutdown().await.unwrap();
        Box::new(ours).reset();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        let headers = [Header::Bytes(1), Header::End, Header::Reset].map(Header::to_bytes);
        assert_eq!(read, [&headers[0][..], b"x", &headers[1], &headers[2]].concat());
    }
}
