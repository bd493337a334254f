//! Relaying: hops of circuits, at their ends and at the host that splices them.
//!
//! A host asks each of a circuit's two ends to open a hop with a one-time [cookie](Cookies), and
//! copies the bytes of one hop to the other ([`splice`]), within the [limits](RelayLimits). Who may
//! have a circuit is decided above. See docs/PROTOCOL.md, "Circuits".

mod cookies;
mod hop;
mod limits;
#[cfg(target_os = "linux")]
mod pipes;
mod splice;

pub use cookies::{COOKIE_LIFE, Cookies, Waiting};
pub use hop::{HopError, STATUS_TIMEOUT, open_hop};
pub use limits::{Place, RelayLimits, RelayRefusal, Relaying};
pub use splice::{SpliceEnd, splice};

pub(crate) use hop::accept_hop;
