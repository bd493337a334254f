//! Where ordinary destinations are reached from.

use std::str::FromStr;

use cloak_base::Redacted;
use cloak_identity::{Name, NameError};
use serde::Deserialize;

/// Where connections to ordinary destinations, those not in `.cloak`, leave from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Route {
    /// From this machine.
    #[default]
    Direct,
    /// Nowhere: they are answered `outbound-denied`.
    Deny,
    /// Through another proxy.
    Socks5(Upstream),
    /// From a peer that offers an exit: its entity, or one of its devices.
    Exit(Name),
}

/// A SOCKS5 proxy to which ordinary destinations are passed on, names unresolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<Login>,
}

/// What the upstream proxy wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Redacted<String>,
}

/// A text that is not a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRoute {
    /// None of the known forms.
    #[error(
        "not a route: write \"direct\", \"deny\", \"exit:NAME.cloak\" or \
         \"socks5://[user:password@]host:port\""
    )]
    Syntax,
    /// What follows `exit:` is nobody's name.
    #[error("not the name of an exit (it {0}): write \"exit:NAME.cloak\"")]
    Exit(NameError),
    /// The upstream proxy may not be a Cloak name: reaching it would need this very proxy.
    #[error("the upstream proxy cannot be a .cloak name")]
    CloakUpstream,
}

impl FromStr for Route {
    type Err = BadRoute;

    fn from_str(text: &str) -> Result<Self, BadRoute> {
        match text {
            "direct" => Ok(Self::Direct),
            "deny" => Ok(Self::Deny),
            _ => {
                if let Some(name) = text.strip_prefix("exit:") {
                    return exit(name).map(Self::Exit);
                }
                let rest = text
                    .strip_prefix("socks5://")
                    .or_else(|| text.strip_prefix("socks5h://"))
                    .ok_or(BadRoute::Syntax)?;
                upstream(rest.strip_suffix('/').unwrap_or(rest)).map(Self::Socks5)
            }
        }
    }
}

impl TryFrom<String> for Route {
    type Error = BadRoute;

    fn try_from(text: String) -> Result<Self, BadRoute> {
        text.parse()
    }
}

/// `home` is short for `home.cloak`.
fn exit(text: &str) -> Result<Name, BadRoute> {
    let short = !Name::is_cloak(text);
    let name = if short { &format!("{text}.cloak") } else { text };
    Name::parse(name).map_err(BadRoute::Exit)
}

fn upstream(text: &str) -> Result<Upstream, BadRoute> {
    let (login, address) = match text.rsplit_once('@') {
        Some((login, address)) => (Some(parse_login(login)?), address),
        None => (None, text),
    };
    let (host, port) = address.rsplit_once(':').ok_or(BadRoute::Syntax)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(BadRoute::Syntax)?;
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(BadRoute::Syntax);
    }
    if Name::is_cloak(host) {
        return Err(BadRoute::CloakUpstream);
    }
    Ok(Upstream { host: host.to_owned(), port, login })
}

fn parse_login(text: &str) -> Result<Login, BadRoute> {
    let (user, password) = text.split_once(':').ok_or(BadRoute::Syntax)?;
    let fits = |part: &str| (1..=LOGIN_MAX).contains(&part.len());
    if !fits(user) || !fits(password) {
        return Err(BadRoute::Syntax);
    }
    Ok(Login { user: user.to_owned(), password: Redacted(password.to_owned()) })
}

/// Bytes that RFC 1929 can carry of a name and of a password each.
const LOGIN_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_read_as_written() {
        assert_eq!("direct".parse(), Ok(Route::Direct));
        assert_eq!("deny".parse(), Ok(Route::Deny));
        for text in ["exit:home", "exit:Home.CLOAK"] {
            let Ok(Route::Exit(name)) = text.parse() else { panic!("{text}") };
            assert_eq!(name.to_string(), "home.cloak");
        }
        let Ok(Route::Socks5(upstream)) = "socks5://ann:p:w@[::1]:9050/".parse() else { panic!() };
        assert_eq!((upstream.host.as_str(), upstream.port), ("::1", 9050));
        assert_eq!(upstream.login.as_ref().unwrap().user, "ann");
        assert!(!format!("{upstream:?}").contains("p:w"), "a password is never printed");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(matches!("exit:".parse::<Route>(), Err(BadRoute::Exit(_))));
        assert!(matches!("exit:a b.cloak".parse::<Route>(), Err(BadRoute::Exit(_))));
        assert_eq!("socks5://Up.cloak.:1".parse::<Route>(), Err(BadRoute::CloakUpstream));
        for bad in ["", "Direct", "http://x:1", "socks5://x", "socks5://x:0", "socks5://u@x:1"] {
            assert_eq!(bad.parse::<Route>(), Err(BadRoute::Syntax), "{bad}");
        }
    }
}
