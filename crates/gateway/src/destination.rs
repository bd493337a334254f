//! What an application asked for: a Cloak name, an address, or an ordinary name.
//!
//! This is the one place where a `.cloak` name is told from all others, so that none reaches DNS:
//! case, trailing dots, aliases and names under `.cloak.localhost` are settled here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use cloak_identity::Name;
use cloak_node::Code;

/// Where a request is to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A service of a Cloak name; lower case, without a trailing dot, otherwise unchecked.
    Cloak {
        /// The name.
        name: String,
        /// The service's port.
        port: u16,
    },
    /// An address of the ordinary Internet.
    Address(SocketAddr),
    /// A name of the ordinary Internet; never one of ours.
    Name {
        /// The name, lower case.
        name: String,
        /// The port.
        port: u16,
    },
}

impl Destination {
    /// Understands a host as an application wrote it: a name, an address, or an IPv6 address in
    /// brackets.
    ///
    /// # Errors
    /// [`Code::BadName`] where it can be none of them. In doubt a host is refused: what cannot be
    /// understood must not be handed to a resolver that may understand it in its own way.
    pub fn parse(host: &str, port: u16, aliases: &Aliases) -> Result<Self, Code> {
        if let Some(ip) = literal(host) {
            return Ok(Self::Address(SocketAddr::new(ip, port)));
        }
        let name = normalise(host).ok_or(Code::BadName)?;
        if let Some(target) = aliases.find(&name) {
            return Ok(Self::Cloak { name: target.to_owned(), port });
        }
        if Name::is_cloak(&name) {
            return Ok(Self::Cloak { name, port });
        }
        if name.ends_with(LOCAL_VIEW_SUFFIX) {
            return Err(Code::BadName);
        }
        Ok(Self::Name { name, port })
    }

    /// `host:port`, with brackets where they are needed.
    pub fn authority(&self) -> String {
        match self {
            Self::Cloak { name, port } | Self::Name { name, port } => format!("{name}:{port}"),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// `[aliases]`: short names of this gateway, which come before all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(BTreeMap<String, String>);

/// An alias that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAlias {
    /// The alias itself is not a host name.
    #[error("alias {0:?} is not a host name")]
    Name(String),
    /// What it stands for is not a Cloak name.
    #[error("alias {0:?} must stand for a .cloak name")]
    Target(String),
}

impl Aliases {
    /// Reads the `[aliases]` table: alias to `.cloak` name.
    ///
    /// # Errors
    /// The first alias that cannot be used.
    pub fn new(table: &BTreeMap<String, String>) -> Result<Self, BadAlias> {
        table.iter().map(|(alias, target)| entry(alias, target)).collect::<Result<_, _>>().map(Self)
    }

    /// Alias and target of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(alias, target)| (alias.as_str(), target.as_str()))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn entry(alias: &str, target: &str) -> Result<(String, String), BadAlias> {
    let name = normalise(alias).filter(|name| literal(name).is_none());
    let name = name.ok_or_else(|| BadAlias::Name(alias.to_owned()))?;
    let target = normalise(target).filter(|target| Name::is_cloak(target));
    Ok((name, target.ok_or_else(|| BadAlias::Target(alias.to_owned()))?))
}

fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
    .map(|ip: IpAddr| ip.to_canonical())
}

/// Lower case without trailing dots; `None` where a character occurs that no host name has, also
/// other alphabets' dots, which a resolver might take for dots.
fn normalise(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.');
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let fits = (1..=NAME_LEN_MAX).contains(&host.len()) && host.bytes().all(valid);
    fits.then(|| host.to_ascii_lowercase())
}

/// Ends the hosts of the local view; a resolver must not see those names either.
pub(crate) const LOCAL_VIEW_SUFFIX: &str = ".cloak.localhost";

/// Longest name DNS could carry; SOCKS carries two more bytes.
const NAME_LEN_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(host: &str) -> Result<Destination, Code> {
        let table = [("db".to_owned(), "Postgres.Bob.cloak".to_owned())].into();
        Destination::parse(host, 80, &Aliases::new(&table).unwrap())
    }

    #[test]
    fn cloak_names_are_told_however_they_are_written() {
        for host in ["bob.cloak", "BOB.CLOAK", "bob.cloak.", "bob.Cloak..", "a..cloak"] {
            let Ok(Destination::Cloak { name, .. }) = parse(host) else { panic!("{host}") };
            assert!(name.ends_with(".cloak"), "{name}");
        }
        for host in ["cloak", "CLOAK."] {
            assert!(matches!(parse(host), Ok(Destination::Cloak { .. })), "{host}");
        }
        for host in ["bob.cloak.localhost", "bob。cloak", "bob.cloak ", "bob.cloak\0.com", ".", ""]
        {
            assert_eq!(parse(host), Err(Code::BadName), "{host:?}");
        }
        for host in ["mycloak", "bob.cloak.example", "example.com"] {
            assert!(matches!(parse(host), Ok(Destination::Name { .. })), "{host}");
        }
    }

    #[test]
    fn addresses_are_normalised() {
        for (host, expected) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("[::ffff:10.0.0.1]", "10.0.0.1:80"),
        ] {
            assert_eq!(parse(host).map(|d| d.authority()).as_deref(), Ok(expected));
        }
        assert_eq!(parse("[::1"), Err(Code::BadName));
        assert_eq!(parse("fe80::1%eth0"), Err(Code::BadName));
    }

    #[test]
    fn aliases_come_first_and_stand_for_cloak_names_only() {
        let expected = Destination::Cloak { name: "postgres.bob.cloak".into(), port: 80 };
        assert_eq!(parse("DB"), Ok(expected));
        let table = [("x".to_owned(), "example.com".to_owned())].into();
        assert_eq!(Aliases::new(&table), Err(BadAlias::Target("x".into())));
        let table = [("10.0.0.1".to_owned(), "bob.cloak".to_owned())].into();
        assert_eq!(Aliases::new(&table), Err(BadAlias::Name("10.0.0.1".into())));
    }
}
