//! Real packets: hosts in network namespaces lose them, change their addresses, come back.
//!
//! Alice has the application, bob the service, carol is a third gateway that stays where she is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::Ipv4Addr;
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::{full, now, wait_until};
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::need;
use cloak_tests::netns::{Host, Net};
use cloak_tests::origin::TcpOrigin;
use cloak_tests::paced::{self, Load, Ticks, assert_quick};
use cloak_tests::pair::open_sessions;
use cloak_tests::realm::Realm;
use cloak_tests::site::{TICK, port};
use cloak_tests::skip::Need;

const SOON: Duration = Duration::from_secs(20);
/// Both ends tell of a dead session that was moving bytes within this time.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// A change of address is over within this time: noticed, told to the other end, dialled.
const ROAMED_WITHIN: Duration = Duration::from_secs(5);

struct Town {
    alice: Gateway,
    bob: Gateway,
    carol: Gateway,
    /// Kept for their drop only.
    _origins: [TcpOrigin; 2],
    net: Net,
    _realm: Realm,
}

fn gateway_up() -> Up {
    Up { proxy: vec!["127.0.0.1:1080".to_owned()], ..Up::default() }.listen("0.0.0.0:7140")
}

impl Town {
    fn start() -> Self {
        let (realm, net) = (Realm::alone(), Net::new(3));
        let on_bob = |make: fn() -> TcpOrigin| net.host(1).enter(make);
        let origins = [on_bob(|| TcpOrigin::ticker(TICK)), on_bob(paced::origin)];
        let home = realm.empty("carol").on(net.host(2));
        home.init();
        let carol = home.up(&gateway_up());
        let join = |name: &str, host: &Host, up: &Up| {
            let home = realm.empty(name).on(host);
            home.join(&carol.invite(name));
            home.up(up)
        };
        let alice = join("alice", net.host(0), &gateway_up());
        let services = gateway_up()
            .expose(port::TICKS, origins[0].address())
            .expose(port::PACED, origins[1].address());
        let bob = join("bob", net.host(1), &services);
        let town = Self { alice, bob, carol, _origins: origins, net, _realm: realm };
        wait_until("alice knows bob, whom carol invited", SOON, || {
            town.alice.resolves("bob.cloak") && town.bob.resolves("alice.cloak")
        });
        town
    }

    fn ticks(&self) -> Ticks {
        let proxy = self.alice.proxy();
        let open = || client::socks5(proxy, "bob.cloak", port::TICKS).unwrap();
        let ticks = Ticks::read(self.net.host(0).enter(open));
        wait_until("ticks come", SOON, || ticks.count() > 20);
        ticks
    }

    fn wait_state(&self, state: &str, within: Duration) {
        for gateway in [&self.alice, &self.bob] {
            wait_until(&format!("{} shows `{state}`", gateway.name()), within, || {
                let rows = open_sessions(gateway);
                !rows.is_empty() && rows.iter().all(|row| row["state"] == state)
            });
        }
    }
}

/// Packets are dropped at `host` for `length`; returns when the first byte came after that.
fn hole(town: &Town, ticks: &Ticks, host: usize, length: Duration) -> Duration {
    let begun = now();
    town.net.host(host).drop_packets();
    town.wait_state("suspended", NOTICED_WITHIN);
    wait_until("the hole is long enough", length + SOON, || begun.elapsed() >= length);
    let mark = ticks.mark();
    town.net.host(host).pass_packets();
    let took = ticks.first_after(mark, SOON);
    town.wait_state("live", NOTICED_WITHIN);
    took
}

#[test]
fn packets_dropped_for_5_s_are_noticed_and_made_up_for() {
    need!(Need::NetworkNamespaces);
    let town = Town::start();
    let ticks = town.ticks();
    let rounds = if full() { 20 } else { 3 };
    let length = Duration::from_secs(5);
    assert_quick((0..rounds).map(|round| hole(&town, &ticks, round % 2, length)).collect());
}

#[test]
fn packets_dropped_for_30_s_are_made_up_for_as_quickly() {
    need!(Need::NetworkNamespaces, Need::FullRun);
    let town = Town::start();
    let ticks = town.ticks();
    let length = Duration::from_secs(30);
    assert_quick((0..20).map(|round| hole(&town, &ticks, round % 2, length)).collect());
}

#[test]
fn one_end_changes_its_address() {
    need!(Need::NetworkNamespaces);
    let town = Town::start();
    let ticks = town.ticks();
    for (round, host) in [0, 1, 0, 1].into_iter().enumerate() {
        let mark = ticks.mark();
        town.net.host(host).move_to(Ipv4Addr::new(10, 77, 1, 50 + u8::try_from(round).unwrap()));
        // What was under way arrives first; a tick sent after the move is one 100 ticks on.
        let so_far = ticks.count();
        wait_until("ticks go on", SOON, || ticks.count() > so_far + 100);
        println!("host {host} moved; ticks went on within {:?}", mark.elapsed());
        assert!(mark.elapsed() <= ROAMED_WITHIN + 100 * TICK, "{:?}", mark.elapsed());
    }
    let rows = open_sessions(&town.alice);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0]["resumes"].as_u64() >= Some(4), "{rows:?}");
}

#[test]
fn both_ends_change_their_addresses_at_once() {
    need!(Need::NetworkNamespaces);
    let mut town = Town::start();
    let ticks = town.ticks();
    for round in 1..=3 {
        let mark = ticks.mark();
        town.net.host(0).move_to(Ipv4Addr::new(10, 77, 2, round));
        town.net.host(1).move_to(Ipv4Addr::new(10, 77, 3, round));
        let so_far = ticks.count();
        wait_until("ticks go on", SOON, || ticks.count() > so_far + 100);
        println!("both moved; ticks went on within {:?}", mark.elapsed());
        assert!(mark.elapsed() <= 2 * ROAMED_WITHIN + 100 * TICK, "{:?}", mark.elapsed());
    }
    assert!(town.carol.is_running());
    let load = {
        let proxy = town.alice.proxy();
        let span = Duration::from_secs(3);
        town.net.host(0).enter(move || Load::start(proxy, "bob.cloak", port::PACED, 200_000, span))
    };
    load.finish(SOON);
}

/// The cable is pulled, plugged in somewhere else later: the way a laptop moves between desks.
#[test]
fn backoff_is_reset_by_network_change_and_wake() {
    need!(Need::NetworkNamespaces);
    let town = Town::start();
    let ticks = town.ticks();
    let host = town.net.host(0);
    host.set_link(false);
    town.wait_state("suspended", NOTICED_WITHIN);
    let away = Duration::from_secs(if full() { 400 } else { 12 });
    let begun = now();
    wait_until("nobody is back for a while", away + SOON, || begun.elapsed() >= away);
    let mark = ticks.mark();
    host.set_link(true);
    host.move_to(Ipv4Addr::new(10, 77, 4, 4));
    let took = ticks.first_after(mark, SOON);
    println!("back after {away:?}: first byte within {took:?}");
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

/// Names and sessions work right after a host was cut off for a while.
#[test]
fn names_resolve_right_after_an_absence() {
    need!(Need::NetworkNamespaces);
    let town = Town::start();
    town.net.host(0).drop_packets();
    let begun = now();
    wait_until("alice is cut off for a while", SOON, || begun.elapsed() > Duration::from_secs(8));
    town.net.host(0).pass_packets();
    let proxy = town.alice.proxy();
    let start = now();
    let open = move || client::socks5(proxy, "bob.cloak", port::TICKS).unwrap();
    let _stream = town.net.host(0).enter(open);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
