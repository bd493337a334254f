//! Gateways that nobody can reach: their sessions lead through hosts, until there is a direct path.
//!
//! Alice has the application and bob the service; both refuse every connection from the network.
//! Carol and dave are reachable, and relay.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::{holds_for, wait_until};
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::need;
use cloak_tests::netns::{Host, Net};
use cloak_tests::origin::TcpOrigin;
use cloak_tests::paced::{self, Load, Ticks};
use cloak_tests::pair::open_sessions;
use cloak_tests::realm::{Home, Realm};
use cloak_tests::site::{TICK, port};
use cloak_tests::skip::Need;
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);
/// A session goes on within this time after its host died.
const RESCUED_WITHIN: Duration = Duration::from_secs(10);
/// Long enough for a circuit, if there were one.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

struct Town {
    alice: Gateway,
    bob: Gateway,
    hosts: Vec<Gateway>,
    net: Net,
    /// Hosts that consent.
    relays: usize,
    _origins: [TcpOrigin; 3],
    _realm: Realm,
}

fn up() -> Up {
    Up { proxy: vec!["127.0.0.1:1080".to_owned()], ..Up::default() }.listen("0.0.0.0:7140")
}

fn join(inviter: &Gateway, home: Home, toml: &str, up: &Up) -> Gateway {
    home.join(&inviter.invite(home.name().trim_end_matches(".cloak")));
    if !toml.is_empty() {
        home.configure(toml);
    }
    home.up(up)
}

impl Town {
    /// Two closed gateways and one open host for each of the settings.
    fn start(hosts: &[&str]) -> Self {
        let (realm, net) = (Realm::alone(), Net::new(2 + u8::try_from(hosts.len()).unwrap()));
        let bob_host = net.host(1).clone();
        [0, 1].into_iter().for_each(|closed| net.host(closed).refuse_incoming());
        let home = realm.empty("carol").on(net.host(2));
        home.init();
        home.configure(hosts[0]);
        let mut open = vec![home.up(&up())];
        for (index, toml) in hosts.iter().enumerate().skip(1) {
            let home = realm.empty(&format!("dave{index}")).on(net.host(2 + index));
            let gateway = join(&open[0], home, toml, &up());
            open.push(gateway);
        }
        let origins = [
            bob_host.enter(|| TcpOrigin::ticker(TICK)),
            bob_host.enter(paced::origin),
            bob_host.enter(TcpOrigin::echo),
        ];
        let services = up()
            .expose(port::TICKS, origins[0].address())
            .expose(port::PACED, origins[1].address())
            .expose(port::ECHO, origins[2].address());
        let alice = join(&open[0], realm.empty("alice").on(net.host(0)), "", &up());
        let bob = join(&open[0], realm.empty("bob").on(net.host(1)), "", &services);
        let relays = hosts.iter().filter(|toml| !toml.contains("false")).count();
        let town = Self { alice, bob, hosts: open, net, relays, _origins: origins, _realm: realm };
        wait_until("alice knows bob", SOON, || town.alice.resolves("bob.cloak"));
        for closed in [&town.alice, &town.bob] {
            wait_until("the hosts are linked", SOON, || {
                town.hosts.iter().all(|host| link(closed, host.device_name()) == "direct")
            });
            wait_until("they know that these relay", SOON, || {
                let rows = closed.json(&["peers"]);
                rows.as_array().unwrap().iter().filter(|row| row["is_relay"] == true).count()
                    == town.relays
            });
        }
        town
    }

    fn ticks(&self) -> Ticks {
        let proxy = self.alice.proxy();
        let open = || client::socks5(proxy, "bob.cloak", port::TICKS).unwrap();
        let ticks = Ticks::read(self.net.host(0).enter(open));
        wait_until("ticks come", SOON, || ticks.count() > 20);
        ticks
    }

    fn wait_lane(&self, lane: &str) {
        for gateway in [&self.alice, &self.bob] {
            wait_until(&format!("{} rides on a {lane}", gateway.name()), SOON, || {
                let rows = open_sessions(gateway);
                !rows.is_empty() && rows.iter().all(|row| row["lane"] == lane)
            });
        }
    }
}

