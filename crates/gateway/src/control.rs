//! The control socket: HTTP/1.1 and JSON over a unix socket in the home, for the other commands.
//!
//! Served to this user only, and never to a web page (see [`guard`]). `GET` shows, `POST` does; the
//! paths are versioned and listed in [`message::path`]. `POST /v1/connect` with an upgrade turns its
//! connection into an application's end of a session. To look by hand:
//! `curl --unix-socket control.sock http://cloak/v1/status`.

mod attach;
pub mod chunks;
mod client;
mod guard;
pub mod message;
mod rejoined;
mod reserve;
mod router;
mod stream;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloak_node::{BoxFuture, NameView, Node};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::client::{Answer, Client, ClientError};
pub use self::message::Refusal;
use self::message::{GatewayStatus, Reloaded, path};
pub use self::rejoined::Rejoined;
use self::reserve::Reserve;
use crate::{ProxyHandle, Services};

/// Re-reads the configuration, and knows the one in force. The command line is one.
pub trait Reload: Send + Sync + 'static {
    /// Re-reads the configuration and applies what changed.
    ///
    /// # Errors
    /// It has a mistake; nothing was changed.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Refusal>>;

    /// The local aliases in force: alias to name.
    fn aliases(&self) -> BoxFuture<'_, BTreeMap<String, String>>;
}

/// Most connections at a time; one command has one.
const CONNECTIONS_MAX: usize = 64;

/// Longest time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept: descriptors may be short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the control socket shows and does.
pub struct Control {
    /// The node.
    pub node: Node,
    /// Its service table.
    pub services: Arc<Services>,
    /// The proxy port.
    pub proxy: ProxyHandle,
    /// The home.
    pub home: PathBuf,
    /// Re-reads the configuration.
    pub reload: Arc<dyn Reload>,
    /// Cancelled by `cloak stop`.
    pub stop: CancellationToken,
}

impl Control {
    /// Binds the socket at `path`, mode 0600. A socket that an earlier process left behind is
    /// replaced; the caller holds the home's lock, so nobody is using it.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(path: &Path) -> io::Result<UnixListener> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(listener)
    }

    /// Serves `listener` until `cancel`, then lets requests under way be answered.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection but sessions that were handed to the node.
    pub async fn run(self, listener: UnixListener, cancel: CancellationToken) {
        let control = Arc::new(self);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let reserve = Arc::new(Reserve::new());
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match (accepted, permits.clone().try_acquire_owned()) {
                (Ok((socket, _)), Ok(permit)) if guard::is_same_user(&socket) => {
                    let serve = serve(control.clone(), socket, connections.clone(), cancel.clone());
                    let reserve = reserve.clone();
                    connections.spawn(async move {
                        serve.await;
                        reserve.take_back();
                        drop(permit);
                    });
                }
                (Err(error), _) if reserve.give_up(&error) => {}
                (Ok(_), _) => tracing::debug!("a control connection was refused"),
                (Err(error), _) => {
                    tracing::debug!(%error, "the control socket accepts no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }

    async fn status(&self) -> GatewayStatus {
        GatewayStatus {
            node: self.node.status().await,
            proxy_listen: self.proxy.addresses().iter().map(ToString::to_string).collect(),
            services: u64::try_from(self.services.rows().len()).unwrap_or(u64::MAX),
            home: self.home.display().to_string(),
        }
    }

    /// The aliases, which come before all else, and what the node knows.
    async fn names(&self) -> Vec<NameView> {
        let alias = |(name, target)| NameView {
            name,
            kind: "alias".to_owned(),
            target,
            epoch: None,
            expires: None,
        };
        let aliases = self.reload.aliases().await;
        aliases.into_iter().map(alias).chain(self.node.names()).collect()
    }

    /// What `name` stands for.
    async fn unalias(&self, name: String) -> String {
        self.reload.aliases().await.remove(&name.to_ascii_lowercase()).unwrap_or(name)
    }
}

/// Serves one connection: requests, or one stream.
async fn serve(
    control: Arc<Control>,
    socket: UnixStream,
    streams: TaskTracker,
    cancel: CancellationToken,
) {
    let service =
        service_fn(|request| answer(control.clone(), request, streams.clone(), cancel.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a control connection ended early");
    }
}

/// Answers one request; after a [`path::CONNECT`] or [`path::SESSION_ATTACH`] the connection is a stream.
async fn answer(
    control: Arc<Control>,
    request: Request<Incoming>,
    streams: TaskTracker,
    cancel: CancellationToken,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match router::admit(&request) {
        Err(refusal) => router::refused(&refusal),
        Ok(()) if request.uri().path() == path::CONNECT => {
            stream::connect(&control.node, request, &streams).await
        }
        Ok(()) if request.uri().path() == path::SESSION_ATTACH => {
            attach::attach(&control.node, request, &streams).await
        }
        Ok(()) if request.uri().path() == path::SESSION_ATTACH_AT => {
            attach::attach_at(&control.node, request, &streams, cancel).await
        }
        Ok(()) => router::answer(&control, request).await,
    })
}

#[cfg(test)]
mod tests;
