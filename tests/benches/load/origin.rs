//! The server behind every path, and the requests that the load makes of it.
//!
//! A request is a letter and a number: `d` asks for that many bytes, `u` announces them and is
//! answered with one byte once they are here, both then end; `g` asks for so many and `e` sends so
//! many and wants them back, and both leave the connection open for more requests.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes read or written at once: as much as a relay moves.
const BUFFER: usize = 256 * 1024;
const REQUEST: usize = 9;

/// Downloads `bytes` over a fresh connection.
pub(crate) fn download(mut stream: TcpStream, bytes: u64) {
    send_request(&mut stream, b'd', bytes);
    assert_eq!(discard(&mut stream, u64::MAX), bytes, "the whole of it");
}

/// Uploads `bytes` over a fresh connection and waits until they have arrived.
pub(crate) fn upload(mut stream: TcpStream, bytes: u64) {
    send_request(&mut stream, b'u', bytes);
    let buffer = vec![b'x'; length(bytes)];
    let mut left = bytes;
    while left > 0 {
        let piece = length(left);
        stream.write_all(&buffer[..piece]).expect("the path takes bytes");
        left -= piece as u64;
    }
    stream.read_exact(&mut [0]).expect("the server has them all");
}

/// Gets `bytes` over a connection that stays open.
pub(crate) fn get(stream: &mut TcpStream, bytes: u64) {
    send_request(stream, b'g', bytes);
    assert_eq!(discard(stream, bytes), bytes, "the whole of it");
}

/// What asks the server to send back the `bytes` that follow.
pub(crate) fn echo_request(bytes: u64) -> [u8; REQUEST] {
    request(b'e', bytes)
}

fn request(letter: u8, bytes: u64) -> [u8; REQUEST] {
    let mut request = [letter; REQUEST];
    request[1..].copy_from_slice(&bytes.to_be_bytes());
    request
}

fn send_request(stream: &mut TcpStream, letter: u8, bytes: u64) {
    stream.write_all(&request(letter, bytes)).expect("the path takes a request");
}

/// Reads `bytes`, or up to the end; gives how many came.
fn discard(stream: &mut TcpStream, bytes: u64) -> u64 {
    let mut buffer = vec![0; length(bytes)];
    let mut total = 0;
    while total < bytes {
        let most = length(bytes - total);
        match stream.read(&mut buffer[..most]).expect("the path brings bytes") {
            0 => break,
            count => total += count as u64,
        }
    }
    total
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).map_or(BUFFER, |bytes| bytes.min(BUFFER))
}

/// The server's side of one connection.
pub(crate) async fn serve(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request).await?;
        let [letter, count @ ..] = request;
        let bytes = u64::from_be_bytes(count);
        // An idle connection holds none.
        let mut buffer = vec![b'x'; length(bytes)];
        let mut left = bytes;
        while left > 0 {
            let piece = length(left);
            let moved = match letter {
                b'd' | b'g' => stream.write(&buffer[..piece]).await?,
                _ => stream.read(&mut buffer[..piece]).await?,
            };
            if moved == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if letter == b'e' {
                stream.write_all(&buffer[..moved]).await?;
            }
            left -= moved as u64;
        }
        match letter {
            b'd' => return Ok(()),
            b'u' => return stream.write_all(&[0]).await,
            _ => {}
        }
    }
}
