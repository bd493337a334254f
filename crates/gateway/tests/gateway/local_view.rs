//! `http://NAME.cloak.localhost/`, end to end. What is refused is tested with the rule itself; here
//! is that the rule is asked.

use tokio::io::AsyncWriteExt;

use crate::support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1; Domain=cloak; Path=/\r\n\
                  Location: http://bob.cloak:8080/next\r\n\r\nok";

#[tokio::test]
async fn a_browser_without_proxy_reaches_a_service() {
    let (origin, mut seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let answer = gateway
        .say(
            "POST /a?b HTTP/1.1\r\nHost: 8080.bob.cloak.localhost:1080\r\nConnection: close\r\n\
             Origin: http://8080.bob.cloak.localhost:1080\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Length: 0\r\n\r\n",
        )
        .await;
    assert_eq!(outcome(&answer).0, 200, "{answer}");
    assert!(
        answer.contains("set-cookie: a=1; Path=/\r\n")
            || answer.contains("Set-Cookie: a=1; Path=/\r\n"),
        "{answer}"
    );
    assert!(answer.contains("http://8080.bob.cloak.localhost:1080/next"), "{answer}");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("POST /a?b HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("host: bob.cloak:8080\r\n"), "{head}");
    assert!(head.contains("origin: http://bob.cloak:8080\r\n"), "{head}");
    assert_eq!(gateway.node.opened(), [("bob.cloak".to_owned(), 8080)]);
}

#[tokio::test]
async fn foreign_page_cannot_reach_the_local_view() {
    let (origin, mut seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for fields in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n".to_owned(),
        "Sec-Fetch-Site: same-site\r\n".to_owned(),
        "Origin: http://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        "Referer: http://evil.example/\r\n".to_owned(),
        format!("{upgrade}Origin: http://evil.example\r\n"),
        format!(
            "{upgrade}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
        ),
    ] {
        for target in ["/", "http://bob.cloak.localhost:1080/"] {
            let mut stream = gateway.connect().await;
            let request =
                format!("GET {target} HTTP/1.1\r\nHost: bob.cloak.localhost:1080\r\n{fields}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await;
            assert_eq!(outcome(&head), (403, Some("not-allowed")), "{fields}");
        }
    }
    assert!(gateway.node.opened().is_empty());
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn the_local_view_can_be_turned_off() {
    let gateway = Gateway::configured(&config("local_view = false"), "direct", &[]);
    let get = "GET / HTTP/1.1\r\nHost: bob.cloak.localhost:1080\r\nConnection: close\r\n\r\n";
    assert_eq!(outcome(&gateway.say(get).await), (404, Some("not-found")));
    assert!(gateway.node.opened().is_empty());
}
