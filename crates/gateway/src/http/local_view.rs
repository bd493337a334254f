//! `http://NAME.cloak.localhost:PORT/`: services for a browser that has no proxy set.
//!
//! Any page in the browser can send requests here, so each must prove that it comes from the same
//! service, or from the person at the address bar. Browsers say so in `Sec-Fetch-*` and `Origin`,
//! which pages cannot forge; programs that are no browsers send neither. Services see their own
//! name as host and origin, so that their own checks go on working.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request};

use super::authority::Authority;
use super::hop;
use crate::destination::LOCAL_VIEW_SUFFIX;
use crate::errors::Failure;
use cloak_node::Code;

/// A service as one browser sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalView {
    /// `NAME.cloak`.
    pub(super) name: String,
    pub(super) port: u16,
    /// The origin of its pages in the browser.
    outer: String,
    /// The origin the service has for itself.
    inner: String,
}

impl LocalView {
    /// The view that a host stands for, if it stands for one: `[PORT.]NAME.cloak.localhost`.
    pub(super) fn find(authority: &Authority<'_>) -> Option<Self> {
        let host = authority.host.to_ascii_lowercase();
        let visible = host.trim_end_matches('.');
        let name = visible.strip_suffix(LOCAL_VIEW_SUFFIX).filter(|name| !name.is_empty())?;
        let (name, port) = match name.split_once('.') {
            Some((port, name)) if is_port(port) => (name, port.parse().ok()?),
            _ => (name, HTTP),
        };
        let name = format!("{name}.cloak");
        let outer = origin(&host, authority.port.unwrap_or(HTTP));
        let inner = origin(&name, port);
        Some(Self { name, port, outer, inner })
    }

    /// `Host` as the service sees it.
    pub(super) fn host(&self) -> &str {
        &self.inner[SCHEME.len()..]
    }

    /// Refuses what another site's page asked for.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        let headers = request.headers();
        let foreign = Err(Failure::Code(Code::NotAllowed));
        if let Some(origin) = headers.get(header::ORIGIN)
            && origin.as_bytes() != self.outer.as_bytes()
        {
            return foreign;
        }
        let field = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        match field("sec-fetch-site") {
            Some(b"same-origin" | b"none") => Ok(()),
            Some(_) if is_top_level_navigation(request) => Ok(()),
            Some(_) => foreign,
            None if self.is_own_referer(headers) => Ok(()),
            None => foreign,
        }
    }

    /// Gives a request the service's own origin.
    pub(super) fn rewrite_request(&self, headers: &mut HeaderMap) {
        for name in [header::ORIGIN, header::REFERER] {
            self.replace(headers, &name, &self.outer, &self.inner);
        }
    }

    /// Gives an answer the origin that the browser knows, and ties its cookies to this one host.
    pub(super) fn rewrite_response(&self, headers: &mut HeaderMap) {
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            self.replace(headers, &name, &self.inner, &self.outer);
        }
        if let header::Entry::Occupied(mut cookies) = headers.entry(header::SET_COOKIE) {
            for cookie in cookies.iter_mut() {
                if let Some(own) = without_domain(cookie) {
                    *cookie = own;
                }
            }
        }
    }

    fn replace(&self, headers: &mut HeaderMap, name: &header::HeaderName, from: &str, to: &str) {
        let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) else { return };
        let Some(path) = path_under(value, from) else { return };
        if let Ok(replaced) = HeaderValue::try_from(format!("{to}{path}")) {
            headers.insert(name, replaced);
        }
    }

    /// Browsers without `Sec-Fetch-*` still send `Referer`.
    fn is_own_referer(&self, headers: &HeaderMap) -> bool {
        headers.get(header::REFERER).is_none_or(|referer| {
            referer.to_str().is_ok_and(|referer| path_under(referer, &self.outer).is_some())
        })
    }
}

/// Somebody followed a link to the service: it opens as a page of its own, which the page with the
/// link cannot read.
fn is_top_level_navigation<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is = |name: &str, value: &[u8]| headers.get(name).is_some_and(|it| it.as_bytes() == value);
    request.method() == Method::GET
        && is("sec-fetch-mode", b"navigate")
        && is("sec-fetch-dest", b"document")
        && !hop::wants_upgrade(headers)
}

/// What follows the origin in an absolute URL of it.
fn path_under<'a>(url: &'a str, origin: &str) -> Option<&'a str> {
    let path = url.strip_prefix(origin)?;
    (path.is_empty() || path.starts_with(['/', '?', '#'])).then_some(path)
}

