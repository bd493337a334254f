//! CONNECT, forwarding and upgrades.

use cloak_node::Application;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn connect_keeps_early_bytes() {
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(echo().await))]);
    let mut stream = gateway.connect().await;
    stream
        .write_all(b"CONNECT bob.cloak:443 HTTP/1.1\r\nHost: bob.cloak:443\r\n\r\nhello")
        .await
        .unwrap();
    let head = read_head(&mut stream).await;
    assert_eq!(outcome(&head).0, 200);
    assert!(!head.to_ascii_lowercase().contains("content-length"), "{head}");
    assert_eq!(read_text(&mut stream, 5).await, "hello");
    let mut old = gateway.connect().await;
    old.write_all(b"CONNECT bob.cloak:443 HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(outcome(&read_head(&mut old).await).0, 200);
}

#[tokio::test]
async fn ipv6_literals_in_connect() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: no IPv6 loopback");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let gateway = Gateway::start(&[]);
    let (head, mut stream) = gateway.http_connect(&format!("[::1]:{port}")).await;
    assert_eq!(outcome(&head).0, 200);
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"hello").await.unwrap();
    assert_eq!(read_text(&mut stream, 5).await, "hello");
    for text in ["[::1]", "::1"] {
        assert_eq!(gateway.socks5(text, port).await.0, 0, "{text}");
    }
    let bad = gateway.http_connect("::1:443").await.0;
    assert_eq!(outcome(&bad).0, 400, "an address without brackets is ambiguous");
}

