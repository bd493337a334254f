//! Real programs.

use std::process::Output;

use tokio::net::TcpListener;

use crate::support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

async fn run(program: &'static str, arguments: Vec<String>) -> Output {
    let running = tokio::task::spawn_blocking(move || {
        std::process::Command::new(program).args(arguments).env_clear().output().unwrap()
    });
    tokio::time::timeout(DEADLINE, running).await.expect("in time").unwrap()
}

fn arguments(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn curl_works_in_every_way() {
    if !has_program("curl") {
        return;
    }
    let (origin, _seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let address = gateway.address;
    for way in [
        format!("--socks5-hostname {address}"),
        format!("--socks4a {address}"),
        format!("-x http://{address}"),
        format!("-p -x http://{address}"),
    ] {
        let output = run("curl", arguments(&format!("-sS -m 9 {way} http://bob.cloak/"))).await;
        assert_eq!(output.stdout, b"hello", "{way}: {output:?}");
    }
    let local = format!("-sS -m 9 http://bob.cloak.localhost:{}/", address.port());
    assert_eq!(run("curl", arguments(&local)).await.stdout, b"hello");
    let twice = format!("-sS -m 9 -x http://{address} http://bob.cloak/ http://bob.cloak/");
    let before = gateway.node.opened().len();
    assert_eq!(run("curl", arguments(&twice)).await.stdout, b"hellohello");
    assert_eq!(gateway.node.opened().len(), before + 1, "one session for both");
    let unknown = format!("-sS -m 9 --socks5-hostname {address} http://eve.cloak/");
    let output = run("curl", arguments(&unknown)).await;
    assert_eq!(output.status.code(), Some(97), "{output:?}");
}

#[tokio::test]
async fn curl_works_over_a_unix_socket() {
    if !has_program("curl") {
        return;
    }
    let (origin, _seen) = origin(OK).await;
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let config = config(&format!("same_user = true\nlisten = [\"unix:{}\"]", path.display()));
    let _gateway = Gateway::configured(&config, "direct", &[("bob.cloak", Peer::Backend(origin))]);
    let command = format!("-sS -m 9 -x socks5h://localhost{} http://bob.cloak/", path.display());
    let output = run("curl", arguments(&command)).await;
    assert_eq!(output.stdout, b"hello", "{output:?}");
}

#[tokio::test]
async fn proxychains_works() {
    if !has_program("curl") || !has_program("proxychains4") {
        return;
    }
    let (origin, _seen) = origin(OK).await;
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(origin))]);
    let scratch = Scratch::new();
    let file = scratch.path("proxychains.conf");
    let port = gateway.address.port();
    let text = format!("strict_chain\nproxy_dns\n[ProxyList]\nsocks5 127.0.0.1 {port}\n");
    std::fs::write(&file, text).unwrap();
    let command = format!("-q -f {} curl -sS -m 9 http://bob.cloak/", file.display());
    let output = run("proxychains4", arguments(&command)).await;
    assert_eq!(output.stdout, b"hello", "{output:?}");
    assert_eq!(gateway.node.opened(), [("bob.cloak".to_owned(), 80)]);
}

#[tokio::test]
async fn an_unused_listener_goes_with_its_proxy() {
    let gateway = Gateway::start(&[]);
    let address = gateway.address;
    gateway.cancel.cancel();
    gateway.tasks.close();
    tokio::time::timeout(DEADLINE, gateway.tasks.wait()).await.expect("stops in order");
    assert!(TcpListener::bind(address).await.is_ok(), "the port is free again");
}
