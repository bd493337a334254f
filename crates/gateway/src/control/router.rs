//! From a request to an answer.

use std::time::Duration;

use bytes::Bytes;
use cloak_identity::INVITATION_LIFE_MAX;
use cloak_node::{ControlError, InviteKind, InviteRequest, OpenRequest, Target};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{
    Connect, Drain, EntityBackup, Invitation, InvitationKind, Invite, Move, Named,
    REQUEST_BYTES_MAX, RealmBackup, Refusal, ServiceName, SessionId, Stopping, path,
};
use super::{Control, guard};

/// Longest time a request's body may take; it is sent by a program on this machine.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers `request`, whatever it is; all but those that need
/// the connection itself or go on after the answer.
pub(super) async fn answer<B>(control: &Control, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match respond(control, request).await {
        Ok(json) => response(StatusCode::OK, json),
        Err(refusal) => refused(&refusal),
    }
}

/// The answer that says what was done.
pub(super) fn done(what: &impl Serialize) -> Response<Full<Bytes>> {
    response(StatusCode::OK, to_json(what))
}

/// The answer that says no.
pub(super) fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let status = match (refusal.exit, &*refusal.code) {
        (_, FOREIGN) => StatusCode::FORBIDDEN,
        (_, METHOD) => StatusCode::METHOD_NOT_ALLOWED,
        (2, _) => StatusCode::BAD_REQUEST,
        (4, _) => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    };
    let mut response = response(status, to_json(refusal));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, "GET, POST".parse().expect("invariant: a constant"));
    }
    response
}

/// What the body of a [`path::CONNECT`] request asks for, `NAME:PORT`, and how to ask for it.
pub(super) async fn service_to_connect<B>(
    request: Request<B>,
) -> Result<(String, OpenRequest), Refusal>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let asked: Connect = read(request.into_body()).await?;
    let early = asked.early();
    let early = early.ok_or_else(|| Refusal::usage(MALFORMED, "`early` is not what it may be"))?;
    let application = "cloak connect".to_owned();
    let service = format!("{}:{}", asked.name, asked.port);
    let target = Target::Service(asked.port);
    Ok((service, OpenRequest { name: asked.name, target, application, early }))
}

/// Refuses what a web page could have caused.
pub(super) fn admit<B>(request: &Request<B>) -> Result<(), Refusal> {
    guard::check(request).map_err(|foreign| Refusal::usage(FOREIGN, foreign))
}

async fn respond<B>(control: &Control, request: Request<B>) -> Result<Vec<u8>, Refusal>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    match head.method {
        Method::GET => view(control, head.uri.path()).await,
        Method::POST => act(control, head.uri.path(), body).await,
        _ => Err(Refusal::usage(METHOD, "only GET and POST are understood")),
    }
}

async fn view(control: &Control, path: &str) -> Result<Vec<u8>, Refusal> {
    let node = &control.node;
    Ok(match path {
        path::STATUS => to_json(&control.status().await),
        path::PEERS => to_json(&node.peers().await),
        path::SERVICES => to_json(&control.services.rows()),
        path::NAMES => to_json(&control.names().await),
        path::SESSIONS => to_json(&node.sessions()),
        path::OFFERS => to_json(&node.offers()),
        path::ENTITY_SESSIONS => to_json(&node.entity_sessions().await),
        path::MEMBERS => to_json(&node.members()),
        path::DEVICES => to_json(&node.devices()),
        _ => return Err(no_such_path()),
    })
}

async fn act<B>(control: &Control, path: &str, body: B) -> Result<Vec<u8>, Refusal>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let node = &control.node;
    if path.starts_with(path::SESSIONS) {
        return act_on_session(control, path, body).await;
    }
    Ok(match path {
        path::RESOLVE | path::WHY | path::PING | path::TRACE => {
            look_up(control, path, read(body).await?).await?
        }
        path::INVITE => to_json(&invite(control, read(body).await?).await?),
        path::MEMBER_REVOKE => {
            let named: Named = read(body).await?;
            node.revoke_member(&named.name).await?;
            to_json(&named)
        }
        path::DEVICE_REVOKE => {
            let named: Named = read(body).await?;
            node.revoke_device(&named.name).await?;
            to_json(&named)
        }
        path::DEVICE_STEWARD => {
            let named: Named = read(body).await?;
            node.appoint_steward(&named.name).await?;
            to_json(&named)
        }
        path::DEVICE_BACKUP => to_json(&EntityBackup { backup: node.entity_backup()? }),
        path::DEVICE_RESTORE => {
            let EntityBackup { backup } = read(body).await?;
            node.entity_restore(&backup)?;
            to_json(&serde_json::json!({}))
        }
        path::REALM_BACKUP => to_json(&RealmBackup { backup: node.realm_backup()? }),
        path::REALM_RESTORE => {
            let RealmBackup { backup } = read(body).await?;
            node.realm_restore(&backup)?;
            to_json(&serde_json::json!({}))
        }
        path::RELOAD => to_json(&control.reload.reload().await?),
        path::DRAIN => {
            let Drain { deadline_ms } = read(body).await?;
            let drained = node.drain(Duration::from_millis(deadline_ms)).await;
            control.stop.cancel();
            to_json(&drained)
        }
        path::STOP => {
            control.stop.cancel();
            to_json(&Stopping { pid: std::process::id() })
        }
        _ => return Err(no_such_path()),
    })
}

