//! The application side and the service side of Cloak.
//!
//! One port speaks SOCKS5, SOCKS4a and HTTP to applications and turns each request into a session
//! (names that end in `.cloak`) or an ordinary connection ([`OutboundConfig`]). At the other end,
//! [`Services`] decides who may reach which local service, and connects to it. Overlay, sessions
//! and certificates are behind two small traits of `cloak-node`: `Opener` and `ServiceTable`.

mod config;
pub mod control;
mod destination;
mod errors;
mod exit;
mod http;
mod ingress;
mod outbound;
mod pipe;
mod proxy;
mod relay;
mod same_user;
mod services;
#[cfg(target_os = "linux")]
mod sock_diag;
mod socks4;
mod socks5;
mod stream;
mod users;

pub use config::{
    Allow, BadAlias, BadAllow, BadBalance, BadListenAddress, BadMovable, BadRoute, BadTarget,
    BadTime, ExitConfig, ListenAddress, OutboundConfig, ProxyConfig, Route, ServiceConfig,
    ServiceTarget, Timeout, Upstream, UserConfig,
};
pub use destination::{Aliases, Destination};
pub use errors::{Explanation, Failure, SOCKS5H_HINT, explain, http_status, socks5_reply};
pub use proxy::{BindError, Proxy, ProxyHandle, ReloadError, Reloaded};
pub use services::{ServiceRow, Services, ServicesError};
pub use users::UsersError;
