//! An HTTP/1.1 backend that remembers each request head exactly as it came.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bytes/N` | N bytes of [`HttpOrigin::PATTERN`]; `?rate=R` paced, `?chunked=1` chunked |
//! | `PUT` or `POST /hash` | `LENGTH SHA256` of the body, after `100 Continue` where expected |
//! | `GET /page` | a page whose WebSocket counts ticks in `document.title` |
//! | `GET /cookie` | sets a cookie with a `Domain` |
//! | `GET /tick`, `GET /echo` with upgrade | a WebSocket |
//! | `GET` of a file under a given directory | the file: enough for a clone of a bare repository |
//! | other | 404 |

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::tcp::{Served, TcpOrigin, bind};
use super::websocket;
use crate::clock::Pace;
use crate::pattern::{Pattern, Sha256};

/// Longest request head.
const HEAD_MAX: u64 = 128 * 1024;
/// Bytes of a body written at once.
const PIECE: usize = 4096;
/// Requests remembered.
const REQUESTS_MAX: usize = 4096;

/// The page of `/page`: a tick later than the one before by exactly one, or it says so for ever.
const PAGE: &str = "<!doctype html><title>0</title><script>\
    window.wrong = 0; window.last = -1; window.ended = 0;\
    const socket = new WebSocket('ws://' + location.host + '/tick');\
    socket.onmessage = event => { const tick = Number(event.data);\
    if (tick !== window.last + 1) window.wrong += 1; window.last = tick;\
    document.title = String(tick); };\
    socket.onclose = () => { window.ended += 1; };</script>";

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSeen {
    /// Request line and headers, with their line ends, without the empty line.
    pub head: String,
    /// Where the connection came from.
    pub peer: SocketAddr,
}

impl RequestSeen {
    /// All values of a header, in order.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// Method and path.
    #[must_use]
    pub fn target(&self) -> (&str, &str) {
        let mut words = self.head.split_ascii_whitespace();
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    }
}

/// The backend.
#[derive(Debug)]
pub struct HttpOrigin {
    tcp: TcpOrigin,
    requests: Arc<Mutex<Vec<RequestSeen>>>,
}

impl HttpOrigin {
    /// Every body is this stream from its start.
    pub const PATTERN: u64 = 42;

    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        Self::on(bind(), None)
    }

    /// Starts one that also serves the files of a directory.
    #[must_use]
    pub fn with_files(directory: &Path) -> Self {
        Self::on(bind(), Some(directory.to_path_buf()))
    }

    /// Starts one on a listener, for example of a network namespace.
    #[must_use]
    pub fn on(listener: TcpListener, files: Option<PathBuf>) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let tcp = TcpOrigin::serve(listener, move |served: &mut Served<'_>| {
            Exchange { stream: served.stream, seen: &seen, files: files.as_deref() }.serve()
        });
        Self { tcp, requests }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.tcp.address()
    }

    /// Where the last connection came from.
    #[must_use]
    pub fn last_peer(&self) -> Option<SocketAddr> {
        self.tcp.last_peer()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.tcp.accepted()
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.tcp.open()
    }

    /// Connections that ended by a reset from the other side.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.tcp.resets()
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest request.
    ///
    /// # Panics
    /// When there was none.
    #[must_use]
    pub fn last_request(&self) -> RequestSeen {
        self.requests().pop().expect("a request arrived")
    }

    /// What `GET /bytes/N` answers, as SHA-256.
    #[must_use]
    pub fn sha256(length: u64) -> String {
        Pattern::new(Self::PATTERN).sha256(length)
    }
}

struct Exchange<'a> {
    stream: &'a TcpStream,
    seen: &'a Mutex<Vec<RequestSeen>>,
    files: Option<&'a Path>,
}

