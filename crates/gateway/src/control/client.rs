//! The client side of the control socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cloak_node::HeldView;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::guard::CONTROL_HOST;
use super::message::{Attach, Connect, HELD_HEADER, Refusal, STREAM_PROTOCOL, path};
use super::rejoined::Rejoined;

/// Largest answer that is read: 16,384 sessions of a kilobyte, four times over.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Talks to the running gateway of one home. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No gateway listens; start it with `cloak up`.
    #[error("no gateway is running for this home: start one with `cloak up`")]
    NotRunning,
    /// The socket is there, but may not be opened.
    #[error("the gateway's socket {socket} cannot be opened: {kind}")]
    Socket {
        /// Its path.
        socket: PathBuf,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The gateway refused, and says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection ended, or what came is no answer.
    #[error("the gateway gave no answer: is another version running?")]
    Broken(#[source] Option<hyper::Error>),
}

impl Client {
    /// A client for the gateway that listens at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for a view; the JSON text as the gateway wrote it.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the request, which may have been carried out.
    pub async fn get(&self, path: &'static str) -> Result<Answer, ClientError> {
        self.ask(request(Method::GET, path, Bytes::new())).await
    }

    /// Asks for something to be done; `body` is sent as JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the request, which may have been carried out.
    pub async fn post(
        &self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        self.ask(request(Method::POST, path, to_json(body))).await
    }

    /// Opens a session; the stream is the application's end of it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the session's code.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the session.
    pub async fn open(&self, asked: &Connect) -> Result<Rejoined, ClientError> {
        self.exchange(stream_request(path::CONNECT, asked), stream_of).await
    }

    /// Attaches to a session that is held; the stream is the application's end of it. Says where it goes
    /// on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where there is none.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the session with an application that is gone.
    pub async fn attach(&self, asked: &Attach) -> Result<(Rejoined, HeldView), ClientError> {
        let request = stream_request(path::SESSION_ATTACH, asked);
        self.exchange(request, |response| async move {
            let held = response.headers().get(HELD_HEADER).cloned();
            let stream = stream_of(response).await?;
            let held = held.and_then(|held| serde_json::from_slice(held.as_bytes()).ok());
            Ok((stream, held.ok_or(ClientError::Broken(None))?))
        })
        .await
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        self.exchange(request, answer_of).await
    }

    /// Sends `request` and gives its response to `read`, while the connection is driven.
    async fn exchange<T, F>(
        &self,
        request: Request<Full<Bytes>>,
        read: impl FnOnce(Response<Incoming>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unopened(&e))?;
        // Where the socket lies in a folder that others may write, it could be anybody's.
        let (own, theirs) =
            (rustix::process::geteuid(), stream.peer_cred().map_err(|e| self.unopened(&e))?.uid());
        if !own.is_root() && theirs != own.as_raw() {
            return Err(self.unopened(&io::ErrorKind::PermissionDenied.into()));
        }
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            read(response).await
        };
        // The connection ends once the answer is read and its sender is gone, or was upgraded; how
        // it ends says nothing that the answer does not.
        let (answer, _) = tokio::join!(answer, connection.with_upgrades());
        answer
    }

    fn unopened(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
            kind => ClientError::Socket { socket: self.socket.clone(), kind },
        }
    }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Answer(Bytes);

impl Answer {
    /// The JSON text.
    pub fn text(&self) -> &[u8] {
        &self.0
    }

    /// The value it stands for.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the gateway is of another version and lacks a field.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.0).map_err(|_| ClientError::Broken(None))
    }
}

fn request(method: Method, path: &'static str, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, CONTROL_HOST)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .expect("invariant: constant parts make a request")
}

/// A request after which the connection is a stream.
fn stream_request(path: &'static str, asked: &impl Serialize) -> Request<Full<Bytes>> {
    let mut request = request(Method::POST, path, to_json(asked));
    let headers = request.headers_mut();
    headers.insert(CONNECTION, "upgrade".parse().expect("invariant: a constant header"));
    headers.insert(UPGRADE, STREAM_PROTOCOL.parse().expect("invariant: a constant header"));
    request
}

fn to_json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("invariant: requests are plain values").into()
}

async fn answer_of(response: Response<Incoming>) -> Result<Answer, ClientError> {
    let succeeded = response.status().is_success();
    let body = body_of(response).await?;
    if succeeded { Ok(Answer(body)) } else { Err(refusal(body)) }
}

async fn stream_of(mut response: Response<Incoming>) -> Result<Rejoined, ClientError> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(body_of(response).await?));
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(broken)?;
    Rejoined::from_upgraded(upgraded).ok_or(ClientError::Broken(None))
}

async fn body_of(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|_| ClientError::Broken(None))
}

fn refusal(body: Bytes) -> ClientError {
    Answer(body).read::<Refusal>().map_or_else(|error| error, ClientError::Refused)
}

fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(Some(error))
}
