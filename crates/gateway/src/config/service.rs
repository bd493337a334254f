//! `[[service]]`: which local services peers may reach.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use cloak_base::EntityId;
use serde::Deserialize;

use crate::destination::in_cloak;

/// One exposed service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// The port peers ask for; 1 to 65535, each at most once.
    pub port: u16,
    /// Where the service listens: `HOST:PORT` or `unix:PATH`.
    pub target: ServiceTarget,
    /// Who may reach it. Default: nobody.
    #[serde(default)]
    pub allow: Vec<Allow>,
    /// Whether running sessions may move to another device. Default `no`.
    #[serde(default)]
    pub movable: Movable,
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum ServiceTarget {
    /// A host name or address, and a port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port, not zero.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// A text that is not a service's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a target: write HOST:PORT of a service outside Cloak, as in \"127.0.0.1:8080\", or unix:PATH"
)]
pub struct BadTarget;

impl FromStr for ServiceTarget {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(BadTarget) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(BadTarget)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(BadTarget)?;
        let valid = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']),
        };
        let host = bare.unwrap_or(host);
        if !valid || in_cloak(host) {
            return Err(BadTarget);
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for ServiceTarget {
    type Error = BadTarget;

    fn try_from(text: String) -> Result<Self, BadTarget> {
        text.parse()
    }
}

impl fmt::Display for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who may reach a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Allow {
    /// `realm`: every member of the realm.
    Realm,
    /// `anyone`: whoever the node lets in at all.
    Anyone,
    /// An entity by its name, lower case, as in `alice.cloak`.
    Name(String),
    /// An entity by its key, whatever its name is.
    Entity(EntityId),
}

/// A text that names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not somebody to allow: write \"realm\", \"anyone\", or a name as in \"alice.cloak\"")]
pub struct BadAllow;

impl FromStr for Allow {
    type Err = BadAllow;

    fn from_str(text: &str) -> Result<Self, BadAllow> {
        match text {
            "realm" => return Ok(Self::Realm),
            "anyone" => return Ok(Self::Anyone),
            _ => {}
        }
        if let Ok(entity) = text.parse() {
            return Ok(Self::Entity(entity));
        }
        let name = text.to_ascii_lowercase();
        let label = name.strip_suffix(".cloak").ok_or(BadAllow)?;
        if let Some(entity) = key_label(label) {
            return Ok(Self::Entity(entity));
        }
        if label.is_empty() || !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(BadAllow);
        }
        Ok(Self::Name(name))
    }
}

impl TryFrom<String> for Allow {
    type Error = BadAllow;

    fn try_from(text: String) -> Result<Self, BadAllow> {
        text.parse()
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realm => f.write_str("realm"),
            Self::Anyone => f.write_str("anyone"),
            Self::Name(name) => f.write_str(name),
            Self::Entity(entity) => entity.fmt(f),
        }
    }
}

/// Whether a running session may move to another device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Movable {
    /// It stays where it was opened.
    #[default]
    No,
}

/// Moving sessions belongs to a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sessions cannot be moved yet: the only value of movable is \"no\"")]
pub struct BadMovable;

impl TryFrom<String> for Movable {
    type Error = BadMovable;

    fn try_from(text: String) -> Result<Self, BadMovable> {
        if text == "no" { Ok(Self::No) } else { Err(BadMovable) }
    }
}

/// The entity of a self-certifying name: base32 of its key, two bytes of checksum, a version. A
/// mistyped key allows nobody, so the checksum is left to the crate that hands such names out.
fn key_label(label: &str) -> Option<EntityId> {
    if label.len() != KEY_LABEL_LEN {
        return None;
    }
    let bytes = data_encoding::BASE32_NOPAD.decode(label.to_ascii_uppercase().as_bytes()).ok()?;
    EntityId::from_slice(bytes.get(..EntityId::LEN)?)
}

/// 35 bytes in base32.
const KEY_LABEL_LEN: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_and_print_as_written() {
        for text in ["127.0.0.1:8080", "[::1]:80", "web:80", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<ServiceTarget>().unwrap().to_string(), text);
        }
        for bad in ["", "8080", "web", "web:0", "::1:80", "[web]:80", "bob.cloak:80", "unix:"] {
            assert_eq!(bad.parse::<ServiceTarget>(), Err(BadTarget), "{bad}");
        }
    }

    #[test]
    fn allow_takes_names_keys_and_two_words() {
        assert_eq!("realm".parse(), Ok(Allow::Realm));
        assert_eq!("Alice.CLOAK".parse(), Ok(Allow::Name("alice.cloak".into())));
        let mut bytes = [7; 35];
        bytes[34] = 1;
        let key = data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase() + ".cloak";
        assert_eq!(key.parse(), Ok(Allow::Entity(EntityId::from_bytes([7; 32]))));
        for bad in ["", "reaml", "alice", ".cloak", "laptop.alice.cloak", "a b.cloak"] {
            assert_eq!(bad.parse::<Allow>(), Err(BadAllow), "{bad}");
        }
    }

    #[test]
    fn movable_is_no_for_the_present() {
        let text = "port = 80\ntarget = \"web:80\"\nmovable = \"idle\"";
        let error = toml::from_str::<ServiceConfig>(text).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("cannot be moved yet"), "{error}");
    }
}
