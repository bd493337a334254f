//! Running sessions move: to another device, to another application.
//!
//! Alice has a laptop (`one`) and a phone (`two`), bob has the services. Every byte is checked by its
//! offset, across whoever reads it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "moves/balance.rs"]
mod balance;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::wait_until;
use cloak_tests::fault::Mode;
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::origin::TcpOrigin;
use cloak_tests::pair::{Pair, open_sessions};
use cloak_tests::pattern::Pattern;
use cloak_tests::process::Owned;
use cloak_tests::realm::{Home, Realm, last_line};

const SOON: Duration = Duration::from_secs(20);
const ECHO: u16 = 7;
const SOURCE: u16 = 80;
const SHORT: u16 = 81;
const PATTERN: Pattern = Pattern::new(9);
const LENGTH: usize = 48 << 20;
const SHORT_LENGTH: usize = 200 << 10;

struct Town {
    laptop: Gateway,
    phone: Gateway,
    bob: Gateway,
    /// Kept for their drop only.
    _origins: [TcpOrigin; 3],
    realm: Realm,
}

impl Town {
    fn start() -> Self {
        Self::configured("")
    }

    /// The laptop's settings are these.
    fn configured(laptop: &str) -> Self {
        let realm = Realm::new();
        let sources = [LENGTH, SHORT_LENGTH].map(|length| TcpOrigin::source(PATTERN, length));
        let [long, short] = sources;
        let origins = [TcpOrigin::echo(), long, short];
        let home = realm.found("alice");
        home.configure(laptop);
        let laptop = home.up(&Up::default());
        let phone = further_device(&realm, &laptop, "two").up(&Up::default());
        let services = [ECHO, SOURCE, SHORT].into_iter().zip(&origins);
        let services =
            services.fold(Up::default(), |up, (port, origin)| up.expose(port, origin.address()));
        let bob = realm.join(&laptop, "bob").up(&services);
        let town = Self { laptop, phone, bob, _origins: origins, realm };
        wait_until("all know each other", SOON, || {
            town.laptop.resolves("two.alice.cloak")
                && [&town.laptop, &town.phone].iter().all(|gateway| gateway.resolves("bob.cloak"))
        });
        town
    }

    fn dial(&self, port: u16) -> TcpStream {
        client::socks5(self.laptop.proxy(), "bob.cloak", port).unwrap()
    }
}

fn further_device(realm: &Realm, first: &Gateway, label: &str) -> Home {
    let made = first.run(&["device", "invite"]).success();
    let home = realm.empty(label);
    let line = format!("{}\n", last_line(&made));
    let _ = home.run_with(&["join", "-", "--device", label], line.as_bytes()).success();
    home
}

/// The id of the only session.
fn only(gateway: &Gateway) -> String {
    let rows = open_sessions(gateway);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0]["id"].as_str().unwrap().to_owned()
}

fn state(gateway: &Gateway) -> Option<String> {
    let rows = open_sessions(gateway);
    rows.first().map(|row| row["state"].as_str().unwrap().to_owned())
}

fn wait_state(gateway: &Gateway, wanted: &str) {
    wait_until(&format!("{} shows `{wanted}`", gateway.name()), SOON, || {
        state(gateway).as_deref() == Some(wanted)
    });
}

/// Reads to the end of the stream, which has to be an orderly one; gives the next offset.
fn read_to_end(stream: &mut impl Read, mut offset: u64) -> u64 {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return offset,
            count => {
                PATTERN.check(offset, &buffer[..count]).unwrap();
                offset += count as u64;
            }
        }
    }
}

/// Reads at least `least` bytes of the stream; gives the next offset.
fn read_some(stream: &mut impl Read, mut offset: u64, least: u64) -> u64 {
    let (until, mut buffer) = (offset + least, vec![0; 64 << 10]);
    while offset < until {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "an end at {offset}");
        PATTERN.check(offset, &buffer[..count]).unwrap();
        offset += count as u64;
    }
    offset
}

/// `cloak sessions attach ID`, whose stdin and stdout are the stream.
struct Attached {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    process: Owned,
}

