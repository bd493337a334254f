//! Where names go: `.cloak` never to DNS, others where `outbound` says.

use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::wait_until;
use cloak_tests::gateway::Up;
use cloak_tests::need;
use cloak_tests::netns::Net;
use cloak_tests::origin::TcpOrigin;
use cloak_tests::realm::Realm;
use cloak_tests::site::{Site, port};
use cloak_tests::skip::Need;

/// Text of the queries that a name server was asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// A name server that answers nothing and remembers what it was asked.
fn spy(socket: UdpSocket) -> Asked {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok(count) = socket.recv(&mut buffer) {
            let text = buffer[..count].iter().map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(*byte),
                _ => '.',
            });
            seen.lock().unwrap().push(text.collect::<String>().to_lowercase());
        }
    });
    asked
}

#[test]
fn cloak_names_never_reach_dns() {
    need!(Need::NetworkNamespaces);
    let realm = Realm::new();
    let net = Net::new(1);
    let host = net.host(0);
    host.set_resolver(host.address());
    let address = host.address();
    let asked = spy(host.enter(move || UdpSocket::bind((address, 53)).unwrap()));
    let home = realm.empty("alice").on(host);
    home.init();
    let gateway = home.up(&Up::default());
    let proxy = gateway.proxy();
    let try_name = |name: &'static str| {
        host.enter(move || {
            let _ = client::socks5(proxy, name, 80).unwrap_err();
            let _ = client::connect(proxy, name, 80).unwrap_err();
            let _ = client::socks4a(proxy, name, 80).unwrap_err();
        });
    };
    for name in ["bob.cloak", "BOB.CLOAK", "bob.cloak.", "x.y.cloak", "-.cloak", "a..cloak"] {
        try_name(name);
    }
    let _ = gateway.run(&["resolve", "bob.cloak"]).exits(4);
    // The control: an ordinary name does reach it, so the spy would have seen the others.
    try_name("ordinary.example");
    wait_until("the ordinary name is asked for", Duration::from_secs(20), || {
        asked.lock().unwrap().iter().any(|text| text.contains("ordinary"))
    });
    let leaked: Vec<String> = asked.lock().unwrap().clone();
    assert!(leaked.iter().all(|text| !text.contains("cloak")), "{leaked:?}");
}

#[test]
fn ordinary_names_go_where_outbound_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let site = Site::configured("[outbound]\ndefault = \"deny\"\n", "");
    let denied = client::socks5_address(site.alice.proxy(), address).unwrap_err();
    assert_eq!(denied.reply(), 2);
    assert_echo(
        &mut client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap(),
        b"names of ours still work",
    );
    let echo = TcpOrigin::echo();
    let shared = Site::shared();
    let through = client::socks5_address(shared.alice.proxy(), echo.address());
    assert_echo(&mut through.unwrap(), b"direct");
    // A second gateway that sends ordinary names to the first one's proxy.
    let realm = Realm::new();
    let home = realm.found("dave");
    home.configure(&format!("[outbound]\ndefault = \"socks5://{}\"\n", shared.alice.proxy()));
    let dave = home.up(&Up::default());
    assert_echo(&mut client::socks5_address(dave.proxy(), echo.address()).unwrap(), b"upstream");
}