/// A cookie without its `Domain`, or `None` where it has none.
fn without_domain(cookie: &HeaderValue) -> Option<HeaderValue> {
    let is_domain = |part: &&[u8]| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"domain")
    };
    let parts: Vec<&[u8]> = cookie.as_bytes().split(|byte| *byte == b';').collect();
    let (pair, attributes) = parts.split_first()?;
    if !attributes.iter().any(is_domain) {
        return None;
    }
    let kept = attributes.iter().filter(|part| !is_domain(part)).copied();
    let kept: Vec<&[u8]> = std::iter::once(*pair).chain(kept).collect();
    HeaderValue::from_bytes(&kept.join(&b';')).ok()
}

fn origin(host: &str, port: u16) -> String {
    if port == HTTP { format!("{SCHEME}{host}") } else { format!("{SCHEME}{host}:{port}") }
}

fn is_port(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit()) && label.parse().is_ok_and(|port: u16| port > 0)
}

const SCHEME: &str = "http://";
const HTTP: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn view(host: &str) -> LocalView {
        LocalView::find(&Authority::parse(host).unwrap()).unwrap()
    }

    fn admits(method: &str, fields: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        view("bob.cloak.localhost:1080").admit(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn hosts_stand_for_a_name_and_a_port() {
        let plain = view("Bob.Cloak.LocalHost:1080");
        assert_eq!((plain.name.as_str(), plain.port, plain.host()), ("bob.cloak", 80, "bob.cloak"));
        let other = view("8080.laptop.bob.cloak.localhost");
        assert_eq!((other.name.as_str(), other.port), ("laptop.bob.cloak", 8080));
        assert_eq!(
            (other.host(), other.outer.as_str()),
            ("laptop.bob.cloak:8080", "http://8080.laptop.bob.cloak.localhost")
        );
        for none in
            ["localhost:1", "cloak.localhost", ".cloak.localhost", "bob.cloak", "bob.localhost"]
        {
            assert_eq!(LocalView::find(&Authority::parse(none).unwrap()), None, "{none}");
        }
    }

    #[test]
    fn foreign_page_cannot_reach_the_local_view() {
        let own = ("origin", "http://bob.cloak.localhost:1080");
        assert!(admits("GET", &[]), "a program");
        assert!(admits("GET", &[("sec-fetch-site", "none")]), "the address bar");
        assert!(admits("POST", &[("sec-fetch-site", "same-origin"), own]));
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        for site in ["cross-site", "same-site", "anything-new"] {
            let site = ("sec-fetch-site", site);
            assert!(admits("GET", &[site, link[0], link[1]]), "a followed link");
            assert!(!admits("POST", &[site, link[0], link[1]]), "a form sent from elsewhere");
            assert!(!admits("GET", &[site, link[0], ("sec-fetch-dest", "iframe")]));
            assert!(!admits("GET", &[site, ("sec-fetch-mode", "no-cors")]));
            assert!(!admits("GET", &[site]));
            let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
            assert!(!admits("GET", &[site, link[0], link[1], upgrade[0], upgrade[1]]));
        }
    }

    #[test]
    fn no_csrf() {
        for origin in [
            "http://evil.example",
            "null",
            "http://bob.cloak.localhost:1080.evil.example",
            "http://bob.cloak.localhost",
            "https://bob.cloak.localhost:1080",
            "http://eve.cloak.localhost:1080",
            "http://bob.cloak",
        ] {
            assert!(!admits("POST", &[("origin", origin)]), "{origin}");
            assert!(!admits("GET", &[("origin", origin), ("sec-fetch-site", "same-origin")]));
        }
        assert!(!admits("GET", &[("referer", "http://evil.example/bob.cloak.localhost:1080")]));
        assert!(!admits("GET", &[("referer", "http://bob.cloak.localhost:1080.evil.example/")]));
        assert!(admits("GET", &[("referer", "http://bob.cloak.localhost:1080/page")]));
    }

    #[test]
    fn both_sides_see_their_own_origin() {
        let view = view("8080.bob.cloak.localhost:1080");
        let mut headers = HeaderMap::new();
        let outer = "http://8080.bob.cloak.localhost:1080";
        headers.insert(header::ORIGIN, HeaderValue::from_static(outer));
        view.rewrite_request(&mut headers);
        assert_eq!(headers[header::ORIGIN], "http://bob.cloak:8080");
        headers.insert(header::LOCATION, HeaderValue::from_static("http://bob.cloak:8080/x?y"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("a=domain; Path=/"));
        headers
            .append(header::SET_COOKIE, HeaderValue::from_static("b=1; DOMAIN = cloak;HttpOnly"));
        view.rewrite_response(&mut headers);
        assert_eq!(headers[header::LOCATION], format!("{outer}/x?y"));
        let cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=domain; Path=/", "b=1;HttpOnly"]);
        headers.insert(header::LOCATION, HeaderValue::from_static("http://bob.cloak:80801/"));
        view.rewrite_response(&mut headers);
        assert_eq!(headers[header::LOCATION], "http://bob.cloak:80801/");
    }
}