impl Attached {
    fn start(gateway: &Gateway, id: &str) -> Self {
        let mut command = gateway.home().command(&["sessions", "attach", id]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { stdin, stdout, process: Owned::new(child) }
    }

    /// Ends its stdin, reads to the end, and expects success.
    fn finish(mut self, offset: u64) -> u64 {
        self.stdin = None;
        let end = read_to_end(&mut self.stdout, offset);
        assert!(self.process.wait(SOON).unwrap().success());
        end
    }
}

#[test]
fn a_download_goes_on_from_another_device() {
    let town = Town::start();
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 8 << 20);
    let id = only(&town.laptop);
    let _ = town.laptop.run(&["sessions", "move", &id, "--to", "two"]).success();
    // What the laptop's socket had accepted is the old application's; then its stream ends.
    let here = read_to_end(&mut stream, read);
    assert!(here < LENGTH as u64, "{here} bytes");
    assert_eq!(open_sessions(&town.laptop).len(), 0, "the laptop has let go");
    wait_state(&town.phone, "held");
    let row = &open_sessions(&town.phone)[0];
    assert!(row["expires"].is_string() && row["generation"] == 1, "{row}");
    assert_eq!(open_sessions(&town.bob)[0]["peer_generation"], 1);
    let why = town.phone.run(&["why", "bob.cloak"]).success().text();
    assert!(why.contains("held for an application") && why.contains("attach"), "{why}");
    let gone = &town.laptop.sessions()[0];
    assert_eq!((&gone["state"], &gone["device"]), (&"moved".into(), &"two.alice.cloak".into()));
    let attached = Attached::start(&town.phone, &id);
    assert_eq!(attached.finish(here), LENGTH as u64);
    wait_until("no session is left", SOON, || {
        [&town.laptop, &town.phone, &town.bob].iter().all(|one| open_sessions(one).is_empty())
    });
}

#[test]
fn a_dialogue_goes_to_a_device_and_back_and_the_other_side_shows_where_it_is() {
    let town = Town::start();
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"from the laptop");
    let id = only(&town.laptop);
    let resumes = |gateway: &Gateway| open_sessions(gateway)[0]["resumes"].as_u64().unwrap();
    let before = resumes(&town.bob);
    let _ = town.laptop.run(&["sessions", "move", &id, "--to", "two.alice.cloak"]).success();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end of file, no reset");
    let row = &open_sessions(&town.bob)[0];
    assert_eq!(row["peer_device"], "two.alice.cloak", "{row}");
    assert_eq!(resumes(&town.bob), before + 1);

    let mut attached = Attached::start(&town.phone, &id);
    let mut answer = [0; 14];
    attached.stdin.as_mut().unwrap().write_all(b"from the phone").unwrap();
    attached.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"from the phone");

    let _ = town.phone.run(&["sessions", "move", &id, "--to", "one"]).success();
    assert_eq!(attached.stdout.read(&mut [0; 1]).unwrap(), 0, "the phone's program ends");
    assert_eq!(open_sessions(&town.bob)[0]["peer_device"], "one.alice.cloak");
    let mut again = Attached::start(&town.laptop, &id);
    again.stdin.as_mut().unwrap().write_all(b"back").unwrap();
    let mut answer = [0; 4];
    again.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"back");
    again.finish(0);
    assert!(attached.process.wait(SOON).unwrap().success());
}

#[test]
fn of_two_devices_that_are_to_have_a_session_at_once_one_gets_it() {
    let town = Town::start();
    let tablet = further_device(&town.realm, &town.laptop, "three").up(&Up::default());
    wait_until("the tablet is known", SOON, || {
        tablet.resolves("bob.cloak") && town.laptop.resolves("three.alice.cloak")
    });
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"from the laptop");
    let id = only(&town.laptop);
    let moves = ["two", "three"].map(|device| {
        let mut command = town.laptop.home().command(&["sessions", "move", &id, "--to", device]);
        Owned::new(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    });
    let mut codes = moves.map(|mut moving| moving.wait(SOON).and_then(|status| status.code()));
    codes.sort_unstable();
    // The other one is told that a move is under way, or comes too late altogether.
    assert!(matches!(codes, [Some(0), Some(1 | 4)]), "{codes:?}");
    let mut holders = [&town.phone, &tablet].into_iter();
    let holder = holders.find(|device| !open_sessions(device).is_empty()).unwrap();
    assert!(holders.all(|device| open_sessions(device).is_empty()), "only one has it");
    let mut attached = Attached::start(holder, &id);
    attached.stdin.as_mut().unwrap().write_all(b"mine").unwrap();
    let mut answer = [0; 4];
    attached.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"mine");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end of file, no reset");
}

