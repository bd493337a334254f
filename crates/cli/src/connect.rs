//! `cloak connect NAME:PORT`: stdin and stdout as the application's end of a session.
//!
//! Made for `ssh -o ProxyCommand='cloak connect %h:%p'`. Copying is done by two threads, since
//! reading a terminal or a pipe cannot be made to wait without one. Half-closes travel both ways:
//! the end of stdin ends our direction only, and the far side's end closes stdout. The stream is one
//! of [`cloak_gateway::control::chunks`], so that a session that broke is a failure here, and our own end by a signal is a
//! reset there.

mod peek;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use bytes::Bytes;
use cloak_gateway::control::chunks::{CHUNK_BYTES_MAX, HEADER_LEN, Header};
use cloak_gateway::control::message::{Attach, Connect};
use cloak_gateway::control::{Client, Rejoined};
use cloak_node::{EARLY_MAX, HeldView};

use crate::args::ServiceAddress;
use crate::exit::Failure;
use peek::{peek, take};

/// A session's stream, outside the runtime.
pub(crate) struct Stream {
    socket: UnixStream,
    /// Its first bytes, already read.
    early: Bytes,
}

/// Why the far side's bytes do not come to an end in order.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    /// The session was reset or lost, or the gateway is gone: the application at this end has to
    /// start over.
    #[error(
        "the session broke off, so what came may not be all: the other side reset it, or it was \
         lost; `cloak sessions` shows the reason"
    )]
    Broken,
    /// Whoever read our stdout has seen enough.
    #[error("nobody reads the output any more")]
    Unread,
    /// What the system says of stdout.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

/// Opens the session. Its copying is [`copy`].
///
/// # Errors
/// No gateway is running, or the session cannot be opened.
pub(crate) async fn open(client: &Client, target: ServiceAddress) -> Result<Stream, Failure> {
    let ServiceAddress { name, port } = target;
    // An ssh client, for one, says its version at once: that saves a round trip.
    let said = peek(io::stdin(), EARLY_MAX);
    let Rejoined { socket, early } = client.open(&Connect::new(name, port, &said)).await?;
    take(io::stdin(), said.len())?;
    Stream::new(socket, early)
}

/// Attaches to a session that is held, and says where it goes on. Its copying is [`copy`].
///
/// # Errors
/// No gateway is running, or no such session is held.
pub(crate) async fn attach(client: &Client, asked: &Attach) -> Result<(Stream, HeldView), Failure> {
    let (Rejoined { socket, early }, held) = client.attach(asked).await?;
    Ok((Stream::new(socket, early)?, held))
}

impl Stream {
    fn new(socket: tokio::net::UnixStream, early: Bytes) -> Result<Self, Failure> {
        let socket = socket.into_std()?;
        socket.set_nonblocking(false)?;
        Ok(Self { socket, early })
    }
}

