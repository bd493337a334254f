//! The server behind every path, and the requests that the load makes of it.
//!
//! A request is a letter and a number: `d` asks for that many bytes, `u` announces them and is
//! answered with one byte once they are here, both then end; `g` asks for so many and leaves the
//! connection open for more requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::Builder;

/// Bytes read or written at once: as much as a relay moves.
const BUFFER: usize = 256 * 1024;
/// Stack of a connection's thread: a thousand of them are cheap.
const STACK: usize = 64 * 1024;
const REQUEST: usize = 9;

/// Starts it; it ends with the program.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let address = listener.local_addr().expect("a bound listener has an address");
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = move || serve(stream);
            Builder::new().stack_size(STACK).spawn(serve).expect("a thread can be started");
        }
    });
    address
}

/// Downloads `bytes` over a fresh connection.
pub(crate) fn download(mut stream: TcpStream, bytes: u64) {
    request(&mut stream, b'd', bytes);
    assert_eq!(discard(&mut stream, u64::MAX).unwrap(), bytes, "the whole of it");
}

/// Uploads `bytes` over a fresh connection and waits until they have arrived.
pub(crate) fn upload(mut stream: TcpStream, bytes: u64) {
    request(&mut stream, b'u', bytes);
    fill(&mut stream, bytes).unwrap();
    stream.read_exact(&mut [0]).expect("the server has them all");
}

/// Gets `bytes` over a connection that stays open.
pub(crate) fn get(stream: &mut TcpStream, bytes: u64) {
    request(stream, b'g', bytes);
    assert_eq!(discard(stream, bytes).unwrap(), bytes, "the whole of it");
}

fn request(stream: &mut TcpStream, letter: u8, bytes: u64) {
    let mut request = [letter; REQUEST];
    request[1..].copy_from_slice(&bytes.to_be_bytes());
    stream.write_all(&request).expect("the path takes a request");
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request)?;
        let [letter, count @ ..] = request;
        let bytes = u64::from_be_bytes(count);
        match letter {
            b'd' => return fill(&mut stream, bytes),
            b'g' => fill(&mut stream, bytes)?,
            _ => {
                discard(&mut stream, bytes)?;
                return stream.write_all(&[0]);
            }
        }
    }
}

fn fill(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    let buffer = vec![b'x'; length(bytes)];
    let mut left = bytes;
    while left > 0 {
        let piece = length(left);
        stream.write_all(&buffer[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

/// Reads `bytes`, or up to the end; gives how many came.
fn discard(stream: &mut TcpStream, bytes: u64) -> io::Result<u64> {
    let mut buffer = vec![0; length(bytes)];
    let mut total = 0;
    while total < bytes {
        let most = length(bytes - total);
        match stream.read(&mut buffer[..most])? {
            0 => break,
            count => total += count as u64,
        }
    }
    Ok(total)
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).map_or(BUFFER, |bytes| bytes.min(BUFFER))
}
