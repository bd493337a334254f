//! SOCKS5 and SOCKS4a.

use cloak_node::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn reply_codes_are_true() {
    for (code, socks, status) in [
        (Code::UnknownName, 4, 502),
        (Code::NoService, 5, 502),
        (Code::BackendRefused, 5, 502),
        (Code::NotAllowed, 2, 403),
        (Code::PeerUnreachable, 3, 504),
        (Code::Timeout, 6, 504),
        (Code::Busy, 1, 503),
    ] {
        let gateway = Gateway::start(&[("bob.cloak", Peer::Refuses(code))]);
        assert_eq!(gateway.socks5("bob.cloak", 80).await.0, socks, "{code}");
        let (answer, _) = gateway.http_connect("bob.cloak:80").await;
        assert_eq!(outcome(&answer), (status, Some(code.as_str())));
        let get = "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nConnection: close\r\n\r\n";
        assert_eq!(outcome(&gateway.say(get).await), (status, Some(code.as_str())));
        let mut socks4 = gateway.connect().await;
        socks4.write_all(b"\x04\x01\x00\x50\x00\x00\x00\x01\0bob.cloak\0").await.unwrap();
        assert_eq!(read_all(&mut socks4).await, "\0[\0\0\0\0\0\0", "91: rejected");
    }
}

#[tokio::test]
async fn commands_and_address_types_that_do_not_exist_are_named() {
    let gateway = Gateway::start(&[]);
    for (request, code) in [
        (&b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"[..], 7),
        (b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", 7),
        (b"\x05\x09\x00\x01\x7f\x00\x00\x01\x00\x50", 7),
        (b"\x05\x01\x00\x09\x7f\x00\x00\x01\x00\x50", 8),
    ] {
        let mut stream = gateway.connect().await;
        assert_eq!(socks5_request(&mut stream, request).await, code);
        assert_eq!(read_all(&mut stream).await, "", "closed in order");
    }
}

#[tokio::test]
async fn a_pipelined_request_keeps_its_bytes_in_order() {
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(echo().await))]);
    let mut stream = gateway.connect().await;
    let all = [b"\x05\x01\x00", socks5_name("bob.cloak", 80).as_slice(), b"early "].concat();
    stream.write_all(&all).await.unwrap();
    stream.write_all(b"and late").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.ends_with("early and late"), "{answer:?}");
    assert_eq!(answer.len(), 2 + 10 + 14);
}

#[tokio::test]
async fn socks4a_and_socks4_carry_bytes() {
    let echo = echo().await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(echo))]);
    let by_name = b"\x04\x01\x00\x50\x00\x00\x00\x01ann\0bob.cloak\0hello".to_vec();
    let port = echo.port().to_be_bytes();
    let by_address = [b"\x04\x01", &port[..], b"\x7f\x00\x00\x01ann\0hello"].concat();
    for request in [by_name, by_address] {
        let mut stream = gateway.connect().await;
        stream.write_all(&request).await.unwrap();
        assert_eq!(read_text(&mut stream, 8 + 5).await, "\0Z\0\0\0\0\0\0hello");
    }
    assert_eq!(gateway.node.opened(), [("bob.cloak".to_owned(), 80)]);
}

#[tokio::test]
async fn ip_only_clients_work() {
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(echo().await))]);
    let port = echo().await.port().to_be_bytes();
    let mut stream = gateway.connect().await;
    let request = [b"\x05\x01\x00\x01\x7f\x00\x00\x01", &port[..]].concat();
    assert_eq!(socks5_request(&mut stream, &request).await, 0, "an IPv4 address");
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(read_text(&mut stream, 5).await, "hello");
    let text = gateway.socks5("127.0.0.1", u16::from_be_bytes(port)).await;
    assert_eq!(text.0, 0, "an address sent as a name");
    // An invented address that lost its name on the way: a true answer, at once.
    let mut stream = gateway.connect().await;
    let invented = b"\x05\x01\x00\x01\xe0\x00\x00\x01\x00\x50";
    assert_eq!(socks5_request(&mut stream, invented).await, 4);
}

#[tokio::test]
async fn users_are_asked_for_their_password() {
    let scratch = Scratch::new();
    let config = config(&users(&scratch.password("open sesame")));
    let gateway =
        Gateway::configured(&config, "direct", &[("bob.cloak", Peer::Backend(echo().await))]);
    let mut stream = gateway.connect().await;
    stream.write_all(&[5, 1, 0]).await.unwrap();
    assert_eq!(
        read_all(&mut stream).await.as_bytes(),
        "\u{5}\u{fffd}".as_bytes(),
        "none acceptable"
    );
    for (password, admitted) in [("open sesame", true), ("wrong", false), ("", false)] {
        let mut stream = gateway.connect().await;
        stream.write_all(&[5, 2, 0, 2]).await.unwrap();
        let len = u8::try_from(password.len()).unwrap();
        let login = [b"\x01\x03ann", &[len][..], password.as_bytes()].concat();
        stream.write_all(&login).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [5, 2, 1, u8::from(!admitted)], "{password}");
        if admitted {
            stream.write_all(&socks5_name("bob.cloak", 80)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            assert!(read_text(&mut stream, 15).await.ends_with("hello"));
        }
    }
    let mut socks4 = gateway.connect().await;
    socks4.write_all(b"\x04\x01\x00\x50\x00\x00\x00\x01\0bob.cloak\0").await.unwrap();
    assert_eq!(read_all(&mut socks4).await, "\0[\0\0\0\0\0\0", "SOCKS4 has no passwords");
    assert_eq!(gateway.node.opened().len(), 1);
}

#[tokio::test]
async fn passwords_are_never_logged() {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // While there is but one subscriber, a place that logs for the first time in another test's
    // thread, which has none, would count as of interest to nobody.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
    tracing::callsite::rebuild_interest_cache();
    let scratch = Scratch::new();
    let config = config(&users(&scratch.password("sesame")));
    let gateway = Gateway::configured(&config, "direct", &[]);
    let mut stream = gateway.connect().await;
    stream.write_all(b"\x05\x01\x02\x01\x03ann\x06sesame").await.unwrap();
    stream.write_all(&socks5_name("bob.cloak", 80)).await.unwrap();
    read_text(&mut stream, 14).await;
    let get = "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nConnection: close\r\n\
               Proxy-Authorization: Basic YW5uOnNlc2FtZQ==\r\n\r\n";
    assert_eq!(outcome(&gateway.say(get).await).0, 502);
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("socks5"), "something is logged: {log}");
    let bytes = format!("{:?}", b"sesame");
    for secret in ["sesame", "YW5uOnNlc2FtZQ", bytes.as_str()] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn aliases_come_before_names() {
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(echo().await))]);
    assert_eq!(gateway.socks5("Short", 5432).await.0, 0);
    assert_eq!(gateway.node.opened(), [("bob.cloak".to_owned(), 5432)]);
}
