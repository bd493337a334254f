//! A session outlives the device that has it: another one keeps a copy, and takes it.
//!
//! Alice has a laptop (`one`) and a phone (`two`), which keeps what the laptop has; bob has the services.
//! Every byte is checked by its offset, across whoever reads it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::{now, wait_for, wait_until};
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::origin::TcpOrigin;
use cloak_tests::pair::open_sessions;
use cloak_tests::pattern::Pattern;
use cloak_tests::process::Owned;
use cloak_tests::realm::{Realm, last_line};
use rustix::process::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const ECHO: u16 = 7;
const SOURCE: u16 = 80;
const PATTERN: Pattern = Pattern::new(5);
const LENGTH: usize = 48 << 20;

struct Town {
    laptop: Gateway,
    phone: Gateway,
    bob: Gateway,
    echo: TcpOrigin,
    source: TcpOrigin,
    is_escrowed: bool,
    _realm: Realm,
}

impl Town {
    fn start() -> Self {
        Self::start_with("[session]\nescrow = \"two\"\n")
    }

    fn start_with(configured: &str) -> Self {
        let realm = Realm::new();
        let (echo, source) = (TcpOrigin::echo(), TcpOrigin::source(PATTERN, LENGTH));
        let home = realm.found("alice");
        home.configure(configured);
        let laptop = home.up(&Up::default());
        let line = format!("{}\n", last_line(&laptop.run(&["device", "invite"]).success()));
        let home = realm.empty("two");
        let _ = home.run_with(&["join", "-", "--device", "two"], line.as_bytes()).success();
        let phone = home.up(&Up::default());
        let services = Up::default().expose(ECHO, echo.address()).expose(SOURCE, source.address());
        let bob = realm.join(&laptop, "bob").up(&services);
        let is_escrowed = configured.contains("escrow");
        let town = Self { laptop, phone, bob, echo, source, is_escrowed, _realm: realm };
        wait_until("all know each other", SOON, || {
            town.laptop.resolves("two.alice.cloak")
                && [&town.laptop, &town.phone].iter().all(|gateway| gateway.resolves("bob.cloak"))
        });
        town
    }

    fn dial(&self, port: u16) -> TcpStream {
        client::socks5(self.laptop.proxy(), "bob.cloak", port).unwrap()
    }

    fn wait_kept(&self) {
        wait_until("the phone keeps the session", SOON, || {
            let rows = open_sessions(&self.laptop);
            !rows.is_empty() && rows.iter().all(|row| row["escrow"] == "two")
        });
    }

    /// The row of the only session that the phone keeps and whose owner does not answer.
    fn kept(&self) -> Value {
        wait_for("the phone has what the laptop had", SOON, || {
            let rows = self.phone.home().json(&["sessions", "--entity"]);
            let rows = rows.as_array().unwrap();
            let row = rows.first().filter(|row| row["missing_side"] == "owner").cloned();
            row.filter(|_| rows.len() == 1)
        })
    }
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap()
}

/// Reads until the stream ends in whatever way, or `most` bytes; gives the next offset.
fn read_up_to(stream: &mut impl Read, mut offset: u64, most: u64) -> u64 {
    let (until, mut buffer) = (offset + most, vec![0; 64 << 10]);
    while offset < until {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                PATTERN.check(offset, &buffer[..count]).unwrap();
                offset += count as u64;
            }
        }
    }
    offset
}

/// `cloak sessions attach ID` on the phone, whose stdin and stdout are the stream.
fn attach(gateway: &Gateway, id: &str) -> (ChildStdin, ChildStdout, Owned) {
    let mut command = gateway.home().command(&["sessions", "attach", id]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    (child.stdin.take().unwrap(), child.stdout.take().unwrap(), Owned::new(child))
}

fn write_from(stream: &mut impl Write, mut offset: u64, end: u64) {
    let mut buffer = vec![0; 64 << 10];
    while offset < end {
        let len = buffer.len().min(usize::try_from(end - offset).unwrap());
        PATTERN.fill(offset, &mut buffer[..len]);
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
        offset += len as u64;
    }
}

#[test]
fn a_download_goes_on_after_the_device_died() {
    let mut town = Town::start();
    let mut stream = town.dial(SOURCE);
    let read = read_up_to(&mut stream, 0, 1 << 20);
    town.wait_kept();
    let read = read_up_to(&mut stream, read, 8 << 20);
    assert!(read >= 9 << 20, "an end at {read}");
    let id = open_sessions(&town.laptop)[0]["id"].as_str().unwrap().to_owned();
    town.laptop.crash();
    let here = read_up_to(&mut stream, read, LENGTH as u64);

    let row = town.kept();
    assert_eq!((&row["id"], &row["escrow"]), (&id.as_str().into(), &"two".into()));
    assert_eq!(row["device"], "one.alice.cloak");
    let from = number(&row, "bytes_received");
    assert!(from <= here, "nothing is left out: {from} {here}");
    let (stdin, mut stdout, mut process) = attach(&town.phone, &id[..8]);
    drop(stdin);
    assert_eq!(read_up_to(&mut stdout, from, u64::MAX / 2), LENGTH as u64);
    assert!(process.wait(SOON).unwrap().success());
    assert_eq!(town.source.accepted(), 1, "the service sees one connection");
    wait_until("no session is left", SOON, || {
        [&town.phone, &town.bob].iter().all(|one| open_sessions(one).is_empty())
    });
}

#[test]
fn an_upload_and_its_answer_go_on_after_the_device_died() {
    const TOTAL: u64 = 16 << 20;
    let mut town = Town::start();
    let mut stream = town.dial(ECHO);
    town.wait_kept();
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || write_from(&mut writing, 0, TOTAL));
    let read = read_up_to(&mut stream, 0, 4 << 20);
    town.laptop.crash();
    let here = read_up_to(&mut stream, read, TOTAL);
    writer.join().unwrap();

    let row = town.kept();
    let (sent, from) = (number(&row, "bytes_sent"), number(&row, "bytes_received"));
    assert!(from <= here && from <= sent, "{row}");
    let (mut stdin, mut stdout, mut process) = attach(&town.phone, row["id"].as_str().unwrap());
    let writer = std::thread::spawn(move || write_from(&mut stdin, sent, TOTAL));
    assert_eq!(read_up_to(&mut stdout, from, u64::MAX / 2), TOTAL);
    writer.join().unwrap();
    assert!(process.wait(SOON).unwrap().success());
    assert_eq!(town.echo.accepted(), 1, "the service sees one connection");
}

