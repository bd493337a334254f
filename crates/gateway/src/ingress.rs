//! One application's connection, from its first byte to the session that carries it.
//!
//! The protocols (`socks5`, `socks4`, `http`) only read requests and write answers; where a request
//! goes, whether it may, and how long it may take is decided here, the same for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use cloak_node::{Application, Code, Early, OpenRequest, OpenedSession, Opener, Target};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::Route;
use crate::destination::{Aliases, Destination};
use crate::relay::relay;
use crate::stream::{Client, Prefixed};
use crate::users::Users;
use crate::{http, outbound, socks4, socks5};

/// What a reload can change for connections that exist.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) users: Users,
    pub(crate) route: Route,
    pub(crate) aliases: Aliases,
    pub(crate) local_view: bool,
    pub(crate) same_user: bool,
    pub(crate) handshake_timeout: Duration,
    pub(crate) open_timeout: Duration,
    pub(crate) connections_max: usize,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) opener: Arc<dyn Opener>,
    pub(crate) connections: Counter,
    /// Connections that are only told why they are refused.
    pub(crate) turned_away: Counter,
    /// Cancelled when the proxy is to stop.
    pub(crate) stopping: CancellationToken,
}

/// One connection and what it may do.
#[derive(Clone)]
pub(crate) struct Ingress {
    pub(crate) shared: Arc<Shared>,
    /// The application, as `sessions` shows it.
    pub(crate) application: Arc<str>,
    /// Whether it came in over loopback or a unix socket.
    pub(crate) local: bool,
    /// Set where every request is to be refused.
    pub(crate) refusal: Option<Code>,
}

impl Ingress {
    /// Serves the connection to its end.
    pub(crate) async fn serve(self, mut client: Prefixed<Client>) {
        let first = timeout(self.settings().handshake_timeout, client.read_early()).await;
        if !matches!(first, Ok(Ok(1..))) {
            return;
        }
        match client.early[0] {
            socks5::VERSION => socks5::serve(&self, client).await,
            socks4::VERSION => socks4::serve(&self, client).await,
            _ => http::serve(self, client).await,
        }
    }

    /// The settings as they are now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    /// Opens a session or an ordinary connection.
    ///
    /// # Errors
    /// The code for the application.
    pub(crate) async fn open(&self, destination: &Destination) -> Result<Opened, Code> {
        let settings = self.settings();
        match by_session(destination, &settings.route) {
            Some((name, target)) => {
                self.open_session(name, target, Early::default()).await.map(Opened::Session)
            }
            None => self.connect(&settings.route, destination).await.map(Opened::Direct),
        }
    }

    /// Opens an ordinary connection.
    ///
    /// # Errors
    /// The code for the application.
    pub(crate) async fn connect(
        &self,
        route: &Route,
        ordinary: &Destination,
    ) -> Result<TcpStream, Code> {
        self.attempt(outbound::connect(route, ordinary)).await
    }

    /// Opens a session, with what the application has said already.
    ///
    /// # Errors
    /// The code for the application.
    pub(crate) async fn open_session(
        &self,
        name: String,
        target: Target,
        early: Early,
    ) -> Result<Box<dyn OpenedSession>, Code> {
        let application = self.application.to_string();
        let request = OpenRequest { name, target, application, early };
        self.attempt(self.shared.opener.open(request)).await
    }

    /// Opens something, where the connection may, in the time there is for it.
    async fn attempt<T>(&self, opening: impl Future<Output = Result<T, Code>>) -> Result<T, Code> {
        if let Some(code) = self.refusal {
            return Err(code);
        }
        tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => Err(Code::ShuttingDown),
            opened = timeout(self.settings().open_timeout, opening) => {
                opened.unwrap_or(Err(Code::Timeout))
            }
        }
    }

    /// Carries an application's bytes: a session's by the node's own task, an ordinary
    /// connection's here, until it ends or the proxy stops.
    pub(crate) async fn carry(&self, opened: Opened, client: Prefixed<Client>) {
        match opened {
            Opened::Session(session) => session.attach(Box::new(client)),
            Opened::Direct(stream) => self.relay(client, stream).await,
        }
    }

    /// Copies between an application and its other end, until both end or the proxy stops.
    pub(crate) async fn relay<A: Application, B: Application>(&self, client: A, other: B) {
        tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => {}
            ended = relay(client, other) => if let Err(error) = ended {
                debug!(%error, "an ordinary connection was reset");
            },
        }
    }
}

/// Whose gateway a session to a destination leads to, and what is asked of it; `None` where an
/// ordinary connection leads there.
pub(crate) fn by_session(destination: &Destination, route: &Route) -> Option<(String, Target)> {
    match (destination, route) {
        (Destination::Cloak { name, port }, _) => Some((name.clone(), Target::Service(*port))),
        (Destination::Address(address), Route::Exit(exit)) => {
            Some((exit.to_string(), Target::Host(address.ip().to_string(), address.port())))
        }
        (Destination::Name { name, port }, Route::Exit(exit)) => {
            Some((exit.to_string(), Target::Host(name.clone(), *port)))
        }
        _ => None,
    }
}

/// The other end of a request, reached.
pub(crate) enum Opened {
    Session(Box<dyn OpenedSession>),
    Direct(TcpStream),
}

/// Counts what is limited in number.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Counts one more until the slot is dropped; `None` at the limit.
    pub(crate) fn take(&self, max: usize) -> Option<Slot> {
        let slot = Slot(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::AcqRel) < max).then_some(slot)
    }
}

/// One of a limited number.
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
