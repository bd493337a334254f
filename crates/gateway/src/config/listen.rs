//! Where the proxy listens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// Where the proxy listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A unix socket, created with mode 0600.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, DEFAULT_PORT).into())
    }
}

/// A text that is not a place to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a listen address: write ADDRESS:PORT, as in \"127.0.0.1:1080\", or unix:PATH")]
pub struct BadListenAddress;

impl FromStr for ListenAddress {
    type Err = BadListenAddress;

    fn from_str(text: &str) -> Result<Self, BadListenAddress> {
        match text.strip_prefix("unix:") {
            Some("") => Err(BadListenAddress),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| BadListenAddress),
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = BadListenAddress;

    fn try_from(text: String) -> Result<Self, BadListenAddress> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

const DEFAULT_PORT: u16 = 1080;
