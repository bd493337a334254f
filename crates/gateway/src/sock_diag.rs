//! How far a program of this machine has read its connection: the kernel knows (`NETLINK_SOCK_DIAG`).
//!
//! The program's socket is the one with our two addresses exchanged. One on another machine, in another network
//! namespace or behind a translation of addresses is not found, so nothing is said of it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h, of a question and of its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;
/// `INET_DIAG_INFO` of linux/inet_diag.h: the attribute with the socket's `tcp_info`.
const INFO: u16 = 2;
/// `IPPROTO_TCP`, `AF_INET` and `AF_INET6`.
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
/// `TCP_LISTEN`: a listener is found where there is no connection.
const LISTEN: u8 = 10;

/// A `nlmsghdr` and an `inet_diag_req_v2`.
const QUESTION_LEN: usize = 72;
/// Where the parts of an answer begin: after its `nlmsghdr`, a `inet_diag_msg`, then attributes.
const MESSAGE: usize = 16;
const RQUEUE: usize = MESSAGE + 56;
const ATTRIBUTES: usize = MESSAGE + 72;
/// Where `tcp_info` has the bytes that have come in.
const BYTES_RECEIVED: usize = 128;
/// Longer than any answer.
const ANSWER_MAX: usize = 4096;

/// What the kernel says of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Queue {
    /// Bytes that have come in, in order. The end of the stream counts as one.
    received: u64,
    /// Of those, what its program has not read.
    unread: u64,
}

/// Bytes of the connection from `peer` to our `local` that the program at `peer` has read; the end of the stream
/// counts as one. Nothing where that cannot be told. Not more than it has read, whatever comes in meanwhile.
pub(crate) fn read_by_peer(peer: SocketAddr, local: SocketAddr) -> Option<u64> {
    // The kernel reads the two numbers one after the other: what comes in between would seem to be read.
    let (first, second) = (ask(peer, local).ok()??, ask(peer, local).ok()??);
    Some(first.received.saturating_sub(second.unread))
}

fn ask(from: SocketAddr, to: SocketAddr) -> io::Result<Option<Queue>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    send(&socket, &question(from, to), SendFlags::empty())?;
    let mut answer = [0; ANSWER_MAX];
    // The kernel has answered before the question's call returned.
    let (count, _) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    Ok(read(&answer[..count], from, to))
}

/// Asks for the socket at `from` that is connected to `to`.
fn question(from: SocketAddr, to: SocketAddr) -> [u8; QUESTION_LEN] {
    let family = if canonical(from).is_ipv4() { INET } else { INET6 };
    let (no_pad, any_state, no_interface, no_cookie) = ([0], [0xff; 4], [0; 4], [0xff; 8]);
    let parts: [&[u8]; 14] = [
        &u32::try_from(QUESTION_LEN).unwrap_or(0).to_ne_bytes(),
        &BY_FAMILY.to_ne_bytes(),
        &REQUEST.to_ne_bytes(),
        // Sequence number and sender, of which there is one each.
        &[0; 8],
        &[family, TCP],
        &[1 << (INFO - 1)],
        &no_pad,
        &any_state,
        &from.port().to_be_bytes(),
        &to.port().to_be_bytes(),
        &octets(from),
        &octets(to),
        &no_interface,
        &no_cookie,
    ];
    let mut question = [0; QUESTION_LEN];
    question.copy_from_slice(&parts.concat());
    question
}

