//! Sessions over a transport that fails in every way that the fault proxy knows.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "faults/ends.rs"]
mod ends;
#[path = "faults/holes.rs"]
mod holes;
#[path = "faults/state.rs"]
mod state;

use std::net::IpAddr;
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::{every, full, wait_until};
use cloak_tests::fault::{FaultProxy, Mode};
use cloak_tests::gateway::Gateway;
use cloak_tests::http::Request;
use cloak_tests::paced::{Load, Ticks};
use cloak_tests::pair::{End, open_sessions};
use cloak_tests::pattern::Pattern;
use cloak_tests::site::{Site, port};

/// Bytes per second each way of a paced load.
const RATE: u64 = 256 * 1024;
/// After the last fault, what was held back arrives within this time.
const CATCH_UP: Duration = Duration::from_secs(30);
/// Sessions that ended have given their lanes back within this time.
const LANES_WITHIN: Duration = Duration::from_secs(10);

fn ticks(site: &Site) -> Ticks {
    let stream = client::socks5(site.alice.proxy(), "bob.cloak", port::TICKS).unwrap();
    let ticks = Ticks::read(stream);
    wait_until("ticks come", Duration::from_secs(10), || ticks.count() > 5);
    ticks
}

fn resumes(site: &Site, end: End) -> u64 {
    let rows = open_sessions(site.gateway(end));
    rows.iter().filter_map(|row| row["resumes"].as_u64()).max().unwrap_or(0)
}

/// Download and upload at once, a cut every 200 ms.
#[test]
fn no_byte_lost_no_byte_doubled() {
    let (span, resumes_min) =
        if full() { (Duration::from_secs(60), 200) } else { (Duration::from_secs(10), 30) };
    let site = Site::alone();
    let load = Load::start(
        site.alice.proxy(),
        "bob.cloak",
        port::PACED,
        RATE,
        span + Duration::from_secs(5),
    );
    every(Duration::from_millis(200), span, || site.cut());
    for end in [End::Alice, End::Bob] {
        let counted = resumes(&site, end);
        assert!(counted >= resumes_min, "{end:?}: {counted} resumes in {span:?}");
    }
    assert!(!load.is_over(), "the load went on over all cuts");
    load.finish(CATCH_UP + span);
    for end in [End::Alice, End::Bob] {
        let rows = site.gateway(end).sessions();
        assert!(rows.iter().all(|row| row["state"] != "lost"), "{end:?}: {rows:?}");
    }
}

fn idle_lanes(gateway: &Gateway) -> u64 {
    let rows = gateway.json(&["peers"]);
    rows.as_array().unwrap().iter().filter_map(|row| row["idle_lanes"].as_u64()).sum()
}

/// Lanes come back to the pool, and the next connections ride on them.
#[test]
fn fresh_connections_on_warm_lanes_cost_no_handshake() {
    let site = Site::alone();
    let fetch = || {
        let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
        assert_echo(&mut stream, b"a fresh connection");
    };
    let is_warm = || idle_lanes(&site.alice) >= 3;
    // One in use and two to spare; a lane that comes back soon enough is one of the two.
    wait_until("three lanes are idle", LANES_WITHIN, || {
        fetch();
        is_warm()
    });
    let dials = site.dials();
    for _ in 0..20 {
        fetch();
        wait_until("all three are idle again", LANES_WITHIN, is_warm);
    }
    assert_eq!(site.dials(), dials, "dials for 20 fresh connections");
}

/// A browser opens thirty connections at once, and does so again.
#[test]
fn a_burst_finds_the_lanes_of_the_last_one() {
    const BURST: u64 = 30;
    let site = Site::alone();
    let burst = || {
        let open = |_| client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
        let streams: Vec<_> = (0..BURST).map(open).collect();
        wait_until("two lanes are to spare", LANES_WITHIN, || idle_lanes(&site.alice) >= 2);
        drop(streams);
        wait_until("all lanes are idle", LANES_WITHIN, || idle_lanes(&site.alice) >= BURST + 2);
    };
    burst();
    let dials = site.dials();
    burst();
    assert_eq!(site.dials(), dials, "dials for the second burst");
}

#[test]
fn one_byte_at_a_time_is_only_slow() {
    let site = Site::start();
    site.set_mode(Mode::OneByteAtATime);
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, &Pattern::new(1).bytes(100_000));
    site.cut();
    assert_echo(&mut stream, &Pattern::new(2).bytes(100_000));
}

#[test]
fn slow_link_is_not_suspected() {
    let site = Site::start();
    let mut idle = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut idle, b"x");
    let bytes: usize = if full() { 4 << 20 } else { 1 << 20 };
    let url = "http://bob.cloak/hash";
    let before: Vec<u64> = [End::Alice, End::Bob].map(|end| resumes(&site, end)).into();
    // 1 Mbit/s: the bytes stand in queues for up to half a minute.
    site.set_mode(Mode::Slow(125_000));
    let body = Pattern::new(3).bytes(bytes);
    let upload = Request::new("PUT", url).body(&body);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| upload.send(site.alice.proxy()));
        while !sending.is_finished() {
            for end in [End::Alice, End::Bob] {
                let rows = open_sessions(site.gateway(end));
                assert!(rows.iter().all(|row| row["state"] != "suspended"), "{end:?}: {rows:?}");
            }
        }
        let answer = sending.join().unwrap();
        assert_eq!(answer.text(), format!("{bytes} {}", Pattern::new(3).sha256(bytes as u64)));
    });
    let after: Vec<u64> = [End::Alice, End::Bob].map(|end| resumes(&site, end)).into();
    assert_eq!(before, after, "nothing was resumed");
    assert_echo(&mut idle, b"y");
}

