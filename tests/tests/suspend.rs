//! Sessions that are suspended on purpose: at both ends they need no connection until they are resumed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::wait_until;
use cloak_tests::engine::Download;
use cloak_tests::fault::Mode;
use cloak_tests::gateway::Up;
use cloak_tests::need;
use cloak_tests::origin::{HttpOrigin, TcpOrigin};
use cloak_tests::pair::{End, Pair};
use cloak_tests::pattern::Pattern;
use cloak_tests::realm::Realm;

const SOON: Duration = Duration::from_secs(20);
const ECHO: u16 = 7;
const SOURCE: u16 = 80;
const PATTERN: Pattern = Pattern::new(5);
const LENGTH: usize = 24 << 20;

/// Two gateways; bob has an echo service, and one that writes a pattern.
struct Site {
    pair: Pair,
    /// Kept for their drop only.
    _origins: [TcpOrigin; 2],
}

impl Site {
    fn start() -> Self {
        let origins = [TcpOrigin::echo(), TcpOrigin::source(PATTERN, LENGTH)];
        let up =
            Up::default().expose(ECHO, origins[0].address()).expose(SOURCE, origins[1].address());
        Self { pair: Pair::start(Realm::new(), &up), _origins: origins }
    }

    /// A session to the echo service that has carried something.
    fn echo(&self) -> TcpStream {
        let mut stream = client::socks5(self.pair.alice.proxy(), "bob.cloak", ECHO).unwrap();
        client::assert_echo(&mut stream, b"before");
        stream
    }
}

fn id(pair: &Pair) -> String {
    pair.session(End::Alice)["id"].as_str().unwrap().to_owned()
}

fn order(pair: &Pair, end: End, order: &str) {
    let _ = pair.gateway(end).run(&["sessions", order, &id(pair)]).success();
}

/// Waits until both ends show that the session is suspended, by `by` alone.
fn wait_suspended(pair: &Pair, by: End) {
    for end in [End::Alice, End::Bob] {
        let missing = if end == by { "local" } else { "peer" };
        wait_until(&format!("{end:?} knows that {by:?} has suspended it"), SOON, || {
            let row = pair.session(end);
            let shown = (&row["state"], &row["reason"], &row["missing_side"], &row["lane"]);
            shown == (&"suspended".into(), &"paused".into(), &missing.into(), &().into())
        });
    }
}

fn wait_live(pair: &Pair) {
    pair.wait_state("live", SOON);
}

/// A download by a browser's kind of client stops where it is, at either end's word, and goes on.
#[test]
fn a_download_is_suspended_for_a_while_and_nobody_dials() {
    need!("curl");
    let origin = HttpOrigin::start();
    let pair = Pair::start(Realm::new(), &Up::default().expose(SOURCE, origin.address()));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--proxy"]);
    curl.arg(format!("socks5h://{}", pair.alice.proxy()));
    curl.arg(format!("http://bob.cloak/bytes/{LENGTH}"));
    let download = Download::start(curl, 2 << 20);
    for (round, by) in [End::Alice, End::Bob, End::Alice].into_iter().enumerate() {
        let other = if by == End::Alice { End::Bob } else { End::Alice };
        download.goes_on("the download goes on", 1 << 20, SOON);
        order(&pair, by, "suspend");
        wait_suspended(&pair, by);
        let human = pair.gateway(by).run(&["sessions"]).success().text();
        assert!(human.contains("suspended") && human.contains("paused"), "{human}");
        let (dials, sent) = (pair.dials(), pair.session(End::Bob)["bytes_sent"].clone());

        let refused = pair.gateway(other).run(&["sessions", "resume", &id(&pair)]).exits(1);
        assert!(refused.stderr.contains("its other end has suspended it"), "{}", refused.stderr);
        // Twice is no error, and the two gateways go on with other things.
        order(&pair, by, "suspend");
        let steps = pair.alice.run(&["ping", "bob.cloak"]).success();
        assert!(!steps.stdout.is_empty());
        wait_suspended(&pair, by);
        assert_eq!(pair.dials(), dials, "round {round}: somebody dials");
        assert_eq!(pair.session(End::Bob)["bytes_sent"], sent, "round {round}: bytes move");

        order(&pair, by, "resume");
        wait_live(&pair);
        order(&pair, by, "resume");
    }
    let (received, digest) = download.finish(Duration::from_secs(60));
    assert_eq!(received, LENGTH as u64);
    assert_eq!(digest, HttpOrigin::sha256(LENGTH as u64));
}

