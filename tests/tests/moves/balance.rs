//! Sessions of a service move between its devices by themselves.
//!
//! Clients talk all the while, with pauses in which a server has said everything; every byte is checked.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::{every, holds_for, wait_until};
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::origin::TcpOrigin;
use cloak_tests::pair::open_sessions;
use cloak_tests::process::Owned;
use cloak_tests::realm::{Home, Realm};

use super::{ECHO, PATTERN, SOON, STUCK, further_device};

/// Between two requests of a client.
const THINKING: Duration = Duration::from_millis(300);
/// Some ten rounds of the policy.
const LONG_ENOUGH: Duration = Duration::from_secs(2);
/// Bytes of a request.
const REQUEST: usize = 3000;

/// Bob's echo on one device, the next one joined and not started, and alice who uses it.
struct Farm {
    alice: Gateway,
    one: Gateway,
    two: Home,
    _origins: [TcpOrigin; 3],
    _realm: Realm,
}

impl Farm {
    /// `preferences` are those of the two devices.
    fn start(balance: &str, preferences: [u16; 2]) -> Self {
        let realm = Realm::new();
        let origins = [TcpOrigin::echo(), TcpOrigin::echo(), TcpOrigin::sink()];
        let alice = realm.found("alice").up(&Up::default());
        let configure = |home: &Home, preference: u16, echo: &TcpOrigin| {
            let (echo, stuck) = (echo.address(), origins[2].address());
            home.configure(&format!(
                "[session]\nbalance_every = \"200ms\"\n[device]\npreference = {preference}\n\
                 [[service]]\nport = {ECHO}\ntarget = \"{echo}\"\nallow = [\"realm\"]\n\
                 movable = \"idle\"\nbalance = \"{balance}\"\n\
                 [[service]]\nport = {STUCK}\ntarget = \"{stuck}\"\nallow = [\"realm\"]\n"
            ));
        };
        let one = realm.join(&alice, "bob");
        configure(&one, preferences[0], &origins[0]);
        let one = one.up(&Up::default());
        let two = further_device(&realm, &one, "two");
        configure(&two, preferences[1], &origins[1]);
        wait_until("alice knows bob", SOON, || alice.resolves("one.bob.cloak"));
        Self { alice, one, two, _origins: origins, _realm: realm }
    }

    fn start_two(&self) -> Gateway {
        self.two.up(&Up::default())
    }

    fn clients(&self, count: usize) -> Clients {
        let talking = Arc::new(AtomicBool::new(true));
        let talk = |_| {
            let stream = client::socks5(self.alice.proxy(), "one.bob.cloak", ECHO).unwrap();
            let talking = Arc::clone(&talking);
            std::thread::spawn(move || dialogue(stream, &talking))
        };
        Clients { threads: (0..count).map(talk).collect(), talking }
    }
}

/// Requests and answers until the end; gives the stream and how far it came.
fn dialogue(mut stream: TcpStream, talking: &AtomicBool) -> (TcpStream, u64) {
    let mut offset = 0;
    while talking.load(Ordering::Relaxed) {
        every(THINKING, THINKING, || offset = exchange(&mut stream, offset));
    }
    (stream, offset)
}

fn exchange(stream: &mut TcpStream, offset: u64) -> u64 {
    let mut bytes = [0; REQUEST];
    PATTERN.fill(offset, &mut bytes);
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut bytes).unwrap();
    PATTERN.check(offset, &bytes).unwrap();
    offset + REQUEST as u64
}

struct Clients {
    threads: Vec<JoinHandle<(TcpStream, u64)>>,
    talking: Arc<AtomicBool>,
}

impl Clients {
    /// Every client has had answers, and has another one now.
    fn finish(self) {
        self.talking.store(false, Ordering::Relaxed);
        for thread in self.threads {
            let (mut stream, offset) = thread.join().unwrap();
            assert!(offset > 0);
            exchange(&mut stream, offset);
        }
    }
}

fn counts(servers: [&Gateway; 2]) -> [usize; 2] {
    servers.map(|server| open_sessions(server).len())
}

/// How often the servers' ends of all sessions moved.
fn moves(alice: &Gateway) -> u64 {
    open_sessions(alice).iter().map(|row| row["peer_generation"].as_u64().unwrap()).sum()
}

#[test]
fn sessions_go_to_the_preferred_device_when_it_appears() {
    let farm = Farm::start("preference", [5, 1]);
    let clients = farm.clients(4);
    wait_until("they are open", SOON, || open_sessions(&farm.one).len() == 4);
    let two = farm.start_two();
    wait_until("all have gone", SOON, || counts([&farm.one, &two]) == [0, 4]);
    let before = moves(&farm.alice);
    assert!(before >= 4, "{before} moves");
    holds_for("they stay", LONG_ENOUGH, || counts([&farm.one, &two]) == [0, 4]);
    assert_eq!(moves(&farm.alice), before, "nothing goes to and fro");
    clients.finish();

    let left = farm.one.sessions();
    assert!(left.iter().all(|row| row["state"] == "moved" && row["device"] == "two.bob.cloak"));
    assert_eq!(left.len(), 4, "{left:?}");
    let id = left[0]["id"].as_str().unwrap();
    let shown = farm.one.run(&["sessions", "show", id]).success().text();
    assert!(shown.contains("went to two.bob.cloak"), "{shown}");
    let said = farm.one.run(&["sessions", "move", id, "--to", "two"]).exits(4).stderr;
    assert!(said.contains("it moved to two.bob.cloak"), "{said}");
    let log = farm.one.log();
    assert!(log.contains("moved by policy") && log.contains("preference"), "{log}");
    let why = farm.one.run(&["why", "alice.cloak"]).success().text();
    assert!(why.contains("moved to two.bob.cloak"), "{why}");
}

#[test]
fn sessions_spread_over_a_device_that_appears_and_stay_put() {
    let farm = Farm::start("load", [0, 0]);
    let clients = farm.clients(10);
    wait_until("they are open", SOON, || open_sessions(&farm.one).len() == 10);
    let two = farm.start_two();
    let is_even = || {
        let [one, two] = counts([&farm.one, &two]);
        one + two == 10 && one.abs_diff(two) < 2
    };
    wait_until("they are even", SOON, is_even);
    let before = moves(&farm.alice);
    holds_for("they stay", LONG_ENOUGH, is_even);
    assert_eq!(moves(&farm.alice), before, "nothing goes to and fro");
    clients.finish();
}

#[test]
fn a_device_that_is_drained_gets_none() {
    let farm = Farm::start("load", [0, 0]);
    let two = farm.start_two();
    wait_until("the second is known", SOON, || farm.alice.resolves("two.bob.cloak"));
    let mut stuck = client::socks5(farm.alice.proxy(), "two.bob.cloak", STUCK).unwrap();
    stuck.write_all(b"a request without an answer").unwrap();
    let mut command = two.home().command(&["drain", "--deadline", "60s"]);
    let draining = Owned::new(command.spawn().unwrap());
    wait_until("the second drains", SOON, || {
        two.json(&["status"])["warnings"].to_string().contains("cloak drain")
    });
    let clients = farm.clients(4);
    wait_until("they are open", SOON, || open_sessions(&farm.one).len() == 4);
    holds_for("they stay", LONG_ENOUGH, || counts([&farm.one, &two]) == [4, 1]);
    // Once it takes sessions again, they come.
    drop(draining);
    wait_until("they spread", SOON, || counts([&farm.one, &two]) == [2, 3]);
    clients.finish();
}
