//! A session's byte stream in memory, with what a program may want to know of the session.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use cloak_wire::Code;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{Application, Condition, Departure, STATE_MAX, Wish, Wished};
use crate::sync::lock;

/// Bytes that wait between the program and its session, in each direction.
const PIPE_BYTES: usize = 64 * 1024;
/// Wishes of a program that may wait for its session; whoever has more waits with them.
const WISHES_MAX: usize = 4;

/// A session's stream. Dropping it without [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends it in order,
/// as closing a socket does; a session that was reset or lost is an error of kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset) for whoever reads.
#[derive(Debug)]
pub struct Stream {
    pipe: DuplexStream,
    link: Arc<Link>,
    wishes: mpsc::Sender<Wish>,
}

/// What a program hears of its session besides bytes. Clones hear the same.
#[derive(Debug, Clone)]
pub struct Signals(watch::Receiver<Signal>);

/// A program that was not asked to leave, or whose session stays after all. It goes on with its stream.
#[derive(Debug, thiserror::Error)]
#[error("the session stays where it is")]
pub struct LeaveError(pub Stream);

/// The session's end of a [`Stream`].
pub(crate) struct Far {
    pipe: DuplexStream,
    link: Arc<Link>,
    wishes: mpsc::Receiver<Wish>,
}

/// What both ends of a pipe share.
#[derive(Debug)]
struct Link {
    signal: watch::Sender<Signal>,
    leaving: Mutex<Leaving>,
}

#[derive(Debug, Clone, Default)]
struct Signal {
    condition: Option<Condition>,
    asked_to_leave: bool,
    broken: bool,
    is_over: bool,
}

#[derive(Debug, Default)]
enum Leaving {
    #[default]
    No,
    Asked(Option<Waker>),
    Left(Departure),
}

/// A stream, and the session's end of it.
pub(crate) fn pipe() -> (Stream, Far) {
    let (here, there) = tokio::io::duplex(PIPE_BYTES);
    let link = Arc::new(Link { signal: watch::Sender::default(), leaving: Mutex::default() });
    let (wishes, asked) = mpsc::channel(WISHES_MAX);
    let stream = Stream { pipe: here, link: Arc::clone(&link), wishes };
    (stream, Far { pipe: there, link, wishes: asked })
}

impl Stream {
    /// What is heard of the session.
    #[must_use]
    pub fn signals(&self) -> Signals {
        Signals(self.link.signal.subscribe())
    }

    /// Leaves the session to the program that goes on in our place on another device, after
    /// [`Signals::asked_to_leave`]. Everything that was written goes to the other end; what came and was not
    /// read is the first that the next program reads. `state` is given to it, at most
    /// [`STATE_MAX`] bytes; more are cut off.
    ///
    /// # Errors
    /// It was not asked for, or not any more; the stream comes back, as it was.
    pub fn leave(mut self, mut state: Vec<u8>) -> Result<(), LeaveError> {
        state.truncate(STATE_MAX);
        let link = Arc::clone(&self.link);
        let mut leaving = lock(&link.leaving);
        let Leaving::Asked(waker) = &mut *leaving else { return Err(LeaveError(self)) };
        let waker = waker.take();
        // Nothing is added while we are asked to leave.
        let unread = self.read_what_is_there();
        *leaving = Leaving::Left(Departure { unread, state });
        drop(leaving);
        drop(self);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Suspends the session on purpose: its lane is closed, and neither end dials another until
    /// [`resume`](Self::resume). What was written meanwhile, here or at the other end, waits in buffers; then
    /// writing waits. Both ends hear of it by [`Signals`], as `suspended` with [`Code::Paused`]. A session that
    /// stays suspended for `[session] linger` is lost.
    ///
    /// # Errors
    /// [`Code::Moving`] while it is about to move, [`Code::NotMovable`] where it cannot be suspended: the
    /// other end is on this very device, or it ends. [`Code::Gone`] when it is over.
    ///
    /// # Cancel safety
    /// Dropping the future does not take it back.
    pub async fn suspend(&self) -> Result<(), Code> {
        self.wish(Wished::Suspend).await
    }

    /// Goes on with a session that was suspended here, by this program or an operator; does nothing with one
    /// that was not. Returns at once: [`Signals`] tell when there is a lane.
    ///
    /// # Errors
    /// [`Code::Paused`]: only the other end has suspended it, and goes on when it is resumed there.
    /// [`Code::NotMovable`] and [`Code::Gone`] as for [`suspend`](Self::suspend).
    ///
    /// # Cancel safety
    /// Dropping the future does not take it back.
    pub async fn resume(&self) -> Result<(), Code> {
        self.wish(Wished::Resume).await
    }

    async fn wish(&self, what: Wished) -> Result<(), Code> {
        let (answer, granted) = oneshot::channel();
        if self.wishes.send(Wish { what, answer }).await.is_err() {
            let is_over = self.link.signal.borrow().is_over;
            return Err(if is_over { Code::Gone } else { Code::NotMovable });
        }
        granted.await.unwrap_or(Err(Code::Gone))
    }

    fn read_what_is_there(&mut self) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        let reading = std::future::poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut some);
            while let Poll::Ready(Ok(())) = Pin::new(&mut self.pipe).poll_read(cx, &mut buffer)
                && !buffer.filled().is_empty()
            {
                all.extend_from_slice(buffer.filled());
                buffer.clear();
            }
            Poll::Ready(())
        });
        // Otherwise a program that has read much in this turn would find the pipe empty.
        let reading = std::pin::pin!(tokio::task::unconstrained(reading));
        let done = reading.poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(done.is_ready(), "it does not wait");
        all
    }
}

