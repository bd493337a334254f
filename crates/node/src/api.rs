//! What the application side and the service side see of a node, and what a node sees of them.
//!
//! The gateway speaks SOCKS and HTTP against [`Opener`]; the node asks a [`ServiceTable`] who may
//! reach which service. Neither knows the other's inside, so each is tested with a small fake.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use cloak_base::{DeviceId, EntityId};
use cloak_wire::{Balance, Code, Early, Target};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::view::SessionState;

/// A future behind a pointer, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One end of an application's byte stream: its socket to the gateway, or to a service's backend.
pub trait Application: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Ends the stream the way a crash does (TCP: a reset), so that the application cannot take a
    /// truncated stream for a complete one. Where a stream has no such end, dropping it is all.
    fn reset(self: Box<Self>) {}

    /// Asks the application to leave its stream, so that another one can go on elsewhere: then its stream
    /// ends, and [`poll_departure`](Self::poll_departure) is ready. Until then it is given no more bytes. False
    /// where it cannot leave; then nothing happens.
    fn ask_to_leave(&mut self) -> bool {
        false
    }

    /// Takes that back; false where the application has left already.
    fn stay(&mut self) -> bool {
        true
    }

    /// What the application left behind, once it has left because it was asked to.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        let _ = cx;
        Poll::Pending
    }

    /// What the application asks of its session next.
    fn poll_wish(&mut self, cx: &mut Context<'_>) -> Poll<Wish> {
        let _ = cx;
        Poll::Pending
    }

    /// There is no session: the other application is on this very device. Nothing can be asked.
    fn refuse_wishes(&mut self) {}

    /// How many of the bytes that were written to it the application has not read, where that can be told.
    /// Once no more are written the answer only falls.
    fn unread(&self) -> Option<u64> {
        None
    }

    /// Tells the application how its session fares, whenever that changes.
    fn tell(&mut self, condition: &Condition) {
        let _ = condition;
    }

    /// Whether the application is known to be gone, though nothing was read or written: asked while
    /// its stream is held back. Takes the error that says so.
    fn has_failed(&self) -> bool {
        false
    }
}

/// What an application leaves behind for the one that goes on in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departure {
    /// Bytes of the stream that it was given and has not read: the next one reads them first.
    pub unread: Vec<u8>,
    /// Whatever the next one needs to know, at most [`STATE_MAX`] bytes.
    pub state: Vec<u8>,
}

/// Most bytes of an application's state.
pub const STATE_MAX: usize = 1 << 20;

/// Something that is asked of a session.
#[derive(Debug)]
pub struct Wish {
    /// What.
    pub what: Wished,
    /// Told once it is so, or why it is not.
    pub answer: oneshot::Sender<Result<(), Code>>,
}

/// What may be asked of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wished {
    /// To do without a lane until it is resumed.
    Suspend,
    /// To go on.
    Resume,
}

/// How a session fares, for an application that wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its state; an end that went to another device shows [`SessionState::Held`] first.
    pub state: SessionState,
    /// Why it is suspended or lost.
    pub reason: Option<Code>,
    /// Name of the device at the other end.
    pub peer_device: String,
    /// How often the session was resumed on another lane.
    pub resumes: u64,
}

impl Application for TcpStream {
    fn has_failed(&self) -> bool {
        self.take_error().is_ok_and(|error| error.is_some())
    }

    fn reset(self: Box<Self>) {
        // A lost race with the peer's own close leaves nothing to reset.
        let _ = self.set_zero_linger();
    }
}

impl Application for UnixStream {}
impl Application for DuplexStream {}

impl<A: Application + ?Sized> Application for Box<A> {
    fn reset(self: Box<Self>) {
        (*self).reset();
    }

    fn has_failed(&self) -> bool {
        (**self).has_failed()
    }

    fn unread(&self) -> Option<u64> {
        (**self).unread()
    }

    fn ask_to_leave(&mut self) -> bool {
        (**self).ask_to_leave()
    }