/// Reads an answer; nothing where it says that there is no such socket, or none that is connected.
fn read(answer: &[u8], from: SocketAddr, to: SocketAddr) -> Option<Queue> {
    let u16_at = |at| Some(u16::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    if u16_at(4)? != BY_FAMILY || *answer.get(MESSAGE + 1)? == LISTEN {
        return None;
    }
    let ports = answer.get(MESSAGE + 4..MESSAGE + 8)?;
    if ports != [from.port().to_be_bytes(), to.port().to_be_bytes()].concat() {
        return None;
    }
    let unread = u32::from_ne_bytes(*answer.get(RQUEUE..)?.first_chunk()?);
    let mut at = ATTRIBUTES;
    while u16_at(at + 2)? != INFO {
        // Each begins at a multiple of four.
        at += usize::from(u16_at(at)?).max(4).next_multiple_of(4);
    }
    let info = answer.get(at + 4..at + usize::from(u16_at(at)?))?;
    let received = u64::from_ne_bytes(*info.get(BYTES_RECEIVED..)?.first_chunk()?);
    Some(Queue { received, unread: unread.into() })
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// As in an `inet_diag_sockid`: 16 bytes, of which IPv4 uses the first four.
fn octets(address: SocketAddr) -> [u8; 16] {
    match canonical(address) {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&ip.octets());
            octets
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};

    use super::*;

    /// A program's socket and ours, by the address it dials and the one we listen at.
    fn pair(listen: &str, dial: IpAddr) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let program = TcpStream::connect((dial, port)).unwrap();
        (program, listener.accept().unwrap().0)
    }

    fn read_of(ours: &TcpStream) -> Option<u64> {
        read_by_peer(ours.peer_addr().unwrap(), ours.local_addr().unwrap())
    }

    /// Every byte is with the program's socket, so that the answers do not change by themselves.
    fn settle(program: &TcpStream, unread: usize) {
        let mut all = vec![0; unread];
        while program.peek(&mut all).unwrap() < unread {}
    }

    #[test]
    fn the_kernel_knows_what_a_program_has_read() {
        let v4: IpAddr = [127, 0, 0, 1].into();
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        for (listen, dial) in [
            ("127.0.0.1:0", v4),
            ("[::1]:0", Ipv6Addr::LOCALHOST.into()),
            // Either socket may know its IPv4 addresses as IPv6.
            ("[::]:0", v4),
            ("127.0.0.1:0", mapped),
            ("[::]:0", mapped),
        ] {
            let (mut program, mut ours) = pair(listen, dial);
            assert_eq!(read_of(&ours), Some(0), "{listen} {dial}");
            ours.write_all(&[7; 100_000]).unwrap();
            settle(&program, 60_000);
            assert_eq!(read_of(&ours), Some(0));
            program.read_exact(&mut [0; 40_000]).unwrap();
            assert_eq!(read_of(&ours), Some(40_000), "{listen} {dial}");
            settle(&program, 60_000);
            ours.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_of(&ours), Some(40_000), "the end is not read");
            let mut rest = Vec::new();
            assert_eq!(program.read_to_end(&mut rest).unwrap(), 60_000);
            assert_eq!(read_of(&ours), Some(100_001), "the end is");
        }
    }

    #[test]
    fn the_end_that_dialled_is_the_same() {
        let (mut ours, program) = pair("127.0.0.1:0", [127, 0, 0, 1].into());
        ours.write_all(b"hello").unwrap();
        settle(&program, 5);
        (&program).read_exact(&mut [0; 2]).unwrap();
        assert_eq!(read_of(&ours), Some(2));
    }

    #[test]
    fn nothing_is_said_of_a_socket_that_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(read_by_peer(nobody, listener.local_addr().unwrap()), None);
        // A listener at that address is not the program.
        assert_eq!(read_by_peer(listener.local_addr().unwrap(), nobody), None);
        let (program, mut ours) = pair("127.0.0.1:0", [127, 0, 0, 1].into());
        let (peer, local) = (ours.peer_addr().unwrap(), ours.local_addr().unwrap());
        ours.write_all(b"unread").unwrap();
        settle(&program, 6);
        drop(program);
        assert_eq!(read_by_peer(peer, local), None, "it is closed");
        for len in 0..ATTRIBUTES + 8 {
            let mut cut = vec![0; len];
            if len > 6 {
                cut[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
            }
            assert_eq!(read(&cut, peer, local), None);
        }
    }
}