#[test]
fn a_session_goes_to_another_entity_that_wants_it() {
    let town = Town::start();
    let carol = town.realm.join(&town.laptop, "carol").up(&Up::default());
    wait_until("carol is known", SOON, || {
        town.laptop.resolves("carol.cloak") && carol.resolves("bob.cloak")
    });
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"alice");
    let id = only(&town.laptop);
    let offered = |wanted: usize| {
        wait_until("the offer stands", SOON, || {
            carol.home().json(&["sessions", "offers"]).as_array().unwrap().len() == wanted
        });
    };
    let move_to_carol = || {
        let mut command =
            town.laptop.home().command(&["sessions", "move", &id, "--to", "carol.cloak"]);
        Owned::new(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    };
    let mut moving = move_to_carol();
    offered(1);
    let row = &carol.home().json(&["sessions", "offers"])[0];
    assert_eq!(
        (&row["id"], &row["from"], &row["port"]),
        (&id.as_str().into(), &"alice.cloak".into(), &ECHO.into())
    );
    let _ = carol.run(&["sessions", "refuse", &id]).success();
    assert_eq!(moving.wait(SOON).unwrap().code(), Some(1));
    client::assert_echo(&mut stream, b"still alice");

    // Who thinks better of it takes the offer back.
    let moving = move_to_carol();
    offered(1);
    drop(moving);
    offered(0);
    let mut moving = move_to_carol();
    offered(1);
    let _ = carol.run(&["sessions", "accept", &id[..8]]).success();
    assert!(moving.wait(SOON).unwrap().success());
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end of file, no reset");
    assert_eq!(open_sessions(&town.bob)[0]["peer"], "carol.cloak");
    let mut attached = Attached::start(&carol, &id);
    attached.stdin.as_mut().unwrap().write_all(b"carol").unwrap();
    let mut answer = [0; 5];
    attached.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"carol");
    attached.finish(0);
    let said = carol.run(&["sessions", "accept", &id]).exits(4).stderr;
    assert!(said.contains("is offered"), "{said}");
}

#[test]
fn a_device_fetches_a_session_from_another_unless_that_is_forbidden() {
    let town = Town::start();
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"from the laptop");
    let id = only(&town.laptop);
    let elsewhere = town.phone.home().json(&["sessions", "--entity"]);
    assert_eq!(elsewhere[0]["id"], id, "{elsewhere}");
    assert_eq!(elsewhere[0]["device"], "one.alice.cloak");
    assert_eq!(elsewhere.as_array().unwrap().len(), 1, "{elsewhere}");

    let mut attached = Attached::start(&town.phone, &id[..8]);
    attached.stdin.as_mut().unwrap().write_all(b"fetched").unwrap();
    let mut answer = [0; 7];
    attached.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"fetched");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end of file, no reset");
    attached.finish(0);

    town.laptop.home().configure("[session]\nfetch = false\n");
    let _ = town.laptop.run(&["reload"]).success();
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"again");
    let id = only(&town.laptop);
    assert_eq!(town.phone.home().json(&["sessions", "--entity"]), serde_json::json!([]));
    let said = town.phone.run(&["sessions", "attach", &id]).exits(4).stderr;
    assert!(said.contains("neither here nor on your other devices"), "{said}");
    client::assert_echo(&mut stream, b"still here");
}

#[test]
fn a_move_to_a_device_that_is_gone_leaves_the_session_where_it_was() {
    let mut town = Town::start();
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 1 << 20);
    town.phone.crash();
    let id = only(&town.laptop);
    let refused = town.laptop.run(&["sessions", "move", &id, "--to", "two"]).exits(1);
    assert!(refused.stderr.contains("stays where it is"), "{}", refused.stderr);
    assert_eq!(read_to_end(&mut stream, read), LENGTH as u64, "nothing lost, nothing doubled");
}

