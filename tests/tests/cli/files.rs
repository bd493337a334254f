//! The home: permissions, configuration, its lock, and a disk that is full.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::wait_until;
use cloak_tests::fault::FaultProxy;
use cloak_tests::gateway::Up;
use cloak_tests::mount::Mount;
use cloak_tests::need;
use cloak_tests::origin::TcpOrigin;
use cloak_tests::pair::Pair;
use cloak_tests::realm::Realm;
use cloak_tests::skip::Need;

use super::assert_one_clear_sentence;

const UP: [&str; 5] = ["up", "--proxy", "127.0.0.1:0", "--listen", "127.0.0.1:0"];

fn files_under(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn bad_permissions_are_refused() {
    let realm = Realm::new();
    let home = realm.found("alice");
    assert_eq!(mode(home.directory()), 0o700);
    chmod(home.directory(), 0o755);
    assert_one_clear_sentence(&home.run(&UP).exits(1));
    chmod(home.directory(), 0o700);
    let files = files_under(home.directory());
    let secret = |path: &&PathBuf| {
        path.extension().is_none_or(|extension| extension != "toml") && mode(path) == 0o600
    };
    let secrets: Vec<&PathBuf> = files.iter().filter(secret).collect();
    assert!(!secrets.is_empty(), "keys are private: {files:?}");
    let keys = secrets.iter().filter(|path| path.to_string_lossy().contains("key"));
    for key in keys {
        chmod(key, 0o644);
        let refused = home.run(&UP).exits(1);
        assert_one_clear_sentence(&refused);
        chmod(key, 0o600);
    }
    home.up(&Up::default()).stop();
}

#[test]
fn unknown_configuration_keys_are_told_with_line_and_column() {
    let realm = Realm::new();
    let home = realm.found("alice");
    for (text, place) in [
        ("[proxy]\nlisten = [\"127.0.0.1:0\"]\nlisten_on = 1\n", "line 3, column 1"),
        ("[proxies]\n", "line 1, column 2"),
        ("[[service]]\nport = 70000\ntarget = \"127.0.0.1:1\"\n", "line 2, column 8"),
        ("[session]\nlinger = \"soon\"\n", "line 2, column 10"),
        ("[overlay]\n\nlisten = [\"nowhere\"]\n", "line 3, column "),
        ("[proxy\n", "line 1, column "),
        ("[outbound]\ndefault = \"sideways\"\n", "line 2, column 11"),
    ] {
        home.configure(text);
        let refused = home.run(&UP).exits(2);
        assert_eq!(refused.text(), "", "no port was bound");
        assert!(refused.stderr.contains(place), "{text:?}: {place} in {}", refused.stderr);
    }
    let missing = home.run(&["up", "--config", "/no/such/file.toml"]);
    assert!([Some(1), Some(2)].contains(&missing.code));
}

#[test]
fn two_gateways_in_one_home_do_not_start() {
    let realm = Realm::new();
    let mut gateway = realm.found("alice").up(&Up::default());
    let refused = gateway.run(&UP).exits(1);
    assert_one_clear_sentence(&refused);
    let id = gateway.id().to_string();
    assert!(refused.stderr.contains(&id), "names the process {id}: {}", refused.stderr);
    // The lock dies with its holder, however that ended.
    gateway.crash();
    gateway.restart();
    gateway.stop();
}

#[test]
fn a_used_port_is_told() {
    let realm = Realm::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = realm.found("alice");
    let refused = home.run(&["up", "--proxy", &address, "--listen", "127.0.0.1:0"]).exits(1);
    assert_one_clear_sentence(&refused);
    assert!(refused.stderr.contains(&address), "{}", refused.stderr);
}

#[test]
fn a_home_with_a_long_path_has_its_control_socket_elsewhere() {
    let realm = Realm::new();
    let home = realm.empty(&"long".repeat(30));
    let _ = home.run(&["init", "--name", "alice"]).success();
    let mut gateway = home.up(&Up::default());
    let _ = gateway.run(&["status"]).success();
    gateway.stop();
}

#[test]
fn a_full_disk_loses_no_session() {
    need!(Need::Mounts);
    let realm = Realm::new();
    let echo = TcpOrigin::echo();
    let mounts = ["alice", "bob"].map(|name| Mount::new(&realm.directory().join(name), "24m"));
    let pair = Pair::start(realm, &Up::default().expose(7, echo.address()));
    let mut stream = client::socks5(pair.alice.proxy(), "bob.cloak", 7).unwrap();
    assert_echo(&mut stream, b"before");
    mounts.iter().for_each(Mount::fill);
    assert_echo(&mut stream, &[1; 100_000]);
    pair.cut();
    assert_echo(&mut stream, &[2; 100_000]);
    let mut new = client::socks5(pair.alice.proxy(), "bob.cloak", 7).unwrap();
    assert_echo(&mut new, b"new sessions too");
    // What must be written durably first fails with a sentence instead.
    wait_until("the store has used up what it had set aside", Duration::from_secs(60), || {
        let answer = pair.alice.run(&["invite"]);
        assert!([Some(0), Some(1)].contains(&answer.code), "{}", answer.stderr);
        answer.code == Some(1)
    });
    wait_until("the gateway says so", Duration::from_secs(10), || {
        let warnings = pair.alice.json(&["status"])["warnings"].to_string();
        warnings.contains("disk") || warnings.contains("space")
    });
    assert_echo(&mut stream, b"after");
    let listed = pair.alice.sessions();
    assert!(listed.iter().all(|row| row["state"] != "lost"), "{listed:?}");
    drop((stream, new));
    let Pair { alice, bob, to_alice, to_bob, realm } = pair;
    drop((alice, bob));
    drop::<(FaultProxy, FaultProxy)>((to_alice, to_bob));
    drop(mounts);
    drop(realm);
}
