//! A byte stream between two tasks that tells an orderly end from a broken one.
//!
//! A plain in-memory duplex reads as a clean end of stream whatever happened to its other side, so
//! that half a download would look whole. Here the end is clean only after a shutdown; anything
//! else reads as a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use cloak_node::Application;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Both ends of a new pipe with `capacity` bytes of room in each direction.
pub(crate) fn pipe(capacity: usize) -> (PipeEnd, PipeEnd) {
    let (left, right) = tokio::io::duplex(capacity);
    let (left_ended, right_ended) = (Arc::default(), Arc::default());
    let end = |io, own: &Arc<AtomicBool>, other: &Arc<AtomicBool>| PipeEnd {
        io,
        ended: Arc::clone(own),
        other_ended: Arc::clone(other),
    };
    (end(left, &left_ended, &right_ended), end(right, &right_ended, &left_ended))
}

/// One end of a pipe.
pub(crate) struct PipeEnd {
    io: DuplexStream,
    /// Set by this end's shutdown.
    ended: Arc<AtomicBool>,
    other_ended: Arc<AtomicBool>,
}

impl AsyncRead for PipeEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let at_end = buf.filled().len() == before && buf.remaining() > 0;
        if at_end && !this.other_ended.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ended.store(true, Ordering::Release);
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl Application for PipeEnd {
    fn reset(self: Box<Self>) {
        self.ended.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn only_a_shutdown_is_a_clean_end() {
        let (mut left, mut right) = pipe(16);
        left.write_all(b"whole").await.unwrap();
        left.shutdown().await.unwrap();
        drop(left);
        let mut text = String::new();
        assert_eq!(right.read_to_string(&mut text).await.unwrap(), 5);
        let error = right.write_all(b"late").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_dropped_or_reset_end_reads_as_a_reset() {
        for by_reset in [false, true] {
            let (mut left, mut right) = pipe(16);
            left.write_all(b"half").await.unwrap();
            if by_reset {
                left.shutdown().await.unwrap();
                Box::new(left).reset();
            } else {
                drop(left);
            }
            let mut read = Vec::new();
            let error = right.read_to_end(&mut read).await.unwrap_err();
            assert_eq!(
                (read.as_slice(), error.kind()),
                (&b"half"[..], io::ErrorKind::ConnectionReset)
            );
        }
    }
}
