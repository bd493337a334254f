//! Transports between devices: TCP with TLS 1.3 and raw public keys, and what it takes to open
//! them, keep them and notice that the network changed.
//!
//! A [`Connection`] is one authenticated transport; what it is used for is not known here.

mod clock;
mod connection;
mod dialler;
mod lan;
mod listener;
mod locator;
mod race;
mod relay;
mod retry;
mod tls;
mod watch;

pub use clock::{Clock, SkewedClock, SystemClock, deadline, sleep_until};
pub use connection::{
    AcceptError, Carrier, Connection, DialError, HANDSHAKE_TIMEOUT, Progress, RecvError, SEND_MAX,
    SocketOptions, UnexpectedData,
};
pub use dialler::Dialler;
pub use lan::{Lan, LanError};
pub use listener::{Accepted, HalfOpen, Listener, ListenerLimits, ListenerStats, listen};
pub use locator::{LocatorError, Policy, Private, Subnet, canonical, dialable};
pub use race::{RACE_MAX, RACE_STAGGER, RaceError, race};
pub use relay::{
    COOKIE_LIFE, Cookies, HopError, Place, RelayLimits, RelayRefusal, Relaying, STATUS_TIMEOUT,
    SpliceEnd, Waiting, open_hop, splice,
};
pub use retry::{Hurry, Redial, Retry};
pub use tls::{Tls, TlsError, TlsSetupError};
pub use watch::{NetworkWatch, WakeWatch, interface_addresses, source_for};