/// What concerns one session, or an offer of one.
async fn act_on_session<B>(control: &Control, path: &str, body: B) -> Result<Vec<u8>, Refusal>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let node = &control.node;
    Ok(match path {
        path::SESSION_SHOW => {
            let SessionId { id } = read(body).await?;
            let session = node.session(&id).ok_or_else(|| {
                Refusal::not_found("unknown-session", format!("no session begins with \"{id}\""))
            })?;
            to_json(&session)
        }
        path::SESSION_CLOSE => {
            let SessionId { id } = read(body).await?;
            node.close_session(&id)?;
            to_json(&SessionId { id })
        }
        path::SESSION_MOVE => {
            let asked: Move = read(body).await?;
            node.move_session(&asked.id, &asked.to).await?;
            to_json(&asked)
        }
        path::OFFER_ACCEPT => {
            let SessionId { id } = read(body).await?;
            to_json(&SessionId { id: node.accept_offer(&id).await? })
        }
        path::OFFER_REFUSE => {
            let SessionId { id } = read(body).await?;
            to_json(&SessionId { id: node.refuse_offer(&id)? })
        }
        path::SESSION_HOLD => {
            let SessionId { id } = read(body).await?;
            node.hold_session(&id).await?;
            to_json(&SessionId { id })
        }
        path::SESSION_SUSPEND => {
            let SessionId { id } = read(body).await?;
            node.suspend_session(&id).await?;
            to_json(&SessionId { id })
        }
        path::SESSION_RESUME => {
            let SessionId { id } = read(body).await?;
            node.resume_session(&id).await?;
            to_json(&SessionId { id })
        }
        _ => return Err(no_such_path()),
    })
}

/// What concerns a name of the overlay, or an alias of one.
async fn look_up(control: &Control, path: &str, asked: ServiceName) -> Result<Vec<u8>, Refusal> {
    let (node, name) = (&control.node, control.unalias(asked.name).await);
    Ok(match path {
        path::PING => to_json(&node.ping(&name).await?),
        path::TRACE => to_json(&node.trace(&name).await?),
        path::WHY => to_json(&node.why(&name, asked.port).await),
        _ => to_json(&node.resolve(&name).await),
    })
}

async fn invite(control: &Control, asked: Invite) -> Result<Invitation, Refusal> {
    let ttl = Duration::from_secs(asked.ttl_seconds);
    if ttl.is_zero() || ttl > INVITATION_LIFE_MAX {
        return Err(Refusal::usage("bad-ttl", "an invitation lives from 1 s to 30 days"));
    }
    let kind = match asked.kind {
        InvitationKind::Member => InviteKind::Member,
        InvitationKind::Device => InviteKind::Device,
    };
    let reply = control.node.invite(InviteRequest { kind, name: asked.name, ttl }).await?;
    Ok(Invitation { invitation: reply.invitation, expires: reply.expires, warning: reply.warning })
}

pub(super) async fn read<T, B>(body: B) -> Result<T, Refusal>
where
    T: DeserializeOwned,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Box::pin(Limited::new(body, REQUEST_BYTES_MAX).collect());
    let bytes = tokio::time::timeout(BODY_TIMEOUT, whole)
        .await
        .map_err(|_| Refusal::usage(MALFORMED, "the request took too long"))?
        .map_err(|_| Refusal::usage(MALFORMED, "the request is cut off or longer than 64 KiB"))?
        .to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::usage(MALFORMED, format!("the request cannot be read: {error}")))
}

fn response(status: StatusCode, json: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(json.into()));
    *response.status_mut() = status;
    for (name, value) in [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")] {
        response.headers_mut().insert(name, value.parse().expect("invariant: a constant"));
    }
    response
}

/// Indented, since `--json` prints it as it is.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("invariant: views are plain values");
    json.push(b'\n');
    json
}

fn no_such_path() -> Refusal {
    Refusal::not_found("unknown-path", "the gateway does not know this request")
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound(..) => Self::not_found("not-found", error),
            _ => Self::failed("failed", error),
        }
    }
}

const FOREIGN: &str = "foreign-request";
const METHOD: &str = "method";
const MALFORMED: &str = "malformed-request";
