//! Ends of streams: half-closes, resets and the last bytes before them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use cloak_tests::client::{self, is_reset};
use cloak_tests::clock::{holds_for, wait_until};
use cloak_tests::http::Request;
use cloak_tests::pair::End;
use cloak_tests::pattern::Pattern;
use cloak_tests::site::{SOURCE, SOURCE_BYTES, Site, port};

const SOON: Duration = Duration::from_secs(20);

fn open(site: &Site, port: u16) -> TcpStream {
    client::socks5(site.alice.proxy(), "bob.cloak", port).unwrap()
}

#[test]
fn first_eof_must_not_close_both_directions() {
    let site = Site::shared();
    let bytes = Pattern::new(4).bytes(300_000);
    for connect in [client::socks5, client::socks4a, client::connect] {
        let mut stream = connect(site.alice.proxy(), "bob.cloak", port::SINK).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, format!("300000 {}", Pattern::new(4).sha256(300_000)));
    }
}

#[test]
fn the_far_side_may_end_its_direction_first() {
    let site = Site::start();
    let mut stream = open(&site, port::CLOSES_FIRST);
    let mut bye = Vec::new();
    stream.read_to_end(&mut bye).unwrap();
    assert_eq!(bye, b"bye");
    let bytes = Pattern::new(6).bytes(200_000);
    stream.write_all(&bytes).unwrap();
    wait_until("what is written after the far end's end arrives", SOON, || {
        site.services.closes_first.received() == 200_000
    });
    assert_eq!(site.services.closes_first.open(), 1);
    drop(stream);
    wait_until("both are closed", SOON, || site.services.closes_first.open() == 0);
    assert_eq!(site.services.closes_first.resets(), 0);
    site.wait_no_sessions(SOON);
}

#[test]
fn last_bytes_before_close_are_delivered() {
    let site = Site::shared();
    for round in 0..20 {
        let mut stream = open(&site, port::SOURCE);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), SOURCE_BYTES, "round {round}");
        assert_eq!(SOURCE.check(0, &all), Ok(()));
    }
}

#[test]
fn fin_is_forwarded_once_after_the_last_byte() {
    let site = Site::start();
    let mut stream = open(&site, port::SINK);
    let bytes = Pattern::new(2).bytes(1_000_000);
    stream.write_all(&bytes).unwrap();
    let idle = Duration::from_millis(300);
    holds_for("no end before ours", idle, || site.services.sink.open() == 1);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, format!("1000000 {}", Pattern::new(2).sha256(1_000_000)));
    site.wait_no_sessions(SOON);
    let ended = site.alice.sessions();
    assert!(ended.iter().all(|row| row["state"] != "lost"), "a clean end is no loss: {ended:?}");
}

#[test]
fn a_reset_by_the_application_reaches_the_backend() {
    let site = Site::start();
    let mut stream = open(&site, port::ECHO);
    client::assert_echo(&mut stream, b"before");
    client::reset(stream);
    wait_until("the backend is reset", SOON, || site.services.echo.resets() == 1);
    site.wait_no_sessions(SOON);
}

#[test]
fn a_reset_by_the_backend_reaches_the_application() {
    let site = Site::start();
    let mut stream = open(&site, port::RESETS);
    let mut ready = [0; 5];
    stream.read_exact(&mut ready).unwrap();
    stream.write_all(b"x").unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert!(is_reset(&error), "a reset, not an end that looks complete: {error}");
    site.wait_no_sessions(SOON);
}

#[test]
fn a_session_of_plain_requests_ends_in_order() {
    let site = Site::start();
    for close in [true, false] {
        let stream = client::dial(site.alice.proxy()).unwrap();
        for length in [0, 10, 100_000] {
            let mut request = Request::get(&format!("http://bob.cloak/bytes/{length}"));
            if close && length > 10 {
                request = request.header("Connection", "close");
            }
            let response = request.send_on(&stream, "bob.cloak");
            assert_eq!((response.status, response.body.len()), (200, length));
        }
        drop(stream);
        wait_until("the backend's connection ends", SOON, || site.services.http.open() == 0);
        site.wait_no_sessions(SOON);
    }
    assert_eq!(site.services.http.accepted(), 2, "one session for each kept-alive connection");
    assert_eq!(site.services.http.resets(), 0, "the backend sees ends, no resets");
    for gateway in [&site.alice, &site.bob] {
        let rows = gateway.sessions();
        assert!(rows.iter().all(|row| row["state"] != "lost"), "{rows:?}");
    }
}

/// A stream whose backend takes nothing, full as far as it goes.
fn held_back(site: &Site) -> TcpStream {
    let mut stream = open(site, port::STUCK);
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let piece = vec![1; 1 << 20];
    let mut written = 0;
    // At most 4 MiB at each end, and what four kernel buffers hold.
    while written < 64 << 20 {
        match stream.write(&piece) {
            Ok(count) => written += count,
            Err(_) => break,
        }
    }
    assert!(written < 64 << 20, "the writer is never held back");
    stream
}

#[test]
fn a_client_that_dies_while_it_is_held_back_ends_its_session() {
    let site = Site::start();
    client::reset(held_back(&site));
    site.wait_no_sessions(SOON);
}

#[test]
fn back_pressure_is_felt_and_memory_is_bounded() {
    let site = Site::start();
    let _stream = held_back(&site);
    for end in [End::Alice, End::Bob] {
        let held = site.session(end)["bytes_held"].as_u64().unwrap();
        assert!(held <= 5 << 20, "{end:?} holds {held} bytes");
    }
    let mut other = open(&site, port::ECHO);
    client::assert_echo(&mut other, &[5; 200_000]);
}