impl Signals {
    /// Waits until the session is to go on elsewhere, and the program is asked to
    /// [`leave`](Stream::leave). It has five seconds; where it does not, the session stays.
    ///
    /// # Cancel safety
    /// Nothing is missed.
    pub async fn asked_to_leave(&mut self) {
        if self.0.wait_for(|signal| signal.asked_to_leave).await.is_err() {
            // The stream is gone, and nobody asks any more.
            std::future::pending::<()>().await;
        }
    }

    /// How the session fares; nothing until that is known.
    #[must_use]
    pub fn condition(&self) -> Option<Condition> {
        self.0.borrow().condition.clone()
    }

    /// Waits until that has changed: suspended, resumed, the other end on another device. Nothing once the
    /// session is over, or is not ours any more.
    ///
    /// # Cancel safety
    /// Nothing is missed but what was overtaken by a later change.
    pub async fn changed(&mut self) -> Option<Condition> {
        while !self.0.borrow().is_over {
            self.0.changed().await.ok()?;
            let signal = self.0.borrow_and_update();
            if let Some(condition) = signal.condition.as_ref().filter(|_| !signal.is_over) {
                return Some(condition.clone());
            }
        }
        None
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.pipe).poll_read(cx, buffer);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if is_end && buffer.remaining() > 0 && self.link.signal.borrow().broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl AsyncRead for Far {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.link.signal.send_modify(|signal| signal.is_over = true);
    }
}

impl Application for Far {
    fn reset(self: Box<Self>) {
        self.link.signal.send_modify(|signal| signal.broken = true);
    }

    fn ask_to_leave(&mut self) -> bool {
        *lock(&self.link.leaving) = Leaving::Asked(None);
        self.link.signal.send_modify(|signal| signal.asked_to_leave = true);
        true
    }

    fn stay(&mut self) -> bool {
        let leaving = &mut *lock(&self.link.leaving);
        if matches!(leaving, Leaving::Left(_)) {
            return false;
        }
        *leaving = Leaving::No;
        self.link.signal.send_modify(|signal| signal.asked_to_leave = false);
        true
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        let leaving = &mut *lock(&self.link.leaving);
        match leaving {
            Leaving::Left(departure) => Poll::Ready(std::mem::take(departure)),
            Leaving::Asked(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Leaving::No => Poll::Pending,
        }
    }

    fn poll_wish(&mut self, cx: &mut Context<'_>) -> Poll<Wish> {
        match self.wishes.poll_recv(cx) {
            Poll::Ready(Some(wish)) => Poll::Ready(wish),
            // The program has dropped its stream, and asks no more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn refuse_wishes(&mut self) {
        self.wishes.close();
    }

    fn tell(&mut self, condition: &Condition) {
        self.link.signal.send_modify(|signal| signal.condition = Some(condition.clone()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn departure(far: &mut Far) -> Poll<Departure> {
        far.poll_departure(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn who_leaves_leaves_what_it_has_not_read() {
        let (mut stream, mut far) = pipe();
        far.write_all(b"read, unread").await.unwrap();
        let mut signals = stream.signals();
        let mut read = [0; 6];
        stream.read_exact(&mut read).await.unwrap();
        stream.write_all(b"last words").await.unwrap();
        let LeaveError(stream) = stream.leave(Vec::new()).unwrap_err();
        assert!(far.ask_to_leave() && departure(&mut far).is_pending());
        signals.asked_to_leave().await;
        stream.leave(b"state".to_vec()).unwrap();
        let mut words = String::new();
        far.read_to_string(&mut words).await.unwrap();
        assert_eq!(words, "last words", "and then the end");
        let left = Departure { unread: b"unread".to_vec(), state: b"state".to_vec() };
        assert_eq!(departure(&mut far), Poll::Ready(left));
        assert!(!far.stay());
    }

    /// A task that has used up its turn finds nothing to read, which is not the same as there being nothing.
    #[tokio::test]
    async fn who_leaves_after_much_reading_loses_nothing() {
        let (mut stream, mut far) = pipe();
        far.write_all(&vec![7; PIPE_BYTES]).await.unwrap();
        assert!(far.ask_to_leave());
        let mut read = 0;
        while Pin::new(&mut stream)
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut [0; 16]))
            .is_ready()
        {
            read += 16;
        }
        assert!(read < PIPE_BYTES, "the turn is over");
        stream.leave(Vec::new()).unwrap();
        let Poll::Ready(left) = departure(&mut far) else { panic!("it has left") };
        assert_eq!(left.unread.len(), PIPE_BYTES - read);
    }

    #[tokio::test]
    async fn a_session_that_stays_is_gone_on_with() {
        let (stream, mut far) = pipe();
        assert!(far.ask_to_leave() && far.stay());
        let LeaveError(mut stream) = stream.leave(Vec::new()).unwrap_err();
        far.write_all(b"more").await.unwrap();
        let mut more = [0; 4];
        stream.read_exact(&mut more).await.unwrap();
        Box::new(far).reset();
        let mut signals = stream.signals();
        let error = stream.read(&mut more).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(signals.changed().await, None, "it is over");
    }
}
