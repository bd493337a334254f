//! What comes to a gateway's overlay port and is no transport.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::pair::{End, open_sessions};
use cloak_tests::pattern::Pattern;
use cloak_tests::site::{Site, port};

/// A handshake has 10 s; the rest is for a busy machine.
const ENDED_WITHIN: Duration = Duration::from_secs(20);
/// Header of a record that holds a `ClientHello` of 508 bytes, and where that begins.
const CLIENT_HELLO: [u8; 11] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Connections with bytes that are no handshake, or not all of one.
fn strangers(to: SocketAddr) -> Vec<TcpStream> {
    let half_hello = [&CLIENT_HELLO[..], &[7; 100]].concat();
    let bent_hello = [&CLIENT_HELLO[..], &Pattern::new(3).bytes(1000)].concat();
    let noise = Pattern::new(4).bytes(100_000);
    let said: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: bob.cloak\r\n\r\n",
        &[22, 3, 1, 255, 255],
        &half_hello,
        &bent_hello,
        &noise,
    ];
    let stranger = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(to).unwrap();
        // The gateway may have had enough before the last byte.
        let _ = stream.write_all(bytes);
        stream
    };
    said.into_iter().map(stranger).collect()
}

#[test]
fn malformed_bytes_end_their_connection_and_nothing_else() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"before");
    let ends = [End::Alice, End::Bob];
    let strangers = ends.map(|end| strangers(site.gateway(end).overlay()));
    for mut stranger in strangers.into_iter().flatten() {
        assert_echo(&mut stream, b"undisturbed");
        stranger.set_read_timeout(Some(ENDED_WITHIN)).unwrap();
        let ended = stranger.read_to_end(&mut Vec::new());
        assert!(ended.is_ok() || ended.is_err_and(|error| client::is_reset(&error)));
    }
    for end in ends {
        assert_eq!(open_sessions(site.gateway(end))[0]["resumes"], 0, "the lane was kept");
        let status = site.gateway(end).json(&["status"]);
        assert_eq!((&status["overlay"], &status["peers_linked"]), (&"linked".into(), &1.into()));
        assert!(status["warnings"].as_array().unwrap().is_empty(), "{status}");
    }
    // Transports are accepted as before.
    site.cut();
    assert_echo(&mut stream, b"after a cut");
}
