//! Black holes: noticed at both ends in time, left at once when the path is back.

use std::time::{Duration, Instant};

use cloak_tests::clock::{full, now, wait_until};
use cloak_tests::fault::{Direction, Mode};
use cloak_tests::paced::{Ticks, assert_quick};
use cloak_tests::pair::End;
use cloak_tests::site::Site;

use super::ticks;

/// Both ends tell of a dead session that was moving bytes within this time.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// One hole of `length`; returns how long after the path's return the first byte came.
fn hole(site: &Site, ticks: &Ticks, mode: Mode, length: Duration) -> Duration {
    let begun = now();
    site.set_mode(mode);
    let noticed = site.wait_state("suspended", NOTICED_WITHIN);
    assert!(noticed <= NOTICED_WITHIN, "noticed after {noticed:?}");
    wait_out(begun, length);
    let mark = ticks.mark();
    site.set_mode(Mode::Pass);
    let took = ticks.first_after(mark, Duration::from_secs(20));
    site.wait_state("live", Duration::from_secs(5));
    took
}

/// Waits until the hole has lasted for `length`.
fn wait_out(begun: Instant, length: Duration) {
    wait_until("the hole is long enough", length + Duration::from_secs(5), || {
        begun.elapsed() >= length
    });
}

#[test]
fn black_holes_of_5_s_are_noticed_and_left_at_once() {
    let site = Site::alone();
    let ticks = ticks(&site);
    let rounds = if full() { 20 } else { 3 };
    let length = Duration::from_secs(5);
    assert_quick((0..rounds).map(|_| hole(&site, &ticks, Mode::BlackHole, length)).collect());
}

#[test]
fn black_holes_of_30_s_are_left_as_quickly() {
    cloak_tests::need!(cloak_tests::skip::Need::FullRun);
    let site = Site::alone();
    let ticks = ticks(&site);
    let length = Duration::from_secs(30);
    assert_quick((0..20).map(|_| hole(&site, &ticks, Mode::BlackHole, length)).collect());
}

#[test]
fn half_open_relay() {
    let site = Site::alone();
    let ticks = ticks(&site);
    let length = Duration::from_secs(5);
    for direction in [Direction::Up, Direction::Down] {
        let took = hole(&site, &ticks, Mode::HalfOpen(direction), length);
        assert!(took <= Duration::from_secs(1), "{direction:?}: {took:?}");
    }
}

/// While the hole lasts nobody hears a word, and the session is the only one to know.
#[test]
fn applications_notice_nothing_but_a_pause() {
    let site = Site::start();
    let ticks = ticks(&site);
    let before = site.session(End::Alice)["id"].clone();
    hole(&site, &ticks, Mode::BlackHole, Duration::from_secs(6));
    assert_eq!(site.session(End::Alice)["id"], before, "the same session");
    assert_eq!(site.services.ticks.accepted(), 1, "the same connection to the backend");
}
