//! Invitations, devices, members.

use std::time::Duration;

use cloak_tests::client::{self, assert_echo, is_reset};
use cloak_tests::clock::{now, wait_until};
use cloak_tests::gateway::Up;
use cloak_tests::origin::TcpOrigin;
use cloak_tests::realm::{Home, Realm, last_line};
use cloak_tests::site::{Site, port};

use super::assert_one_clear_sentence;

const SOON: Duration = Duration::from_secs(15);

fn join(home: &Home, invitation: &str, more: &[&str]) -> cloak_tests::process::Finished {
    let arguments = [&["join", "-"][..], more].concat();
    home.run_with(&arguments, format!("{invitation}\n").as_bytes())
}

#[test]
fn used_expired_and_broken_invitations_are_refused() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let used = alice.invite("bob");
    realm.empty("bob").join(&used);
    assert_one_clear_sentence(&join(&realm.empty("x1"), &used, &[]).exits(1));
    let short = last_line(&alice.run(&["invite", "--name", "x2", "--ttl", "1s"]).success());
    let start = now();
    wait_until("it expires", Duration::from_secs(5), || start.elapsed().as_millis() > 2100);
    assert_one_clear_sentence(&join(&realm.empty("x2"), &short, &[]).exits(1));
    let fresh = alice.invite("x3");
    let mut broken = fresh.clone().into_bytes();
    let middle = broken.len() / 2;
    broken[middle] = if broken[middle] == b'a' { b'b' } else { b'a' };
    let broken = String::from_utf8(broken).unwrap();
    assert_one_clear_sentence(&join(&realm.empty("x3"), &broken, &[]).exits(1));
    assert_one_clear_sentence(&join(&realm.empty("x3"), &fresh[..fresh.len() - 4], &[]).exits(1));
    // None of these attempts used up the good one.
    let _ = join(&realm.empty("x3"), &fresh, &[]).success();
}

/// Whether anybody can reach this device is not known before somebody did.
#[test]
fn an_invitation_warns_while_nobody_confirmed_an_address() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let invite = || alice.run(&["invite"]).success();
    let first = invite();
    assert!(first.stderr.contains("warning") && first.stderr.contains("outside"), "{first:?}");
    assert!(alice.json(&["invite"])["warning"].is_string());
    let bob = realm.empty("bob");
    let _ = join(&bob, &last_line(&first), &["--name", "bob"]).success();
    let _bob = bob.up(&Up::default());
    wait_until("bob reached alice", SOON, || invite().stderr.is_empty());
    assert!(alice.json(&["invite"])["warning"].is_null());
}

#[test]
fn a_foreign_invitation_is_refused() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let invitation = alice.invite("bob");
    let other = realm.found("carol");
    let refused = join(&other, &invitation, &[]).exits(1);
    assert_one_clear_sentence(&refused);
    // The inviter is gone, and another gateway sits where it was.
    let address = alice.overlay();
    drop(alice);
    let _carol = other.up(&Up::default().listen(address));
    assert_one_clear_sentence(&join(&realm.empty("bob"), &invitation, &[]).exits(1));
}

#[test]
fn a_fixed_name_is_fixed_and_a_free_one_is_asked_for() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let fixed = alice.invite("bob");
    assert_one_clear_sentence(&join(&realm.empty("bob"), &fixed, &["--name", "eve"]));
    let free = last_line(&alice.run(&["invite"]).success());
    let _ = join(&realm.empty("dora"), &free, &["--name", "dora"]).success();
    let taken = last_line(&alice.run(&["invite"]).success());
    assert_one_clear_sentence(&join(&realm.empty("x"), &taken, &["--name", "dora"]).exits(1));
}

#[test]
fn invitation_is_redeemed_atomically_once() {
    let realm = Realm::new();
    let mut alice = realm.found("alice").up(&Up::default());
    for round in 0..3 {
        let invitation = last_line(&alice.run(&["invite"]).success());
        let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
            let attempts: Vec<_> = (0..4)
                .map(|index| {
                    let home = realm.empty(&format!("r{round}n{index}"));
                    let (invitation, name) = (&invitation, format!("r{round}n{index}"));
                    scope.spawn(move || join(&home, invitation, &["--name", &name]).code)
                })
                .collect();
            attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
        });
        let redeemed = codes.iter().filter(|code| **code == Some(0)).count();
        assert_eq!(redeemed, 1, "round {round}: {codes:?}");
        // Not even a crash right after makes it good again.
        let address = alice.overlay();
        alice.crash();
        alice = alice.home().clone().up(&Up::default().listen(address));
        assert_one_clear_sentence(&join(&realm.empty("late"), &invitation, &["--name", "late"]));
    }
}