/// Copies until both directions have ended.
///
/// # Errors
/// The session broke off, or stdout cannot be written.
pub(crate) fn copy(Stream { socket, early }: Stream) -> Result<(), Failure> {
    let sender = socket.try_clone()?;
    // Not joined: where the far side has gone altogether, nothing may ever come from stdin.
    thread::spawn(move || send(io::stdin().lock(), &sender));
    // The descriptor itself, since the end has to reach whoever reads our stdout while we go on.
    let stdout = std::fs::File::from(rustix::io::dup(io::stdout()).map_err(io::Error::from)?);
    match receive(early.as_ref().chain(&socket), stdout, close_stdout) {
        Ok(()) | Err(ReceiveError::Unread) => Ok(()),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

/// Sends `from` to its end, and that it has ended. An error of the socket means that the far side is
/// gone, which the receiving side sees as well; after one of `from` the stream breaks off.
fn send(mut from: impl Read, mut socket: &UnixStream) {
    let mut chunk = vec![0; HEADER_LEN + CHUNK_BYTES_MAX];
    loop {
        let read = from.read(&mut chunk[HEADER_LEN..]);
        let header = match read {
            Ok(0) => Header::End,
            Ok(count) => Header::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Header::Reset,
        };
        let count = if let Header::Bytes(count) = header { count } else { 0 };
        chunk[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        if socket.write_all(&chunk[..HEADER_LEN + count]).is_err() || count == 0 {
            return;
        }
    }
}

/// Receives to the end of the stream into `to`, runs `ended`, and waits until the gateway has let
/// go of the socket: both directions of the session have ended.
fn receive<W: Write>(
    mut from: impl Read,
    mut to: W,
    ended: impl FnOnce() -> io::Result<()>,
) -> Result<(), ReceiveError> {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    while let Header::Bytes(mut left) = read_header(&mut from)?.ok_or(ReceiveError::Broken)? {
        while left > 0 {
            let count = read(&mut from, &mut chunk[..left])?;
            if count == 0 {
                return Err(ReceiveError::Broken);
            }
            to.write_all(&chunk[..count]).map_err(unwritten)?;
            left -= count;
        }
    }
    drop(to);
    ended().map_err(unwritten)?;
    if read_header(&mut from)?.is_some() { Err(ReceiveError::Broken) } else { Ok(()) }
}

/// The next header; nothing where the socket ended before it. A `Reset` is an error.
fn read_header(from: &mut impl Read) -> Result<Option<Header>, ReceiveError> {
    let (mut header, mut filled) = ([0; HEADER_LEN], 0);
    while filled < HEADER_LEN {
        match read(from, &mut header[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(ReceiveError::Broken),
            count => filled += count,
        }
    }
    match Header::from_bytes(header) {
        None | Some(Header::Reset) => Err(ReceiveError::Broken),
        known => Ok(known),
    }
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReceiveError> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|_| ReceiveError::Broken),
        }
    }
}

fn unwritten(error: io::Error) -> ReceiveError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReceiveError::Unread,
        _ => ReceiveError::Output(error),
    }
}

/// Puts /dev/null in the place of stdout, so that its reader sees the end.
fn close_stdout() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(parts: &[&[u8]]) -> (Vec<u8>, bool, Result<(), ReceiveError>) {
        let (bytes, mut to, mut ended) = (parts.concat(), Vec::new(), false);
        let result = receive(&bytes[..], &mut to, || {
            ended = true;
            Ok(())
        });
        (to, ended, result)
    }

    #[test]
    fn only_an_end_that_was_said_is_no_failure() {
        let (bytes, end) = (Header::Bytes(5).to_bytes(), Header::End.to_bytes());
        let reset = Header::Reset.to_bytes();
        let (to, ended, result) = received(&[&bytes, b"whole", &bytes, b"again", &end]);
        assert_eq!((&to[..], ended), (&b"wholeagain"[..], true));
        assert!(result.is_ok(), "{result:?}");
        for (broken, had_ended) in [
            (&[&bytes[..], b"whole"][..], false),
            (&[&bytes, b"who"], false),
            (&[&bytes, b"whole", &end[..2]], false),
            (&[&bytes, b"whole", &reset], false),
            (&[&bytes, b"whole", &end, &reset], true),
        ] {
            let (to, ended, result) = received(broken);
            assert!(b"whole".starts_with(&to[..]) && ended == had_ended);
            assert!(matches!(result, Err(ReceiveError::Broken)), "{broken:?}: {result:?}");
        }
    }

    /// The end of stdin ends our direction only; a stdin that fails is no end.
    #[test]
    fn what_is_sent_ends_in_order_or_as_a_reset() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::Other.into())
            }
        }
        for (from, last) in [
            (Box::new(&b"hello"[..]) as Box<dyn Read>, Header::End),
            (Box::new(b"hello".chain(Fails)), Header::Reset),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            send(from, &ours);
            drop(ours);
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).unwrap();
            assert_eq!(
                sent,
                [&Header::Bytes(5).to_bytes()[..], b"hello", &last.to_bytes()].concat()
            );
        }
    }
}
