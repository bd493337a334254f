//! Homes that are copied, and realms that live on in a backup.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::{holds_for, wait_until};
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::origin::TcpOrigin;
use cloak_tests::pair::linked;
use cloak_tests::realm::Realm;
use cloak_tests::site::port;

use super::assert_one_clear_sentence;

const SOON: Duration = Duration::from_secs(20);
/// Several rounds of everything that is tried again and again.
const LONG_ENOUGH: Duration = Duration::from_secs(6);

/// What `cp -a` does.
fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Whether its owner is told that the home runs twice.
fn told(gateway: &Gateway) -> bool {
    gateway.json(&["status"])["warnings"].to_string().contains("a copy of it runs elsewhere")
}

fn epoch(gateway: &Gateway, name: &str) -> u64 {
    let rows = gateway.json(&["names"]);
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row["name"] == name).and_then(|row| row["epoch"].as_u64()).unwrap_or(0)
}

#[test]
fn cloned_home_is_fenced_and_told() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let origin = TcpOrigin::echo();
    let services = Up::default().expose(port::ECHO, origin.address());
    let mut bob = realm.join(&alice, "bob").up(&services);
    wait_until("they are linked", SOON, || linked(&alice) && linked(&bob));
    bob.stop();
    let before = epoch(&alice, "one.bob.cloak");
    let clone = realm.empty("clone");
    copy(bob.directory(), clone.directory());
    bob.restart();
    wait_until("bob is back", SOON, || epoch(&alice, "one.bob.cloak") > before);
    let clone = clone.up(&services);
    assert_eq!(clone.device_name(), bob.device_name());
    wait_until("somebody is told", SOON, || told(&bob) || told(&clone));
    // Whoever published last: each of them does when it finds its place in the overlay.
    let newest = || [&bob, &clone].map(|home| epoch(home, "one.bob.cloak")).into_iter().max();
    let epochs = || (newest().unwrap(), epoch(&alice, "one.bob.cloak"));
    let settled = || epochs().0 > before && epochs().0 == epochs().1;
    wait_until("the higher epoch counts", SOON * 3, settled);
    // Each of them answers the other once, and publishes at a change of its place or of the network.
    let most = epochs().0 + 8;
    holds_for("they do not outbid each other for ever", LONG_ENOUGH, || {
        let (ours, theirs) = epochs();
        ours <= most && theirs <= most
    });
    let mut stream = client::socks5(alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"one of the two");
}

#[test]
fn a_realm_lives_on_in_its_backup() {
    let realm = Realm::new();
    let mut alice = realm.found("alice").up(&Up::default());
    let bob = realm.join(&alice, "bob").up(&Up::default());
    wait_until("they are linked", SOON, || linked(&alice) && linked(&bob));
    let backup = alice.run(&["realm", "backup"]).success().text();
    assert_one_clear_sentence(&bob.run(&["realm", "backup"]).exits(1));
    assert_one_clear_sentence(&bob.run(&["invite", "--name", "carol"]).exits(1));
    alice.crash();
    fs::remove_dir_all(alice.directory()).unwrap();

    let other = realm.found("mallory").up(&Up::default());
    let foreign = other.run(&["realm", "backup"]).success().text();
    for wrong in [foreign.as_str(), "", &backup.replace("recovery", "discovery")] {
        let refused = bob.run_with(&["realm", "restore"], wrong.as_bytes()).exits(1);
        assert_one_clear_sentence(&refused);
    }
    let _ = bob.run(&["invite", "--name", "carol"]).exits(1);
    let _ = bob.run_with(&["realm", "restore"], backup.as_bytes()).success();
    let mode = fs::metadata(bob.directory().join("keys")).map(|keys| keys.permissions().mode());
    assert!(mode.is_ok_and(|mode| mode & 0o077 == 0));
    let origin = TcpOrigin::echo();
    let services = Up::default().expose(port::ECHO, origin.address());
    let carol = realm.join(&bob, "carol").up(&services);
    wait_until("bob knows carol", SOON, || bob.resolves("carol.cloak"));
    let mut stream = client::socks5(bob.proxy(), "carol.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"the realm goes on");
    drop(carol);
    let _ = bob.run(&["member", "revoke", "carol"]).success();
    assert_eq!(bob.run(&["realm", "backup"]).success().text(), backup);
}
