//! `[[service]]`: which local services peers may reach.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use cloak_base::EntityId;
use cloak_identity::{EntityName, Name, NameError};
use cloak_node::{Balance, Movable};
use serde::{Deserialize, Deserializer};

/// One exposed service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ServiceConfig {
    /// The port peers ask for; 1 to 65535, each at most once.
    pub port: u16,
    /// Where the service listens: `HOST:PORT` or `unix:PATH`.
    pub target: ServiceTarget,
    /// Who may reach it. Default: nobody.
    pub allow: Vec<Allow>,
    /// When running sessions may move to another device that exposes the port too. Default `no`.
    pub movable: Movable,
    /// By what they do so by themselves. Default `none`.
    pub balance: Balance,
}

/// A service as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    port: u16,
    target: ServiceTarget,
    #[serde(default)]
    allow: Vec<Allow>,
    #[serde(default, deserialize_with = "movable")]
    movable: Movable,
    #[serde(default, deserialize_with = "balance")]
    balance: Balance,
}

/// A service whose sessions are to move by themselves, and may not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "balance = \"{}\" needs sessions that may move: set movable = \"idle\" or \"always\" as well",
    balance_word(*.0)
)]
pub struct Unmovable(pub Balance);

impl TryFrom<Written> for ServiceConfig {
    type Error = Unmovable;

    fn try_from(written: Written) -> Result<Self, Unmovable> {
        let Written { port, target, allow, movable, balance } = written;
        if balance != Balance::None && movable == Movable::No {
            return Err(Unmovable(balance));
        }
        Ok(Self { port, target, allow, movable, balance })
    }
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
        if !valid || Name::is_cloak(host) {
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
pub enum BadAllow {
    /// Neither one of the two words nor a name.
    #[error(
        "not somebody to allow (it {0}): write \"realm\", \"anyone\", or a name as in \"alice.cloak\""
    )]
    Name(NameError),
    /// The name of a device.
    #[error("services are allowed to entities, not to single devices: leave out the device's part")]
    Device,
}

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
        let name = Name::parse(text).map_err(BadAllow::Name)?;
        match name.entity_name() {
            _ if name.device_label().is_some() => Err(BadAllow::Device),
            EntityName::Key(entity) => Ok(Self::Entity(*entity)),
            EntityName::Label(_) => Ok(Self::Name(name.to_string())),
        }
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

/// A text that does not say when a running session may move to another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("movable is \"no\", \"idle\" (between two requests) or \"always\"")]
pub struct BadMovable;

fn movable<'de, D: Deserializer<'de>>(from: D) -> Result<Movable, D::Error> {
    let text = String::deserialize(from)?;
    let all = [Movable::No, Movable::Idle, Movable::Always];
    let found = all.into_iter().find(|one| movable_word(*one) == text);
    found.ok_or_else(|| serde::de::Error::custom(BadMovable))
}

/// How it is written.
pub(crate) fn movable_word(movable: Movable) -> &'static str {
    match movable {
        Movable::No => "no",
        Movable::Idle => "idle",
        Movable::Always => "always",
    }
}

/// A text that does not say by what sessions move by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "balance is \"none\", \"preference\" (to the preferred device) or \"load\" (to the one with few)"
)]
pub struct BadBalance;

fn balance<'de, D: Deserializer<'de>>(from: D) -> Result<Balance, D::Error> {
    let text = String::deserialize(from)?;
    let all = [Balance::None, Balance::Preference, Balance::Load];
    let found = all.into_iter().find(|one| balance_word(*one) == text);
    found.ok_or_else(|| serde::de::Error::custom(BadBalance))
}

/// How it is written.
pub(crate) fn balance_word(balance: Balance) -> &'static str {
    match balance {
        Balance::None => "none",
        Balance::Preference => "preference",
        Balance::Load => "load",
    }
}

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
        let entity = EntityId::from_bytes([7; 32]);
        let key = Name::entity(EntityName::Key(entity)).to_string();
        assert_eq!(key.parse(), Ok(Allow::Entity(entity)));
        assert_eq!(entity.to_string().parse(), Ok(Allow::Entity(entity)));
        let mistyped = key.replacen(&key[..1], if key.starts_with('a') { "b" } else { "a" }, 1);
        for bad in ["", "reaml", "alice", ".cloak", "a b.cloak", &mistyped] {
            assert!(matches!(bad.parse::<Allow>(), Err(BadAllow::Name(_))), "{bad}");
        }
        assert_eq!("laptop.alice.cloak".parse::<Allow>(), Err(BadAllow::Device));
    }

    #[test]
    fn movable_is_one_of_three_words() {
        let text = "port = 80\ntarget = \"web:80\"\n";
        let read = |rest: &str| toml::from_str::<ServiceConfig>(&format!("{text}{rest}"));
        assert_eq!(read("").unwrap().movable, Movable::No);
        assert_eq!(read("movable = \"no\"").unwrap().movable, Movable::No);
        assert_eq!(read("movable = \"idle\"").unwrap().movable, Movable::Idle);
        assert_eq!(read("movable = \"always\"").unwrap().movable, Movable::Always);
        let error = read("movable = \"sometimes\"").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("between two requests"), "{error}");
    }

    #[test]
    fn only_what_may_move_is_balanced() {
        #[derive(Debug, Deserialize)]
        struct File {
            service: Vec<ServiceConfig>,
        }
        let read = |rest: &str| {
            let text = format!("\n[[service]]\nport = 80\ntarget = \"web:80\"\n{rest}");
            toml::from_str::<File>(&text).map(|file| file.service[0].balance)
        };
        assert_eq!(read("").unwrap(), Balance::None);
        assert_eq!(read("balance = \"none\"").unwrap(), Balance::None);
        for (movable, word, balance) in
            [("idle", "preference", Balance::Preference), ("always", "load", Balance::Load)]
        {
            let text = format!("movable = \"{movable}\"\nbalance = \"{word}\"");
            assert_eq!(read(&text).unwrap(), balance);
            let error = read(&format!("balance = \"{word}\"")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("movable = \"idle\""), "{error}");
        }
        let error = read("balance = \"fair\"").unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("\"preference\""), "{error}");
        assert!(read("weight = 1").unwrap_err().to_string().contains("unknown field"));
    }
}