#[test]
fn of_two_new_lanes_the_later_may_arrive_first() {
    let site = Site::start();
    let ticks = ticks(&site);
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    site.set_mode(Mode::ReorderNew);
    for round in 0..5_u8 {
        site.cut();
        assert_echo(&mut stream, &vec![round; 50_000]);
        let mark = ticks.mark();
        ticks.first_after(mark, Duration::from_secs(10));
    }
}

/// The address translator forgets its table: the old connection is dead without a word, the next comes
/// from another address and port.
#[test]
fn nat_rebinds_every_50s() {
    let period = Duration::from_secs(if full() { 50 } else { 7 });
    let site = Site::start();
    let span = period * 3 + Duration::from_secs(3);
    let load = Load::start(site.alice.proxy(), "bob.cloak", port::PACED, RATE, span);
    let mut last: u8 = 10;
    every(period, period * 3, || {
        last += 1;
        let source = IpAddr::from([127, 0, 0, last]);
        site.to_bob.rebind(source);
        site.to_alice.rebind(source);
    });
    load.finish(CATCH_UP + span);
}

#[test]
fn resume_is_bound_to_the_device_key_not_the_ip() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    for last in 20..25 {
        site.to_bob.rebind(IpAddr::from([127, 0, 0, last]));
        site.to_alice.rebind(IpAddr::from([127, 0, 0, last]));
        site.cut();
        assert_echo(&mut stream, &vec![last; 10_000]);
    }
    assert!(resumes(&site, End::Alice) >= 5 && resumes(&site, End::Bob) >= 5);
}

#[test]
fn zombie_lane_never_blocks_resume() {
    let site = Site::start();
    let ticks = ticks(&site);
    for round in 1..=3 {
        let mark = ticks.mark();
        // The old lane stays open at both ends for as long as anyone looks.
        site.to_bob.freeze_open();
        site.to_alice.freeze_open();
        let took = ticks.first_after(mark, Duration::from_secs(10));
        assert!(took < Duration::from_secs(6), "round {round}: {took:?}");
        site.wait_state("live", Duration::from_secs(5));
    }
}

#[test]
fn the_peers_listener_moves_to_another_port() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, b"before");
    let moved = FaultProxy::before(site.bob.overlay());
    let services = "[overlay]\nadvertise = [\"".to_owned() + &moved.address().to_string() + "\"]\n";
    site.bob.configure(&services);
    let _ = site.bob.run(&["reload"]).success();
    let new = moved.address().to_string();
    wait_until("alice knows the new locator", Duration::from_secs(10), || {
        site.alice.json(&["peers"]).to_string().contains(&new)
    });
    site.to_bob.set_mode(Mode::Refuse);
    site.to_alice.set_mode(Mode::Refuse);
    site.cut();
    assert_echo(&mut stream, b"after");
    assert!(moved.stats().dials > 0, "the new listener was dialled");
}

/// Requests into a storm of cuts: each is delivered once, or not at all and then not answered.
#[test]
fn open_is_at_most_once() {
    let site = Site::start();
    let proxy = site.alice.proxy();
    let answered: Vec<bool> = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let number = |index: usize| {
                let stream = client::socks5(proxy, "bob.cloak", port::HTTP).ok()?;
                let request = Request::get(&format!("/bytes/1?number={index}"));
                Some(request.send_on(&stream, "bob.cloak").status == 200)
            };
            (0..60).map(|index| number(index).unwrap_or(false)).collect::<Vec<bool>>()
        });
        while !running.is_finished() {
            every(Duration::from_millis(30), Duration::from_millis(30), || site.cut());
        }
        running.join().unwrap()
    });
    let arrived = site.services.http.requests();
    let count = |index: usize| {
        let path = format!("/bytes/1?number={index}");
        arrived.iter().filter(|request| request.target().1 == path).count()
    };
    for (index, answered) in answered.iter().enumerate() {
        assert!(count(index) <= 1, "request {index} was delivered {} times", count(index));
        assert!(!answered || count(index) == 1, "request {index} was answered by nobody");
    }
    let successes = answered.iter().filter(|answered| **answered).count();
    assert!(successes >= 55, "a cut while opening is no reason to fail: {successes} of 60");
}

#[test]
fn simultaneous_resume_from_both_ends_settles_on_one_lane() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    for round in 0..10_u8 {
        site.cut();
        assert_echo(&mut stream, &vec![round; 30_000]);
    }
    let in_use = |end| -> u64 {
        let peers = site.gateway(end).json(&["peers"]);
        peers.as_array().unwrap().iter().filter_map(|row| row["lanes"].as_u64()).sum()
    };
    for end in [End::Alice, End::Bob] {
        wait_until("one lane is left", Duration::from_secs(5), || in_use(end) == 1);
    }
}
