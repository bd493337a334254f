//! Binding the proxy's listeners.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{BindError, Listening};
use crate::config::ListenAddress;
use crate::stream::Socket;

/// A bound listener.
#[derive(Debug)]
pub(super) struct Bound {
    configured: ListenAddress,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// Removes the socket's file when the listener goes.
#[derive(Debug)]
struct SocketFile(PathBuf);

/// A connection just accepted, and its two ends where it has addresses.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
}

pub(super) enum Peer {
    Tcp { peer: SocketAddr, local: SocketAddr },
    Unix { uid: Option<u32> },
}

impl Bound {
    pub(super) fn new(address: &ListenAddress) -> Result<Self, BindError> {
        let refused =
            |error: io::Error| BindError::Listen { address: address.clone(), reason: error.kind() };
        let listener = match address {
            ListenAddress::Tcp(tcp) => {
                let listener = bind_tcp(*tcp).map_err(refused)?;
                let actual = listener.local_addr().map_err(refused)?;
                Listener::Tcp(listener, actual)
            }
            ListenAddress::Unix(path) => {
                clear(path)?;
                let listener = bind_unix(path).map_err(refused)?;
                Listener::Unix { listener, _file: SocketFile(path.clone()) }
            }
        };
        Ok(Self { configured: address.clone(), listener })
    }

    pub(super) fn configured(&self) -> &ListenAddress {
        &self.configured
    }

    pub(super) fn listening(&self) -> Listening {
        let actual = match &self.listener {
            Listener::Tcp(_, actual) => ListenAddress::Tcp(*actual),
            Listener::Unix { .. } => self.configured.clone(),
        };
        Listening { configured: self.configured.clone(), actual }
    }

    /// The next connection.
    ///
    /// # Cancel safety
    /// Safe: no connection is lost.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.listener {
            Listener::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                // Latency of small writes matters more than their number.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr()?;
                Ok(Accepted { socket: Socket::Tcp(stream), peer: Peer::Tcp { peer, local } })
            }
            Listener::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                Ok(Accepted { socket: Socket::Unix(stream), peer: Peer::Unix { uid } })
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The mode is set between bind and listen, so that nobody else can connect in between.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Removes a socket that a dead program left, and nothing else.
fn clear(path: &Path) -> Result<(), BindError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // What keeps it from being removed keeps the bind that follows from succeeding.
            let _ = fs::remove_file(path);
            Ok(())
        }
        _ => Err(BindError::InUse(path.to_owned())),
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
