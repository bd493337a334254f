//! `cloak connect NAME:PORT`: stdin and stdout as the application's end of a session.
//!
//! Made for `ssh -o ProxyCommand='cloak connect %h:%p'`. Copying is done by two threads, since
//! reading a terminal or a pipe cannot be made to wait without one. Half-closes travel both ways:
//! the end of stdin ends our direction only, and the far side's end closes stdout.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use bytes::Bytes;
use cloak_gateway::control::message::ServiceName;
use cloak_gateway::control::{Client, Rejoined};
use rustix::event::{PollFd, PollFlags, poll};

use crate::args::ServiceAddress;
use crate::exit::Failure;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A session's stream, outside the runtime.
pub(crate) struct Stream {
    socket: UnixStream,
    /// Its first bytes, already read.
    early: Bytes,
}

/// Opens the session. Its copying is [`copy`].
///
/// # Errors
/// No gateway is running, or the session cannot be opened.
pub(crate) async fn open(client: &Client, target: ServiceAddress) -> Result<Stream, Failure> {
    let ServiceAddress { name, port } = target;
    let Rejoined { socket, early } = client.open(&ServiceName { name, port: Some(port) }).await?;
    let socket = socket.into_std()?;
    socket.set_nonblocking(false)?;
    Ok(Stream { socket, early })
}

/// Copies until both directions have ended.
///
/// # Errors
/// What the system says of the socket or of stdout.
pub(crate) fn copy(Stream { socket, early }: Stream) -> Result<(), Failure> {
    let sender = socket.try_clone()?;
    // Not joined: where the far side has gone altogether, nothing may ever come from stdin.
    thread::spawn(move || send(&sender));
    match receive(&socket, &early) {
        // Whoever read our stdout has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        received => Ok(received.and_then(|()| wait_for_hangup(&socket))?),
    }
}

fn send(socket: &UnixStream) {
    // An error means that the far side is gone, which the receiving side sees as well.
    let _ = pump(io::stdin().lock(), socket);
    let _ = socket.shutdown(Shutdown::Write);
}

fn receive(socket: &UnixStream, early: &[u8]) -> io::Result<()> {
    // The descriptor itself, since the end has to reach whoever reads our stdout while we go on.
    let mut stdout = std::fs::File::from(rustix::io::dup(io::stdout())?);
    stdout.write_all(early)?;
    pump(socket, &stdout)?;
    drop(stdout);
    close_stdout()
}

/// Puts /dev/null in the place of stdout, so that its reader sees the end.
fn close_stdout() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}

fn pump(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns when the gateway has let go of the socket: both directions of the session ended.
fn wait_for_hangup(socket: &UnixStream) -> io::Result<()> {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    loop {
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => return Ok(()),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that shuts down its write side still gets the whole reply, and we end only when
    /// the far side has let go.
    #[test]
    fn half_closes_are_told_from_hangups() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        pump(&ours, &mut all).unwrap();
        assert!(all.is_empty());
        let mut fds = [PollFd::new(&ours, PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&now)), Ok(0), "the other direction is still open");
        drop(theirs);
        wait_for_hangup(&ours).unwrap();
    }
}