#[tokio::test]
async fn kept_alive_requests_share_a_session() {
    let (origin, mut seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let mut stream = gateway.connect().await;
    for _ in 0..5 {
        stream
            .write_all(b"GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(outcome(&read_head(&mut stream).await).0, 200);
        assert_eq!(read_text(&mut stream, 2).await, "ok");
        seen.recv().await.unwrap();
    }
    assert_eq!(gateway.node.opened().len(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let address = backend(|mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let Some(path) = head.split(' ').nth(1) else { return };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(address))]);
    let requests: String = (0..9)
        .map(|index| {
            let last = if index == 8 { "Connection: close\r\n" } else { "" };
            format!("GET http://bob.cloak/{index} HTTP/1.1\r\nHost: bob.cloak\r\n{last}\r\n")
        })
        .collect();
    let answers = gateway.say(requests).await;
    let bodies: Vec<_> = answers.split("\r\n\r\n").skip(1).map(|part| &part[..2]).collect();
    assert_eq!(bodies, ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"]);
}

#[tokio::test]
async fn a_client_that_finished_sending_its_request_is_answered() {
    let (origin, _seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let mut stream = gateway.connect().await;
    stream.write_all(b"GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_all(&mut stream).await.ends_with("\r\n\r\nok"));
}

#[tokio::test]
async fn a_closed_idle_upstream_is_replaced() {
    let (closed, mut closings) = mpsc::channel(8);
    let address = backend(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(address))]);
    let mut stream = gateway.connect().await;
    for round in 1..4 {
        stream
            .write_all(b"GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(outcome(&read_head(&mut stream).await).0, 200, "round {round}");
        assert_eq!(read_text(&mut stream, 2).await, "ok");
        closings.recv().await.unwrap();
    }
    assert_eq!(gateway.node.opened().len(), 3);
}

#[tokio::test]
async fn uploads_arrive_whole_with_their_framing() {
    let address = backend(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        let mut body = Vec::new();
        let end: &[u8] =
            if head.contains("transfer-encoding: chunked") { b"0\r\n\r\n" } else { b"end" };
        while !body.ends_with(end) {
            let mut part = [0; 4096];
            let len = stream.read(&mut part).await.unwrap();
            assert_ne!(len, 0, "the body is complete");
            body.extend_from_slice(&part[..len]);
        }
        let xs = body.iter().filter(|byte| **byte == b'x').count();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{xs:07}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(address))]);
    let post = "POST http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nConnection: close\r\n";
    let body = "x".repeat(300_000);
    let by_length = format!("{post}Content-Length: 300003\r\n\r\n{body}end");
    assert!(gateway.say(by_length).await.ends_with("0300000"));
    let mut chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    for part in [&body[..1], &body[1..100_000], &body[100_000..]] {
        chunked.push_str(&format!("{:x};ext=1\r\n{part}\r\n", part.len()));
    }
    assert!(gateway.say(chunked + "0\r\nTrailer: y\r\n\r\n").await.ends_with("0300000"));
}

#[tokio::test]
async fn answers_without_body_leave_the_connection_usable() {
    for (method, answer, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304),
    ] {
        let (origin, _seen) = origin(answer).await;
        let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
        let mut stream = gateway.connect().await;
        for _ in 0..3 {
            let request = format!("{method} http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await;
            assert_eq!(outcome(&head).0, status);
            assert_eq!(head.contains("1000"), method == "HEAD", "{head}");
        }
        assert_eq!(gateway.node.opened().len(), 1);
    }
}

#[tokio::test]
async fn continue_comes_from_the_origin() {
    let address = backend(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
        if head.contains("/refused") {
            let answer = b"HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let _ = stream.shutdown().await;
            assert_eq!(read_all(&mut stream).await, "", "no body was sent");
            return;
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        assert_eq!(read_text(&mut stream, 5).await, "hello");
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(address))]);
    let head = |path: &str| {
        format!(
            "PUT http://bob.cloak{path} HTTP/1.1\r\nHost: bob.cloak\r\nContent-Length: 5\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let mut stream = gateway.connect().await;
    stream.write_all(head("/").as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(outcome(&read_head(&mut stream).await).0, 200);
    let mut stream = gateway.connect().await;
    stream.write_all(head("/refused").as_bytes()).await.unwrap();
    assert_eq!(outcome(&read_head(&mut stream).await).0, 417);
}

#[tokio::test]
async fn bytes_after_upgrade_wait_for_the_101() {
    let (reported, mut reports) = mpsc::channel(8);
    let (release, released) = mpsc::channel::<&'static str>(8);
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let address = backend(move |mut stream| {
        let (reported, released) = (reported.clone(), released.clone());
        async move {
            reported.send(read_head(&mut stream).await).await.unwrap();
            let answer = released.lock().await.recv().await.unwrap();
            let mut early = [0; 64];
            let early = stream.try_read(&mut early);
            reported.send(format!("{:?}", early.map_err(|error| error.kind()))).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            reported.send(read_text(&mut stream, 5).await).await.unwrap();
            let _ = stream.write_all(b"pong").await;
            let _ = stream.shutdown().await;
            let _ = read_all(&mut stream).await;
        }
    })
    .await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(address))]);
    let request = "GET ws://bob.cloak/chat HTTP/1.1\r\nHost: bob.cloak\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nhello";
    let mut stream = gateway.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = reports.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /chat ") && head.contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"));
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst ";
    release.send(switch).await.unwrap();
    assert_eq!(reports.recv().await.unwrap(), "Err(WouldBlock)", "nothing came before the 101");
    let head = read_head(&mut stream).await;
    assert_eq!(outcome(&head).0, 101);
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
    assert_eq!(reports.recv().await.unwrap(), "hello");
    assert_eq!(read_all(&mut stream).await, "first pong");
    assert_eq!(gateway.node.opened().len(), 1);

    // Where the origin does not switch, what follows is the next request, checked like any other.
    let smuggled = request.replace("hello", "GET http://bob.cloak/ HTTP/1.1\nHost: bob.cloak\n\n");
    let mut stream = gateway.connect().await;
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    reports.recv().await.unwrap();
    release.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(reports.recv().await.unwrap(), "Err(WouldBlock)");
    assert_eq!(outcome(&read_head(&mut stream).await).0, 200);
    assert_eq!(outcome(&read_head(&mut stream).await).0, 400);
}

/// A session that breaks in the middle of an answer must not look like the answer's end.
/// A request's head needs no round trip of its own; where the connection is there already, neither
/// does a session.
#[tokio::test]
async fn a_request_goes_with_the_request_for_its_session() {
    let (sender, mut sessions) = mpsc::channel(1);
    let gateway = Gateway::start(&[("bob.cloak", Peer::Test(sender))]);
    let mut stream = gateway.connect().await;
    for path in ["first", "second"] {
        let get = format!("GET http://bob.cloak/{path} HTTP/1.1\r\nHost: bob.cloak\r\n\r\n");
        stream.write_all(get.as_bytes()).await.unwrap();
    }
    let mut session = timeout(DEADLINE, sessions.recv()).await.unwrap().unwrap();
    for path in ["first", "second"] {
        let head = read_head(&mut session).await;
        assert!(head.starts_with(&format!("GET /{path} HTTP/1.1\r\n")), "{head:?}");
        session.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    }
    let said = gateway.node.said();
    assert!(matches!(&said[..], [first] if first.starts_with(b"GET /first HTTP/1.1\r\n")));
}

