//! What is shown is true.

use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::{holds_for, wait_until};
use cloak_tests::fault::Mode;
use cloak_tests::pair::{End, linked, open_sessions};
use cloak_tests::site::{Site, port};

use super::ticks;

#[test]
fn status_is_never_green_while_dead() {
    let site = Site::start();
    let ticks = ticks(&site);
    site.set_mode(Mode::BlackHole);
    site.wait_state("suspended", Duration::from_secs(5));
    for end in [End::Alice, End::Bob] {
        let row = site.session(end);
        assert!(row["lane"].is_null(), "{row}");
        assert_eq!(row["missing_side"], "peer", "{row}");
        assert!(row["reason"].is_string(), "{row}");
    }
    holds_for("nobody shows it as live", Duration::from_secs(8), || {
        [&site.alice, &site.bob].into_iter().all(|gateway| {
            let status = gateway.json(&["status"]);
            let rows = open_sessions(gateway);
            status["sessions_live"] == 0
                && status["sessions_suspended"] == 1
                && rows.iter().all(|row| row["state"] == "suspended")
        })
    });
    for gateway in [&site.alice, &site.bob] {
        wait_until("the peer is not linked", Duration::from_secs(20), || !linked(gateway));
    }
    let mark = ticks.mark();
    site.set_mode(Mode::Pass);
    ticks.first_after(mark, Duration::from_secs(5));
    site.wait_state("live", Duration::from_secs(5));
    for end in [End::Alice, End::Bob] {
        let row = site.session(end);
        assert_eq!((&row["lane"], row["reason"].is_null()), (&"direct".into(), true), "{row}");
    }
}

#[test]
fn receiver_only_and_idle_sessions_notice_a_black_hole() {
    let site = Site::start();
    let mut idle = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut idle, b"x");
    wait_until("both show it live", Duration::from_secs(5), || {
        site.session(End::Alice)["state"] == "live" && site.session(End::Bob)["state"] == "live"
    });
    site.set_mode(Mode::BlackHole);
    site.wait_state("suspended", Duration::from_secs(20));
    site.set_mode(Mode::Pass);
    assert_echo(&mut idle, b"y");
    site.wait_state("live", Duration::from_secs(5));
}

#[test]
fn the_fields_of_a_session_are_true() {
    let site = Site::start();
    let mut stream = client::socks5(site.alice.proxy(), "bob.cloak", port::ECHO).unwrap();
    assert_echo(&mut stream, &[9; 12_345]);
    wait_until("all is acknowledged", Duration::from_secs(5), || {
        site.session(End::Alice)["bytes_held"] == 0 && site.session(End::Bob)["bytes_held"] == 0
    });
    let (alice, bob) = (site.session(End::Alice), site.session(End::Bob));
    assert_eq!(alice["id"], bob["id"]);
    for (row, role, peer) in
        [(&alice, "initiator", "bob.cloak"), (&bob, "responder", "alice.cloak")]
    {
        assert_eq!((row["role"].as_str(), row["peer"].as_str()), (Some(role), Some(peer)));
        assert_eq!((&row["state"], &row["port"]), (&"live".into(), &port::ECHO.into()));
        assert_eq!((&row["bytes_sent"], &row["bytes_received"]), (&12_345.into(), &12_345.into()));
        for key in ["opened_at", "state_since"] {
            let time = row[key].as_str().unwrap();
            assert!(time.len() >= 20 && &time[10..11] == "T" && time.ends_with('Z'), "{time}");
        }
    }
    assert_eq!(alice["application"], stream.local_addr().unwrap().to_string());
    assert_eq!(bob["application"], site.services.echo.address().to_string());
    let id = alice["id"].as_str().unwrap();
    assert_eq!(site.alice.json(&["sessions", "show", id])["id"], id);
    let _ = site.alice.run(&["sessions", "close", id]).success();
    let error = std::io::Read::read(&mut stream, &mut [0; 1]).unwrap_err();
    assert!(client::is_reset(&error), "{error}");
    site.wait_no_sessions(Duration::from_secs(10));
}