/// A move needs the other end; refused while it is away, it is possible again when it is back.
#[test]
fn a_suspended_session_moves_once_it_is_back() {
    let realm = Realm::new();
    let origin = TcpOrigin::echo();
    let up = Up::default().expose(ECHO, origin.address());
    let pair = Pair::start(realm, &up);
    let phone = further_device(&pair.realm, &pair.alice, "two");
    // Or the two would meet through it.
    phone.configure("[overlay]\nrelay = false\n");
    let phone = phone.up(&Up::default());
    wait_until("all know each other", SOON, || {
        pair.alice.resolves("two.alice.cloak") && phone.resolves("bob.cloak")
    });
    let mut stream = client::socks5(pair.alice.proxy(), "bob.cloak", ECHO).unwrap();
    client::assert_echo(&mut stream, b"before");
    let id = only(&pair.alice);
    pair.set_mode(Mode::Refuse);
    pair.cut();
    wait_state(&pair.alice, "suspended");
    let why = pair.alice.run(&["why", "bob.cloak"]).exits(1).text();
    assert!(why.contains("suspended since") && why.contains("lost at"), "{why}");
    let asked = ["sessions", "move", &id, "--to", "two"];
    let said = pair.alice.run(&asked).exits(1).stderr;
    assert!(said.contains("cannot be reached"), "{said}");
    pair.set_mode(Mode::Pass);
    wait_state(&pair.alice, "live");
    client::assert_echo(&mut stream, b"after");
    wait_until("the session moves", SOON, || pair.alice.run(&asked).code == Some(0));
    wait_state(&phone, "held");
}

/// A move needs the other end: what this end has suspended goes on for it, what the other has does not.
#[test]
fn a_session_that_was_suspended_on_purpose_moves_from_the_end_that_did_so() {
    let town = Town::start();
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 1 << 20);
    let id = only(&town.laptop);
    let asked = ["sessions", "move", &id, "--to", "two"];
    let _ = town.bob.run(&["sessions", "suspend", &id]).success();
    wait_state(&town.laptop, "suspended");
    let said = town.laptop.run(&asked).exits(1).stderr;
    assert!(said.contains("its other end has suspended it"), "{said}");
    let _ = town.bob.run(&["sessions", "resume", &id]).success();
    wait_state(&town.laptop, "live");

    let _ = town.laptop.run(&["sessions", "suspend", &id]).success();
    wait_state(&town.bob, "suspended");
    let _ = town.laptop.run(&asked).success();
    let offset = read_to_end(&mut stream, read);
    let attached = Attached::start(&town.phone, &id);
    assert_eq!(attached.finish(offset), LENGTH as u64);
}

#[test]
fn what_cannot_move_says_why() {
    let town = Town::start();
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"here");
    let id = only(&town.laptop);
    for (arguments, code, says) in [
        (["sessions", "move", "ffff", "--to", "two"], 4, "no session"),
        (["sessions", "move", &id, "--to", "three"], 4, "device list"),
        (["sessions", "move", &id, "--to", "one"], 1, "is here already"),
    ] {
        let said = town.laptop.run(&arguments).exits(code).stderr;
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let said = town.laptop.run(&["sessions", "attach", &id]).exits(1).stderr;
    assert!(said.contains("sessions hold"), "{said}");
    client::assert_echo(&mut stream, b"still here");
}

#[test]
fn another_application_goes_on_where_one_was_held() {
    let town = Town::start();
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 1 << 20);
    let id = only(&town.laptop);
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let mut offset = read_to_end(&mut stream, read);
    wait_state(&town.laptop, "held");

    let json = town.laptop.home().json(&["sessions", "attach", &id, "--listen", "127.0.0.1:0"]);
    let mut second = TcpStream::connect(json["listen"].as_str().unwrap()).unwrap();
    offset = read_some(&mut second, offset, 4 << 20);
    wait_state(&town.laptop, "live");
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    offset = read_to_end(&mut second, offset);

    let path = town.realm.directory().join("next");
    let path = path.to_str().unwrap();
    let _ = town.laptop.run(&["sessions", "attach", &id, "--unix", path]).success();
    let mut third = UnixStream::connect(path).unwrap();
    assert_eq!(read_to_end(&mut third, offset), LENGTH as u64);
}

const TAIL: u64 = 256 << 10;