    fn stay(&mut self) -> bool {
        (**self).stay()
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        (**self).poll_departure(cx)
    }

    fn poll_wish(&mut self, cx: &mut Context<'_>) -> Poll<Wish> {
        (**self).poll_wish(cx)
    }

    fn refuse_wishes(&mut self) {
        (**self).refuse_wishes();
    }

    fn tell(&mut self, condition: &Condition) {
        (**self).tell(condition);
    }
}

/// The port under which a device publishes that it offers an exit; no service has it.
pub const EXIT_PORT: u16 = 0;

/// Asks for a session to a service of a name, or through its exit.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The name as the application wrote it, for example `demo.cloak`. Not yet validated.
    pub name: String,
    /// What is to be reached there.
    pub target: Target,
    /// Who asks, for `sessions`: the peer address on the proxy side.
    pub application: String,
    /// What the application has said already: it saves a round trip. Not to be said again by the
    /// stream that is attached; gone where the session cannot be opened.
    pub early: Early,
}

/// Opens sessions; the node is one.
pub trait Opener: Send + Sync + 'static {
    /// Opens a session and waits until the responder has connected to its backend.
    ///
    /// # Errors
    /// The code to tell the application; see the error table in docs/guide/errors.md.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the session at both ends.
    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Box<dyn OpenedSession>, Code>>;
}

/// A session that is open and waits for its application. Dropping it resets the session.
pub trait OpenedSession: Send {
    /// Carries bytes between the session and `application` until both directions have ended. The
    /// work is done by the node's own task; this returns at once.
    fn attach(self: Box<Self>, application: Box<dyn Application>);
}

/// A session that a peer asks to open here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Name of the peer's entity, for example `alice.cloak`.
    pub peer: String,
    /// The peer's entity.
    pub entity: EntityId,
    /// The peer's device.
    pub device: DeviceId,
    /// What it asks for.
    pub target: Target,
}

/// When a running session may leave its backend for one on another device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Movable {
    /// Never.
    #[default]
    No,
    /// When the backend spoke last and nothing is on its way: between two requests.
    Idle,
    /// At any time: whatever the next backend is told is enough for it to go on.
    Always,
}

/// The backend's stream, and its address for `sessions`.
pub type Backend = (Box<dyn Application>, String);

/// Decides who may reach what, and connects to it.
pub trait ServiceTable: Send + Sync + 'static {
    /// Whether `incoming` is allowed, without connecting: asked again at every resume.
    ///
    /// # Errors
    /// [`Code::NoService`], [`Code::NotAllowed`].
    fn authorise(&self, incoming: &Incoming) -> Result<(), Code>;

    /// Connects to the backend. Called only after [`ServiceTable::authorise`] succeeded.
    ///
    /// # Errors
    /// [`Code::NoService`], [`Code::BackendRefused`], [`Code::Timeout`], [`Code::Busy`].
    fn connect(&self, incoming: Incoming) -> BoxFuture<'_, Result<Backend, Code>>;

    /// Connects to a backend that goes on where another one has left. Called only after
    /// [`ServiceTable::authorise`] succeeded. The stream's unread bytes are given to it by the node.
    ///
    /// # Errors
    /// As for [`ServiceTable::connect`]; [`Code::NotMovable`] where it cannot use what was left behind.
    fn take_over(
        &self,
        incoming: Incoming,
        state: Vec<u8>,
    ) -> BoxFuture<'_, Result<Backend, Code>> {
        if state.is_empty() {
            self.connect(incoming)
        } else {
            Box::pin(std::future::ready(Err(Code::NotMovable)))
        }
    }

    /// Whether a running session to this target may go on with another device's backend.
    fn movable(&self, target: &Target) -> Movable {
        let _ = target;
        Movable::No
    }

    /// By what running sessions to this target, which may move, do so without anybody's order.
    fn balance(&self, target: &Target) -> Balance {
        let _ = target;
        Balance::None
    }

    /// Ports that are exposed, published so that a name resolves to a device that has the service.
    fn ports(&self) -> Vec<u16>;
}
