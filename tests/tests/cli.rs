//! The command line: exit codes, files, refusals, and commands on a running gateway.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "cli/files.rs"]
mod files;
#[path = "cli/homes.rs"]
mod homes;
#[path = "cli/invitations.rs"]
mod invitations;
#[path = "cli/running.rs"]
mod running;
#[path = "cli/secrets.rs"]
mod secrets;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use cloak_tests::clock::wait_until;
use cloak_tests::gateway::{STOP_WITHIN, Up};
use cloak_tests::need;
use cloak_tests::process::{self, Finished, Owned};
use cloak_tests::realm::{Home, Realm};
use cloak_tests::site::Site;
use rustix::process::Signal;

/// From the start of a demo to a name that its last peer publishes.
const SOON: Duration = Duration::from_secs(20);

/// Asserts that a refusal is what a person can act on: something on stderr, nothing on stdout, and no
/// trace of a panic.
#[track_caller]
fn assert_one_clear_sentence(finished: &Finished) {
    assert_eq!(finished.text(), "", "nothing on stdout");
    let text = finished.stderr.trim();
    assert!(!text.is_empty(), "a sentence on stderr");
    assert!(!text.contains("panicked"), "{text}");
    assert!(text.lines().count() <= 8, "one sentence and what it points at: {text}");
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let realm = Realm::new();
    let home = realm.found("alice");
    for usage in [&["no-such-command"][..], &["up", "--no-such-flag"], &["why"], &["init"]] {
        assert_one_clear_sentence(&home.run(usage).exits(2));
    }
    for question in [
        &["status"][..],
        &["sessions"],
        &["peers", "--json"],
        &["resolve", "bob.cloak"],
        &["stop"],
        &["reload"],
        &["invite"],
        &["connect", "bob.cloak:80"],
    ] {
        let refused = home.run(question).exits(3);
        assert_one_clear_sentence(&refused);
        assert!(refused.stderr.contains("cloak up"), "says what to do: {}", refused.stderr);
    }
    assert_one_clear_sentence(&home.run(&["join", "no-invitation"]).exits(1));
    assert_one_clear_sentence(&home.run(&["init", "--name", "other"]).exits(1));
    assert_one_clear_sentence(
        &realm.empty("nobody").run(&["up", "--proxy", "127.0.0.1:0"]).exits(1),
    );
    let gateway = home.up(&Up::default());
    let _ = gateway.run(&["status"]).exits(0);
    for missing in [
        &["sessions", "show", "ffffffff"][..],
        &["sessions", "close", "ffffffff"],
        &["device", "revoke", "no-such-device"],
        &["member", "revoke", "nobody"],
        &["connect", "nobody.cloak:80"],
    ] {
        assert_one_clear_sentence(&gateway.run(missing).exits(4));
    }
    let steps = gateway.run(&["resolve", "nobody.cloak"]).exits(4);
    assert!(steps.text().contains("unknown-name"), "{}", steps.text());
}

#[test]
fn names_are_checked() {
    let realm = Realm::new();
    for bad in ["", "-a", "a-", "A b", "a.b", &"x".repeat(64), "ü"] {
        let refused = realm.empty("x").run(&["init", "--name", bad]);
        assert!([Some(1), Some(2)].contains(&refused.code), "{bad:?}: {refused:?}");
        assert_one_clear_sentence(&refused);
    }
}

#[test]
fn completions_and_man_are_printed() {
    let home = Realm::new().empty("nobody");
    for shell in ["bash", "zsh", "fish"] {
        let text = home.run(&["completions", shell]).success().text();
        assert!(text.contains("cloak") && text.contains("sessions"), "{shell}");
    }
    let man = home.run(&["man"]).success().text();
    assert!(man.contains(".TH cloak") && man.contains("invite"), "a manual page");
    let help = home.run(&["--help"]).success().text();
    for command in ["demo", "init", "invite", "join", "up", "status", "sessions", "doctor"] {
        assert!(help.contains(command), "{command}");
    }
    assert!(home.run(&["--version"]).success().text().starts_with("cloak "));
}

#[test]
fn json_has_the_documented_fields() {
    let site = Site::shared();
    let status = site.alice.json(&["status"]);
    for key in [
        "version",
        "pid",
        "name",
        "device",
        "entity",
        "realm",
        "overlay",
        "overlay_listen",
        "locators",
        "peers_linked",
        "peers_known",
        "circuits",
        "sessions_live",
        "sessions_suspended",
        "memory_held",
        "memory_max",
        "membership_expires",
        "certificate_expires",
        "uptime_ms",
        "warnings",
    ] {
        assert!(!status[key].is_null(), "status.{key}: {status}");
    }
    assert_eq!(status["pid"], site.alice.id());
    assert_eq!(
        (&status["name"], &status["overlay"]),
        (&"one.alice.cloak".into(), &"linked".into())
    );
    for list in ["peers", "sessions", "services", "names"] {
        assert!(site.alice.json(&[list]).is_array(), "{list}");
    }
    let services = site.bob.json(&["services"]);
    let ports: Vec<u64> =
        services.as_array().unwrap().iter().filter_map(|row| row["port"].as_u64()).collect();
    assert!(ports.contains(&80) && ports.contains(&7), "{services}");
    let names = site.alice.json(&["names"]).to_string();
    assert!(names.contains("bob.cloak"), "{names}");
    let members = site.alice.json(&["member", "list"]).to_string();
    assert!(members.contains("bob"), "{members}");
}

