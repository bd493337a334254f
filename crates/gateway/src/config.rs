//! The parts `[proxy]`, `[outbound]`, `[[service]]` and `[aliases]` of `config.toml`.
//!
//! Every value is parsed while it is read, so a mistake is reported with its line and column and
//! nothing has to be validated later but what concerns several keys at once.

mod exit;
mod listen;
mod route;
mod service;
mod timeout;

use std::path::PathBuf;

use serde::Deserialize;

pub use self::exit::ExitConfig;
pub use self::listen::{BadListenAddress, ListenAddress};
pub(crate) use self::route::Login;
pub use self::route::{BadRoute, Route, Upstream};
pub use self::service::{
    Allow, BadAllow, BadBalance, BadMovable, BadTarget, ServiceConfig, ServiceTarget,
};
pub(crate) use self::service::{balance_word, movable_word};
pub use self::timeout::{BadTime, Timeout};
pub use crate::destination::BadAlias;

/// `[proxy]`: the application side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// Where applications connect: `ADDRESS:PORT` or `unix:PATH`. Default `127.0.0.1:1080`, the
    /// port that clients try by themselves.
    pub listen: Vec<ListenAddress>,
    /// Whether `http://NAME.cloak.localhost:PORT/` is served to browsers with no proxy set.
    /// Default true. Always off while `users` are configured, since it could not ask for a
    /// password without taking the service's own `Authorization` header.
    pub local_view: bool,
    /// Refuses loopback connections of other users of this machine. Default false, since a system
    /// service serves several users.
    pub same_user: bool,
    /// Who may use the proxy; empty (the default) means whoever can connect. Mandatory for
    /// listeners that are not on loopback.
    pub users: Vec<UserConfig>,
    /// Longest time from the first byte of a request to its last. Default 10 s; at most 10 min.
    pub handshake_timeout: Timeout,
    /// Longest wait for a session to open, or for an ordinary destination to answer. Default
    /// 60 s: longer than every step inside, so that their more precise answers come first.
    pub open_timeout: Timeout,
    /// Most connections of applications at a time; more are answered `busy`. Default 16384.
    pub connections_max: usize,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::default()],
            local_view: true,
            same_user: false,
            users: Vec::new(),
            handshake_timeout: Timeout::from_secs(10),
            open_timeout: Timeout::from_secs(60),
            connections_max: 16_384,
        }
    }
}

impl ProxyConfig {
    /// The first listener that other machines could reach although no user is configured.
    pub fn open_to_strangers(&self) -> Option<&ListenAddress> {
        let exposed = |address: &&ListenAddress| !address.is_local();
        self.users.is_empty().then(|| self.listen.iter().find(exposed)).flatten()
    }
}

/// One user of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// What the user types; 1 to 255 bytes, no colon (HTTP could not carry it).
    pub name: String,
    /// File whose first line is the password; readable by its owner only.
    pub password_file: PathBuf,
}

/// `[outbound]`: what happens to names that do not end in `.cloak`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// `direct` (the default), `deny`, `exit:NAME.cloak`, or `socks5://[user:password@]host:port`.
    pub default: Route,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_documented_defaults() {
        let proxy: ProxyConfig = toml::from_str("").unwrap();
        assert_eq!(proxy, ProxyConfig::default());
        assert_eq!(proxy.listen[0].to_string(), "127.0.0.1:1080");
        assert!(proxy.local_view && !proxy.same_user);
        assert_eq!(toml::from_str::<OutboundConfig>("").unwrap().default, Route::Direct);
    }

    #[test]
    fn mistakes_are_reported_with_their_place() {
        for (text, expected) in [
            ("listen = [\"localhost\"]", "line 1, column 10"),
            ("local_view = true\nlisten_on = []", "line 2, column 1"),
            ("handshake_timeout = \"10 parsecs\"", "line 1, column 21"),
        ] {
            let error = toml::from_str::<ProxyConfig>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let exit = toml::from_str::<OutboundConfig>("default = \"exit:-\"").unwrap_err();
        assert!(exit.to_string().contains("not the name of an exit"), "{exit}");
    }

    #[test]
    fn only_listeners_beyond_this_machine_need_users() {
        let mut config = ProxyConfig::default();
        for (address, exposed) in
            [("127.0.0.1:0", false), ("[::1]:1", false), ("unix:/x", false), ("0.0.0.0:1", true)]
        {
            config.listen = vec![address.parse().unwrap()];
            assert_eq!(config.open_to_strangers().is_some(), exposed, "{address}");
        }
        let user = UserConfig { name: "ann".into(), password_file: "/p".into() };
        config.users = vec![user];
        assert_eq!(config.open_to_strangers(), None);
    }
}