#[tokio::test]
async fn a_broken_session_is_no_complete_answer() {
    for (version, head) in [
        ("1.1", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n"),
        ("1.1", "HTTP/1.1 200 OK\r\n\r\n"),
        ("1.0", "HTTP/1.1 200 OK\r\n\r\n"),
    ] {
        let (sender, mut sessions) = mpsc::channel(1);
        let gateway = Gateway::start(&[("bob.cloak", Peer::Test(sender))]);
        let mut stream = gateway.connect().await;
        let get = format!("GET http://bob.cloak/ HTTP/{version}\r\nHost: bob.cloak\r\n\r\n");
        stream.write_all(get.as_bytes()).await.unwrap();
        let mut session: Box<dyn Application> =
            timeout(DEADLINE, sessions.recv()).await.unwrap().unwrap();
        session.write_all(head.as_bytes()).await.unwrap();
        session.write_all(b"half").await.unwrap();
        read_head(&mut stream).await;
        session.reset();
        let mut rest = Vec::new();
        let end = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
        let rest = String::from_utf8_lossy(&rest).into_owned();
        let by_reset = end.is_err();
        assert!(by_reset || !rest.ends_with("0\r\n\r\n"), "{version} {head:?}: {rest:?}");
        assert!(by_reset || head.contains("1000"), "{version} {head:?}: {rest:?}");
    }
}

#[tokio::test]
async fn a_client_that_gives_up_frees_its_session() {
    let (sender, mut sessions) = mpsc::channel(1);
    let gateway = Gateway::start(&[("bob.cloak", Peer::Test(sender))]);
    let mut stream = gateway.connect().await;
    stream.write_all(b"GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n").await.unwrap();
    let mut session = timeout(DEADLINE, sessions.recv()).await.unwrap().unwrap();
    let mut head = [0; 16];
    session.read_exact(&mut head).await.unwrap();
    Box::new(stream).reset();
    let mut rest = Vec::new();
    let end = timeout(DEADLINE, session.read_to_end(&mut rest)).await.unwrap();
    assert!(end.is_err(), "the session is reset while the origin is still thinking");
}

#[tokio::test]
async fn chrome_can_authenticate() {
    let scratch = Scratch::new();
    let config = config(&users(&scratch.password("open:sesame")));
    let gateway =
        Gateway::configured(&config, "direct", &[("bob.cloak", Peer::Backend(echo().await))]);
    let mut stream = gateway.connect().await;
    let connect = "CONNECT bob.cloak:443 HTTP/1.1\r\nHost: bob.cloak:443\r\n";
    for wrong in ["", "Proxy-Authorization: Basic YW5uOndyb25n\r\n"] {
        stream.write_all(format!("{connect}{wrong}\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert_eq!(outcome(&head), (407, Some("authentication-required")));
        assert!(head.contains("proxy-authenticate: basic realm=\"cloak\""), "{head}");
        let len = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        read_text(&mut stream, len.parse().unwrap()).await;
    }
    // On the same connection, as a browser does after asking its user.
    let right = "Proxy-Authorization: Basic YW5uOm9wZW46c2VzYW1l\r\n";
    stream.write_all(format!("{connect}{right}\r\nhello").as_bytes()).await.unwrap();
    assert_eq!(outcome(&read_head(&mut stream).await).0, 200);
    assert_eq!(read_text(&mut stream, 5).await, "hello");
    let get = "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nConnection: close\r\n\r\n";
    assert_eq!(outcome(&gateway.say(get).await).0, 407);
    let view = "GET / HTTP/1.1\r\nHost: bob.cloak.localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(outcome(&gateway.say(view).await).0, 404, "no way around the password");
    assert_eq!(gateway.node.opened().len(), 1);
}