/// A laptop that keeps a tail, and a program there that has read so many bytes, and whose socket is full of
/// others.
fn stuck_program() -> (Town, TcpStream, u64, String) {
    let town = Town::configured("[session]\ntail = \"256KiB\"\n");
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 1 << 20);
    let id = only(&town.laptop);
    wait_until("its socket is full", SOON, || {
        let given = open_sessions(&town.laptop)[0]["bytes_received"].as_u64().unwrap();
        assert!(given <= read + TAIL, "never more than is kept: {given}, of which {read} are read");
        given >= read + TAIL / 4 * 3
    });
    (town, stream, read, id)
}

/// Where the session goes on, as `attach --listen` says, and the next program's stream.
fn attach(gateway: &Gateway, id: &str, more: &[&str]) -> (serde_json::Value, TcpStream) {
    let asked = [&["sessions", "attach", id, "--listen", "127.0.0.1:0"], more].concat();
    let json = gateway.home().json(&asked);
    let stream = TcpStream::connect(json["listen"].as_str().unwrap()).unwrap();
    (json, stream)
}

/// What is said where the program before has read so far, and had been given so much.
fn assert_known(json: &serde_json::Value, read: u64, given: u64) {
    let said = ["from", "latest", "unread"].map(|field| json[field].as_u64());
    assert_eq!(said, [Some(read), Some(given), Some(given - read)], "{json}");
}

#[test]
fn the_next_program_goes_on_where_the_one_before_stopped_reading() {
    let (town, mut stream, read, id) = stuck_program();
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let given = read_to_end(&mut stream, read);
    let (json, mut second) = attach(&town.laptop, &id, &[]);
    assert_known(&json, read, given);
    // Nor does the second one read all that it is given.
    let read = read_some(&mut second, read, 5 << 20);
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let given = read_to_end(&mut second, read);
    let (json, mut third) = attach(&town.laptop, &id, &[]);
    assert_known(&json, read, given);
    assert_eq!(read_to_end(&mut third, read), LENGTH as u64);
}

#[test]
fn a_stream_that_has_ended_has_an_end_for_the_next_program_too() {
    let town = Town::configured("[session]\ntail = \"256KiB\"\n");
    let mut stream = town.dial(SHORT);
    let read = read_some(&mut stream, 0, 50 << 10);
    let id = only(&town.laptop);
    wait_until("all of it is in its socket", SOON, || {
        open_sessions(&town.laptop)[0]["bytes_received"].as_u64() > Some(SHORT_LENGTH as u64)
    });
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let (json, mut second) = attach(&town.laptop, &id, &[]);
    assert_known(&json, read, SHORT_LENGTH as u64);
    assert_eq!(read_to_end(&mut second, read), SHORT_LENGTH as u64);
}

#[test]
fn what_a_program_had_not_read_goes_along_to_another_device() {
    let (town, mut stream, read, id) = stuck_program();
    let _ = town.laptop.run(&["sessions", "move", &id, "--to", "two"]).success();
    let given = read_to_end(&mut stream, read);
    // What it had read stays where it was.
    let asked = ["sessions", "attach", &id, "--from", &(read - 1).to_string()];
    let said = town.phone.run(&asked).exits(1).stderr;
    assert!(said.contains(&format!("from {read} to {given}")), "{said}");
    let (json, mut second) = attach(&town.phone, &id, &[]);
    assert_known(&json, read, given);
    assert_eq!(read_to_end(&mut second, read), LENGTH as u64);
}

#[test]
fn what_a_program_says_while_it_is_waited_for_goes_out() {
    let town = Town::configured("[session]\ntail = \"256KiB\"\n");
    let mut stream = town.dial(ECHO);
    let bulk = vec![7; 100 << 10];
    stream.write_all(&bulk).unwrap();
    let id = only(&town.laptop);
    wait_until("all of it is in its socket", SOON, || {
        open_sessions(&town.laptop)[0]["bytes_received"] == bulk.len()
    });
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| town.laptop.run(&["sessions", "move", &id, "--to", "two"]));
        let mut read = 0;
        wait_until("it is waited for", SOON, || {
            // It is, as long as it reads on.
            read += stream.read(&mut [0; 1 << 10]).unwrap();
            !open_sessions(&town.laptop)[0]["moving"].is_null()
        });
        stream.write_all(b"said meanwhile").unwrap();
        let mut rest = vec![0; bulk.len() - read];
        stream.read_exact(&mut rest).unwrap();
        let _ = moving.join().unwrap().success();
    });
    let (_, mut second) = attach(&town.phone, &id, &[]);
    second.set_read_timeout(Some(SOON)).unwrap();
    let mut echoed = [0; 14];
    second.read_exact(&mut echoed).expect("it was said to the other end");
    assert_eq!(&echoed, b"said meanwhile");
}

