//! Who may talk to the control socket: this user, and no web page.
//!
//! The socket's mode already keeps other users out; the kernel's word about the peer is asked as
//! well, because a mode can be changed. A browser cannot open a unix socket, but a careless
//! forwarder (`socat TCP-LISTEN ... UNIX-CONNECT:control.sock`) makes it reachable, so requests
//! that a page could have caused are refused whatever they ask for.

use hyper::header::{HOST, HeaderMap, ORIGIN, REFERER};
use hyper::{Request, Uri};
use tokio::net::UnixStream;

/// The only host a request may name.
pub(super) const CONTROL_HOST: &str = "cloak";

/// Why a request is not even looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// A web page caused it.
    #[error("requests with an Origin or a Referer are refused")]
    Page,
    /// It was meant for another host, as after DNS rebinding.
    #[error("the Host of a control request is exactly \"cloak\"")]
    Host,
}

/// Whether the process at the other end belongs to our user. Root may do everything anyway, and
/// is let in.
pub(super) fn is_same_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own.as_raw() || peer.uid() == 0)
}

/// Whether a request can only come from a program that means the control socket.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Foreign> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) || headers.contains_key(REFERER) {
        return Err(Foreign::Page);
    }
    match is_own_host(request.uri(), headers) {
        true => Ok(()),
        false => Err(Foreign::Host),
    }
}

fn is_own_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next().is_some_and(|host| host.as_bytes() == CONTROL_HOST.as_bytes());
    first && hosts.next().is_none() && uri.authority().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_csrf_no_rebinding() {
        let check = |uri: &str, headers: &[(&str, &str)]| {
            let request = Request::builder().uri(uri);
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            super::check(&request.body(()).unwrap())
        };
        let own = ("host", "cloak");
        assert_eq!(check("/v1/status", &[own]), Ok(()));
        for (headers, refused) in [
            (&[own, ("origin", "http://cloak")][..], Foreign::Page),
            (&[own, ("origin", "null")], Foreign::Page),
            (&[own, ("referer", "http://cloak/")], Foreign::Page),
            (&[("host", "cloak.attacker.com")], Foreign::Host),
            (&[("host", "cloak:80")], Foreign::Host),
            (&[("host", "Cloak")], Foreign::Host),
            (&[("host", "localhost")], Foreign::Host),
            (&[own, ("host", "cloak")], Foreign::Host),
            (&[own, ("host", "attacker.com")], Foreign::Host),
            (&[], Foreign::Host),
        ] {
            assert_eq!(check("/v1/status", headers), Err(refused), "{headers:?}");
        }
        assert_eq!(check("http://cloak/v1/status", &[own]), Err(Foreign::Host));
    }
}
