//! The socket itself, back from an upgraded HTTP connection.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// A stream and what was read of it while it was still HTTP.
#[derive(Debug)]
pub struct Rejoined {
    /// The socket.
    pub socket: UnixStream,
    /// Its first bytes, already read.
    pub early: Bytes,
}

impl Rejoined {
    /// The socket under `upgraded`; `None` when it is no unix socket.
    pub(super) fn from_upgraded(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
        Some(Self { socket: parts.io.into_inner(), early: parts.read_buf })
    }
}
