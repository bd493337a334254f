//! Bytes to frames and back. Stateless but for the frame that is being read; docs/PROTOCOL.md is
//! the specification.
//!
//! A frame is a header of four bytes (type, then length as 24-bit big-endian) and a body. The body
//! of [`Data`](Item::Data) is raw application bytes and is handed out as it arrives; every other
//! body is one CBOR array (RFC 8949) of at most [`CONTROL_MAX`] bytes.

mod capsule;
mod code;
mod decoder;
mod frame;
mod hello;
mod load;
mod peer;
mod preamble;
mod session;

pub use capsule::{Capsule, Deposit, HandOver, Mark, Offer, Received, Sent};
pub use code::{Blame, Code};
pub use decoder::{Decoder, Item, WireError};
pub use frame::{Frame, data_header};
pub use hello::{Hello, Nonce, Purpose, Serials, VERSION};
pub use load::{Balance, Load};
pub use peer::PeerFrame;
pub use preamble::{Cookie, PREAMBLE_LEN, PREAMBLE_MAGIC, Status, parse_preamble, preamble};
pub use session::{Early, Open, Opened, Proof, Resume, Resumed, Secret, SessionFrame, Target};

/// Bytes before each frame's body.
pub const HEADER_LEN: usize = 4;
/// Largest body of a control frame, in bytes.
pub const CONTROL_MAX: usize = 8 * 1024;
/// Largest body of a `Data` frame, in bytes: what the 24-bit length can say, less nothing.
pub const DATA_MAX: usize = (1 << 24) - 1;
/// Largest number of bytes that go with an `Open`: a page, which holds nearly every request's head.
pub const EARLY_MAX: usize = 4 * 1024;
/// Largest number of locators in a binding or message.
pub const LOCATORS_MAX: usize = 8;
/// Largest number of sessions named in one `Nudge`.
pub const NUDGE_MAX: usize = 256;
/// Largest number of services in one `AskLoads`, and in its answer.
pub const LOADS_MAX: usize = 256;
