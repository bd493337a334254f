//! The connections behind one application's connection: kept and used again, so that a kept-alive
//! connection does not open a session for each request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloak_node::{Application, Code, EARLY_MAX, Early, Target};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::body::RequestBody;
use super::head;
use crate::config::Route;
use crate::destination::Destination;
use crate::errors::Failure;
use crate::ingress::{Ingress, by_session};
use crate::pipe::pipe;

/// Connections to the destinations that one application asked for. They end with it.
#[derive(Default)]
pub(super) struct Upstreams(Mutex<State>);

#[derive(Default)]
struct State {
    /// Where they lead, and which way; the last used is the last.
    idle: Vec<(Destination, Route, SendRequest<RequestBody>)>,
    tasks: JoinSet<()>,
}

impl Upstreams {
    /// Sends a request, on an idle connection to its destination if there is one.
    ///
    /// # Errors
    /// Why no connection could be opened, or [`Failure::BadGateway`].
    pub(super) async fn send(
        &self,
        ingress: &Ingress,
        destination: &Destination,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failure> {
        // A reload may lead the next request another way.
        let route = ingress.settings().route.clone();
        if let Some(mut sender) = self.take_idle(destination, &route).await {
            let copy = repeatable(&request);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.put_idle(destination, route, sender);
                    return Ok(response);
                }
                // The upstream closed it at the moment we used it.
                Err(mut error) => match error.take_message().or(copy) {
                    Some(unsent) => request = unsent,
                    None => return Err(bad_gateway(&error.into_error())),
                },
            }
        }
        let (sender, response) = match by_session(destination, &route) {
            Some(session) => {
                let copy = repeatable(&request);
                match (self.send_early(ingress, session.clone(), request).await, copy) {
                    // It may have had the request, and has forgotten.
                    (Err(Failure::Code(Code::PeerRestarted)), Some(copy)) => {
                        self.send_early(ingress, session, copy).await?
                    }
                    (sent, _) => sent?,
                }
            }
            None => {
                let ordinary = ingress.connect(&route, destination).await?;
                let mut sender = self.connect(Box::new(ordinary)).await?;
                let response = sender.send_request(request).await;
                (sender, response.map_err(|error| bad_gateway(&error))?)
            }
        };
        self.put_idle(destination, route, sender);
        Ok(response)
    }

    /// Sends a request on a new session, and its first bytes with the request for that: they save a
    /// round trip to the peer.
    async fn send_early(
        &self,
        ingress: &Ingress,
        (name, target): (String, Target),
        request: Request<RequestBody>,
    ) -> Result<(SendRequest<RequestBody>, Response<Incoming>), Failure> {
        let (near, mut far) = pipe(PIPE);
        let mut sender = self.connect(Box::new(near)).await?;
        let response = sender.send_request(request);
        let mut first = [0; EARLY_MAX];
        let len = far.read(&mut first).await.map_err(|_| Failure::BadGateway)?;
        let session = ingress.open_session(name, target, Early::of(&first[..len])).await?;
        session.attach(Box::new(far));
        Ok((sender, response.await.map_err(|error| bad_gateway(&error))?))
    }

    /// Ends all connections in order: what their backends see is an end, not a reset.
    ///
    /// # Cancel safety
    /// Dropping the future resets those that have not ended.
    pub(super) async fn end(&self) {
        let State { idle, mut tasks } = std::mem::take(&mut *self.lock());
        drop(idle);
        // An idle connection ends by itself once nobody can send on it.
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(END_TIMEOUT, all).await;
    }

    /// A client of HTTP on `stream`, run by a task of its own.
    async fn connect(
        &self,
        stream: Box<dyn Application>,
    ) -> Result<SendRequest<RequestBody>, Failure> {
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(head::FIELDS_MAX)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| bad_gateway(&error))?;
        let mut state = self.lock();
        while state.tasks.try_join_next().is_some() {}
        state.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "upstream");
            }
        });
        Ok(sender)
    }

    async fn take_idle(
        &self,
        destination: &Destination,
        route: &Route,
    ) -> Option<SendRequest<RequestBody>> {
        let mut sender = {
            let idle = &mut self.lock().idle;
            let leads_there =
                |(to, by, _): &(Destination, Route, _)| to == destination && by == route;
            let index = idle.iter().position(leads_there)?;
            idle.remove(index).2
        };
        let ready = timeout(READY_TIMEOUT, sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(sender)
    }

    fn put_idle(&self, destination: &Destination, route: Route, sender: SendRequest<RequestBody>) {
        let idle = &mut self.lock().idle;
        if idle.len() == IDLE_MAX {
            idle.remove(0);
        }
        idle.push((destination.clone(), route, sender));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A copy of a request that may be sent twice: it changes nothing and has no body.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe || !request.body().is_none() {
        return None;
    }
    let mut copy = Request::new(RequestBody::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn bad_gateway(error: &hyper::Error) -> Failure {
    debug!(%error, "upstream");
    Failure::BadGateway
}

/// Bytes that a request may have on their way to its session, in each direction.
const PIPE: usize = 64 * 1024;
/// Most idle connections per application's connection.
const IDLE_MAX: usize = 4;
/// How long the ends of connections may take to be passed on.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be ready again after its last answer was read.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
