//! SOCKS4 and SOCKS4a on the proxy port: CONNECT only, refused where users are configured, since
//! it has no passwords.

use std::net::Ipv4Addr;

use cloak_node::Code;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::debug;

use crate::destination::Destination;
use crate::ingress::{Ingress, Opened};
use crate::stream::{Client, Prefixed};

/// First byte of every SOCKS4 request.
pub(crate) const VERSION: u8 = 4;

/// Serves one SOCKS4 connection.
pub(crate) async fn serve(ingress: &Ingress, mut client: Prefixed<Client>) {
    let settings = ingress.settings();
    let limit = settings.handshake_timeout;
    let Ok(Some(request)) = timeout(limit, read_request(&mut client)).await else {
        debug!("socks4: no proper request in time");
        return;
    };
    let opened = match request {
        _ if !settings.users.is_empty() => Err(Code::NotAllowed),
        Request { command: COMMAND_CONNECT, host, port } => {
            match Destination::parse(&host, port, &settings.aliases) {
                Ok(destination) => ingress.open(&destination).await,
                Err(code) => Err(code),
            }
        }
        _ => Err(Code::NotAllowed),
    };
    answer(ingress, client, opened, limit).await;
}

async fn answer(
    ingress: &Ingress,
    mut client: Prefixed<Client>,
    opened: Result<Opened, Code>,
    limit: std::time::Duration,
) {
    let reply = if opened.is_ok() { REPLY_GRANTED } else { REPLY_REJECTED };
    let written = timeout(limit, client.write_all(&[0, reply, 0, 0, 0, 0, 0, 0])).await;
    match (opened, written) {
        (Ok(opened), Ok(Ok(()))) => ingress.carry(opened, client).await,
        (opened, _) => {
            debug!(code = ?opened.err(), "socks4: refused");
            client.close().await;
        }
    }
}

/// Reads one request; `None` where it is malformed or the client went away. What follows the
/// request stays in `client`.
async fn read_request(client: &mut Prefixed<Client>) -> Option<Request> {
    loop {
        match parse(&client.early) {
            Parsed::Request(request, len) => {
                let _ = client.early.split_to(len);
                return Some(request);
            }
            Parsed::Malformed => return None,
            Parsed::Incomplete => {}
        }
        if client.read_early().await.ok()? == 0 {
            return None;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    command: u8,
    host: String,
    port: u16,
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The request, and how many bytes it took.
    Request(Request, usize),
    Incomplete,
    Malformed,
}

/// Version, command, port, address, user up to a zero byte; where the address is 0.0.0.x, a name
/// up to a zero byte.
fn parse(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_LEN>() else {
        return Parsed::Incomplete;
    };
    let [_, command, port_high, port_low, ip @ ..] = *fixed;
    let port = u16::from_be_bytes([port_high, port_low]);
    let Some(user_len) = text_len(rest) else { return incomplete(rest) };
    let rest = &rest[user_len + 1..];
    let len = FIXED_LEN + user_len + 1;
    if ip[..3] != [0; 3] || ip[3] == 0 {
        let host = Ipv4Addr::from(ip).to_string();
        return Parsed::Request(Request { command, host, port }, len);
    }
    let Some(name_len) = text_len(rest) else { return incomplete(rest) };
    match std::str::from_utf8(&rest[..name_len]) {
        Ok(host) => {
            let request = Request { command, host: host.to_owned(), port };
            Parsed::Request(request, len + name_len + 1)
        }
        Err(_) => Parsed::Malformed,
    }
}

fn text_len(bytes: &[u8]) -> Option<usize> {
    bytes.iter().take(TEXT_LEN_MAX + 1).position(|byte| *byte == 0)
}

fn incomplete(unfinished: &[u8]) -> Parsed {
    if unfinished.len() > TEXT_LEN_MAX { Parsed::Malformed } else { Parsed::Incomplete }
}

const FIXED_LEN: usize = 8;
/// Longest user or name.
const TEXT_LEN_MAX: usize = 255;
const COMMAND_CONNECT: u8 = 1;
const REPLY_GRANTED: u8 = 90;
const REPLY_REJECTED: u8 = 91;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read_and_the_rest_is_kept() {
        let request = |host: &str| Request { command: 1, host: host.to_owned(), port: 80 };
        assert_eq!(
            parse(b"\x04\x01\x00\x50\x7f\x00\x00\x01ann\0GET"),
            Parsed::Request(request("127.0.0.1"), 12)
        );
        let whole = b"\x04\x01\x00\x50\x00\x00\x00\x01\0bob.cloak\0early";
        assert_eq!(parse(whole), Parsed::Request(request("bob.cloak"), 19));
        for len in 0..19 {
            assert_eq!(parse(&whole[..len]), Parsed::Incomplete);
        }
    }

    #[test]
    fn endless_and_foreign_texts_are_malformed() {
        let mut endless = b"\x04\x01\x00\x50\x00\x00\x00\x01".to_vec();
        endless.extend([b'x'; 256]);
        assert_eq!(parse(&endless), Parsed::Malformed);
        assert_eq!(parse(b"\x04\x01\x00\x50\x00\x00\x00\x01\0\xff\0"), Parsed::Malformed);
    }
}
