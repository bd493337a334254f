//! The proxy port, byte by byte: what it answers, what it refuses, what it never passes on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "proxy/local_view.rs"]
mod local_view;
#[path = "proxy/names.rs"]
mod names;
#[path = "proxy/streams.rs"]
mod streams;
#[path = "proxy/users.rs"]
mod users;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener};
use std::time::Duration;

use cloak_tests::client::{self, Refused, assert_echo};
use cloak_tests::clock::{now, wait_until};
use cloak_tests::http::{Request, read_response};
use cloak_tests::site::{Site, port};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// What a refusal looks like to each kind of client.
fn assert_refused(site: &Site, host: &str, at: u16, reply: u8, status: u16, code: &str) {
    let proxy = site.alice.proxy();
    let socks = client::socks5(proxy, host, at).expect_err("SOCKS5");
    assert_eq!(socks.reply(), reply, "SOCKS5 {host}:{at}");
    assert_eq!(client::socks4a(proxy, host, at).expect_err("SOCKS4a").reply(), 91);
    let Err(Refused::Answer(answer)) = client::connect(proxy, host, at) else {
        panic!("CONNECT {host}:{at} is not answered as it should be")
    };
    assert_eq!((answer.status, answer.header("cloak-error")), (status, Some(code)), "CONNECT");
    let plain = Request::get(&format!("http://{host}:{at}/")).send(proxy);
    assert_eq!((plain.status, plain.header("cloak-error")), (status, Some(code)), "GET");
    assert!(plain.text().contains(code), "the page for people: {}", plain.text());
}

#[test]
fn reply_codes_are_true() {
    let site = Site::shared();
    assert_refused(&site, "nobody.cloak", 80, 4, 502, "unknown-name");
    assert_refused(&site, "bob.cloak", port::NONE, 5, 502, "no-service");
    assert_refused(&site, "bob.cloak", port::DEAD, 5, 502, "backend-refused");
    let proxy = site.alice.proxy();
    let name = [&[3, 9][..], b"bob.cloak"].concat();
    for command in [2, 3, 9] {
        let refused = client::socks5_request(proxy, command, &name, 80).unwrap_err();
        assert_eq!(refused.reply(), 7, "command {command}");
    }
    assert_eq!(client::socks5_request(proxy, 1, &[9, 0, 0, 0, 0], 80).unwrap_err().reply(), 8);
}

#[test]
fn who_is_not_allowed_is_told_so() {
    let site = Site::configured(
        "",
        "[[service]]\nport = 4444\ntarget = \"127.0.0.1:1\"\nallow = [\"carol.cloak\"]\n",
    );
    assert_refused(&site, "bob.cloak", 4444, 2, 403, "not-allowed");
}

#[test]
fn a_peer_that_is_gone_is_told_as_unreachable() {
    let mut site = Site::start();
    site.pair.bob.stop();
    let start = now();
    let refused = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap_err();
    assert!([3, 6].contains(&refused.reply()), "{refused:?}");
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
}

#[test]
fn every_protocol_works_on_the_one_port() {
    let site = Site::shared();
    let proxy = site.alice.proxy();
    for connect in [client::socks5, client::socks4a, client::connect] {
        let mut stream = connect(proxy, "bob.cloak", port::ECHO).unwrap();
        assert_echo(&mut stream, &[7; 100_000]);
    }
    let response = Request::get("http://bob.cloak/bytes/10").send(proxy);
    assert_eq!((response.status, response.body.len()), (200, 10));
    let other = Request::get("http://BOB.Cloak:8080/bytes/11").send(proxy);
    assert_eq!((other.status, other.body.len()), (200, 11));
    assert_eq!(site.services.http.last_request().target().1, "/bytes/11");
}

