//! From a TCP stream to an authenticated [`Connection`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_wire::Decoder;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scratch::LEFT_OVER_MAX;
use super::{Carrier, Connection, Outgoing, Side, SocketOptions};
use crate::locator::canonical;
use crate::tls::{Engine, State, Tls, TlsError};

/// Time for a transport to open: from the dial to the end of TLS, or from the accept to a verified
/// `Hello`.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// First size of the buffer of a handshake, in bytes; each of its flights is below 2 KiB.
const INPUT_FIRST: usize = 4 * 1024;

/// Why a dial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No TCP connection, or it broke: try later or elsewhere.
    #[error("cannot connect: {0}")]
    Io(io::ErrorKind),
    /// Too many dials to that address led nowhere lately; nothing was sent. Try later.
    #[error("dialled too often")]
    Busy,
    /// Nothing came of it within [`HANDSHAKE_TIMEOUT`].
    #[error("no answer in time")]
    Timeout,
    /// The other side closed during the handshake.
    #[error("closed during the handshake")]
    Closed,
    /// TLS failed; [`TlsError::WrongPeer`] when another device answered.
    #[error("TLS failed")]
    Tls(#[from] TlsError),
}

/// Why an accepted TCP connection came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The TCP connection broke.
    #[error("connection failed: {0}")]
    Io(io::ErrorKind),
    /// The other side closed during the handshake.
    #[error("closed during the handshake")]
    Closed,
    /// TLS failed.
    #[error("TLS failed")]
    Tls(#[from] TlsError),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl From<AcceptError> for DialError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Io(kind) => Self::Io(kind),
            AcceptError::Closed => Self::Closed,
            AcceptError::Tls(error) => Self::Tls(error),
        }
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl Connection {
    /// Connects to `addr` and proves both devices to each other, within [`HANDSHAKE_TIMEOUT`].
    /// Whether the address may be dialled at all is for [`dialable`](crate::dialable) to say.
    ///
    /// # Errors
    /// See [`DialError`]. `expected` is the only device that may answer; none accepts any.
    ///
    /// # Cancel safety
    /// Dropping the future closes the attempt.
    pub async fn dial(
        addr: SocketAddr,
        tls: &Tls,
        expected: Option<DeviceId>,
        options: &SocketOptions,
    ) -> Result<Self, DialError> {
        let opening = async {
            let tcp = options.connect(addr).await?;
            Ok(open(tcp.into(), tls.dial(expected)?, Side::Dialler, None).await?)
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await.unwrap_or(Err(DialError::Timeout))
    }

    /// Proves both devices to each other on an accepted connection. The caller sets the deadline,
    /// [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// See [`AcceptError`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept(
        tcp: TcpStream,
        tls: &Tls,
        options: &SocketOptions,
    ) -> Result<Self, AcceptError> {
        options.apply(SockRef::from(&tcp))?;
        open(tcp.into(), tls.accept()?, Side::Acceptor, None).await
    }

    /// Proves both devices to each other over a hop of a circuit, as the one that asked for it; the
    /// host `via` sees ciphertext only. Within [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// As for [`Connection::dial`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the hop.
    pub async fn dial_over(
        hop: Carrier,
        tls: &Tls,
        expected: DeviceId,
        via: DeviceId,
    ) -> Result<Self, DialError> {
        let opening = open(hop, tls.dial(Some(expected))?, Side::Dialler, Some(via));
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await;
        Ok(opened.map_err(|_| DialError::Timeout)??)
    }

    /// The same as the other end of the circuit. The caller sets the deadline.
    ///
    /// # Errors
    /// As for [`Connection::accept`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the hop.
    pub async fn accept_over(hop: Carrier, tls: &Tls, via: DeviceId) -> Result<Self, AcceptError> {
        open(hop, tls.accept()?, Side::Acceptor, Some(via)).await
    }
}

async fn open(
    mut carrier: Carrier,
    mut engine: Engine,
    side: Side,
    via: Option<DeviceId>,
) -> Result<Connection, AcceptError> {
    let mut out = Outgoing::default();
    let mut input = Vec::new();
    let mut received = Vec::new();
    loop {
        let mut sink = |plain: &[u8]| received.extend_from_slice(plain);
        let (used, state) = engine.open(&mut input, &mut out, &mut sink);
        input.drain(..used);
        // The last flight, or an alert, is sent whatever the state is.
        let sent = send_all(&mut carrier, &mut out).await;
        match state? {
            State::Open => {
                sent?;
                break;
            }
            State::PeerClosed => return Err(AcceptError::Closed),
            State::Handshaking => {
                sent?;
                read_more(&mut carrier, &mut input).await?;
            }
        }
    }
    input.shrink_to_fit();
    Ok(Connection {
        peer: engine.peer()?,
        local_addr: canonical(carrier.tcp().local_addr()?),
        peer_addr: canonical(carrier.tcp().peer_addr()?),
        carrier,
        via,
        engine,
        side,
        decoder: Decoder::default(),
        left_over: input,
        received,
        plain: Vec::new(),
        out,
        ended: None,
        sending: super::Sending::Open,
    })
}

async fn send_all(carrier: &mut Carrier, out: &mut Outgoing) -> Result<(), AcceptError> {
    while out.len() > 0 {
        let len = carrier.write(out.unsent()).await?;
        if len == 0 {
            return Err(AcceptError::Io(io::ErrorKind::WriteZero));
        }
        out.consume(len);
    }
    Ok(carrier.flush().await?)
}

async fn read_more(carrier: &mut Carrier, input: &mut Vec<u8>) -> Result<(), AcceptError> {
    if input.len() >= LEFT_OVER_MAX {
        return Err(TlsError::Misbehaved.into());
    }
    if input.capacity() - input.len() < INPUT_FIRST {
        input.reserve(INPUT_FIRST);
    }
    // Records after the handshake may come along; what they hold is kept for the first poll.
    let room = (LEFT_OVER_MAX - input.len()).min(INPUT_FIRST);
    let before = input.len();
    input.resize(before + room, 0);
    let read = carrier.read(&mut input[before..]).await;
    input.truncate(before + *read.as_ref().unwrap_or(&0));
    match read? {
        0 => Err(AcceptError::Closed),
        _ => Ok(()),
    }
}
