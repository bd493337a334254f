//! Copies bytes between two streams in both directions.
//!
//! Each direction ends by itself: the end of one input shuts down the other's output and no more.
//! An error anywhere resets both, so that neither takes a truncated stream for a complete one.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cloak_node::Application;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies until both directions have ended, or one has failed.
///
/// # Errors
/// The first failure of either stream; both were reset.
///
/// # Cancel safety
/// Dropping the future closes both streams.
pub(crate) async fn relay<A: Application, B: Application>(mut a: A, mut b: B) -> io::Result<()> {
    let mut forth = Direction::new();
    let mut back = Direction::new();
    let result = poll_fn(|cx| {
        let forth = forth.poll(cx, &mut a, &mut b)?;
        let back = back.poll(cx, &mut b, &mut a)?;
        if forth.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    if result.is_err() {
        Box::new(a).reset();
        Box::new(b).reset();
    }
    result
}

/// One direction: bytes read and not yet written, and how far its end has come.
struct Direction {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    unflushed: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    Ending,
    Ended,
}

impl Direction {
    fn new() -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { buffer, start: 0, end: 0, unflushed: false, state: State::Copying }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Copying if self.start < self.end => ready!(self.poll_write(cx, to))?,
                State::Copying => match self.poll_read(cx, from)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        ready!(self.poll_flush(cx, to))?;
                        return Poll::Pending;
                    }
                },
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        (self.start, self.end) = (0, buffer.filled().len());
        if self.end == 0 {
            self.state = State::Ending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        let written = ready!(Pin::new(to).poll_write(cx, &self.buffer[self.start..self.end]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += written;
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes in flight per direction.
const BUFFER: usize = 64 * 1024;
