//! The one table of what applications are told: SOCKS reply, HTTP status, and a text for people.
//!
//! Every refusal, on whatever protocol, goes through here, so that the same cause has the same
//! answer everywhere. docs/guide/errors.md shows this table.

use cloak_node::Code;
use fast_socks5::ReplyError;
use hyper::StatusCode;

/// Why a request on the proxy port is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A code of the common table.
    Code(Code),
    /// The HTTP request can be read in more than one way, or not at all.
    BadRequest(&'static str),
    /// The head of the HTTP request is longer than 64 KiB or has too many fields.
    HeaderTooLarge,
    /// The HTTP request did not arrive in time.
    RequestTimeout,
    /// Users are configured and the request names none of them.
    AuthenticationRequired,
    /// The page does not exist on the proxy port.
    NotFound,
    /// The peer ended the session in the middle of its answer, or answered what is not HTTP.
    BadGateway,
}

impl Failure {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Code(code) => http_status(code),
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::AuthenticationRequired => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether the request itself is at fault, so that what follows it on its connection cannot be
    /// trusted to begin where it seems to.
    pub fn is_of_the_request(self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::HeaderTooLarge | Self::RequestTimeout)
    }

    /// The value of `Cloak-Error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code(code) => code.as_str(),
            Self::BadRequest(_) => "bad-request",
            Self::HeaderTooLarge => "header-too-large",
            Self::RequestTimeout => "request-timeout",
            Self::AuthenticationRequired => "authentication-required",
            Self::NotFound => "not-found",
            Self::BadGateway => "bad-gateway",
        }
    }

    /// What to tell people.
    pub fn explanation(self) -> Explanation {
        match self {
            Self::Code(code) => explain(code),
            Self::BadRequest(why) => {
                Explanation("The request was refused.", why, "Ask the program's author.")
            }
            Self::HeaderTooLarge => Explanation(
                "The head of the request is too large.",
                "At most 64 KiB and 256 fields are accepted.",
                "Delete the site's cookies and try again.",
            ),
            Self::RequestTimeout => Explanation(
                "The request did not arrive in time.",
                "Its head was not complete when the deadline passed.",
                "Try again.",
            ),
            Self::AuthenticationRequired => Explanation(
                "This proxy asks for a user name and a password.",
                "The request carried none, or a wrong one.",
                "Enter those of a user in the [proxy] section of the gateway's config.toml.",
            ),
            Self::NotFound => Explanation(
                "There is no such page.",
                "This port is a proxy; it has few pages of its own.",
                "Set it as your program's proxy.",
            ),
            Self::BadGateway => Explanation(
                "The service gave no proper answer.",
                "The connection to it ended early, or what it said is not HTTP/1.",
                "Look at the service's own log, and whether it expects https.",
            ),
        }
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

/// The reply to a SOCKS5 request that ended with `code`.
pub fn socks5_reply(code: Code) -> ReplyError {
    match code {
        Code::UnknownName | Code::BadName | Code::HostUnreachable => ReplyError::HostUnreachable,
        Code::NoService | Code::BackendRefused | Code::ConnectionRefused => {
            ReplyError::ConnectionRefused
        }
        Code::NotAllowed | Code::OutboundDenied => ReplyError::ConnectionNotAllowed,
        Code::PeerUnreachable => ReplyError::NetworkUnreachable,
        Code::Timeout => ReplyError::TtlExpired,
        _ => ReplyError::GeneralFailure,
    }
}

/// The status of an HTTP request that ended with `code`.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::BadName => StatusCode::BAD_REQUEST,
        Code::NotAllowed | Code::OutboundDenied => StatusCode::FORBIDDEN,
        Code::PeerUnreachable | Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Busy | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Three sentences: what happened, why, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation(pub &'static str, pub &'static str, pub &'static str);

/// What to tell people about `code`.
pub fn explain(code: Code) -> Explanation {
    match code {
        Code::UnknownName => Explanation(
            "This name is not known.",
            "No binding for it was found in the realm.",
            "Check the spelling; `cloak resolve NAME` shows each step.",
        ),
        Code::BadName => Explanation(
            "This is not a valid name.",
            "Names are lower-case letters, digits and hyphens, and end in .cloak.",
            "Check the spelling.",
        ),
        Code::NoService => Explanation(
            "The device exposes no service at this port.",
            "Its configuration has no [[service]] with this port.",
            "Check the port, or ask the owner to expose it.",
        ),
        Code::BackendRefused => Explanation(
            "The service is down.",
            "The peer's gateway was reached, but its service refused the connection.",
            "Ask the owner to start it.",
        ),
        Code::NotAllowed => Explanation(
            "You may not do this.",
            "The service's or exit's `allow` does not name you, a foreign page asked in your name, \
             or the exit does not lead to private addresses.",
            "Ask the owner to allow you.",
        ),
        Code::PeerUnreachable => Explanation(
            "The peer cannot be reached.",
            "No path to any of its devices could be opened.",
            "Check that it is switched on and online; `cloak why NAME` shows what fails.",
        ),
        Code::Timeout => Explanation(
            "No answer came in time.",
            "A step on the way took longer than its deadline.",
            "Try again; `cloak why NAME` shows which step.",
        ),
        Code::Busy => Explanation(
            "A limit is reached.",
            "Connections, sessions, memory or file descriptors are used up.",
            "Try again later; `cloak status` shows the limits.",
        ),
        Code::OutboundDenied => Explanation(
            "This destination may not be reached through this proxy.",
            "It is not a .cloak name, and [outbound] in config.toml denies all others.",
            "Exclude it from the proxy in your program, for example by the PAC file.",
        ),
        Code::ConnectionRefused => Explanation(
            "The destination refused the connection.",
            "It was reached, but nothing listens at this port.",
            "Check the port.",
        ),
        Code::HostUnreachable => Explanation(
            "The destination cannot be reached.",
            "It has no address, or no path leads to it.",
            "Check the name and your own network.",
        ),
        Code::ShuttingDown => Explanation(
            "The gateway is stopping.",
            "It was told to stop and takes no new requests.",
            "Try again when it is up.",
        ),
        _ => Explanation(
            "The session could not be opened.",
            "The two gateways do not agree; the code names the reason.",
            "`cloak why NAME` shows which step fails.",
        ),
    }
}

/// Why a program that resolves names by itself cannot reach a Cloak name, and what to do. Such a
/// request never arrives here, so only pages and `doctor` can say it.
pub const SOCKS5H_HINT: &str = "If a program says that it cannot resolve a .cloak name, it asked \
     the system's DNS, which does not know it, instead of this proxy. Let the proxy resolve names: \
     write socks5h:// instead of socks5://, --socks5-hostname instead of --socks5 (curl), \
     --socks4a instead of --socks4, proxy_dns in proxychains.conf, or \"Proxy DNS when using \
     SOCKS v5\" in Firefox.";

#[cfg(test)]
mod tests {
    use super::*;

    /// interface.md, "The proxy port".
    #[test]
    fn the_table_is_the_documented_one() {
        for (code, socks, http) in [
            (Code::UnknownName, 4, 502),
            (Code::NoService, 5, 502),
            (Code::BackendRefused, 5, 502),
            (Code::NotAllowed, 2, 403),
            (Code::PeerUnreachable, 3, 504),
            (Code::Timeout, 6, 504),
            (Code::Busy, 1, 503),
        ] {
            assert_eq!(socks5_reply(code).as_u8(), socks, "{code}");
            assert_eq!(http_status(code).as_u16(), http, "{code}");
        }
    }

    #[test]
    fn every_code_is_a_refusal_with_an_explanation() {
        for code in Code::ALL {
            assert_ne!(socks5_reply(*code).as_u8(), 0);
            assert!(http_status(*code).is_client_error() || http_status(*code).is_server_error());
            assert!(!explain(*code).2.is_empty());
        }
    }
}
