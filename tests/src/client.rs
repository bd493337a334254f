//! Applications' side of the proxy port: SOCKS5, SOCKS4a and CONNECT, byte by byte, so that replies
//! can be asserted and nothing is hidden by a library's kindness.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::{Response, read_response};

/// A proxy that has not answered by then never will.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no stream.
#[derive(Debug)]
pub enum Refused {
    /// SOCKS5 reply other than 0, or SOCKS4 reply other than 90.
    Reply(u8),
    /// HTTP answer other than 200.
    Answer(Response),
    /// The connection to the proxy failed.
    Broken(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Refused {
    /// The SOCKS reply.
    ///
    /// # Panics
    /// When it was no SOCKS reply.
    #[track_caller]
    #[must_use]
    pub fn reply(&self) -> u8 {
        match self {
            Self::Reply(code) => *code,
            other => panic!("no SOCKS reply: {other:?}"),
        }
    }
}

/// A stream to `host:port` by SOCKS5, the name sent as text. It reads with a long timeout.
///
/// # Errors
/// The reply, where it is a refusal.
pub fn socks5(proxy: SocketAddr, host: &str, port: u16) -> Result<TcpStream, Refused> {
    let length = u8::try_from(host.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let mut address = vec![3, length];
    address.extend(host.bytes());
    socks5_request(proxy, 1, &address, port)
}

/// The same with an address instead of a name.
///
/// # Errors
/// The reply, where it is a refusal.
pub fn socks5_address(proxy: SocketAddr, to: SocketAddr) -> Result<TcpStream, Refused> {
    let mut address = vec![if to.is_ipv4() { 1 } else { 4 }];
    match to.ip() {
        IpAddr::V4(ip) => address.extend(ip.octets()),
        IpAddr::V6(ip) => address.extend(ip.octets()),
    }
    socks5_request(proxy, 1, &address, to.port())
}

/// Any SOCKS5 command; `address` begins with its type.
///
/// # Errors
/// The reply, where it is a refusal.
pub fn socks5_request(
    proxy: SocketAddr,
    command: u8,
    address: &[u8],
    port: u16,
) -> Result<TcpStream, Refused> {
    let mut stream = dial(proxy)?;
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    if method != [5, 0] {
        return Err(Refused::Reply(method[1]));
    }
    let mut request = vec![5, command, 0];
    request.extend(address);
    request.extend(port.to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply)?;
    if reply[1] != 0 {
        return Err(Refused::Reply(reply[1]));
    }
    let bound = if reply[3] == 4 { 18 } else { 6 };
    stream.read_exact(&mut [0; 18][..bound])?;
    Ok(stream)
}

/// A stream to `host:port` by SOCKS4a.
///
/// # Errors
/// The reply, where it is a refusal.
pub fn socks4a(proxy: SocketAddr, host: &str, port: u16) -> Result<TcpStream, Refused> {
    let mut stream = dial(proxy)?;
    let mut request = vec![4, 1];
    request.extend(port.to_be_bytes());
    request.extend([0, 0, 0, 1]);
    request.extend(b"user\0");
    request.extend(host.bytes());
    request.push(0);
    stream.write_all(&request)?;
    let mut reply = [0; 8];
    stream.read_exact(&mut reply)?;
    if reply[1] == 90 { Ok(stream) } else { Err(Refused::Reply(reply[1])) }
}

/// A stream to `host:port` by HTTP CONNECT.
///
/// # Errors
/// The answer, where it is no 200.
pub fn connect(proxy: SocketAddr, host: &str, port: u16) -> Result<TcpStream, Refused> {
    let mut stream = dial(proxy)?;
    write!(stream, "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 200") {
        return Ok(stream);
    }
    let rest = head.as_slice().chain(stream);
    Err(Refused::Answer(read_response(rest, false)?))
}

/// A connection to the proxy port with the timeouts of an application that is patient.
///
/// # Errors
/// Whatever the kernel says.
pub fn dial(proxy: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `bytes` and asserts that an echo returns them.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn assert_echo(stream: &mut TcpStream, bytes: &[u8]) {
    let mut writer = stream.try_clone().expect("a second handle");
    let mut back = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).expect("the stream takes bytes"));
        stream.read_exact(&mut back).expect("the echo answers");
    });
    assert!(back == bytes, "the echo returned other bytes");
}

/// Makes the drop of a stream a reset instead of an orderly end.
///
/// # Panics
/// When the option cannot be set.
pub fn reset(stream: TcpStream) {
    let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("linger can be set");
    drop(stream);
}

/// Whether an error is a reset by the other side.
#[must_use]
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