#[test]
fn names_may_be_those_of_devices_and_keys() {
    let site = Site::shared();
    let status = site.bob.json(&["status"]);
    let device = status["name"].as_str().unwrap();
    assert_eq!(device, "one.bob.cloak");
    let proxy = site.alice.proxy();
    assert_echo(&mut client::socks5(proxy, device, port::ECHO).unwrap(), b"device");
    assert_echo(&mut client::socks5(proxy, "bob.cloak.", port::ECHO).unwrap(), b"root dot");
}

#[test]
fn handshake_has_a_deadline() {
    let site = Site::shared();
    let starts: [&[u8]; 5] = [b"", b"\x05", b"\x05\x01\x00\x05", b"\x04\x01", b"GET http://bob"];
    let streams = starts.map(|start| {
        let mut stream = client::dial(site.alice.proxy()).unwrap();
        stream.write_all(start).unwrap();
        (stream, start)
    });
    let begun = now();
    for (mut stream, start) in streams {
        let mut rest = Vec::new();
        // Whatever is said before, the connection ends: by an orderly end or a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < Duration::from_secs(20), "{start:?} is still served");
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "patience for slow links");
}

#[test]
fn ipv6_literals_in_connect() {
    let site = Site::shared();
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return eprintln!("skipped: this machine has no IPv6 loopback");
    };
    let address = listener.local_addr().unwrap();
    let proxy = site.alice.proxy();
    for way in [
        client::connect(proxy, "[::1]", address.port()).unwrap(),
        client::socks5_address(proxy, address).unwrap(),
        client::socks5(proxy, "::1", address.port()).unwrap(),
    ] {
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"direct").unwrap();
        let mut got = [0; 6];
        (&way).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"direct");
    }
    // Bound, so that nobody else gets the port, and not listened on.
    let closed = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
    bind(&closed, &SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0)).unwrap();
    let address = SocketAddrV6::try_from(getsockname(&closed).unwrap()).unwrap();
    let refused = client::socks5_address(proxy, address.into()).unwrap_err();
    assert_eq!(refused.reply(), 5, "an ordinary refusal is told as one");
}

