//! Connections over loopback sockets.
#![expect(clippy::unwrap_used, reason = "tests and their support")]

mod close;
mod handshake;
mod listener;
mod redial;
mod relay;
mod support;
mod transfer;