/// How a gateway is linked with a device.
fn link(gateway: &Gateway, device: &str) -> String {
    let rows = gateway.json(&["peers"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == device).cloned();
    row.and_then(|row| Some(row["link"].as_str()?.to_owned())).unwrap_or_default()
}

fn circuits(host: &Gateway) -> u64 {
    host.json(&["status"])["circuits"].as_u64().unwrap()
}

fn open(host: &Host, gateway: &Gateway, port: u16) -> Result<std::net::TcpStream, client::Refused> {
    let proxy = gateway.proxy();
    host.enter(move || client::socks5(proxy, "bob.cloak", port))
}

#[test]
fn a_closed_gateway_serves_sessions_and_they_move_to_a_direct_lane() {
    need!(Need::NetworkNamespaces);
    let town = Town::start(&["", ""]);
    let proxy = town.alice.proxy();
    let span = Duration::from_secs(40);
    let load =
        town.net.host(0).enter(move || Load::start(proxy, "bob.cloak", port::PACED, 300_000, span));
    town.wait_lane("relay");
    wait_until("they are peers through a host", SOON, || {
        link(&town.alice, town.bob.device_name()) == "relay"
    });
    assert!(town.hosts.iter().any(|host| circuits(host) > 0));
    let published = town.hosts[0].json(&["peers"]).to_string();
    assert!(published.contains("\"relays\":[\""), "hosts are published: {published}");

    let before = load.received();
    wait_until("bytes flow", SOON, || load.received() > before + 100_000);
    town.net.host(1).allow_incoming();
    town.wait_lane("direct");
    assert!(!load.is_over(), "it moved while bytes flowed");
    wait_until("they are linked directly", SOON, || {
        link(&town.alice, town.bob.device_name()) == "direct"
    });
    let rows = open_sessions(&town.alice);
    assert!(rows[0]["resumes"].as_u64() >= Some(1), "{rows:?}");

    // The direct path dies again.
    town.net.host(0).part_from(town.net.host(1).address());
    town.wait_lane("relay");
    load.finish(span + SOON);
    wait_until("every circuit but the channel's ends", SOON, || {
        town.hosts.iter().map(circuits).sum::<u64>() <= 4
    });
}

#[test]
fn a_session_goes_on_when_its_host_dies() {
    need!(Need::NetworkNamespaces);
    let mut town = Town::start(&["", ""]);
    let ticks = town.ticks();
    town.wait_lane("relay");
    for round in 0..2 {
        let used = town.hosts.iter().position(|host| circuits(host) > 0).unwrap();
        let mark = ticks.mark();
        town.hosts[used].crash();
        let took = ticks.first_after(mark, SOON);
        println!("round {round}: ticks went on after {took:?}");
        let so_far = ticks.count();
        wait_until("ticks go on", SOON, || ticks.count() > so_far + 100);
        assert!(took <= RESCUED_WITHIN, "{took:?}");
        town.hosts[used].restart();
        town.wait_lane("relay");
        let host = town.hosts[used].device_name();
        wait_until("the host is back", SOON, || {
            link(&town.alice, host) == "direct" && link(&town.bob, host) == "direct"
        });
    }
    assert!(open_sessions(&town.alice)[0]["resumes"].as_u64() >= Some(1));
}

/// The host's kernel takes everything, and nothing comes out: no end of a connection tells of it.
#[test]
fn half_open_relay() {
    need!(Need::NetworkNamespaces);
    let mut town = Town::start(&["", ""]);
    let ticks = town.ticks();
    town.wait_lane("relay");
    let lane_is_through = |town: &Town| town.hosts.iter().position(|host| circuits(host) > 0);
    let used = lane_is_through(&town).unwrap();
    let mark = ticks.mark();
    town.hosts[used].signal(Signal::STOP);
    // What the kernels still held arrives at once.
    let so_far = ticks.count();
    wait_until("ticks go on", SOON, || ticks.count() > so_far + 400);
    println!("ticks went on after {:?}", mark.elapsed());
    assert!(mark.elapsed() <= RESCUED_WITHIN, "{:?}", mark.elapsed());
    town.hosts[used].signal(Signal::CONT);
    town.wait_lane("relay");
}

/// Bob takes connections from carol only and makes none: she dialled the link, so she dials the hop.
#[test]
fn a_hop_is_dialled_by_whoever_dialled_the_link() {
    need!(Need::NetworkNamespaces);
    let mut town = Town::start(&[""]);
    let bob = town.net.host(1);
    bob.allow_incoming();
    bob.keep_to(town.net.host(2).address());
    // In order, so that she knows where he is when she starts again.
    town.hosts[0].stop();
    town.hosts[0].restart();
    let carol = town.hosts[0].device_name().to_owned();
    wait_until("carol is linked with both", SOON, || {
        link(&town.bob, &carol) == "direct" && link(&town.alice, &carol) == "direct"
    });
    let mut opened = None;
    wait_until("there is a way through carol", 2 * SOON, || {
        opened = open(town.net.host(0), &town.alice, port::ECHO).ok();
        opened.is_some()
    });
    let mut stream = opened.unwrap();
    assert_echo(&mut stream, b"through carol");
    town.wait_lane("relay");
}

#[test]
fn a_hop_is_wrapped_where_only_tls_gets_through() {
    need!(Need::NetworkNamespaces);
    let (realm, net) = (Realm::alone(), Net::new(3));
    [0, 1].into_iter().for_each(|closed| net.host(closed).refuse_incoming());
    net.host(0).swallow_hops(7140);
    let home = realm.empty("carol").on(net.host(2));
    home.init();
    let carol = home.up(&up());
    let origin = net.host(1).enter(paced::origin);
    let alice = join(&carol, realm.empty("alice").on(net.host(0)), "", &up());
    let services = up().expose(port::PACED, origin.address());
    let _bob = join(&carol, realm.empty("bob").on(net.host(1)), "", &services);
    let mut stream = None;
    wait_until("there is a way to bob", SOON, || {
        stream = open(net.host(0), &alice, port::PACED).ok();
        stream.is_some()
    });
    let load = Load::over(stream.unwrap(), 1 << 20, Duration::from_secs(3));
    wait_until("bytes flow", SOON, || load.received() > 0);
    assert_eq!(open_sessions(&alice)[0]["lane"], "relay");
    load.finish(SOON);
    assert!(net.host(0).swallowed() > 0, "the plain hop was tried");
}

/// Alice reaches carol only and bob dave only, as behind two firewalls; the two hosts reach each other.
#[test]
fn a_circuit_leads_over_two_hosts_where_no_host_reaches_both() {
    need!(Need::NetworkNamespaces);
    let town = Town::start(&["", ""]);
    let [carol, dave] = [0, 1].map(|host| town.hosts[host].device_name().to_owned());
    town.net.host(0).part_from(town.net.host(3).address());
    town.net.host(1).part_from(town.net.host(2).address());
    for (closed, lost) in [(&town.alice, &dave), (&town.bob, &carol)] {
        wait_until("the link is known to be dead", SOON, || link(closed, lost) != "direct");
    }
    let mut opened = None;
    wait_until("there is a way over both hosts", 2 * SOON, || {
        opened = open(town.net.host(0), &town.alice, port::PACED).ok();
        opened.is_some()
    });
    let load = Load::over(opened.unwrap(), 300_000, Duration::from_secs(5));
    wait_until("bytes flow", SOON, || load.received() > 100_000);
    town.wait_lane("relay");
    assert!(town.hosts.iter().all(|host| circuits(host) > 0), "both hosts carry it");
    load.finish(SOON);
}

#[test]
fn hosts_that_do_not_consent_relay_nothing() {
    need!(Need::NetworkNamespaces);
    let town = Town::start(&["[overlay]\nrelay = false\n"]);
    holds_for("there is no way to bob", LONG_ENOUGH, || {
        link(&town.alice, town.bob.device_name()).is_empty() && circuits(&town.hosts[0]) == 0
    });
    assert!(open(town.net.host(0), &town.alice, port::ECHO).is_err());
}

#[test]
fn relay_is_bounded_in_bytes_rate_and_peers() {
    need!(Need::NetworkNamespaces);
    let town = Town::start(&["[overlay]\nrelay_circuits = 3\nrelay_rate = \"256KiB\"\n"]);
    let mut held = Vec::new();
    while let Ok(mut stream) = open(town.net.host(0), &town.alice, port::ECHO) {
        assert_echo(&mut stream, b"hello");
        held.push(stream);
        assert!(held.len() <= 3, "more sessions than circuits");
    }
    assert!(!held.is_empty());
    assert!(circuits(&town.hosts[0]) <= 3);
    drop(held);

    let stream = {
        let mut opened = None;
        wait_until("there is room again", SOON, || {
            opened = open(town.net.host(0), &town.alice, port::PACED).ok();
            opened.is_some()
        });
        opened.unwrap()
    };
    // 1 MiB each way at 256 KiB a second, both ways together, takes 8 s.
    let load = Load::over(stream, 1 << 20, Duration::from_secs(1));
    holds_for("the rate is kept", LONG_ENOUGH, || !load.is_over());
    load.finish(SOON);
}
