//! What the application side and the service side see of a node, and what a node sees of them.
//!
//! The gateway speaks SOCKS and HTTP against [`Opener`]; the node asks a [`ServiceTable`] who may
//! reach which service. Neither knows the other's inside, so each is tested with a small fake.

use std::future::Future;
use std::pin::Pin;

use cloak_base::{DeviceId, EntityId};
use cloak_wire::{Code, Early, Target};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

/// A future behind a pointer, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One end of an application's byte stream: its socket to the gateway, or to a service's backend.
pub trait Application: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Ends the stream the way a crash does (TCP: a reset), so that the application cannot take a
    /// truncated stream for a complete one. Where a stream has no such end, dropping it is all.
    fn reset(self: Box<Self>) {}

    /// Whether the application is known to be gone, though nothing was read or written: asked while
    /// its stream is held back. Takes the error that says so.
    fn has_failed(&self) -> bool {
        false
    }
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

    /// Ports that are exposed, published so that a name resolves to a device that has the service.
    fn ports(&self) -> Vec<u16>;
}
