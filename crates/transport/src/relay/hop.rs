//! Opening a plain hop, from either side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cloak_wire::{Cookie, PREAMBLE_LEN, Status, parse_preamble, preamble};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Cookies;
use crate::connection::SocketOptions;

/// Time for a host to answer a preamble; where it says nothing, something on the way lets only TLS
/// through.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for the TCP connection of a hop.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a hop could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// No TCP connection, or it broke.
    #[error("cannot open a hop: {0}")]
    Io(io::ErrorKind),
    /// The connection is up, and no status came: wrap the hop in TLS.
    #[error("no status in time")]
    Silent,
    /// The other side does not know the cookie, or speaks another protocol.
    #[error("the cookie was refused")]
    Refused,
}

impl From<io::Error> for HopError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Dials a neighbour and shows its cookie.
///
/// # Errors
/// See [`HopError`].
///
/// # Cancel safety
/// Dropping the future closes the attempt.
pub async fn open_hop(
    addr: SocketAddr,
    cookie: &Cookie,
    options: &SocketOptions,
) -> Result<TcpStream, HopError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect(addr));
    let mut tcp = connecting.await.map_err(|_| HopError::Io(io::ErrorKind::TimedOut))??;
    tcp.write_all(&preamble(cookie)).await?;
    let mut status = [0];
    match tokio::time::timeout(STATUS_TIMEOUT, tcp.read_exact(&mut status)).await {
        Err(_) => Err(HopError::Silent),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) => match Status::from_byte(status[0]) {
            Some(Status::Open) => Ok(tcp),
            Some(Status::Refused) | None => Err(HopError::Refused),
        },
    }
}

/// Reads the preamble on a connection that begins with one, answers it, and gives the hop to whoever
/// waits for it. The caller sets the deadline.
pub(crate) async fn accept_hop(
    mut tcp: TcpStream,
    cookies: &Cookies,
    options: &SocketOptions,
) -> Result<(), HopError> {
    options.apply(socket2::SockRef::from(&tcp))?;
    let mut bytes = [0; PREAMBLE_LEN];
    tcp.read_exact(&mut bytes).await?;
    let source = tcp.peer_addr()?.ip();
    let hop = parse_preamble(&bytes).and_then(|cookie| cookies.redeem(&cookie, source));
    let Some(hop) = hop else {
        tcp.write_all(&[Status::Refused.byte()]).await?;
        tcp.shutdown().await?;
        return Err(HopError::Refused);
    };
    tcp.write_all(&[Status::Open.byte()]).await?;
    // Whoever asked for the hop may have given up.
    hop.send(tcp.into()).map_err(|_| HopError::Refused)
}
