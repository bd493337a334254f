//! How receiving on a connection ends.

use std::convert::Infallible;
use std::io;

use cloak_wire::WireError;

use crate::tls::TlsError;

/// Why nothing more can be received. Only this connection is concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecvError<E> {
    /// The peer closed in order, after a complete frame.
    #[error("closed by the peer")]
    Closed,
    /// The stream ended without a word, or within a frame: the path broke, or the peer died.
    #[error("connection cut")]
    Cut,
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(io::ErrorKind),
    /// TLS failed, or the peer refused us at the end of its handshake.
    #[error("TLS failed")]
    Tls(#[source] TlsError),
    /// The peer sent bytes that are no frames.
    #[error("malformed frame")]
    Wire(#[source] WireError),
    /// The handler refused an item; it is for the handler's owner to say why.
    #[error("refused")]
    Handler(E),
    /// The handler refused an item earlier, and receiving ended with that.
    #[error("receiving was stopped")]
    Stopped,
}

/// Application data came where only frames may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("application data where a frame was expected")]
pub struct UnexpectedData;

impl<E> RecvError<E> {
    /// The same end, as later calls repeat it.
    pub(super) fn without_handler(&self) -> RecvError<Infallible> {
        match self {
            Self::Closed => RecvError::Closed,
            Self::Cut => RecvError::Cut,
            Self::Io(kind) => RecvError::Io(*kind),
            Self::Tls(error) => RecvError::Tls(*error),
            Self::Wire(error) => RecvError::Wire(*error),
            Self::Handler(_) | Self::Stopped => RecvError::Stopped,
        }
    }
}

impl RecvError<Infallible> {
    /// The same end for any handler.
    pub(super) fn widen<E>(self) -> RecvError<E> {
        match self {
            Self::Closed => RecvError::Closed,
            Self::Cut => RecvError::Cut,
            Self::Io(kind) => RecvError::Io(kind),
            Self::Tls(error) => RecvError::Tls(error),
            Self::Wire(error) => RecvError::Wire(error),
            Self::Stopped => RecvError::Stopped,
        }
    }
}