/// What the applications write meanwhile waits at both ends, and so does a long outage.
#[test]
fn bytes_wait_for_the_end_that_suspended_and_a_dead_network_is_not_tried() {
    let site = Site::start();
    let pair = &site.pair;
    let mut stream = site.echo();
    order(pair, End::Bob, "suspend");
    wait_suspended(pair, End::Bob);
    stream.write_all(b"meanwhile").unwrap();
    wait_until("the bytes are kept", SOON, || pair.session(End::Alice)["bytes_held"] == 9);
    pair.set_mode(Mode::Refuse);
    pair.cut();
    order(pair, End::Bob, "resume");
    wait_until("bob tries", SOON, || pair.session(End::Bob)["reason"] == "peer-unreachable");
    pair.set_mode(Mode::Pass);
    wait_live(pair);
    let mut echoed = [0; 9];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"meanwhile");
}

#[test]
fn a_session_that_both_ends_suspend_goes_on_when_both_are_resumed() {
    let site = Site::start();
    let pair = &site.pair;
    let mut stream = site.echo();
    for [first, second] in [[End::Alice, End::Bob], [End::Bob, End::Alice]] {
        order(pair, End::Alice, "suspend");
        wait_suspended(pair, End::Alice);
        order(pair, End::Bob, "suspend");
        order(pair, first, "resume");
        // The first learns that the other is paused as well, and waits for it.
        wait_suspended(pair, second);
        order(pair, second, "resume");
        wait_live(pair);
        client::assert_echo(&mut stream, b"awake");
    }
}

/// An end that is suspended and closed wakes up to say so; closed at the other end, it hears when it resumes.
#[test]
fn a_suspended_session_can_be_closed_at_either_end() {
    let site = Site::start();
    let pair = &site.pair;
    let _first = site.echo();
    order(pair, End::Alice, "suspend");
    wait_suspended(pair, End::Alice);
    order(pair, End::Alice, "close");
    pair.wait_no_sessions(SOON);

    let mut second = site.echo();
    order(pair, End::Alice, "suspend");
    wait_suspended(pair, End::Alice);
    order(pair, End::Bob, "close");
    wait_until("bob waits", SOON, || pair.session(End::Bob)["state"] == "closing");
    assert_eq!(pair.session(End::Alice)["state"], "suspended");
    order(pair, End::Alice, "resume");
    assert!(second.read(&mut [0; 1]).is_err(), "the application sees a reset");
    pair.wait_no_sessions(SOON);
}

#[test]
fn a_restart_at_either_end_of_a_suspended_session_is_told() {
    for restarted in [End::Alice, End::Bob] {
        let mut site = Site::start();
        let _stream = site.echo();
        order(&site.pair, End::Alice, "suspend");
        wait_suspended(&site.pair, End::Alice);
        site.pair.restart(restarted);
        let left = if restarted == End::Alice { End::Bob } else { End::Alice };
        // The two are linked again, for whatever reason.
        wait_until("the session is lost", SOON, || {
            let rows = site.pair.gateway(left).sessions();
            rows.iter().any(|row| row["state"] == "lost" && row["reason"] == "peer-restarted")
        });
    }
}

#[test]
fn what_is_suspended_is_held_attached_and_drained() {
    let mut site = Site::start();
    let stream = site.echo();
    order(&site.pair, End::Alice, "suspend");
    wait_suspended(&site.pair, End::Alice);
    order(&site.pair, End::Alice, "hold");
    drop(stream);
    wait_suspended(&site.pair, End::Alice);
    // Who attaches wants to go on.
    let asked = ["sessions", "attach", &id(&site.pair), "--listen", "127.0.0.1:0"];
    let json = site.pair.alice.home().json(&asked);
    let mut next = TcpStream::connect(json["listen"].as_str().unwrap()).unwrap();
    client::assert_echo(&mut next, b"gone on with");

    order(&site.pair, End::Alice, "suspend");
    wait_suspended(&site.pair, End::Alice);
    let drained = site.pair.alice.home().json(&["drain", "--deadline", "1s"]);
    assert!(drained.is_object(), "{drained}");
    assert!(site.pair.alice.wait(SOON).is_some(), "the gateway ends");
}
