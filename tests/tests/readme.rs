//! The README's commands, as printed: each line that runs here is looked up there first.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloak_tests::binary::{cloak, workspace};
use cloak_tests::clock::wait_until;
use cloak_tests::need;
use cloak_tests::netns::{Host, Net};
use cloak_tests::origin::HttpOrigin;
use cloak_tests::printed;
use cloak_tests::process::{self, Finished, Owned};
use cloak_tests::realm::{Realm, last_line};
use cloak_tests::skip::Need;

/// A hundred megabytes through a gateway that was not built for speed.
const LINE_WITHIN: Duration = Duration::from_secs(120);

fn printed(start: &str) -> String {
    printed::line("README.md", start)
}

/// A shell on a host of its own, where nothing else uses the ports that the README names.
fn shell(host: &Host, home: &Path, line: &str) -> Command {
    let mut command = host.command(Path::new("sh"));
    let path = std::env::var("PATH").unwrap_or_default();
    let binaries = cloak().parent().unwrap().display();
    command.env("PATH", format!("{binaries}:{path}")).env("XDG_DATA_HOME", home);
    command.env_remove("CLOAK_HOME").env_remove("RUST_LOG").args(["-c", line]);
    command
}

fn run(host: &Host, home: &Path, line: &str, input: &[u8]) -> Finished {
    process::run(shell(host, home, line), input, LINE_WITHIN).success()
}

fn start(host: &Host, home: &Path, line: &str) -> Owned {
    std::fs::create_dir_all(home).unwrap();
    // In its place, so that a signal reaches the program and not the shell.
    let mut command = shell(host, home, &format!("exec {line}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Owned::new(command.spawn().unwrap())
}

fn listens(host: &Host, port: u16) -> bool {
    host.enter(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
}

#[test]
fn the_demo_keeps_what_the_readme_promises() {
    need!("curl", "sha256sum", Need::NetworkNamespaces);
    let realm = Realm::new();
    let net = Net::new(1);
    let (host, home) = (net.host(0), realm.directory());
    let _ = printed("cargo run --release -- demo");
    let text = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    assert!(text.contains("`cargo run --release -- demo --chaos 500`"));
    let _demo = start(host, home, "cloak demo --chaos 500");
    wait_until("the demo listens", Duration::from_secs(60), || listens(host, 1080));
    let download =
        run(host, home, &printed("curl --socks5-hostname 127.0.0.1:1080 http://demo"), b"");
    let expected = run(host, home, &printed("seq 100000000"), b"");
    assert_eq!(download.text(), expected.text());
}

#[test]
fn two_machines_do_what_the_readme_says() {
    need!("curl", Need::NetworkNamespaces);
    let realm = Realm::new();
    let net = Net::new(2);
    let (first, second) = (net.host(0), net.host(1));
    let homes = ["first", "second"].map(|name| realm.directory().join(name));
    let listener = first.enter(|| TcpListener::bind("127.0.0.1:8080").unwrap());
    let _web = HttpOrigin::on(listener, None);
    let _ = run(first, &homes[0], &printed("cloak init"), b"");
    let _alice = start(first, &homes[0], &printed("cloak up --expose"));
    wait_until("the first gateway listens", Duration::from_secs(30), || listens(first, 1080));
    let invitation = last_line(&run(first, &homes[0], &printed("cloak invite"), b""));
    let _ = run(second, &homes[1], &printed("cloak join"), invitation.as_bytes());
    let _bob = start(second, &homes[1], "cloak up");
    wait_until("the second gateway listens", Duration::from_secs(30), || listens(second, 1080));
    let line = printed("curl --socks5-hostname 127.0.0.1:1080 http://alice.cloak/");
    let answer = run(second, &homes[1], &format!("{line} --silent --dump-header -"), b"");
    assert!(answer.text().starts_with("HTTP/1.1 "), "{}", answer.text());
}
