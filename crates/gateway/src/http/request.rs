//! Decides what each request on a connection is: a CONNECT, one to forward, one through the local
//! view, or one to the port itself.

use std::sync::{Arc, Mutex, PoisonError};

use cloak_node::Code;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, upgrade};
use tracing::debug;

use super::authority::Authority;
use super::body::AnswerBody;
use super::forward::{Forwarded, Onward, forward};
use super::local_view::LocalView;
use super::page;
use super::passage::{Answering, Passage};
use super::tunnel::Tunnel;
use super::upstreams::Upstreams;
use crate::destination::Destination;
use crate::errors::Failure;
use crate::ingress::{Ingress, Settings};

/// Answers the requests of one connection, one after the other.
pub(super) struct Exchanges {
    ingress: Ingress,
    passage: Arc<Passage>,
    upstreams: Upstreams,
    tunnel: Mutex<Option<Tunnel>>,
}

impl Exchanges {
    pub(super) fn new(ingress: Ingress, passage: Arc<Passage>) -> Self {
        Self { ingress, passage, upstreams: Upstreams::default(), tunnel: Mutex::default() }
    }

    /// What the connection became, after hyper has ended.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends what was opened for requests, in order; to be called once the last is answered.
    pub(super) async fn end(&self) {
        self.upstreams.end().await;
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let answering = Answering::new(&self.passage);
        if let Some(refusal) = self.passage.take_refusal() {
            debug!(refusal = refusal.as_str(), "http");
            return last(page::failure(refusal, false)).map(|body| body.holding(answering));
        }
        let html = page::accepts_html(request.headers());
        match self.try_answer(request).await {
            Ok(Forwarded { response, tunnel: None }) => {
                response.map(|body| body.holding(answering))
            }
            Ok(Forwarded { response, tunnel: tunnel @ Some(_) }) => {
                *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = tunnel;
                answering.into_tunnel();
                response
            }
            Err(failure) => {
                debug!(refusal = failure.as_str(), "http");
                let response = page::failure(failure, html);
                let response = if failure.is_of_the_request() { last(response) } else { response };
                response.map(|body| body.holding(answering))
            }
        }
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Forwarded, Failure> {
        let settings = self.ingress.settings();
        let is_proxying = request.uri().authority().is_some();
        if !is_proxying {
            return self.answer_own(&settings, request).await;
        }
        if !is_admitted(&settings, request.headers()) {
            return Err(Failure::AuthenticationRequired);
        }
        if request.method() == Method::CONNECT {
            return self.connect(&settings, request).await;
        }
        self.proxy(&settings, request).await
    }

    async fn connect(
        &self,
        settings: &Settings,
        mut request: Request<Incoming>,
    ) -> Result<Forwarded, Failure> {
        let uri = request.uri().clone();
        let authority = Authority::parse(uri.authority().map_or("", |it| it.as_str()))?;
        let port = authority.port.ok_or(Failure::BadRequest("A CONNECT request names a port."))?;
        check_host(request.headers(), &authority, authority.port)?;
        let destination = Destination::parse(authority.host, port, &settings.aliases)?;
        let client = upgrade::on(&mut request);
        let opened = self.ingress.open(&destination).await?;
        let tunnel = Some(Tunnel::Connect { client, opened });
        Ok(Forwarded { response: Response::new(AnswerBody::page("")), tunnel })
    }

    async fn proxy(
        &self,
        settings: &Settings,
        request: Request<Incoming>,
    ) -> Result<Forwarded, Failure> {
        let uri = request.uri().clone();
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some("https" | "wss") => {
                return Err(Failure::BadRequest("https goes through a proxy by CONNECT."));
            }
            _ => return Err(Failure::BadRequest("Only http:// can be forwarded.")),
        }
        let authority = Authority::parse(uri.authority().map_or("", |it| it.as_str()))?;
        check_host(request.headers(), &authority, Some(HTTP))?;
        if let Some(view) = LocalView::find(&authority) {
            return self.view(settings, view, request).await;
        }
        let port = authority.port.unwrap_or(HTTP);
        let destination = Destination::parse(authority.host, port, &settings.aliases)?;
        let host = host_value(uri.authority().map_or("", |it| it.as_str()))?;
        let onward = Onward { destination, host, view: None };
        forward(&self.ingress, &self.upstreams, onward, request).await
    }

    async fn view(
        &self,
        settings: &Settings,
        view: LocalView,
        request: Request<Incoming>,
    ) -> Result<Forwarded, Failure> {
        if !settings.local_view || !settings.users.is_empty() || !self.ingress.local {
            return Err(Failure::NotFound);
        }
        view.admit(&request)?;
        let destination = Destination::parse(&view.name, view.port, &settings.aliases)?;
        let host = host_value(view.host())?;
        let onward = Onward { destination, host, view: Some(view) };
        forward(&self.ingress, &self.upstreams, onward, request).await
    }

    async fn answer_own(
        &self,
        settings: &Settings,
        request: Request<Incoming>,
    ) -> Result<Forwarded, Failure> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let view = host.and_then(|host| Authority::parse(host).ok());
        if let Some(view) = view.as_ref().and_then(LocalView::find) {
            return self.view(settings, view, request).await;
        }
        if let Some(code) = self.ingress.refusal {
            return Err(Failure::Code(code));
        }
        Ok(Forwarded { response: page::own(&request)?, tunnel: None })
    }
}

/// Ends the connection with this answer: nothing behind a request that can be read in two ways is
/// taken for another.
fn last(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn is_admitted(settings: &Settings, headers: &HeaderMap) -> bool {
    settings.users.is_empty()
        || headers
            .get(header::PROXY_AUTHORIZATION)
            .is_some_and(|value| settings.users.admit_basic(value.as_bytes()))
}

/// A `Host` that differs from the target could be believed by somebody behind us.
fn check_host(
    headers: &HeaderMap,
    authority: &Authority<'_>,
    default_port: Option<u16>,
) -> Result<(), Failure> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let unlike = Failure::BadRequest("Its Host is not the host of its target.");
    let host = host.to_str().map_err(|_| unlike)?;
    let host = Authority::parse(host).map_err(|_| unlike)?;
    host.is_same(authority, default_port).then_some(()).ok_or(unlike)
}

fn host_value(authority: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(authority).map_err(|_| Failure::Code(Code::BadName))
}

const HTTP: u16 = 80;