#[test]
fn ambiguous_http_is_refused() {
    let site = Site::start();
    let host = "Host: bob.cloak\r\n";
    let post = "POST http://bob.cloak/hash HTTP/1.1\r\n";
    let get = "GET http://bob.cloak/bytes/1 HTTP/1.1\r\n";
    let cases = [
        format!("{post}{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        format!("{post}{host}Content-Length: +3\r\n\r\nabc"),
        format!("{post}{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}{host}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{get}{host}Host: other.cloak\r\n\r\n"),
        format!("{get}Host: other.cloak\r\n\r\n"),
        format!("{get}{host}X-Folded: a\r\n b\r\n\r\n"),
        format!("{get}{host}X Spaced: a\r\n\r\n"),
        format!("{get}{host}Spaced : a\r\n\r\n"),
        "GET http://bob.cloak/bytes/1 HTTP/1.1\nHost: bob.cloak\n\n".to_owned(),
        format!("{post}{host}Transfer-Encoding: chunked\r\n\r\n3;\nabc\r\n0\r\n\r\n"),
    ];
    for case in cases {
        let mut stream = client::dial(site.alice.proxy()).unwrap();
        stream.write_all(case.as_bytes()).unwrap();
        match read_response(&stream, false) {
            // A body that breaks off behind a good head may also show as a failed exchange.
            Ok(response) => {
                let body = case.contains("3;\n") && response.status == 502;
                assert!(response.status == 400 || body, "{}: {case:?}", response.status);
            }
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{case:?}"),
        }
        // After a refusal the connection is over: nothing behind it is taken for a request.
        let _ =
            stream.write_all(b"GET http://bob.cloak/bytes/2 HTTP/1.1\r\nHost: bob.cloak\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let arrived = site.services.http.requests();
    assert!(arrived.iter().all(|request| !request.target().1.ends_with('2')), "{arrived:?}");
    for request in &arrived {
        assert!(request.head.starts_with("POST /hash"), "passed on: {}", request.head);
        assert_eq!(request.headers("content-length").len(), 0, "{}", request.head);
    }
    assert!(arrived.len() <= 1, "at most the head before the broken chunk: {arrived:?}");
}

#[test]
fn hop_by_hop_headers_do_not_travel() {
    let site = Site::start();
    let response = Request::get("http://bob.cloak/bytes/3")
        .header("Connection", "keep-alive, X-Private")
        .header("Proxy-Connection", "keep-alive")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authorization", "Basic c2VjcmV0")
        .header("TE", "trailers")
        .header("Trailer", "X-T")
        .header("X-Private", "mine")
        .header("X-Kept", "yes")
        .send(site.alice.proxy());
    assert_eq!(response.status, 200);
    let request = site.services.http.last_request();
    for name in
        ["proxy-connection", "keep-alive", "proxy-authorization", "te", "trailer", "x-private"]
    {
        assert_eq!(request.headers(name), [""; 0], "{name}\n{}", request.head);
    }
    assert_eq!(request.header("x-kept"), Some("yes"));
    assert_eq!(request.headers("host"), ["bob.cloak"]);
    assert_eq!(request.target(), ("GET", "/bytes/3"), "origin form");
}

#[test]
fn bytes_after_upgrade_wait_for_the_101() {
    let site = Site::start();
    let upgrade = Request::get("http://bob.cloak/no-such-socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .raw(b"GET /smuggled HTTP/1.1\r\nHost: bob.cloak\r\n\r\n");
    let stream = client::dial(site.alice.proxy()).unwrap();
    assert_eq!(upgrade.send_on(&stream, "bob.cloak").status, 404);
    drop(stream);
    wait_until("the exchange is over", Duration::from_secs(20), || site.services.http.open() == 0);
    let paths: Vec<String> =
        site.services.http.requests().iter().map(|r| r.target().1.to_owned()).collect();
    assert_eq!(paths, ["/no-such-socket"]);
}

#[test]
fn headers_have_a_limit() {
    let site = Site::shared();
    let proxy = site.alice.proxy();
    let large = |bytes: usize| {
        let request = Request::get("http://bob.cloak/bytes/1");
        request.header("X-Large", &"x".repeat(bytes)).send(proxy).status
    };
    assert_eq!(large(32 * 1024), 200);
    assert_eq!(large(80 * 1024), 431);
}

#[test]
fn pac_is_served_to_loopback_hosts_only() {
    let site = Site::shared();
    let proxy = site.alice.proxy();
    for host in [format!("127.0.0.1:{}", proxy.port()), format!("localhost:{}", proxy.port())] {
        let pac = Request::get("/proxy.pac").header("Host", &host).send(proxy);
        assert_eq!(pac.status, 200, "{host}");
        assert_eq!(pac.header("content-type"), Some("application/x-ns-proxy-autoconfig"));
        let text = pac.text();
        assert!(text.contains("FindProxyForURL") && text.contains(&host), "{text}");
    }
    let foreign = Request::get("/proxy.pac").header("Host", "evil.example").send(proxy);
    assert!(!foreign.text().contains("FindProxyForURL"), "{foreign:?}");
}

#[test]
fn foreign_host_header_gets_nothing() {
    let site = Site::start();
    let proxy = site.alice.proxy();
    for host in ["evil.example", "bob.cloak", "localhost.evil.example", "127.0.0.1.evil.example"] {
        for request in [Request::get("/"), Request::new("POST", "/").body(b"x=1")] {
            let response = request.header("Host", host).send(proxy);
            assert!((400..500).contains(&response.status), "{host}: {response:?}");
        }
    }
    // A page that posts to the port as if it were a web server, in the hope of a SOCKS parser.
    let binary = Request::new("POST", "/").header("Host", &proxy.to_string());
    let response = binary.header("Origin", "http://evil.example").body(b"\x05\x01\x00").send(proxy);
    assert!((400..500).contains(&response.status), "{response:?}");
    assert!(site.services.http.requests().is_empty());
}
