//! What waits at stdin, looked at without taking it: where no session opens, whoever is tried next
//! finds it there.

use std::io;
use std::os::fd::AsFd;

use rustix::net::RecvFlags;
#[cfg(target_os = "linux")]
use rustix::pipe::{PipeFlags, SpliceFlags};

/// The front of what waits in a pipe or socket, at most `max` bytes; nothing is waited for. Of
/// anything else nothing: a terminal or a file cannot be looked at.
pub(super) fn peek(stdin: impl AsFd, max: usize) -> Vec<u8> {
    let mut bytes = vec![0; max];
    let peeked = peek_pipe(&stdin, &mut bytes).or_else(|_| peek_socket(&stdin, &mut bytes));
    bytes.truncate(peeked.unwrap_or(0));
    bytes
}

/// Takes `len` bytes that were peeked.
///
/// # Errors
/// What the system says; or somebody else took them.
pub(super) fn take(stdin: impl AsFd, len: usize) -> io::Result<()> {
    let mut left = vec![0; len];
    while !left.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::read(&stdin, &mut left))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left.truncate(left.len() - count),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn peek_pipe(stdin: impl AsFd, bytes: &mut [u8]) -> rustix::io::Result<usize> {
    let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let count = rustix::pipe::tee(stdin, to, bytes.len(), SpliceFlags::NONBLOCK)?;
    rustix::io::read(from, &mut bytes[..count])
}

#[cfg(not(target_os = "linux"))]
fn peek_pipe(_: impl AsFd, _: &mut [u8]) -> rustix::io::Result<usize> {
    Err(rustix::io::Errno::NOTSUP)
}

fn peek_socket(stdin: impl AsFd, bytes: &mut [u8]) -> rustix::io::Result<usize> {
    let (_, count) = rustix::net::recv(stdin, bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn check(mut from: impl AsFd + Read, mut to: impl Write) {
        assert_eq!(peek(&from, 8), b"", "nothing waits, and nothing is waited for");
        to.write_all(b"hello world").unwrap();
        assert_eq!(peek(&from, 5), b"hello");
        assert_eq!(peek(&from, 100), b"hello world", "it is still there");
        take(&from, 6).unwrap();
        drop(to);
        let mut rest = String::new();
        from.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), &peek(&from, 8)[..]), ("world", &b""[..]));
        assert_eq!(take(&from, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn pipes_and_sockets_are_looked_at_and_keep_what_they_hold() {
        let (from, to) = io::pipe().unwrap();
        check(from, to);
        let (from, to) = UnixStream::pair().unwrap();
        check(from, to);
        assert_eq!(peek(File::open("/dev/null").unwrap(), 8), b"");
        assert_eq!(peek(File::open("/proc/self/status").unwrap(), 8), b"");
    }
}
