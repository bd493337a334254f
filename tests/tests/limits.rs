//! What a gateway holds, for how long, and what it says when that is too much.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cloak_tests::client::{self, assert_echo, is_reset};
use cloak_tests::clock::wait_until;
use cloak_tests::fault::Mode;
use cloak_tests::gateway::Gateway;
use cloak_tests::pair::End;
use cloak_tests::pattern::Pattern;
use cloak_tests::site::{Site, port};

const SOON: Duration = Duration::from_secs(20);
/// Buffers of a session go to disk when it was suspended for a minute.
const SPILLED_WITHIN: Duration = Duration::from_secs(75);
/// SOCKS5: general failure, which stands for `busy`.
const BUSY: u8 = 1;

fn open(site: &Site, port: u16) -> TcpStream {
    client::socks5(site.alice.proxy(), "bob.cloak", port).unwrap()
}

fn held(gateway: &Gateway) -> u64 {
    gateway.json(&["status"])["memory_held"].as_u64().unwrap()
}

#[test]
fn lingering_too_long_is_told_at_both_ends() {
    let linger = "[session]\nlinger = \"4s\"\n";
    let site = Site::configured(linger, linger);
    let mut stream = open(&site, port::ECHO);
    assert_echo(&mut stream, b"before");
    site.set_mode(Mode::Refuse);
    site.cut();
    site.wait_state("suspended", Duration::from_secs(5));
    for end in [End::Alice, End::Bob] {
        wait_until("it is lost", SOON, || {
            let rows = site.gateway(end).sessions();
            rows.iter().any(|row| row["state"] == "lost" && row["reason"] == "linger-exceeded")
        });
    }
    assert!(is_reset(&stream.read(&mut [0; 1]).unwrap_err()), "the application is told");
    wait_until("the backend is told", SOON, || site.services.echo.resets() == 1);
}

#[test]
fn sessions_of_one_peer_are_limited_at_either_end() {
    let limit = "[session]\nsessions_max = 3\n";
    for (alice, bob) in [(limit, ""), ("", limit)] {
        let site = Site::configured(alice, bob);
        let mut streams: Vec<TcpStream> = (0..3).map(|_| open(&site, port::ECHO)).collect();
        let refused = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap_err();
        assert_eq!(refused.reply(), BUSY);
        streams.iter_mut().for_each(|stream| assert_echo(stream, b"undisturbed"));
        streams.pop();
        wait_until("there is room again", SOON, || {
            client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).is_ok()
        });
    }
}

/// One ledger for all buffers: over it new sessions are refused, and those that run go on.
#[test]
fn memory_in_all_is_limited() {
    const MAX: u64 = 1 << 20;
    /// Memory is taken by so much at a time, and a little where a buffer is empty in any case.
    const CHUNK: u64 = 64 << 10;
    const TRICKLES: u64 = 128 << 10;
    let site = Site::configured("[memory]\nmax = \"1MiB\"\n", "");
    let mut running = open(&site, port::ECHO);
    assert_echo(&mut running, b"before");
    let mut stuck: Vec<TcpStream> = (0..20).map(|_| open(&site, port::STUCK)).collect();
    let piece = vec![7; 64 * 1024];
    stuck.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    wait_until("the ledger is full", SOON, || {
        stuck.iter_mut().for_each(|stream| while stream.write(&piece).is_ok_and(|n| n > 0) {});
        held(&site.alice) + CHUNK > MAX
    });
    let refused = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap_err();
    assert_eq!(refused.reply(), BUSY);
    let full = held(&site.alice);
    assert!(full <= MAX + TRICKLES, "{full} of {MAX} bytes");
    assert_echo(&mut running, &Pattern::new(1).bytes(100_000));
    for row in site.alice.sessions().iter().filter(|row| row["port"] == port::STUCK) {
        let _ = site.alice.run(&["sessions", "close", row["id"].as_str().unwrap()]).success();
    }
    wait_until("there is room again", SOON, || {
        client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).is_ok()
    });
}

/// The bytes of a session that is suspended for long are on disk, sealed, and come back.
#[test]
fn buffers_of_long_suspended_sessions_are_spilled_and_come_back() {
    const BYTES: usize = 1_000_000;
    /// A buffer that did not grow holds more than this.
    const BUFFER: usize = 30_000;
    let site = Site::start();
    let mut stream = open(&site, port::ECHO);
    assert_echo(&mut stream, b"before");
    site.set_mode(Mode::Refuse);
    site.cut();
    site.wait_state("suspended", Duration::from_secs(5));
    let bytes = Pattern::new(5).bytes(BYTES);
    let mut sending = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| sending.write_all(&bytes).unwrap());
        wait_until("alice holds bytes", SOON, || held(&site.alice) > BUFFER as u64);
        let folder = site.alice.directory().join("spill");
        let segments = || -> Vec<Vec<u8>> {
            let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
            entries.flatten().filter_map(|entry| std::fs::read(entry.path()).ok()).collect()
        };
        wait_until("they are on disk", SPILLED_WITHIN, || {
            segments().iter().any(|segment| segment.len() > BUFFER)
                && held(&site.alice) < BUFFER as u64
        });
        let part = &bytes[10_000..10_064];
        let is_plain = |segment: &Vec<u8>| segment.windows(part.len()).any(|bytes| bytes == part);
        assert!(!segments().iter().any(is_plain), "nobody who has the disk can read them");
        site.set_mode(Mode::Pass);
        let mut back = vec![0; BYTES];
        stream.read_exact(&mut back).unwrap();
        assert!(back == bytes, "what was on disk came back changed");
        wait_until("nothing is left on disk", SOON, || segments().is_empty());
        sender.join().unwrap();
    });
}
