//! The proxy port's own pages: errors, the PAC file, and a word to people who open it in a browser.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::authority::Authority;
use super::body::AnswerBody;
use crate::errors::{Explanation, Failure, SOCKS5H_HINT};

/// Carries the code of a refusal, for programs.
const CLOAK_ERROR: HeaderName = HeaderName::from_static("cloak-error");

/// Tells why a request is not served; in HTML to who accepts it.
pub(super) fn failure(failure: Failure, html: bool) -> Response<AnswerBody> {
    let Explanation(what, why, todo) = failure.explanation();
    let code = failure.as_str();
    let text = if html {
        format!(
            "<!doctype html><meta charset=utf-8><title>Cloak: {code}</title><h1>{what}</h1>\
             <p>{why}<p>{todo}<p><small>Cloak, {code}</small>\n"
        )
    } else {
        format!("{what} {why} {todo} ({code})\n")
    };
    let kind = if html { HTML } else { PLAIN };
    let mut response = page(failure.status(), kind, text);
    response.headers_mut().insert(CLOAK_ERROR, HeaderValue::from_static(code));
    if failure == Failure::AuthenticationRequired {
        let ask = HeaderValue::from_static("Basic realm=\"Cloak\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::PROXY_AUTHENTICATE, ask);
    }
    response
}

/// Whether a client prefers pages that a browser shows.
pub(super) fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Answers a request that is not for a proxy but for this port itself. A foreign `Host` (a page
/// whose name was made to point here) gets nothing.
pub(super) fn own<B>(request: &Request<B>) -> Result<Response<AnswerBody>, Failure> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or(Failure::BadRequest("It has no Host field."))?;
    let authority = Authority::parse(host)?;
    if !authority.is_loopback() {
        return Ok(nothing());
    }
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/proxy.pac" if asks => Ok(page(StatusCode::OK, PAC, pac(&authority))),
        "/" if asks => Ok(page(StatusCode::OK, HTML, welcome(&authority))),
        _ => Err(Failure::NotFound),
    }
}

fn nothing() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::page(""));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::page(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}

/// Only names in `.cloak` go through the proxy, by name: no resolver of the browser's sees them.
fn pac(authority: &Authority<'_>) -> String {
    let address = address(authority);
    format!(
        "function FindProxyForURL(url, host) {{\n  \
           host = host.toLowerCase().replace(/\\.+$/, \"\");\n  \
           if (host === \"cloak\" || host.slice(-6) === \".cloak\") return \"PROXY {address}\";\n  \
           return \"DIRECT\";\n\
         }}\n"
    )
}

fn welcome(authority: &Authority<'_>) -> String {
    let address = address(authority);
    format!(
        "<!doctype html><meta charset=utf-8><title>Cloak</title><h1>This is Cloak's proxy port.</h1>\
         <p>Set <code>socks5h://{address}</code> or <code>http://{address}</code> as your program's \
         proxy, or <code>http://{address}/proxy.pac</code> as your browser's automatic \
         configuration.<p>{SOCKS5H_HINT}\n"
    )
}

/// A loopback host consists of letters, digits, dots, colons and brackets only, so it can stand in
/// HTML and in a script.
fn address(authority: &Authority<'_>) -> String {
    format!("{}:{}", authority.host, authority.port.unwrap_or(80))
}

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
const PAC: &str = "application/x-ns-proxy-autoconfig";
