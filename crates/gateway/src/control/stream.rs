//! `POST /v1/connect`: a control connection that becomes an application's end of a session.

use std::time::Duration;

use bytes::Bytes;
use cloak_node::{Code, OpenedSession, Opener};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::chunks::Chunked;
use super::message::{Refusal, STREAM_PROTOCOL};
use super::rejoined::Rejoined;
use super::router::{refused, service_to_connect};
use crate::{Explanation, explain};

/// Longest time from the 101 to the socket being free of HTTP.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the session that `request` names, and attaches the connection to it once the 101 is out.
pub(super) async fn connect(
    opener: &impl Opener,
    mut request: Request<Incoming>,
    streams: &TaskTracker,
) -> Response<Full<Bytes>> {
    if let Err(refusal) = wants_stream(&request) {
        return refused(&refusal);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    match open(opener, request).await {
        Ok(session) => {
            streams.spawn(attach(session, upgrade));
            switching_protocols()
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn open(
    opener: &impl Opener,
    request: Request<Incoming>,
) -> Result<Box<dyn OpenedSession>, Refusal> {
    let (service, request) = service_to_connect(request).await?;
    opener.open(request).await.map_err(|code| {
        let Explanation(what, why, todo) = explain(code);
        let message = format!("{service}: {what} {why} {todo}");
        match code {
            Code::UnknownName | Code::BadName => Refusal::not_found(code.as_str(), message),
            _ => Refusal::failed(code.as_str(), message),
        }
    })
}

/// A client that is not given a stream gets a reset session.
async fn attach(session: Box<dyn OpenedSession>, upgrade: OnUpgrade) {
    if let Some(socket) = upgraded(upgrade).await {
        session.attach(Box::new(Chunked::new(socket)));
    }
}

/// Refuses a request that does not ask for a stream.
pub(super) fn wants_stream(request: &Request<Incoming>) -> Result<(), Refusal> {
    if request.headers().get(UPGRADE).is_some_and(|value| value == STREAM_PROTOCOL) {
        return Ok(());
    }
    let message = format!("this request needs `Upgrade: {STREAM_PROTOCOL}`");
    Err(Refusal::usage("upgrade-required", message))
}

/// The connection, once the 101 is out. Nothing may come before that, so bytes that did are no part of
/// the stream.
pub(super) async fn upgraded(upgrade: OnUpgrade) -> Option<UnixStream> {
    let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await.ok()?.ok()?;
    match Rejoined::from_upgraded(upgraded) {
        Some(Rejoined { socket, early }) if early.is_empty() => Some(socket),
        _ => {
            tracing::debug!("a stream began before its 101");
            None
        }
    }
}

pub(super) fn switching_protocols() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [(CONNECTION, "upgrade"), (UPGRADE, STREAM_PROTOCOL)] {
        response.headers_mut().insert(name, value.parse().expect("invariant: a constant"));
    }
    response
}
