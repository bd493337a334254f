//! Hosts and ports as HTTP writes them.

use crate::errors::Failure;

/// A host, without a user, and the port if one was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// As written; an IPv6 address in its brackets.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// # Errors
    /// A user, an empty host, or a port that is none.
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let bad = Failure::BadRequest("Its host is not a plain name or address with a port.");
        let host_len = if text.starts_with('[') {
            text.find(']').ok_or(bad)? + 1
        } else {
            text.find(':').unwrap_or(text.len())
        };
        let (host, rest) = text.split_at(host_len);
        if host.is_empty() || host.contains(['@', '/', '%', ' ']) {
            return Err(bad);
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| bad)?)
            }
            _ => return Err(bad),
        };
        Ok(Self { host, port })
    }

    /// Whether both mean the same place, where no port means `default`.
    pub(super) fn is_same(&self, other: &Self, default: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.or(default) == other.port.or(default)
    }

    /// Whether the host is this machine by its fixed names, which no foreign DNS can redefine.
    pub(super) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host.eq_ignore_ascii_case("localhost")
            || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, host, port) in [
            ("bob.cloak", "bob.cloak", None),
            ("bob.cloak:80", "bob.cloak", Some(80)),
            ("[::1]", "[::1]", None),
            ("[::1]:443", "[::1]", Some(443)),
        ] {
            assert_eq!(Authority::parse(text), Ok(Authority { host, port }));
        }
        for bad in
            ["", ":80", "a:", "a:b", "a:+1", "a:65536", "u@a:1", "[::1", "[::1]x", "::1", "a b"]
        {
            assert!(Authority::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_fixed_names_are_loopback() {
        let loopback = |text| Authority::parse(text).unwrap().is_loopback();
        assert!(loopback("LOCALHOST:1") && loopback("127.1.2.3") && loopback("[::1]:1"));
        for foreign in ["localhost.evil.com", "127.0.0.1.evil.com", "evil.localhost", "10.0.0.1"] {
            assert!(!loopback(foreign), "{foreign}");
        }
    }
}
