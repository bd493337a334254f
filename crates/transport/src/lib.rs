//! Transports between devices: TCP with TLS 1.3 and raw public keys, and what it takes to open
//! them, keep them and notice that the network changed.
//!
//! A [`Connection`] is one authenticated transport; what it is used for is not known here.

mod clock;
mod connection;
mod locator;
mod tls;

pub use clock::{Clock, SkewedClock, SystemClock, deadline, sleep_until};
pub use connection::{
    AcceptError, Connection, DialError, HANDSHAKE_TIMEOUT, Progress, RecvError, SEND_MAX,
    SocketOptions, UnexpectedData,
};
pub use locator::canonical;
pub use tls::{Tls, TlsError, TlsSetupError};