#[test]
fn a_second_device_of_an_entity_is_invited_and_revoked() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let invitation = last_line(&alice.run(&["device", "invite"]).success());
    let second = realm.empty("alice2");
    let _ = join(&second, &invitation, &["--device", "two"]).success();
    let two = second.up(&Up::default());
    assert_eq!(two.device_name(), "two.alice.cloak");
    let entity = |home: &Home| home.json(&["status"])["entity"].clone();
    assert_eq!(entity(&two), entity(&alice));
    wait_until("both devices are listed", Duration::from_secs(10), || {
        let list = alice.json(&["device", "list"]).to_string();
        list.contains("one") && list.contains("two")
    });
    let _ = alice.run(&["device", "revoke", "two"]).success();
    wait_until("the revoked device is not linked any more", Duration::from_secs(10), || {
        !cloak_tests::pair::linked(&alice)
    });
}

/// The first in order of preference that is reachable and exposes the port.
#[test]
fn a_name_is_the_best_device_of_its_entity() {
    let (first, second) = (TcpOrigin::echo(), TcpOrigin::echo());
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let bob = realm.join(&alice, "bob");
    bob.configure("[device]\npreference = 1\n");
    let mut one = bob.up(&Up::default().expose(7, first.address()));
    let other = realm.empty("bob2");
    let invitation = last_line(&one.run(&["device", "invite"]).success());
    let _ = join(&other, &invitation, &["--device", "two"]).success();
    other.configure("[device]\npreference = 2\n");
    let services = Up::default().expose(7, second.address()).expose(8, second.address());
    let _two = other.up(&services);
    let reach = |port| client::socks5(alice.proxy(), "bob.cloak", port);
    wait_until("alice knows both", SOON, || {
        ["one.bob.cloak", "two.bob.cloak"].iter().all(|name| alice.resolves(name))
    });
    for _ in 0..3 {
        assert_echo(&mut reach(7).unwrap(), b"to the first");
    }
    assert_eq!((first.accepted(), second.accepted()), (3, 0));
    assert_echo(&mut reach(8).unwrap(), b"only the second has it");
    assert_eq!((first.accepted(), second.accepted()), (3, 1));
    one.stop();
    assert_echo(&mut reach(7).unwrap(), b"the first is off");
    assert_eq!((first.accepted(), second.accepted()), (3, 2));
}

#[test]
fn a_steward_and_a_restored_key_let_another_device_invite() {
    let realm = Realm::new();
    let alice = realm.found("alice").up(&Up::default());
    let invitation = last_line(&alice.run(&["device", "invite"]).success());
    let second = realm.empty("alice2");
    let _ = join(&second, &invitation, &["--device", "two"]).success();
    let two = second.up(&Up::default());
    assert_one_clear_sentence(&two.run(&["device", "invite"]));
    assert_one_clear_sentence(&two.run(&["device", "backup"]));
    wait_until("both devices are linked", Duration::from_secs(10), || {
        cloak_tests::pair::linked(&alice)
    });
    let _ = alice.run(&["device", "steward", "two"]).success();
    wait_until("the steward may invite", Duration::from_secs(10), || {
        two.run(&["device", "invite"]).code == Some(0)
    });
    assert_one_clear_sentence(&two.run(&["device", "backup"]));

    let key = alice.directory().join("key.txt");
    let path = key.to_str().unwrap();
    let said = alice.run(&["device", "backup", path]).success();
    assert_eq!(said.text(), "");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_one_clear_sentence(&alice.run(&["device", "backup", path]));
    let text = std::fs::read_to_string(&key).unwrap();
    assert_eq!(alice.run(&["device", "backup"]).success().text(), text, "down a pipe");
    let _ = two.run_with(&["device", "restore"], text.as_bytes()).success();
    assert_eq!(two.run(&["device", "backup"]).success().text(), text);
}

#[test]
fn a_revocation_ends_running_sessions() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"before");
    let _ = site.alice.run(&["member", "revoke", "bob"]).success();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let error = std::io::Read::read(&mut stream, &mut [0; 1]).expect_err("not a clean end");
    assert!(is_reset(&error), "{error}");
    let _ = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap_err();
    let members = site.alice.json(&["member", "list"]);
    let bob =
        members.as_array().unwrap().iter().find(|row| row["name"].to_string().contains("bob"));
    assert_eq!(bob.unwrap()["revoked"], true);
}

#[test]
fn identity_is_stable_over_restarts() {
    let mut site = Site::start();
    let shown = |site: &Site| {
        [&site.alice, &site.bob].map(|gateway| {
            let status = gateway.json(&["status"]);
            ["name", "device", "entity", "realm"].map(|key| status[key].clone())
        })
    };
    let before = shown(&site);
    site.pair.alice.stop();
    site.pair.restart(cloak_tests::pair::End::Alice);
    site.pair.bob.crash();
    site.pair.restart(cloak_tests::pair::End::Bob);
    assert_eq!(shown(&site), before);
    site.wait_linked();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"still the same people");
}
