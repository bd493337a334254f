//! Stands between hyper and an application's connection; lets one checked request through at a
//! time.
//!
//! While a request is being answered, what follows it stays here. The connection is still watched:
//! a reset ends the exchange at once, whereas the end of the application's sending is kept until
//! the answer is out, since an application may finish sending and go on to read (hyper alone could
//! only ignore both or take both for a disconnect). A refused request is replaced by a stand-in,
//! so that hyper writes the answer in its proper place; nothing passes after it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::chunked::Chunked;
use super::head::{self, Framing, HEAD_LEN_MAX, Scan};
use super::passage::Passage;
use crate::errors::Failure;
use crate::stream::{Client, Prefixed, poll_read_into};

/// The application's connection as hyper sees it.
pub(super) struct Gate {
    client: Prefixed<Client>,
    passage: Arc<Passage>,
    phase: Phase,
    /// Bytes at the front of `client.early` that may pass.
    open: usize,
    /// Requests let through wholly.
    passed: u64,
    /// The application ended its direction.
    ended: bool,
    /// When the next head must have begun, or be complete once it has.
    deadline: Pin<Box<Sleep>>,
    /// Whether a head has begun.
    begun: bool,
    head_timeout: Duration,
}

enum Phase {
    Head(Scan),
    Length(u64),
    Chunked(Chunked),
    /// The request is through; what follows waits until it is answered.
    Held,
    /// The last request was refused.
    Shut,
}

impl Gate {
    /// A gate in front of a connection whose first bytes have been read.
    pub(super) fn new(
        client: Prefixed<Client>,
        passage: Arc<Passage>,
        head_timeout: Duration,
    ) -> Self {
        Self {
            client,
            passage,
            phase: Phase::Head(Scan::default()),
            open: 0,
            passed: 0,
            ended: false,
            deadline: Box::pin(sleep(head_timeout)),
            begun: true,
            head_timeout,
        }
    }

    /// The connection, with what was not let through.
    pub(super) fn into_client(self) -> Prefixed<Client> {
        self.client
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Phase::Head(scan) = &mut self.phase else { return Poll::Ready(Ok(true)) };
        let early = &mut self.client.early;
        while scan.is_fresh() && early.starts_with(b"\r\n") {
            // RFC 9112, 2.2: empty lines before a request are no part of it.
            early.advance(2);
        }
        let found = match scan.find_end(early) {
            Ok(Some(len)) => head::check(&early[..len]).map(|framing| Some((len, framing))),
            Ok(None) => Ok(None),
            Err(failure) => Err(failure),
        };
        match found {
            Ok(Some((len, framing))) => self.pass_head(len, framing),
            Ok(None) if self.ended => return Poll::Ready(Ok(false)),
            Ok(None) => return self.poll_more_head(cx),
            Err(failure) => self.refuse(failure),
        }
        Poll::Ready(Ok(true))
    }

    fn poll_more_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.begun && !self.client.early.is_empty() {
            self.begun = true;
            self.deadline = Box::pin(sleep(self.head_timeout));
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            if !self.begun {
                return Poll::Ready(Ok(false));
            }
            self.refuse(Failure::RequestTimeout);
            return Poll::Ready(Ok(true));
        }
        self.ended = ready!(self.poll_fill(cx, HEAD_LEN_MAX))? == 0;
        Poll::Ready(Ok(true))
    }

    fn pass_head(&mut self, len: usize, framing: Framing) {
        self.open = len;
        self.phase = match framing {
            Framing::Length(len) => Phase::Length(len),
            Framing::Chunked => Phase::Chunked(Chunked::default()),
        };
    }

    fn refuse(&mut self, failure: Failure) {
        self.passage.refuse(failure);
        self.client.early.clear();
        self.client.early.extend_from_slice(STAND_IN);
        self.open = STAND_IN.len();
        self.phase = Phase::Shut;
    }

    fn hold(&mut self) {
        self.passed += 1;
        self.phase = Phase::Held;
    }

    /// Waits for the answer, or for the connection to break.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.passage.has_answered(self.passed, cx) {
            self.begun = false;
            self.deadline = Box::pin(sleep(IDLE_MAX));
            self.phase = Phase::Head(Scan::default());
            return Poll::Ready(Ok(()));
        }
        while !self.ended && self.client.early.len() < HELD_MAX {
            self.ended = ready!(self.poll_fill(cx, HELD_MAX))? == 0;
        }
        Poll::Pending
    }

    /// Reads more into the buffer, which has room up to `max` and one read more.
    fn poll_fill(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<usize>> {
        let room = max.saturating_sub(self.client.early.len()).max(1);
        poll_read_into(&mut self.client.inner, cx, &mut self.client.early, room)
    }

    /// Lets through the next part of a body of known length.
    fn poll_length(
        &mut self,
        left: u64,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        if !self.client.early.is_empty() {
            self.open = self.client.early.len().min(most);
            self.phase = Phase::Length(left - len_u64(self.open));
            return Poll::Ready(Ok(true));
        }
        let room = most.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.client.inner).poll_read(cx, &mut part))?;
        let len = part.filled().len();
        buf.advance(len);
        self.phase = Phase::Length(left - len_u64(len));
        Poll::Ready(Ok(false))
    }

    fn poll_chunked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.client.early.is_empty() && ready!(self.poll_fill(cx, HELD_MAX))? == 0 {
            return Poll::Ready(Ok(false));
        }
        let Phase::Chunked(chunked) = &mut self.phase else { return Poll::Ready(Ok(true)) };
        let advanced = chunked.advance(&self.client.early);
        self.open = advanced.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if chunked.is_done() {
            self.hold();
        }
        Poll::Ready(Ok(true))
    }

    fn pass(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.open.min(buf.remaining());
        buf.put_slice(&self.client.early[..len]);
        self.client.early.advance(len);
        self.open -= len;
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.open > 0 {
                this.pass(buf);
                return Poll::Ready(Ok(()));
            }
            let go_on = match this.phase {
                Phase::Head(_) => ready!(this.poll_head(cx))?,
                Phase::Length(0) => {
                    this.hold();
                    true
                }
                Phase::Length(left) => ready!(this.poll_length(left, cx, buf))?,
                Phase::Chunked(_) => ready!(this.poll_chunked(cx))?,
                Phase::Held => {
                    ready!(this.poll_held(cx))?;
                    true
                }
                Phase::Shut => return Poll::Pending,
            };
            if !go_on {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().client).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().client).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_shutdown(cx)
    }
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// What hyper parses in place of a refused request.
const STAND_IN: &[u8] = b"GET /refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Bytes that are read ahead while a request is being answered.
const HELD_MAX: usize = 64 * 1024;
/// How long an application may keep a connection without using it.
const IDLE_MAX: Duration = Duration::from_secs(120);
