//! WebSocket at both ends: an echo, a ticking server, and a client that goes through a stream of its
//! caller's making.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

use crate::clock;

/// Pause between two ticks.
pub const TICK: Duration = Duration::from_millis(50);

/// Echoes each message until the other side closes.
pub(super) fn echo(stream: &TcpStream) -> io::Result<()> {
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                socket.send(message).map_err(to_io)?;
            }
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(to_io(error)),
        }
    }
}

/// Sends a running number every [`TICK`] until the other side is gone.
pub(super) fn tick(stream: &TcpStream) -> io::Result<()> {
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    for tick in 0_u64.. {
        socket.send(Message::text(tick.to_string())).map_err(to_io)?;
        clock::pause(TICK);
    }
    Ok(())
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// A client's end.
#[derive(Debug)]
pub struct WebSocketClient {
    socket: WebSocket<TcpStream>,
}

impl WebSocketClient {
    /// Upgrades `stream`, which leads to the server (through a proxy or not), at `ws://HOST/PATH`.
    ///
    /// # Panics
    /// When the server does not upgrade.
    #[must_use]
    pub fn upgrade(stream: TcpStream, url: &str) -> Self {
        let (socket, response) = tungstenite::client(url, stream)
            .unwrap_or_else(|error| panic!("no WebSocket at {url}: {error}"));
        assert_eq!(response.status(), 101);
        Self { socket }
    }

    /// Upgrades through a proxy that forwards plain HTTP: the request line has the whole URL.
    ///
    /// # Panics
    /// When the server does not upgrade.
    #[must_use]
    pub fn forwarded(stream: TcpStream, host: &str, path: &str) -> Self {
        let request = crate::http::Request::get(&format!("http://{host}{path}"));
        let request = request.header("Connection", "Upgrade").header("Upgrade", "websocket");
        let key = tungstenite::handshake::client::generate_key();
        let request =
            request.header("Sec-WebSocket-Key", &key).header("Sec-WebSocket-Version", "13");
        let response = request.send_on(&stream, host);
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some(accept.as_str()));
        Self { socket: WebSocket::from_raw_socket(stream, Role::Client, None) }
    }

    /// Sends a text and asserts that it comes back.
    ///
    /// # Panics
    /// When something else does.
    pub fn echoes(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the WebSocket takes a message");
        let back = self.socket.read().expect("the WebSocket answers");
        assert_eq!(back, Message::text(text));
    }

    /// Reads a message as text.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn read_text(&mut self) -> String {
        let message = self.socket.read().expect("the WebSocket goes on");
        message.to_text().expect("a text").to_owned()
    }

    /// Closes in order: both close frames were exchanged.
    ///
    /// # Panics
    /// When the server does not answer the close frame.
    pub fn close(mut self) {
        self.socket.close(None).expect("a close frame can be sent");
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return,
                Err(error) => panic!("not closed in order: {error}"),
            }
        }
    }
}

/// Answers an upgrade request whose key is `key`.
pub(super) fn accept(mut stream: impl Read + Write, key: &str) -> io::Result<()> {
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}