impl Exchange<'_> {
    /// Requests of one connection, one after another.
    fn serve(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let mut reader = BufReader::new(self.stream);
        while let Some(request) = self.read_head(&mut reader)? {
            let (method, path) = request.target();
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            match (method, path) {
                ("GET", "/tick") => return self.upgrade(&request, websocket::tick),
                ("GET", "/echo") => return self.upgrade(&request, websocket::echo),
                ("GET" | "HEAD", "/page") => self.answer("text/html", PAGE.as_bytes())?,
                ("GET", "/cookie") => self.set_cookie(&request)?,
                ("PUT" | "POST", "/hash") => self.hash(&request, &mut reader)?,
                ("GET", path) => self.get(path, query)?,
                _ => self.not_found()?,
            }
            if request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn read_head(&self, reader: &mut BufReader<&TcpStream>) -> io::Result<Option<RequestSeen>> {
        let mut head = String::new();
        loop {
            let before = head.len();
            if reader.by_ref().take(HEAD_MAX).read_line(&mut head)? == 0 {
                return if head.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
            if head[before..].trim().is_empty() {
                head.truncate(before);
                break;
            }
        }
        let request = RequestSeen { head, peer: self.stream.peer_addr()? };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < REQUESTS_MAX {
            seen.push(request.clone());
        }
        Ok(Some(request))
    }

    fn upgrade(
        &self,
        request: &RequestSeen,
        speak: impl Fn(&TcpStream) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(key) = request.header("sec-websocket-key") else { return self.not_found() };
        websocket::accept(self.stream, key)?;
        speak(self.stream)
    }

    fn get(&self, path: &str, query: &str) -> io::Result<()> {
        let option =
            |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        match path.strip_prefix("/bytes/").and_then(|length| length.parse().ok()) {
            Some(length) => {
                let rate = option("rate").and_then(|rate| rate.parse().ok());
                self.bytes(length, rate, option("chunked") == Some("1"))
            }
            None => self.file(path),
        }
    }

    fn bytes(&self, length: u64, rate: Option<u64>, chunked: bool) -> io::Result<()> {
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {length}")
        };
        let mut stream = self.stream;
        write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")?;
        let pattern = Pattern::new(HttpOrigin::PATTERN);
        let mut pace = rate.map(Pace::new);
        let (mut offset, mut buffer) = (0, [0; PIECE]);
        while offset < length {
            let take = usize::try_from(length - offset).unwrap_or(PIECE).min(PIECE);
            pattern.fill(offset, &mut buffer[..take]);
            if chunked {
                write!(stream, "{take:x}\r\n")?;
            }
            stream.write_all(&buffer[..take])?;
            if chunked {
                stream.write_all(b"\r\n")?;
            }
            offset += take as u64;
            pace.iter_mut().for_each(|pace| pace.spend(take as u64));
        }
        if chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
    }

    fn hash(&self, request: &RequestSeen, reader: &mut BufReader<&TcpStream>) -> io::Result<()> {
        let mut stream = self.stream;
        if request.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let chunked = request.header("transfer-encoding").is_some();
        let (mut digest, mut total) = (Sha256::new(), 0);
        let mut left = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        loop {
            if chunked {
                left = chunk_length(reader)?;
            }
            total += take_body(reader, left, &mut digest)?;
            if chunked {
                reader.read_line(&mut String::new())?;
            }
            if !chunked || left == 0 {
                break;
            }
        }
        self.answer("text/plain", format!("{total} {}", digest.finish()).as_bytes())
    }

    fn set_cookie(&self, request: &RequestSeen) -> io::Result<()> {
        let host = request.header("host").unwrap_or("");
        let mut stream = self.stream;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Domain={host}; Path=/\r\nContent-Length: 2\r\n\r\nok"
        )
    }

    fn file(&self, path: &str) -> io::Result<()> {
        let relative = Path::new(path.trim_start_matches('/'));
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        let found = self.files.filter(|_| plain).map(|files| std::fs::read(files.join(relative)));
        match found {
            Some(Ok(bytes)) => self.answer("application/octet-stream", &bytes),
            _ => self.not_found(),
        }
    }

    fn not_found(&self) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    }

    fn answer(&self, kind: &str, body: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )?;
        stream.write_all(body)
    }
}

fn chunk_length(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    u64::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::InvalidData.into())
}

fn take_body(reader: &mut impl Read, length: u64, digest: &mut Sha256) -> io::Result<u64> {
    let (mut left, mut buffer) = (length, [0; PIECE]);
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        reader.read_exact(&mut buffer[..take])?;
        digest.update(&buffer[..take]);
        left -= take as u64;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;

    #[test]
    fn a_body_has_the_digest_that_was_told() {
        let origin = HttpOrigin::start();
        for path in ["/bytes/70000", "/bytes/70000?chunked=1", "/bytes/70000?rate=1000000"] {
            let response = Request::get(path).send(origin.address());
            assert_eq!(response.status, 200);
            let mut digest = Sha256::new();
            digest.update(&response.body);
            assert_eq!(digest.finish(), HttpOrigin::sha256(70_000), "{path}");
        }
    }

    #[test]
    fn an_upload_is_hashed() {
        let origin = HttpOrigin::start();
        let response = Request::new("PUT", "/hash").body(b"abc").send(origin.address());
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.starts_with("3 ba7816bf"), "{text}");
        let chunked = b"3\r\nabc\r\n0\r\n\r\n";
        let raw = Request::new("POST", "/hash").header("Transfer-Encoding", "chunked").raw(chunked);
        assert_eq!(String::from_utf8(raw.send(origin.address()).body).unwrap(), text);
    }

    #[test]
    fn requests_are_remembered_and_files_stay_in_their_directory() {
        let origin = HttpOrigin::with_files(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(Request::get("/Cargo.toml").send(origin.address()).status, 200);
        assert_eq!(origin.last_request().target(), ("GET", "/Cargo.toml"));
        assert_eq!(Request::get("/../Cargo.toml").send(origin.address()).status, 404);
    }

    #[test]
    fn web_sockets_echo_and_tick() {
        use crate::origin::WebSocketClient;
        let origin = HttpOrigin::start();
        let connect = || TcpStream::connect(origin.address()).unwrap();
        let mut echo = WebSocketClient::upgrade(connect(), "ws://origin/echo");
        echo.echoes("hello");
        echo.close();
        let mut ticks = WebSocketClient::upgrade(connect(), "ws://origin/tick");
        assert_eq!((ticks.read_text(), ticks.read_text()), ("0".to_owned(), "1".to_owned()));
    }
}