#[test]
fn why_names_the_step_that_fails() {
    let site = Site::shared();
    let steps = |target: &str, code: i32| {
        let finished = site.alice.run(&["why", target, "--json"]).exits(code);
        let steps: serde_json::Value = serde_json::from_str(&finished.text()).unwrap();
        let failed = steps.as_array().unwrap().iter().find(|step| step["ok"] == false);
        failed.map(|step| step["step"].as_str().unwrap().to_owned())
    };
    assert_eq!(steps("bob.cloak:80", 0), None);
    assert_eq!(steps("bob.cloak:6666", 1).as_deref(), Some("backend"));
    assert_eq!(steps("bob.cloak:6667", 1).as_deref(), Some("port"));
    assert!(["name", "entity"].contains(&steps("nobody.cloak:80", 4).unwrap().as_str()));
    let people = site.alice.run(&["why", "bob.cloak:6666"]);
    assert!(people.text().contains("backend"), "{}", people.text());
}

#[test]
fn stop_and_sigterm_end_in_order() {
    let mut site = Site::start();
    site.pair.bob.stop();
    let alice = &mut site.pair.alice;
    alice.signal(Signal::TERM);
    let status = alice.wait(STOP_WITHIN).expect("it ends within 5 s");
    assert_eq!(status.code(), Some(0));
    let _ = alice.run(&["status"]).exits(3);
}

#[test]
fn doctor_looks_at_a_home_with_and_without_a_gateway() {
    let realm = Realm::new();
    let home = realm.found("alice");
    let stopped = home.run(&["doctor"]);
    assert!(!stopped.text().is_empty() && !stopped.stderr.contains("panicked"), "{stopped:?}");
    let gateway = home.up(&Up::default());
    let findings = gateway.run(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&findings.text()).unwrap();
    assert!(findings.is_array(), "{findings}");
}

/// A demo, and the lines that it printed up to the last one.
fn demo(home: &Home, arguments: &[&str]) -> (Owned, Vec<String>) {
    let mut command = home.command(&[&["demo", "--proxy", "127.0.0.1:0"], arguments].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let demo = Owned::new(child);
    let mut lines = stdout.lines().map_while(Result::ok);
    let mut printed = Vec::new();
    for line in lines.by_ref().take(60) {
        let is_last = line.contains("Ctrl-C");
        printed.push(line.trim().to_owned());
        if is_last {
            break;
        }
    }
    std::thread::spawn(move || lines.for_each(drop));
    (demo, printed)
}

fn end_demo(mut demo: Owned) {
    demo.signal(Signal::INT);
    let status = demo.wait(Duration::from_secs(5)).expect("Ctrl-C ends it");
    assert_eq!(status.code(), Some(0));
}

/// The demo's own lines work as printed, and Ctrl-C ends it.
#[test]
fn the_demo_does_what_it_prints() {
    need!("curl");
    let realm = Realm::new();
    let home = realm.empty("nobody");
    let (demo, printed) = demo(&home, &["--peers", "3", "--chaos", "300"]);
    let curls: Vec<_> = printed.iter().filter(|line| line.starts_with("curl ")).collect();
    assert!(!curls.is_empty(), "the demo prints curl lines");
    for line in curls.iter().filter(|line| !line.contains("/slow")) {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).current_dir(realm.directory());
        let finished = process::run(shell, b"", Duration::from_secs(60));
        assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    }
    end_demo(demo);
}

/// Fifty gateways with an overlay of their own: every name is found, and the ways lead there.
#[test]
fn a_demo_of_fifty_peers_is_an_overlay() {
    let realm = Realm::new();
    let home = realm.empty("nobody");
    let (demo, printed) = demo(&home, &["--peers", "50"]);
    let line = printed.iter().find(|line| line.starts_with("cloak --home")).unwrap();
    let gateway = line.split_whitespace().nth(2).unwrap();
    let ask = |words: &[&str]| home.run(&[&["--home", gateway, "--json"], words].concat());
    let json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&ask(words).success().text()).unwrap()
    };
    for number in 3..=50 {
        let name = format!("peer-{number}.cloak");
        wait_until(&name, SOON, || ask(&["resolve", &name]).code == Some(0));
    }
    let status = json(&["status"]);
    assert_eq!(status["place"]["address"], "root");
    assert!(status["peers_linked"].as_u64() < Some(49), "not everybody is a neighbour of the root");
    let far = |name: &str| {
        let trace = json(&["trace", name]);
        assert_eq!(trace["arrived"], true, "{trace}");
        trace["hops"].as_array().unwrap().len() > 1
    };
    assert!((3..=50).any(|number| far(&format!("peer-{number}.cloak"))), "some are two hops away");
    end_demo(demo);
}

/// `Type=notify` of a systemd unit.
#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let realm = Realm::new();
    let home = realm.found("alice");
    let path = realm.directory().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let heard = || {
        let mut datagram = [0; 1024];
        let length = socket.recv(&mut datagram).expect("a word within 5 s");
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    };
    let variable = ("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned());
    let mut gateway = home.up(&Up { environment: vec![variable], ..Up::default() });
    assert!(heard().lines().any(|line| line == "READY=1"));
    let _ = gateway.run(&["status"]).success();
    gateway.stop();
    assert!(heard().lines().any(|line| line == "STOPPING=1"));
}

#[test]
fn the_log_goes_to_stderr_and_the_ready_line_to_stdout() {
    let realm = Realm::new();
    let home = realm.found("alice");
    let mut command = home.command(&["up", "--proxy", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut up = Owned::new(child);
    wait_until("it runs", Duration::from_secs(20), || home.run(&["status"]).code == Some(0));
    let _ = home.run(&["stop"]).success();
    assert!(up.wait(STOP_WITHIN).unwrap().success());
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("ready proxy=127.0.0.1:"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
