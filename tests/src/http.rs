//! A small HTTP/1.1 client that sends exactly the bytes it is told to: what a well-behaved client
//! library would refuse to send is what a proxy must be tested with.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Body without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Request {
    /// A request. Its `Host` is what the target says where that is a whole URL, else the server's
    /// address, unless one is given.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// `GET`.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body, with its length.
    #[must_use]
    pub fn body(self, body: &[u8]) -> Self {
        let length = body.len().to_string();
        self.header("Content-Length", &length).raw(body)
    }

    /// Sets the bytes after the head, without a header for them.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(&mut self.body);
        self
    }

    /// The bytes that go over the wire.
    #[must_use]
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let url = self.target.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let host = url.unwrap_or(host);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            bytes.extend(format!("Host: {host}\r\n").bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    /// Sends it over a connection of its own.
    ///
    /// # Panics
    /// When there is no well-formed answer.
    #[track_caller]
    #[must_use]
    pub fn send(&self, server: SocketAddr) -> Response {
        let stream = TcpStream::connect(server).expect("the server accepts");
        self.send_on(&stream, &server.to_string())
    }

    /// Sends it over a connection that may carry more.
    ///
    /// # Panics
    /// When there is no well-formed answer.
    #[track_caller]
    #[must_use]
    pub fn send_on(&self, mut stream: &TcpStream, host: &str) -> Response {
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout can be set");
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(&self.bytes(host));
        read_response(stream, self.method == "HEAD").expect("a well-formed answer")
    }
}

/// Reads one answer, by its framing; nothing behind it is lost only where the server sends no more
/// before it is asked again.
///
/// # Errors
/// Whatever the connection says; `InvalidData` where it is no HTTP.
pub fn read_response(stream: impl Read, head_only: bool) -> std::io::Result<Response> {
    let mut reader = BufReader::new(stream);
    let (status, headers) = loop {
        let (status, headers) = read_head(&mut reader)?;
        if status != 100 {
            break (status, headers);
        }
    };
    let mut response = Response { status, headers, body: Vec::new() };
    let chunked = response.header("transfer-encoding").is_some();
    let length = response.header("content-length").and_then(|value| value.parse::<u64>().ok());
    let empty = head_only || matches!(status, 101 | 204 | 304);
    match (empty, chunked, length) {
        (true, ..) => {}
        (_, true, _) => read_chunks(&mut reader, &mut response.body)?,
        (_, _, Some(length)) => {
            let read = reader.take(length).read_to_end(&mut response.body)?;
            if (read as u64) < length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        _ => {
            reader.read_to_end(&mut response.body)?;
        }
    }
    Ok(response)
}

type Head = (u16, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Head> {
    let line = read_line(reader)?;
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, line))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok((status, headers))
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let line = read_line(reader)?;
        let length = u64::from_str_radix(&line, 16).map_err(|_| ErrorKind::InvalidData)?;
        let read = reader.by_ref().take(length).read_to_end(body)?;
        if (read as u64) < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        read_line(reader)?;
        if length == 0 {
            return Ok(());
        }
    }
}