#[test]
fn a_move_that_comes_to_nothing_leaves_a_stuck_program_with_all_its_bytes() {
    let (mut town, mut stream, read, id) = stuck_program();
    town.phone.crash();
    let _ = town.laptop.run(&["sessions", "move", &id, "--to", "two"]).exits(1);
    assert_eq!(read_to_end(&mut stream, read), LENGTH as u64, "nothing lost, nothing doubled");
}

#[test]
fn of_a_program_that_reads_on_the_next_one_gets_nothing_twice() {
    let town = Town::configured("[session]\ntail = \"64KiB\"\n");
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 1 << 20);
    let id = only(&town.laptop);
    let reading = std::thread::spawn(move || read_to_end(&mut stream, read));
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let end = reading.join().unwrap();
    let (json, mut second) = attach(&town.laptop, &id, &[]);
    assert_known(&json, end, end);
    assert_eq!(read_to_end(&mut second, end), LENGTH as u64);
}

#[test]
fn a_program_can_begin_as_far_back_as_the_tail_goes() {
    let (town, mut stream, read, id) = stuck_program();
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let given = read_to_end(&mut stream, read);
    let earliest = given - TAIL;
    for from in [earliest - 1, given + 1] {
        let asked = ["sessions", "attach", &id, "--from", &from.to_string()];
        let said = town.laptop.run(&asked).exits(1).stderr;
        assert!(said.contains(&format!("from {earliest} to {given}")), "{said}");
    }
    wait_state(&town.laptop, "held");
    let (json, mut next) = attach(&town.laptop, &id, &["--from", &earliest.to_string()]);
    let said = ["from", "earliest", "latest", "unread"].map(|field| json[field].as_u64());
    assert_eq!(said, [Some(earliest), Some(earliest), Some(given), Some(given - read)], "{json}");
    assert_eq!(read_to_end(&mut next, earliest), LENGTH as u64);
}

#[test]
fn without_a_tail_it_is_said_that_nothing_is_known() {
    let town = Town::start();
    let mut stream = town.dial(SOURCE);
    let read = read_some(&mut stream, 0, 1 << 20);
    let id = only(&town.laptop);
    let _ = town.laptop.run(&["sessions", "hold", &id]).success();
    let given = read_to_end(&mut stream, read);
    let (from, before) = (given.to_string(), (given - 1).to_string());
    let said = town.laptop.run(&["sessions", "attach", &id, "--from", &before]).exits(1).stderr;
    assert!(said.contains(&format!("from {given} to {given}")), "{said}");
    let attached = town.laptop.run(&["sessions", "attach", &id, "--from", &from]).success();
    let said = format!("it goes on from byte {given}; it cannot be told what the program before");
    assert!(attached.stderr.contains(&said), "{}", attached.stderr);
    PATTERN.check(given, &attached.stdout).unwrap();
}

/// Bob's service on two devices, and alice who uses it.
struct Cluster {
    alice: Gateway,
    servers: [Gateway; 2],
    origins: [TcpOrigin; 2],
    stuck: TcpOrigin,
    _realm: Realm,
}

const STUCK: u16 = 9;

