//! Each mode, against a plain echo.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::clock::{holds_for, now, wait_until};
use crate::origin::TcpOrigin;
use crate::pattern::Pattern;

const SOON: Duration = Duration::from_secs(10);

fn dial(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn echoes(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

/// Whether nothing arrives for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_read_timeout(Some(SOON)).unwrap();
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn pass_carries_bytes_and_half_closes() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut stream = dial(&proxy);
    echoes(&mut stream, &Pattern::new(1).bytes(300_000)[..100_000]);
    stream.write_all(b"last").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"last");
    wait_until("the connection is over", SOON, || proxy.stats().open == 0);
    let stats = proxy.stats();
    assert_eq!((stats.dials, stats.bytes_up, stats.bytes_down), (1, 100_004, 100_004));
}

#[test]
fn reset_all_resets_both_sides_at_once_and_new_connections_work() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut streams: Vec<TcpStream> = (0..10).map(|_| dial(&proxy)).collect();
    streams.iter_mut().for_each(|stream| echoes(stream, b"hello"));
    proxy.reset_all();
    for mut stream in streams {
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    wait_until("the origin saw ten resets", SOON, || origin.resets() == 10);
    echoes(&mut dial(&proxy), b"again");
}

#[test]
fn a_black_hole_accepts_and_forwards_nothing_until_it_ends() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut old = dial(&proxy);
    echoes(&mut old, b"before");
    proxy.set_mode(Mode::BlackHole);
    old.write_all(b"held").unwrap();
    let mut new = dial(&proxy);
    new.write_all(b"new").unwrap();
    assert!(is_silent(&mut old) && is_silent(&mut new));
    assert_eq!(proxy.stats().bytes_up, 6);
    proxy.set_mode(Mode::Pass);
    let mut back = [0; 4];
    old.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"held");
    new.read_exact(&mut back[..3]).unwrap();
    assert_eq!(&back[..3], b"new");
}

#[test]
fn in_a_black_hole_nobody_is_told_of_an_end() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut stream = dial(&proxy);
    echoes(&mut stream, b"x");
    proxy.set_mode(Mode::BlackHole);
    drop(stream);
    holds_for("the origin's side is open", Duration::from_millis(300), || origin.open() == 1);
    proxy.set_mode(Mode::Pass);
    wait_until("now it is told", SOON, || origin.open() == 0);
}

#[test]
fn half_open_blocks_one_direction_only() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut stream = dial(&proxy);
    echoes(&mut stream, b"x");
    proxy.set_mode(Mode::HalfOpen(Direction::Down));
    stream.write_all(b"down").unwrap();
    assert!(is_silent(&mut stream));
    assert_eq!((proxy.stats().bytes_up, proxy.stats().bytes_down), (5, 1));
    proxy.set_mode(Mode::HalfOpen(Direction::Up));
    let mut back = [0; 4];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"down");
    stream.write_all(b"up").unwrap();
    assert!(is_silent(&mut stream));
    assert_eq!(proxy.stats().bytes_up, 5);
    proxy.set_mode(Mode::Pass);
    stream.read_exact(&mut back[..2]).unwrap();
    assert_eq!(&back[..2], b"up");
}

#[test]
fn slow_keeps_its_rate() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    proxy.set_mode(Mode::Slow(100_000));
    let mut stream = dial(&proxy);
    let start = now();
    echoes(&mut stream, &[7; 50_000]);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn one_byte_at_a_time_loses_none() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    proxy.set_mode(Mode::OneByteAtATime);
    echoes(&mut dial(&proxy), &Pattern::new(2).bytes(5_000));
}

#[test]
fn of_two_new_connections_the_later_arrives_first() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    proxy.set_mode(Mode::ReorderNew);
    let mut first = dial(&proxy);
    first.write_all(b"1").unwrap();
    wait_until("the first is there", SOON, || proxy.stats().dials == 1);
    holds_for("the first waits", Duration::from_millis(200), || origin.accepted() == 0);
    let mut second = dial(&proxy);
    echoes(&mut second, b"2");
    let mut back = [0; 1];
    first.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"1");
    assert!(origin.first_bytes().starts_with(b"21"), "{:?}", origin.first_bytes());
}

#[test]
fn a_reordered_connection_without_a_second_goes_on_alone() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    proxy.set_mode(Mode::ReorderNew);
    echoes(&mut dial(&proxy), b"alone");
}

#[test]
fn after_a_rebind_old_connections_are_zombies_and_new_ones_come_from_elsewhere() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut old = dial(&proxy);
    echoes(&mut old, b"x");
    proxy.rebind("127.0.0.77".parse().unwrap());
    old.write_all(b"lost").unwrap();
    assert!(is_silent(&mut old));
    echoes(&mut dial(&proxy), b"new");
    assert_eq!(origin.last_peer().unwrap().ip(), "127.0.0.77".parse::<IpAddr>().unwrap());
}

#[test]
fn the_target_may_move_and_be_late() {
    let proxy = FaultProxy::start();
    let mut early = dial(&proxy);
    early.write_all(b"early").unwrap();
    let first = TcpOrigin::echo();
    proxy.retarget(first.address());
    let mut back = [0; 5];
    early.read_exact(&mut back).unwrap();
    let second = TcpOrigin::echo();
    proxy.retarget(second.address());
    echoes(&mut dial(&proxy), b"moved");
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
    echoes(&mut early, b"still");
}

#[test]
fn refuse_resets_new_connections_only() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    let mut old = dial(&proxy);
    echoes(&mut old, b"x");
    proxy.set_mode(Mode::Refuse);
    let mut new = dial(&proxy);
    assert!(new.read(&mut [0; 1]).is_err());
    echoes(&mut old, b"old");
}

#[test]
fn dials_in_flight_are_counted() {
    let origin = TcpOrigin::echo();
    let proxy = FaultProxy::before(origin.address());
    echoes(&mut dial(&proxy), b"x");
    assert_eq!(proxy.stats().in_flight, 0);
    proxy.set_mode(Mode::BlackHole);
    let held: Vec<TcpStream> = (0..3).map(|_| dial(&proxy)).collect();
    wait_until("three are in flight", SOON, || proxy.stats().in_flight == 3);
    wait_until("the peak is known", SOON, || proxy.stats().in_flight_peak == 3);
    drop(held);
    wait_until("given up", SOON, || proxy.stats().in_flight == 0);
    assert_eq!((proxy.stats().in_flight_peak, proxy.stats().dials), (3, 4));
    proxy.restart_peak();
    assert_eq!(proxy.stats().in_flight_peak, 0);
    for _ in 0..5 {
        let one = dial(&proxy);
        wait_until("it is in flight", SOON, || proxy.stats().in_flight > 0);
        wait_until("the peak is known", SOON, || proxy.stats().in_flight_peak > 0);
        drop(one);
    }
    wait_until("given up", SOON, || proxy.stats().in_flight == 0);
    assert_eq!(proxy.stats().in_flight_peak, 1, "one after the other is one at a time");
}
