//! Changing a running gateway: `reload` touches only what changed.

use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::wait_until;
use cloak_tests::gateway::Up;
use cloak_tests::origin::TcpOrigin;
use cloak_tests::pair::{End, Pair};
use cloak_tests::realm::Realm;
use cloak_tests::site::{Site, port};

const SOON: Duration = Duration::from_secs(10);

fn service(port: u16, target: &TcpOrigin, allow: &str) -> String {
    let target = target.address();
    format!("[[service]]\nport = {port}\ntarget = \"{target}\"\nallow = [\"{allow}\"]\n")
}

#[test]
fn reload_touches_only_what_changed() {
    let (first, second) = (TcpOrigin::echo(), TcpOrigin::echo());
    let toml = service(7, &first, "realm");
    let pair = Pair::start_configured(Realm::new(), &Up::default(), "", &toml);
    let proxy = pair.alice.proxy();
    let mut stream = client::socks5(proxy, "bob.cloak", 7).unwrap();
    assert_echo(&mut stream, b"before");
    let links = || {
        [&pair.alice, &pair.bob].map(|gateway| gateway.json(&["peers"])[0]["state_since"].clone())
    };
    let (linked, id) = (links(), pair.session(End::Bob)["id"].clone());
    pair.bob.configure(&(toml.clone() + &service(8, &second, "realm")));
    let _ = pair.bob.run(&["reload"]).success();
    wait_until("the new service is there", SOON, || {
        client::socks5(proxy, "bob.cloak", 8).is_ok_and(|mut stream| {
            assert_echo(&mut stream, b"new");
            true
        })
    });
    assert_echo(&mut stream, b"after");
    let rows = pair.bob.sessions();
    let old = rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!((&old["resumes"], &old["state"]), (&0.into(), &"live".into()), "{old}");
    assert_eq!(links(), linked, "the link is the same");
    // A service that goes takes only its own sessions along, if any.
    pair.bob.configure(&service(8, &second, "realm"));
    let _ = pair.bob.run(&["reload"]).success();
    wait_until("the old service is gone", SOON, || {
        client::socks5(proxy, "bob.cloak", 7).is_err_and(|refused| refused.reply() == 5)
    });
}

#[test]
fn a_broken_file_changes_nothing() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"before");
    site.bob.configure("[proxy]\nlocal_viw = true\n");
    let refused = site.bob.run(&["reload"]).exits(2);
    assert!(refused.stderr.contains("line 2, column 1"), "{}", refused.stderr);
    assert_echo(&mut stream, b"after");
    let mut again = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut again, b"new ones too");
}

#[test]
fn authorisation_is_checked_at_open_and_at_every_resume() {
    let echo = TcpOrigin::echo();
    let (open, closed) = (service(7, &echo, "alice.cloak"), service(7, &echo, "carol.cloak"));
    let pair = Pair::start_configured(Realm::new(), &Up::default(), "", &open);
    let mut stream = client::socks5(pair.alice.proxy(), "bob.cloak", 7).unwrap();
    assert_echo(&mut stream, b"allowed");
    pair.bob.configure(&closed);
    let _ = pair.bob.run(&["reload"]).success();
    let refused = client::socks5(pair.alice.proxy(), "bob.cloak", 7).unwrap_err();
    assert_eq!(refused.reply(), 2, "checked at open");
    pair.cut();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let error = std::io::Read::read(&mut stream, &mut [0; 1]).expect_err("checked at resume");
    assert!(client::is_reset(&error), "{error}");
    pair.wait_no_sessions(SOON);
}

#[test]
fn aliases_come_before_names() {
    let site = Site::configured("[aliases]\n\"home.cloak\" = \"bob.cloak\"\n", "");
    let mut stream = client::socks5(site.alice.proxy(), "home.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"by its alias");
    let names = site.alice.json(&["names"]).to_string();
    assert!(names.contains("alias"), "{names}");
}