impl Cluster {
    /// The echo service may move as `movable` says, and so may one that never answers.
    fn start(movable: &str) -> Self {
        let realm = Realm::new();
        let (origins, stuck) = ([TcpOrigin::echo(), TcpOrigin::echo()], TcpOrigin::sink());
        let alice = realm.found("alice").up(&Up::default());
        let configure = |home: &Home, origin: &TcpOrigin| {
            let (echo, stuck) = (origin.address(), stuck.address());
            home.configure(&format!(
                "[[service]]\nport = {ECHO}\ntarget = \"{echo}\"\nallow = [\"realm\"]\n\
                 movable = \"{movable}\"\n\
                 [[service]]\nport = {STUCK}\ntarget = \"{stuck}\"\nallow = [\"realm\"]\n\
                 movable = \"{movable}\"\n"
            ));
        };
        let home = realm.join(&alice, "bob");
        configure(&home, &origins[0]);
        let first = home.up(&Up::default());
        let home = further_device(&realm, &first, "two");
        configure(&home, &origins[1]);
        let servers = [first, home.up(&Up::default())];
        let cluster = Self { alice, servers, origins, stuck, _realm: realm };
        wait_until("all know each other", SOON, || {
            let known = |one: &Gateway, name| one.resolves(name);
            known(&cluster.alice, "one.bob.cloak")
                && known(&cluster.servers[0], "two.bob.cloak")
                && known(&cluster.servers[1], "one.bob.cloak")
        });
        cluster
    }

    fn dial(&self, port: u16) -> TcpStream {
        client::socks5(self.alice.proxy(), "one.bob.cloak", port).unwrap()
    }
}

#[test]
fn a_service_moves_between_its_devices_again_and_again_and_the_client_sees_nothing() {
    let cluster = Cluster::start("idle");
    let mut stream = cluster.dial(ECHO);
    client::assert_echo(&mut stream, b"first");
    let id = only(&cluster.alice);
    for round in 0..6 {
        let (from, to) = (round % 2, 1 - round % 2);
        let label = ["one", "two"][to];
        let asked = ["sessions", "move", &id, "--to", label];
        // The service is quiet for a moment first.
        wait_until("the session moves", SOON, || cluster.servers[from].run(&asked).code == Some(0));
        let row = &open_sessions(&cluster.alice)[0];
        assert_eq!(row["peer_device"], format!("{label}.bob.cloak"), "{row}");
        assert!(open_sessions(&cluster.servers[from]).is_empty());
        client::assert_echo(&mut stream, format!("round {round}").as_bytes());
    }
    let accepted = cluster.origins.each_ref().map(TcpOrigin::accepted);
    assert_eq!(accepted, [4, 3], "each move is a new connection to the next server");
}

#[test]
fn a_service_stays_where_its_operator_says_and_while_it_owes_an_answer() {
    let cluster = Cluster::start("idle");
    let mut stream = cluster.dial(STUCK);
    stream.write_all(b"a request without an answer").unwrap();
    wait_until("it has come", SOON, || cluster.stuck.received() > 0);
    let id = only(&cluster.alice);
    let refused = cluster.servers[0].run(&["sessions", "move", &id, "--to", "two"]).exits(1);
    assert!(refused.stderr.contains("not-movable"), "{}", refused.stderr);
    drop(stream);

    let cluster = Cluster::start("no");
    let mut stream = cluster.dial(ECHO);
    client::assert_echo(&mut stream, b"first");
    let id = only(&cluster.alice);
    let refused = cluster.servers[0].run(&["sessions", "move", &id, "--to", "two"]).exits(1);
    assert!(refused.stderr.contains("not-movable"), "{}", refused.stderr);
    client::assert_echo(&mut stream, b"undisturbed");
}

#[test]
fn a_gateway_that_is_drained_ends_without_cutting_what_can_move() {
    let mut cluster = Cluster::start("idle");
    let mut streams = [cluster.dial(ECHO), cluster.dial(ECHO)];
    for stream in &mut streams {
        client::assert_echo(stream, b"before");
    }
    let mut stuck = cluster.dial(STUCK);
    stuck.write_all(b"a request without an answer").unwrap();
    wait_until("it has come", SOON, || cluster.stuck.received() > 0);
    let drained = cluster.servers[0].home().json(&["drain", "--deadline", "3s"]);
    assert_eq!(drained, serde_json::json!({ "moved": 2, "ended": 0, "left": 1 }));
    assert!(cluster.servers[0].wait(SOON).unwrap().success(), "the gateway has ended");
    for stream in &mut streams {
        client::assert_echo(stream, b"after");
    }
    assert_eq!(open_sessions(&cluster.servers[1]).len(), 2);
    drop(stuck);
}
