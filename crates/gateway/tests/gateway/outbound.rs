//! Destinations that are not in `.cloak`.

use cloak_node::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::support::*;

/// A SOCKS5 proxy that reports what it is asked for and answers with `reply`.
async fn upstream(reply: u8) -> (String, mpsc::Receiver<(String, u16)>) {
    let (asked, requests) = mpsc::channel(64);
    let address = backend(move |mut stream| {
        let asked = asked.clone();
        async move {
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.write_all(&[5, greeting[2]]).await.unwrap();
            if greeting[2] == 2 {
                assert_eq!(read_text(&mut stream, 9).await, "\u{1}\u{3}ann\u{3}p:w");
                stream.write_all(&[1, 0]).await.unwrap();
            }
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(head[..4], [5, 1, 0, 3]);
            let host = read_text(&mut stream, usize::from(head[4])).await;
            let port = stream.read_u16().await.unwrap();
            asked.send((host, port)).await.unwrap();
            stream.write_all(&[5, reply, 0, 3, 1, b'x', 0, 0]).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let _ = stream.read_u8().await;
        }
    })
    .await;
    (format!("{address}"), requests)
}

#[tokio::test]
async fn cloak_names_never_reach_dns() {
    let (address, mut requests) = upstream(0).await;
    let route = format!("socks5://{address}");
    let gateway = Gateway::configured(&config(""), &route, &[]);
    let names = ["eve.cloak", "EVE.Cloak", "eve.cloak.", "a.eve.cloak..", "cloak", "eve..cloak"];
    for name in names {
        assert_eq!(gateway.socks5(name, 80).await.0, 4, "{name}");
        let get =
            format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let answer = gateway.say(get).await;
        assert!(matches!(outcome(&answer).1, Some("unknown-name")), "{name}: {answer}");
        let (head, _) = gateway.http_connect(&format!("{name}:80")).await;
        assert_eq!(outcome(&head), (502, Some("unknown-name")), "{name}");
        let socks4 = format!("\x04\x01\0P\0\0\0\x01\0{name}\0");
        assert_eq!(gateway.say(socks4).await, "\0[\0\0\0\0\0\0", "{name}");
    }
    for name in ["eve.cloak.localhost", "eve\u{3002}cloak", "eve.cloak\0.com", "eve.cloak "] {
        assert_eq!(gateway.socks5(name, 80).await.0, 4, "{name:?}");
    }
    assert_eq!(gateway.node.opened().len(), 4 * names.len());
    assert!(requests.try_recv().is_err(), "the way out never saw one");
    assert_eq!(gateway.socks5("example.com", 80).await.0, 0);
    assert_eq!(requests.recv().await.unwrap(), ("example.com".to_owned(), 80));
}

#[tokio::test]
async fn an_upstream_proxy_gets_names_unresolved() {
    let (address, mut requests) = upstream(0).await;
    let route = format!("socks5://ann:p:w@{address}");
    let gateway = Gateway::configured(&config(""), &route, &[]);
    let (code, mut stream) = gateway.socks5("Example.com.", 8080).await;
    assert_eq!(code, 0);
    assert_eq!(read_text(&mut stream, 5).await, "hello");
    assert_eq!(requests.recv().await.unwrap(), ("example.com".to_owned(), 8080));
}

#[tokio::test]
async fn an_upstream_proxys_refusal_is_passed_on_whatever_it_says() {
    for (reply, code) in
        [(1, 4), (2, 2), (3, 4), (4, 4), (5, 5), (6, 6), (9, 4), (0xf0, 4), (255, 4)]
    {
        let (address, _requests) = upstream(reply).await;
        let gateway = Gateway::configured(&config(""), &format!("socks5://{address}"), &[]);
        assert_eq!(gateway.socks5("example.com", 80).await.0, code, "{reply}");
    }
}

#[tokio::test]
async fn ordinary_destinations_can_be_denied() {
    let gateway =
        Gateway::configured(&config(""), "deny", &[("bob.cloak", Peer::Backend(echo().await))]);
    assert_eq!(gateway.socks5("127.0.0.1", 80).await.0, 2);
    assert_eq!(gateway.socks5("example.com", 80).await.0, 2);
    let (head, _) = gateway.http_connect("127.0.0.1:80").await;
    assert_eq!(outcome(&head), (403, Some("outbound-denied")));
    assert_eq!(gateway.socks5("bob.cloak", 80).await.0, 0);
}

/// Ordinary destinations go to the exit as they were asked for, names unresolved; Cloak names do not.
#[tokio::test]
async fn an_exit_is_asked_for_ordinary_destinations() {
    let (origin, _seen) = origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let peers = [("home.cloak", Peer::Backend(origin)), ("bob.cloak", Peer::Backend(origin))];
    let gateway = Gateway::configured(&config(""), "exit:home", &peers);
    let host = |name: &str, port| ("home.cloak".to_owned(), Target::Host(name.to_owned(), port));
    let mut expected = vec![host("no-such-host.invalid", 443), host("2001:db8::1", 80)];
    assert_eq!(gateway.socks5("No-Such-Host.invalid", 443).await.0, 0);
    assert_eq!(gateway.socks5("2001:db8::1", 80).await.0, 0);
    let (head, _) = gateway.http_connect("example.com:443").await;
    assert_eq!(outcome(&head).0, 200);
    expected.push(host("example.com", 443));
    let get = "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
    let answer = gateway.say(get).await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    expected.push(host("example.com", 80));
    let first = gateway.node.said().pop().unwrap();
    assert!(first.starts_with(b"GET / HTTP/1.1\r\n"), "the request goes with Open");
    assert_eq!(gateway.socks5("bob.cloak", 80).await.0, 0);
    expected.push(("bob.cloak".to_owned(), Target::Service(80)));
    assert_eq!(gateway.node.requests(), expected);
}

#[tokio::test]
async fn direct_connections_and_their_failures() {
    let (origin, _seen) = origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Gateway::start(&[]);
    let get = |address: &str| {
        format!("GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
    };
    let answer = gateway.say(get(&origin.to_string())).await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    let (code, _) = gateway.socks5("localhost", origin.port()).await;
    assert_eq!(code, 0, "a name with several addresses");
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    assert_eq!(gateway.socks5("127.0.0.1", closed.port()).await.0, 5);
    assert_eq!(
        outcome(&gateway.say(get(&closed.to_string())).await),
        (502, Some("connection-refused"))
    );
    assert_eq!(gateway.socks5("no-such-host.invalid", 80).await.0, 4);
}
