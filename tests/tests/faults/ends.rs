//! Ends of streams while there is no transport to tell them by.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use cloak_tests::client::{self, is_reset};
use cloak_tests::clock::wait_until;
use cloak_tests::fault::Mode;
use cloak_tests::pattern::Pattern;
use cloak_tests::site::{SOURCE, SOURCE_BYTES, Site, port};

const SOON: Duration = Duration::from_secs(30);

/// An open stream whose transport is gone, and both ends know it.
fn suspended(site: &Site, port: u16, before: &[u8]) -> TcpStream {
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port).unwrap();
    stream.write_all(before).unwrap();
    wait_until("the session is listed at bob", SOON, || site.bob.sessions().len() == 1);
    site.set_mode(Mode::Refuse);
    site.cut();
    site.wait_state("suspended", Duration::from_secs(5));
    stream
}

#[test]
fn a_half_close_while_suspended_arrives_after_the_last_byte() {
    let site = Site::start();
    let mut stream = suspended(&site, port::SINK, &Pattern::new(7).bytes(10_000));
    let bytes = Pattern::new(7).bytes(200_000);
    stream.write_all(&bytes[10_000..]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    site.set_mode(Mode::Pass);
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, format!("200000 {}", Pattern::new(7).sha256(200_000)));
    site.wait_no_sessions(SOON);
}

#[test]
fn a_half_close_of_the_backend_while_suspended_arrives_after_the_last_byte() {
    let site = Site::start();
    for _ in 0..5 {
        let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::SOURCE).unwrap();
        site.set_mode(Mode::Refuse);
        site.cut();
        // The application does not read yet: bytes and end wait at the other gateway.
        site.wait_state("suspended", Duration::from_secs(5));
        site.set_mode(Mode::Pass);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), SOURCE.check(0, &all)), (SOURCE_BYTES, Ok(())));
        drop(stream);
        site.wait_no_sessions(SOON);
    }
}

#[test]
fn a_reset_while_suspended_is_carried_later() {
    let site = Site::start();
    let stream = suspended(&site, port::ECHO, b"x");
    client::reset(stream);
    site.set_mode(Mode::Pass);
    wait_until("the backend is reset", SOON, || site.services.echo.resets() == 1);
    site.wait_no_sessions(SOON);
}

#[test]
fn a_close_of_both_directions_while_suspended_ends_the_session() {
    let site = Site::start();
    let stream = suspended(&site, port::ECHO, b"x");
    drop(stream);
    site.set_mode(Mode::Pass);
    wait_until("the backend's connection ends", SOON, || site.services.echo.open() == 0);
    site.wait_no_sessions(SOON);
}

#[test]
fn server_rebooted_is_told() {
    let mut site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    client::assert_echo(&mut stream, b"before");
    site.pair.bob.crash();
    site.pair.restart(cloak_tests::pair::End::Bob);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let error = stream.read(&mut [0; 1]).expect_err("not an end that looks complete");
    assert!(is_reset(&error), "the application is told at once: {error}");
    let rows = site.alice.sessions();
    let lost = rows.iter().find(|row| row["state"] == "lost").expect("it stays listed");
    assert!(lost["reason"].is_string(), "with its reason: {lost}");
    site.wait_linked();
    let mut again = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    client::assert_echo(&mut again, b"after");
}

#[test]
fn clean_end_with_lost_last_ack_is_not_a_loss() {
    let site = Site::start();
    for round in 0..30_u64 {
        let bytes = Pattern::new(round).bytes(20_000);
        let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::SINK).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let cutter = std::thread::scope(|scope| {
            let cutting = scope.spawn(|| {
                (0..round % 4).for_each(|_| site.cut());
            });
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            // The last acknowledgement is on its way now.
            site.cut();
            cutting.join().unwrap();
            reply
        });
        assert_eq!(cutter, format!("20000 {}", Pattern::new(round).sha256(20_000)));
    }
    site.wait_no_sessions(SOON);
    for gateway in [&site.alice, &site.bob] {
        let rows = gateway.sessions();
        assert!(rows.iter().all(|row| row["state"] != "lost"), "{rows:?}");
    }
}

#[test]
fn a_stopped_gateway_tells_its_peer() {
    let mut site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    client::assert_echo(&mut stream, b"before");
    site.pair.bob.stop();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(is_reset(&stream.read(&mut [0; 1]).unwrap_err()));
    let rows = site.alice.sessions();
    assert!(rows.iter().any(|row| row["reason"] == "shutting-down"), "{rows:?}");
}
