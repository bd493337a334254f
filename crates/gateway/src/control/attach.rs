//! `cloak sessions attach`: another application for a session that is held.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cloak_node::{Application, HeldView, Node};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chunks::Chunked;
use super::message::{Attach, AttachAt, Attachable, HELD_HEADER, Refusal};
use super::router::{done, read, refused};
use super::stream::{switching_protocols, upgraded, wants_stream};
use crate::stream::{Client, Socket};

/// How long a socket waits for the program that is to have the session.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(600);

/// Attaches the connection itself.
pub(super) async fn attach(
    node: &Node,
    mut request: Request<Incoming>,
    streams: &TaskTracker,
) -> Response<Full<Bytes>> {
    if let Err(refusal) = wants_stream(&request) {
        return refused(&refusal);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    match held(node, request).await {
        Err(refusal) => refused(&refusal),
        Ok(held) => {
            let mut response = switching_protocols();
            let value = serde_json::to_string(&held).expect("invariant: views are plain values");
            let value = value.parse().expect("invariant: JSON of digits and words");
            response.headers_mut().insert(HELD_HEADER, value);
            let node = node.clone();
            streams.spawn(async move {
                let Some(socket) = upgraded(upgrade).await else { return };
                let (application, name) = (Box::new(Chunked::new(socket)), "cloak sessions attach");
                // Somebody else was quicker: this one's stream is reset.
                let _ = node.attach_session(&held.id, application, name, Some(held.from)).await;
            });
            response
        }
    }
}

async fn held(node: &Node, request: Request<Incoming>) -> Result<HeldView, Refusal> {
    let Attach { id, from } = read(request.into_body()).await?;
    Ok(node.await_application(&id, from).await?)
}

/// Attaches the first program that connects to a socket which is there for nothing else.
pub(super) async fn attach_at(
    node: &Node,
    request: Request<Incoming>,
    streams: &TaskTracker,
    cancel: CancellationToken,
) -> Response<Full<Bytes>> {
    match listen(node, request, streams, cancel).await {
        Ok(attachable) => done(&attachable),
        Err(refusal) => refused(&refusal),
    }
}

async fn listen(
    node: &Node,
    request: Request<Incoming>,
    streams: &TaskTracker,
    cancel: CancellationToken,
) -> Result<Attachable, Refusal> {
    let AttachAt { id, listen, from } = read(request.into_body()).await?;
    let held = node.await_application(&id, from).await?;
    let listener = Listener::bind(&listen).await?;
    let listen = listener.address.clone();
    let (node, session, from) = (node.clone(), held.id.clone(), held.from);
    streams.spawn(async move {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            accepted = tokio::time::timeout(CONNECT_TIMEOUT, listener.accept()) => accepted,
        };
        match accepted {
            Ok(Ok((application, name))) => {
                let attached = node.attach_session(&session, application, &name, Some(from)).await;
                if let Err(error) = attached {
                    tracing::info!(%error, "a program came too late for its session");
                }
            }
            Ok(Err(error)) => tracing::info!(%error, "no program can come for a session"),
            Err(_) => tracing::info!(session, "no program came for a session"),
        }
    });
    Ok(Attachable { held, listen })
}

/// A socket for one program.
struct Listener {
    socket: Bound,
    address: String,
}

enum Bound {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: Remove },
}

/// Removes the socket's file.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    async fn bind(text: &str) -> Result<Self, Refusal> {
        let failed = |error: std::io::Error| {
            Refusal::failed("cannot-listen", format!("cannot listen on {text}: {error}"))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let socket = UnixListener::bind(path).map_err(failed)?;
            let remove = Remove(Path::new(path).to_owned());
            let socket = Bound::Unix { listener: socket, _file: remove };
            return Ok(Self { socket, address: text.to_owned() });
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            let why = format!("\"{text}\" is neither IP:PORT nor unix:PATH");
            Refusal::usage("bad-address", why)
        })?;
        if !address.ip().is_loopback() {
            let why =
                "a session is given to a program on this machine: listen on a loopback address";
            return Err(Refusal::usage("bad-address", why));
        }
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?.to_string();
        Ok(Self { socket: Bound::Tcp(socket), address })
    }

    async fn accept(&self) -> std::io::Result<(Box<dyn Application>, String)> {
        match &self.socket {
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(Client::new(Socket::Tcp(stream), None)), peer.to_string()))
            }
            Bound::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), self.address.clone()))
            }
        }
    }
}
