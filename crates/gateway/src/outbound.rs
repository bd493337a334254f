//! Connections to the ordinary Internet, for destinations that are not in `.cloak`.

pub(crate) mod direct;
mod upstream;

use std::io;

use cloak_node::Code;
use tokio::net::TcpStream;

use crate::config::Route;
use crate::destination::Destination;

/// Opens a connection to an ordinary destination the way `route` says.
///
/// # Errors
/// The code for the application. A `.cloak` name is refused here too: it must not reach a resolver.
///
/// # Cancel safety
/// Dropping the future gives up the connection.
pub(crate) async fn connect(route: &Route, destination: &Destination) -> Result<TcpStream, Code> {
    if matches!(destination, Destination::Cloak { .. }) {
        return Err(Code::UnknownName);
    }
    match route {
        Route::Direct => direct::connect(destination).await,
        Route::Deny => Err(Code::OutboundDenied),
        Route::Socks5(upstream) => upstream::connect(upstream, destination).await,
        // A session leads there.
        Route::Exit(_) => Err(Code::OutboundDenied),
    }
}

/// What a failed connection attempt means.
pub(crate) fn io_code(error: &io::Error) -> Code {
    use rustix::io::Errno;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Code::ConnectionRefused,
        io::ErrorKind::TimedOut => Code::Timeout,
        _ if is_exhaustion(error) => Code::Busy,
        _ if Errno::from_io_error(error) == Some(Errno::AGAIN) => Code::Busy,
        _ => Code::HostUnreachable,
    }
}

/// Whether the process or the system has no descriptors, ports or buffers left.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lack = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| lack.contains(&errno))
}
