//! A thousand sessions at once, on all processors and on one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::{full, holds_for, now, wait_until};
use cloak_tests::fault::Mode;
use cloak_tests::need;
use cloak_tests::pair::{End, open_sessions};
use cloak_tests::site::{Site, port};
use cloak_tests::skip::Need;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const SESSIONS: usize = 1000;
/// Descriptors of this process: client, backend (two handles) and both sides of a fault proxy for each
/// session, and as much again while old and new lanes overlap.
const DESCRIPTORS: u64 = 8 * SESSIONS as u64;
/// Threads that open sessions.
const OPENERS: usize = 16;
/// Dials in flight per peer device before the first success of an outage.
const PROBING_DIALS_MAX: u64 = 2;
/// How long a session watches its lane after bytes moved: it is idle once that is over.
const WATCHED: Duration = Duration::from_secs(13);
/// Dials in flight per peer device at any time.
const DIALS_MAX: u64 = 32;

fn open_all(site: &Site) -> Vec<TcpStream> {
    let (streams, next) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::SeqCst) < SESSIONS {
                    let proxy = site.alice.proxy();
                    let mut stream = client::socks5(proxy, "bob.cloak", port::ECHO).unwrap();
                    assert_echo(&mut stream, b"open");
                    streams.lock().unwrap().push(stream);
                }
            });
        }
    });
    streams.into_inner().unwrap()
}

fn count_in(site: &Site, end: End, state: &str) -> usize {
    let rows = open_sessions(site.gateway(end));
    rows.iter().filter(|row| row["state"] == state).count()
}

/// Processor time of both gateways over `span`, as shares of a core.
fn load_over(site: &Site, span: Duration) -> [f64; 2] {
    let used = || [site.alice.processor_seconds(), site.bob.processor_seconds()];
    let (before, start) = (used(), now());
    wait_until("the span is over", span * 2, || start.elapsed() >= span);
    let (after, elapsed) = (used(), start.elapsed().as_secs_f64());
    [0, 1].map(|index| (after[index] - before[index]) / elapsed)
}

fn cut_and_resume(site: &Site, streams: &mut [TcpStream]) {
    let dials_before = site.dials();
    site.set_mode(Mode::BlackHole);
    site.cut();
    for stream in streams.iter_mut() {
        stream.write_all(b"held").unwrap();
    }
    for end in [End::Alice, End::Bob] {
        wait_until("all are suspended", Duration::from_secs(5), || {
            count_in(site, end, "suspended") == SESSIONS
        });
    }
    site.to_bob.restart_peak();
    site.to_alice.restart_peak();
    let probing = || [&site.to_alice, &site.to_bob].map(|proxy| proxy.stats());
    holds_for("few dials per peer device are in flight", Duration::from_secs(2), || {
        let stats = probing();
        let few = stats.iter().all(|stats| stats.in_flight_peak <= PROBING_DIALS_MAX);
        assert!(few, "more than {PROBING_DIALS_MAX}: {stats:?}");
        few
    });
    if full() {
        let load = load_over(site, Duration::from_secs(10));
        println!("dead_sessions_use_no_cpu: {load:?} of a core");
        assert!(load.iter().all(|share| *share < 0.05), "{load:?}");
    }
    let start = now();
    site.set_mode(Mode::Pass);
    for stream in streams.iter_mut() {
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"held");
    }
    let took = start.elapsed();
    let dials = site.dials() - dials_before;
    println!("{SESSIONS} sessions resumed within {took:?} with {dials} dials");
    assert!(took <= Duration::from_secs(5), "{took:?}");
    assert!(dials <= SESSIONS as u64 * 3 / 2, "no_retry_storm: {dials} dials");
    for proxy in [&site.to_alice, &site.to_bob] {
        let peak = proxy.stats().in_flight_peak;
        assert!(peak <= DIALS_MAX, "no_retry_storm: {peak} dials in flight");
    }
    for end in [End::Alice, End::Bob] {
        let rows = open_sessions(site.gateway(end));
        assert_eq!(rows.len(), SESSIONS);
        assert!(rows.iter().all(|row| row["resumes"].as_u64() >= Some(1)), "{end:?}");
    }
}

/// Keeps the calling thread, and every thread and process that it starts, on one processor.
fn stay_on_one_processor() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|processor| allowed.is_set(*processor)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

#[test]
fn a_thousand_sessions_come_back_without_a_storm() {
    need!(Need::Descriptors(DESCRIPTORS));
    come_back(&Site::alone());
}

/// There a task that never rests, as one did while all places for dials were taken, keeps the others
/// from running.
#[test]
fn a_thousand_sessions_come_back_on_one_processor() {
    need!(Need::Descriptors(DESCRIPTORS));
    let test = std::thread::spawn(|| {
        stay_on_one_processor();
        come_back(&Site::alone());
    });
    test.join().unwrap();
}

fn come_back(site: &Site) {
    let memory = || [site.alice.resident_kib(), site.bob.resident_kib()];
    let before = memory();
    let mut streams = open_all(site);
    let after = memory();
    let each = [0, 1].map(|index| after[index].saturating_sub(before[index]) / SESSIONS as u64);
    println!("an idle session costs {each:?} KiB at alice and bob");
    assert!(each.iter().all(|kib| *kib <= 64), "{each:?} KiB for an idle session");
    if full() {
        let watched = load_over(site, WATCHED);
        println!("{SESSIONS} sessions whose bytes moved a moment ago use {watched:?} of a core");
        let load = load_over(site, Duration::from_secs(10));
        println!("{SESSIONS} idle sessions use {load:?} of a core");
        assert!(load.iter().all(|share| *share < 0.005), "{load:?}");
    }
    for _ in 0..if full() { 3 } else { 1 } {
        cut_and_resume(site, &mut streams);
    }
    drop(streams);
    site.wait_no_sessions(Duration::from_secs(30));
    wait_until("no backend connection is left", Duration::from_secs(30), || {
        site.services.echo.open() == 0
    });
}
