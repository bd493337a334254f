//! HTTP that could be read in two ways, and what must not travel.

use tokio::io::AsyncWriteExt;

use crate::support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\n\
                  Connection: keep-alive, X-Inner\r\nX-Inner: 1\r\nX-Kept: 1\r\n\r\nok";

#[tokio::test]
async fn ambiguous_http_is_refused() {
    let (origin, mut seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    for bad in [
        "POST http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://bob.cloak/ HTTP/1.1\nHost: bob.cloak\n\n",
        "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nX: a\r\n b\r\n\r\n",
        "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nHost: bob.cloak\r\n\r\n",
        "GET http://bob.cloak/ HTTP/1.1\r\nHost: eve.cloak\r\n\r\n",
        "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak:81\r\n\r\n",
        "CONNECT bob.cloak:443 HTTP/1.1\r\nHost: eve.cloak:443\r\n\r\n",
        "CONNECT bob.cloak:443 HTTP/1.1\r\nHost: bob.cloak:443\r\nContent-Length: 1\r\n\r\nx",
        "GET http://ann@bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n",
        "GET https://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n",
        "GET  http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        // Also after a proper request on the same connection, and piecemeal.
        let proper = "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\n\r\n";
        let close = bad.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let answer = gateway.say(&close).await;
        assert_eq!(outcome(&answer), (400, Some("bad-request")), "{bad:?}");
        let mut stream = gateway.connect().await;
        stream.write_all(proper.as_bytes()).await.unwrap();
        assert_eq!(outcome(&read_head(&mut stream).await).0, 200);
        assert_eq!(read_text(&mut stream, 2).await, "ok");
        assert!(seen.recv().await.is_some());
        for byte in close.as_bytes() {
            // The refusal may come before the last byte.
            let _ = stream.write_all(&[*byte]).await;
        }
        assert_eq!(outcome(&read_head(&mut stream).await).0, 400, "{bad:?}");
    }
    assert!(seen.try_recv().is_err(), "nothing of it reached the origin");
}

#[tokio::test]
async fn a_smuggled_request_in_a_body_stays_a_body() {
    let (origin, mut seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let inner = "GET http://eve.cloak/ HTTP/1.1\r\nHost: eve.cloak\r\n\r\n";
    let chunk_size_lies = format!(
        "POST http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\nx\r\n0\r\n\r\n{inner}"
    );
    let _ = gateway.say(chunk_size_lies).await;
    assert_eq!(gateway.node.opened().iter().filter(|(name, _)| name == "eve.cloak").count(), 0);
    while let Ok(head) = seen.try_recv() {
        assert!(!head.contains("eve"), "{head}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_do_not_travel() {
    let (origin, mut seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let answer = gateway
        .say(
            "GET http://bob.cloak/a?b HTTP/1.1\r\nHost: bob.cloak\r\nProxy-Connection: keep-alive\r\n\
             Connection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
             Upgrade: h2c\r\nProxy-Authorization: Basic x\r\nAuthorization: Basic y\r\n\r\n",
        )
        .await;
    let head = seen.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /a?b http/1.1\r\n"), "{head}");
    assert!(head.contains("host: bob.cloak\r\n") && head.contains("authorization: basic y\r\n"));
    for gone in ["proxy-", "x-private", "keep-alive", "\nte:", "upgrade", "close"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("x-kept: 1") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!answer.contains("x-inner") && !answer.contains("timeout=5"), "{answer}");
}

#[tokio::test]
async fn foreign_host_header_gets_nothing() {
    let gateway = Gateway::start(&[]);
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:1080"] {
        for request in ["GET /", "GET /proxy.pac", "POST /"] {
            let text = format!(
                "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = gateway.say(text).await;
            assert_eq!(outcome(&answer), (403, None));
            assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
        }
    }
    // What a page posts may look like SOCKS further on; only the first byte decides.
    let disguised = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\x05\x01\0";
    assert_eq!(outcome(&gateway.say(disguised).await), (404, Some("not-found")));
    assert!(gateway.node.opened().is_empty());
}

#[tokio::test]
async fn the_pac_file_names_the_port_it_came_from() {
    let gateway = Gateway::start(&[]);
    for host in
        [format!("127.0.0.1:{}", gateway.address.port()), "localhost:1080".into(), "[::1]:1".into()]
    {
        let answer = gateway
            .say(format!("GET /proxy.pac HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
            .await;
        assert_eq!(outcome(&answer).0, 200);
        assert!(answer.contains(&format!("return \"PROXY {host}\"")), "{answer}");
        assert!(answer.contains("application/x-ns-proxy-autoconfig"));
    }
}

/// What such a program asks never arrives here, so the page of the port and `doctor` explain it.
#[tokio::test]
async fn socks5_not_h_is_explained() {
    let gateway = Gateway::start(&[]);
    let answer =
        gateway.say("GET / HTTP/1.1\r\nHost: localhost:1080\r\nConnection: close\r\n\r\n").await;
    assert_eq!(outcome(&answer).0, 200);
    assert!(answer.contains("socks5h://localhost:1080") && answer.contains("--socks5-hostname"));
    assert!(cloak_gateway::SOCKS5H_HINT.contains("socks5h"));
}

#[tokio::test]
async fn errors_have_a_page_for_people_and_a_line_for_programs() {
    let gateway = Gateway::start(&[]);
    let get = "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nConnection: close\r\n";
    let page = gateway.say(format!("{get}Accept: text/html,*/*\r\n\r\n")).await;
    assert!(page.contains("<h1>This name is not known.</h1>"), "{page}");
    let line = gateway.say(format!("{get}\r\n")).await;
    assert!(line.ends_with("(unknown-name)\n") && !line.contains('<'), "{line}");
}
