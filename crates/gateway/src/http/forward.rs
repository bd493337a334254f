//! Forwards a plain request and its answer.

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::upgrade::{self, OnUpgrade};
use hyper::{Request, Response, StatusCode, Uri, Version};
use tokio::sync::oneshot;

use super::body::{AnswerBody, RequestBody};
use super::hop;
use super::local_view::LocalView;
use super::tunnel::Tunnel;
use super::upstreams::Upstreams;
use crate::destination::Destination;
use crate::errors::Failure;
use crate::ingress::Ingress;

/// Where a request goes, and how its destination knows itself.
pub(super) struct Onward {
    pub(super) destination: Destination,
    pub(super) host: HeaderValue,
    /// Set where the browser knows the service by another name.
    pub(super) view: Option<LocalView>,
}

/// An answer, and the tunnel that follows it where both ends switch protocols.
pub(super) struct Forwarded {
    pub(super) response: Response<AnswerBody>,
    pub(super) tunnel: Option<Tunnel>,
}

/// Sends a request on and returns its answer.
///
/// # Errors
/// Why it could not be sent, or was not answered.
pub(super) async fn forward(
    ingress: &Ingress,
    upstreams: &Upstreams,
    onward: Onward,
    mut request: Request<Incoming>,
) -> Result<Forwarded, Failure> {
    let switch = wanted_switch(&mut request);
    let request = outgoing(request, &onward, switch.is_some())?;
    let mut response = upstreams.send(ingress, &onward.destination, request).await?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let tunnel = match switch {
        Some(client) if switched => {
            Some(Tunnel::Upgrade { client, upstream: upgrade::on(&mut response) })
        }
        None if switched => return Err(Failure::BadGateway),
        _ => None,
    };
    hop::strip(response.headers_mut(), switched);
    *response.version_mut() = Version::HTTP_11;
    if let Some(view) = &onward.view {
        view.rewrite_response(response.headers_mut());
    }
    Ok(Forwarded { response: response.map(AnswerBody::upstream), tunnel })
}

/// The promise of the application's stream, where it asks for another protocol. One that sends a
/// body along is answered in the old protocol, which every server may do.
fn wanted_switch(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    let wanted = hop::wants_upgrade(request.headers()) && request.body().is_end_stream();
    wanted.then(|| upgrade::on(request))
}

fn outgoing(
    request: Request<Incoming>,
    onward: &Onward,
    switch: bool,
) -> Result<Request<RequestBody>, Failure> {
    let (mut parts, body) = request.into_parts();
    hop::strip(&mut parts.headers, switch);
    let path = parts.uri.into_parts().path_and_query;
    parts.uri = path
        .map_or(Ok(Uri::default()), |path| Uri::try_from(path.as_str()))
        .map_err(|_| Failure::BadRequest("Its target has no proper path."))?;
    parts.version = Version::HTTP_11;
    parts.headers.insert(header::HOST, onward.host.clone());
    if let Some(view) = &onward.view {
        view.rewrite_request(&mut parts.headers);
    }
    let expects = parts.headers.get(header::EXPECT).is_some();
    let mut request = Request::from_parts(parts, RequestBody::none());
    if body.is_end_stream() {
        return Ok(request);
    }
    if !expects {
        return Ok(request.map(|_| RequestBody::new(body)));
    }
    let (met, expectation) = oneshot::channel();
    let met = std::sync::Mutex::new(Some(met));
    hyper::ext::on_informational(&mut request, move |interim| {
        let met = met.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let (StatusCode::CONTINUE, Some(met)) = (interim.status(), met) {
            // The body may be gone already, with the application.
            let _ = met.send(());
        }
    });
    Ok(request.map(|_| RequestBody::expecting(body, expectation)))
}