#[test]
fn who_comes_back_finds_that_the_session_is_elsewhere() {
    let mut town = Town::start();
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"from the laptop");
    town.wait_kept();
    town.laptop.signal(Signal::STOP);
    let id = town.kept()["id"].as_str().unwrap().to_owned();
    let (mut stdin, mut stdout, mut process) = attach(&town.phone, &id);
    // What the laptop's program was given in its last moment may come again.
    stdin.write_all(b"|from the phone").unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"|from the phone") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    assert!(b"from the laptop|from the phone".ends_with(&said), "{said:?}");

    town.laptop.signal(Signal::CONT);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end of file, no reset");
    wait_until("the laptop has let go", SOON, || open_sessions(&town.laptop).is_empty());
    town.laptop.crash();
    town.laptop.restart();
    stdin.write_all(b"still here").unwrap();
    let mut answer = [0; 10];
    stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
    assert_eq!(open_sessions(&town.laptop).len(), 0);
    drop(stdin);
    assert!(process.wait(SOON).unwrap().success());
}

/// A copy is for the case that the device is gone: one that is there decides for itself.
#[test]
fn nothing_is_taken_from_a_device_that_is_there_and_says_no() {
    let town = Town::start_with("[session]\nescrow = \"two\"\nfetch = false\n");
    let mut stream = town.dial(ECHO);
    town.wait_kept();
    let id = open_sessions(&town.laptop)[0]["id"].as_str().unwrap().to_owned();
    let refused = town.phone.run(&["sessions", "attach", &id]).exits(1).stderr;
    assert!(refused.contains("not-allowed"), "{refused}");
    client::assert_echo(&mut stream, b"still here");
    assert_eq!(open_sessions(&town.laptop)[0]["escrow"], "two");
}

#[test]
fn a_session_goes_on_without_its_holder_and_has_it_again_later() {
    let mut town = Town::start();
    let mut stream = town.dial(ECHO);
    client::assert_echo(&mut stream, b"kept");
    town.wait_kept();
    town.phone.crash();
    client::assert_echo(&mut stream, b"alone");
    wait_until("the laptop does without", SOON, || {
        open_sessions(&town.laptop)[0]["escrow"].is_null()
    });
    town.phone.restart();
    town.wait_kept();
    client::assert_echo(&mut stream, b"kept again");
    town.laptop.home().configure("");
    let _ = town.laptop.run(&["reload"]).success();
    wait_until("nobody keeps it", SOON, || open_sessions(&town.laptop)[0]["escrow"].is_null());
    client::assert_echo(&mut stream, b"as before");
}

/// Not a test: prints what the escrow costs over loopback, in turns with and without.
#[test]
#[ignore = "a measurement, for docs/benchmarks/README.md"]
fn what_an_escrow_costs() {
    const ROUNDS: usize = 7;
    const REQUESTS: u32 = 2_000;
    let towns = ["", "[session]\nescrow = \"two\"\n"].map(Town::start_with);
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut figures = [(); 2].map(|()| [(); 3].map(|()| Vec::new()));
    for _ in 0..ROUNDS {
        for (town, [down, up, request]) in towns.iter().zip(&mut figures) {
            let rate = |since| LENGTH as f64 / f64::from(1 << 20) / since;
            // What comes before the escrow is in force is not counted.
            let mut stream = town.dial(SOURCE);
            let head = read_up_to(&mut stream, 0, 1 << 20);
            if town.is_escrowed {
                town.wait_kept();
            }
            let head = read_up_to(&mut stream, head, LENGTH as u64 / 3);
            let from = now();
            assert_eq!(read_up_to(&mut stream, head, LENGTH as u64), LENGTH as u64);
            let rate = |since| rate(since) * (LENGTH as u64 - head) as f64 / LENGTH as f64;
            down.push(rate(from.elapsed().as_secs_f64()));

            let mut stream = town.dial(ECHO);
            client::assert_echo(&mut stream, b"first");
            if town.is_escrowed {
                town.wait_kept();
            }
            let from = now();
            for _ in 0..REQUESTS {
                client::assert_echo(
                    &mut stream,
                    b"a request of some 64 bytes, as small ones of HTTP may have.....",
                );
            }
            request.push(from.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS));
            let mut writing = stream.try_clone().unwrap();
            let from = now();
            let writer = std::thread::spawn(move || write_from(&mut writing, 0, LENGTH as u64));
            assert_eq!(read_up_to(&mut stream, 0, LENGTH as u64), LENGTH as u64);
            writer.join().unwrap();
            up.push(rate(from.elapsed().as_secs_f64()));
        }
    }
    for (name, [down, up, request]) in ["without", "with an escrow"].into_iter().zip(figures) {
        let (down, up, request) = (median(down), median(up), median(request));
        println!("{name}: download {down:.0} MiB/s, echo {up:.0} MiB/s, request {request:.0} us");
    }
}
