//! Through another SOCKS5 proxy. Names are passed on unresolved.
//!
//! The client side of SOCKS5 is written out here, although the server side is a library's: that
//! library's client panics on reply codes above 8, and what an upstream proxy sends is not ours to
//! trust.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cloak_node::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::direct::{race, resolve};
use crate::config::{Login, Upstream};
use crate::destination::Destination;

/// Asks `upstream` for a connection to `destination`.
///
/// # Errors
/// What the upstream proxy answered, as our own code for it; [`Code::HostUnreachable`] where it
/// cannot be reached or does not speak SOCKS5.
pub(super) async fn connect(
    upstream: &Upstream,
    destination: &Destination,
) -> Result<TcpStream, Code> {
    timeout(TIMEOUT, async {
        let addresses = match upstream.host.parse() {
            Ok(ip) => vec![SocketAddr::new(ip, upstream.port)],
            Err(_) => resolve(&upstream.host, upstream.port).await?,
        };
        let mut stream = race(addresses).await?;
        // Latency of small writes matters more than their number.
        let _ = stream.set_nodelay(true);
        let asked = ask(&mut stream, upstream.login.as_ref(), destination).await;
        asked.map_err(|_| Code::HostUnreachable)??;
        Ok(stream)
    })
    .await
    .map_err(|_| Code::Timeout)?
}

async fn ask(
    stream: &mut TcpStream,
    login: Option<&Login>,
    destination: &Destination,
) -> io::Result<Result<(), Code>> {
    let method = if login.is_some() { METHOD_PASSWORD } else { METHOD_NONE };
    stream.write_all(&[VERSION, 1, method]).await?;
    if read::<2>(stream).await? != [VERSION, method] {
        return Ok(Err(Code::NotAllowed));
    }
    if let Some(login) = login {
        stream.write_all(&login_request(login)).await?;
        if read::<2>(stream).await?[1] != 0 {
            return Ok(Err(Code::NotAllowed));
        }
    }
    stream.write_all(&connect_request(destination)).await?;
    let [version, reply, _, kind] = read(stream).await?;
    if version != VERSION {
        return Ok(Err(Code::HostUnreachable));
    }
    skip_bound_address(stream, kind).await?;
    Ok(code(reply))
}

fn login_request(login: &Login) -> Vec<u8> {
    let mut request = vec![1];
    for part in [&login.user, &login.password.0] {
        request.push(u8::try_from(part.len()).expect("invariant: checked when it was parsed"));
        request.extend_from_slice(part.as_bytes());
    }
    request
}

fn connect_request(destination: &Destination) -> Vec<u8> {
    let mut request = vec![VERSION, COMMAND_CONNECT, 0];
    let port = match destination {
        Destination::Address(SocketAddr::V4(address)) => {
            request.push(KIND_V4);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Destination::Address(SocketAddr::V6(address)) => {
            request.push(KIND_V6);
            request.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Destination::Name { name, port } | Destination::Cloak { name, port } => {
            let len = u8::try_from(name.len()).expect("invariant: a name has at most 253 bytes");
            request.extend_from_slice(&[KIND_NAME, len]);
            request.extend_from_slice(name.as_bytes());
            *port
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    request
}

async fn skip_bound_address(stream: &mut TcpStream, kind: u8) -> io::Result<()> {
    let len = match kind {
        KIND_V4 => 4,
        KIND_V6 => 16,
        KIND_NAME => usize::from(read::<1>(stream).await?[0]),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut address_and_port = [0; 255 + 2];
    stream.read_exact(&mut address_and_port[..len + 2]).await.map(drop)
}

fn code(reply: u8) -> Result<(), Code> {
    match reply {
        0 => Ok(()),
        2 => Err(Code::OutboundDenied),
        5 => Err(Code::ConnectionRefused),
        6 => Err(Code::Timeout),
        _ => Err(Code::HostUnreachable),
    }
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

const VERSION: u8 = 5;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
const COMMAND_CONNECT: u8 = 1;
const KIND_V4: u8 = 1;
const KIND_NAME: u8 = 3;
const KIND_V6: u8 = 4;

/// Longest time from the first dial to the upstream proxy's answer.
const TIMEOUT: Duration = Duration::from_secs(30);
