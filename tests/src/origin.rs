//! Backends: what the services of a gateway lead to, and what the tests know about it.
//!
//! [`TcpOrigin`] runs a handler per raw connection; [`HttpOrigin`] speaks HTTP/1.1 and WebSocket.
//! One thread per connection: the tests open a thousand at most, and blocking code is easy to trust.

mod http;
mod tcp;
mod websocket;

pub use http::{HttpOrigin, RequestSeen};
pub(crate) use tcp::bind;
pub use tcp::{STREAM_BUFFER, TcpOrigin};
pub use websocket::{TICK, WebSocketClient};
