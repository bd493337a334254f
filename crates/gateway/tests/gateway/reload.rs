//! Settings that change while connections run.

use cloak_gateway::{BindError, ReloadError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn reload_touches_only_what_changed() {
    let scratch = Scratch::new();
    let path = scratch.path("second.sock");
    let before = config("");
    let gateway =
        Gateway::configured(&before, "direct", &[("bob.cloak", Peer::Backend(echo().await))]);
    let aliases = [("short".to_owned(), "bob.cloak".to_owned())].into();
    let (code, mut running) = gateway.socks5("bob.cloak", 80).await;
    assert_eq!(code, 0);

    let nothing = gateway.handle.reload(&before, &outbound("direct"), &aliases).await.unwrap();
    assert!(nothing.changed.is_empty(), "{nothing:?}");

    let users = users(&scratch.password("x"));
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let after = config(&format!("{listen}\n{users}"));
    let reloaded = gateway.handle.reload(&after, &outbound("deny"), &aliases).await.unwrap();
    assert_eq!(reloaded.changed, ["proxy.users", "outbound.default", "proxy.listen"]);
    assert_eq!(gateway.handle.addresses().len(), 2);
    assert!(
        gateway.handle.addresses().iter().any(|it| it.to_string() == gateway.address.to_string())
    );

    running.write_all(b"hello").await.unwrap();
    assert_eq!(read_text(&mut running, 5).await, "hello", "running sessions are not cut");
    let (head, _) = gateway.http_connect("bob.cloak:80").await;
    assert_eq!(outcome(&head).0, 407, "new requests follow the new settings");
    assert!(tokio::net::UnixStream::connect(&path).await.is_ok());

    gateway.handle.reload(&before, &outbound("direct"), &aliases).await.unwrap();
    assert_eq!(gateway.socks5("bob.cloak", 80).await.0, 0);
    assert_eq!(gateway.handle.addresses().len(), 1);
}

/// An application's kept-alive connection holds one to the origin, which goes the old way.
#[tokio::test]
async fn the_next_request_of_a_connection_goes_the_new_way() {
    let (origin, _seen) = origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Gateway::start(&[("home.cloak", Peer::Backend(origin))]);
    let mut stream = gateway.connect().await;
    let get = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
    let mut opened = Vec::new();
    for route in ["direct", "exit:home", "direct"] {
        gateway.handle.reload(&config(""), &outbound(route), &Default::default()).await.unwrap();
        stream.write_all(get.as_bytes()).await.unwrap();
        assert_eq!(outcome(&read_head(&mut stream).await).0, 200);
        assert_eq!(read_text(&mut stream, 2).await, "ok");
        opened.push(gateway.node.requests().len());
    }
    assert_eq!(opened, [0, 1, 1]);
    gateway.handle.reload(&config(""), &outbound("deny"), &Default::default()).await.unwrap();
    stream.write_all(get.as_bytes()).await.unwrap();
    assert_eq!(outcome(&read_head(&mut stream).await).1, Some("outbound-denied"));
}

#[tokio::test]
async fn a_reload_that_cannot_be_used_changes_nothing() {
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(echo().await))]);
    let exposed = config("listen = [\"0.0.0.0:0\"]\nlocal_view = false");
    let error = gateway.handle.reload(&exposed, &outbound("deny"), &Default::default()).await;
    let expected = ReloadError::Bind(BindError::OpenToStrangers(exposed.listen[0].clone()));
    assert_eq!(error, Err(expected));
    assert_eq!(gateway.socks5("short", 80).await.0, 0);
    assert!(TcpStream::connect(gateway.address).await.is_ok());
}
