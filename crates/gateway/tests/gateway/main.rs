//! The proxy port and the services over real sockets on loopback, with a fake node.
#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod http;
mod limits;
mod local_view;
mod outbound;
mod programs;
mod reload;
mod services;
mod socks;
mod streams;
mod strict;
mod support;
