//! What a gateway makes of the networks it is on: peers on the LAN, changes, address translators.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use cloak_tests::client::{self, assert_echo};
use cloak_tests::clock::{holds_for, now, wait_until};
use cloak_tests::fault::FaultProxy;
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::need;
use cloak_tests::netns::{Host, Net};
use cloak_tests::origin::{HttpOrigin, TcpOrigin};
use cloak_tests::pair::{Pair, linked, open_sessions};
use cloak_tests::pattern::Sha256;
use cloak_tests::process;
use cloak_tests::realm::{Home, Realm};
use cloak_tests::site::port;
use cloak_tests::skip::{Need, program};

const SOON: Duration = Duration::from_secs(20);
/// Several rounds of everything that is tried again and again: what has not happened by then does not.
const LONG_ENOUGH: Duration = Duration::from_secs(6);
/// Changes within this time of each other are told once.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Addresses that come one after the other.
const FLURRY: u8 = 20;
/// Port of the overlay listener.
const OVERLAY: u16 = 7140;

fn up() -> Up {
    Up { proxy: vec!["127.0.0.1:1080".to_owned()], ..Up::default() }.listen("0.0.0.0:7140")
}

fn join(inviter: &Gateway, home: Home, up: &Up) -> Gateway {
    home.join(&inviter.invite(home.name().trim_end_matches(".cloak")));
    home.up(up)
}

/// A stream from `host` to the echo at `name`.
fn echo(host: &Host, gateway: &Gateway, name: &str) -> std::net::TcpStream {
    let proxy = gateway.proxy();
    let mut stream = host.enter(move || client::socks5(proxy, name, port::ECHO).unwrap());
    assert_echo(&mut stream, b"hello");
    stream
}

/// Both moved while they were off: what each knows of the other leads nowhere.
#[test]
fn peers_on_the_lan_find_each_other() {
    need!(Need::NetworkNamespaces);
    let (realm, net) = (Realm::new(), Net::new(2));
    let origin = net.host(1).enter(TcpOrigin::echo);
    let home = realm.empty("alice").on(net.host(0));
    home.init();
    let mut alice = home.up(&up());
    let services = up().expose(port::ECHO, origin.address());
    let mut bob = join(&alice, realm.empty("bob").on(net.host(1)), &services);
    wait_until("they are linked", SOON, || linked(&alice) && linked(&bob));
    alice.stop();
    bob.stop();
    net.host(0).move_to(Ipv4Addr::new(10, 77, 5, 1));
    net.host(1).move_to(Ipv4Addr::new(10, 77, 5, 2));
    alice.restart();
    bob.restart();
    holds_for("nothing else leads them together", LONG_ENOUGH, || !linked(&alice) && !linked(&bob));
    for gateway in [&mut alice, &mut bob] {
        gateway.stop();
        gateway.configure("[overlay]\nlan = true\n");
        gateway.restart();
    }
    wait_until("they found each other", SOON, || linked(&alice) && linked(&bob));
    echo(net.host(0), &alice, "bob.cloak");
    let shown = alice.json(&["peers"]).to_string();
    assert!(shown.contains("10.77.5.2"), "by the new address: {shown}");
}

/// How often a gateway noticed that the network changed.
fn changes(gateway: &Gateway) -> usize {
    gateway.log().matches("the network changed").count()
}

#[test]
fn changes_are_noticed_once_and_disturb_only_whom_they_concern() {
    need!(Need::NetworkNamespaces);
    let (realm, net) = (Realm::new(), Net::new(2));
    let origin = net.host(1).enter(TcpOrigin::echo);
    let home = realm.empty("alice").on(net.host(0));
    home.init();
    let alice = home.up(&up());
    let services = up().expose(port::ECHO, origin.address());
    let _bob = join(&alice, realm.empty("bob").on(net.host(1)), &services);
    wait_until("alice knows bob", SOON, || alice.resolves("bob.cloak"));
    let mut stream = echo(net.host(0), &alice, "bob.cloak");
    let resumes = || open_sessions(&alice)[0]["resumes"].as_u64().unwrap();
    let settled = |at_least: usize| {
        wait_until("the change is noticed", SOON, || changes(&alice) >= at_least);
        let mut last = (changes(&alice), now());
        wait_until("and all that belongs to it", SOON, || {
            let noticed = changes(&alice);
            if noticed != last.0 {
                last = (noticed, now());
            }
            last.1.elapsed() > Duration::from_secs(1)
        });
        last.0
    };

    let before = settled(0);
    net.host(0).add_interface("other", Ipv4Addr::new(10, 99, 0, 1));
    let before = settled(before + 1);
    let begun = now();
    (1..=FLURRY).for_each(|last| net.host(0).add_address("other", [10, 99, 1, last].into()));
    let counted_max = 1 + begun.elapsed().as_millis() / DEBOUNCE.as_millis();
    let after = settled(before + 1);
    assert!((after - before) as u128 <= counted_max, "a flurry counted as {}", after - before);
    assert_echo(&mut stream, b"undisturbed");
    assert_eq!(resumes(), 0, "the lane was kept");

    net.host(0).move_to(Ipv4Addr::new(10, 77, 6, 1));
    settled(after + 1);
    assert_echo(&mut stream, b"moved");
    assert!(resumes() >= 1, "the lane with the old address was replaced");
}

/// From the application to the gateway, and from gateway to gateway.
#[test]
fn a_download_over_ipv6_survives_cuts() {
    const LENGTH: u64 = 2_000_000;
    const URL: &str = "http://bob.cloak/bytes/2000000?rate=1000000";
    need!("curl", Need::Ipv6);
    let realm = Realm::new();
    let fault = || FaultProxy::start_on(Ipv6Addr::LOCALHOST.into());
    let (to_alice, to_bob) = (fault(), fault());
    let up = |proxy: &FaultProxy| {
        Up { proxy: vec!["[::1]:0".to_owned()], ..Up::default() }
            .listen("[::1]:0")
            .advertise(proxy.address())
    };
    let origin = HttpOrigin::start();
    let alice = realm.found("alice").up(&up(&to_alice));
    to_alice.retarget(alice.overlay());
    let services = up(&to_bob).expose(port::HTTP, origin.address());
    let bob = realm.join(&alice, "bob").up(&services);
    to_bob.retarget(bob.overlay());
    let pair = Pair { alice, bob, to_alice, to_bob, realm };
    pair.wait_linked();
    let mut command = Command::new(program("curl").unwrap());
    let proxy = format!("socks5h://{}", pair.alice.proxy());
    command.args(["--silent", "--show-error", "--fail", "--max-time", "50", "--proxy", &proxy]);
    command.arg(URL);
    let downloaded = std::thread::scope(|scope| {
        let curl = scope.spawn(|| process::run(command, b"", Duration::from_secs(60)).success());
        for cut in 1..=3 {
            let received = |gateway: &Gateway| {
                let rows = open_sessions(gateway);
                rows.first().map_or(0, |row| row["bytes_received"].as_u64().unwrap())
            };
            let before = received(&pair.alice);
            wait_until("bytes arrive", SOON, || received(&pair.alice) > before);
            pair.cut();
            wait_until("it is resumed", SOON, || {
                open_sessions(&pair.alice).iter().any(|row| row["resumes"].as_u64() >= Some(cut))
            });
        }
        curl.join().unwrap()
    });
    let mut digest = Sha256::new();
    digest.update(&downloaded.stdout);
    assert_eq!(digest.finish(), HttpOrigin::sha256(LENGTH));
    let shown = pair.alice.json(&["peers"]).to_string();
    assert!(shown.contains("[::1]:") && !shown.contains("127.0.0.1"), "{shown}");
}

/// Carol is on the network; alice behind a translator; dave wants to reach her.
struct Translated {
    alice: Gateway,
    carol: Gateway,
    dave: Gateway,
    net: Net,
    /// Kept for their drop only.
    _inner: Host,
    _origin: TcpOrigin,
    _realm: Realm,
}

/// Where the network sees alice.
const OUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 0, 10);

impl Translated {
    fn start(forwarded: bool) -> Self {
        let (realm, net) = (Realm::new(), Net::new(3));
        for (index, address) in (0..).zip([OUTER, [198, 51, 0, 11].into(), [198, 51, 0, 12].into()])
        {
            net.host(index).move_to(address);
        }
        let inner = net.host(0).translate();
        if forwarded {
            net.host(0).forward_port(OVERLAY);
        }
        let home = realm.empty("carol").on(net.host(1));
        home.init();
        let carol = home.up(&up());
        let origin = inner.enter(TcpOrigin::echo);
        let services = up().expose(port::ECHO, origin.address());
        let alice = join(&carol, realm.empty("alice").on(&inner), &services);
        // Nobody listens where dave says that he is: it is he who has to dial.
        let unreachable = up().advertise(([198, 51, 0, 99], 1).into());
        let dave = join(&carol, realm.empty("dave").on(net.host(2)), &unreachable);
        wait_until("alice is linked to carol", SOON, || linked(&alice));
        Self { alice, carol, dave, net, _inner: inner, _origin: origin, _realm: realm }
    }

    fn observed(&self) -> bool {
        let status = self.alice.json(&["status"]);
        let rows = status["locators"].as_array().unwrap();
        let outer = format!("{OUTER}:{OVERLAY}");
        rows.iter().any(|row| row["address"] == outer && row["source"] == "observed")
    }

    /// Whether `gateway` knows a record in which alice says that she is there.
    fn published_to(&self, gateway: &Gateway) -> bool {
        let rows = gateway.json(&["peers"]);
        let outer = format!("{OUTER}:{OVERLAY}");
        rows.as_array().unwrap().iter().any(|row| {
            row["name"] == self.alice.device_name() && row["locators"].to_string().contains(&outer)
        })
    }
}

#[test]
fn an_observed_address_is_published_once_it_was_dialled_back() {
    need!(Need::NetworkNamespaces);
    let town = Translated::start(true);
    wait_until("carol's dial-back proved it", SOON, || town.observed());
    wait_until("dave learns it", SOON, || town.published_to(&town.dave));
    echo(town.net.host(2), &town.dave, "alice.cloak");
}

#[test]
fn an_observed_address_that_nobody_reached_is_not_published() {
    need!(Need::NetworkNamespaces);
    let town = Translated::start(false);
    holds_for("nobody proved it", LONG_ENOUGH, || {
        !town.observed() && !town.published_to(&town.carol)
    });
    // Carol cannot dial her, and asks to be dialled.
    echo(town.net.host(1), &town.carol, "alice.cloak");
}

/// Where the web server is, and one more address of the exit: both nobody's private ones.
const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 0, 12);
const EXIT: Ipv4Addr = Ipv4Addr::new(198, 51, 0, 11);

/// Alice reaches the Internet through home's gateway only; the web server sees home, and alice roams.
#[test]
fn a_download_from_the_internet_survives_roaming_through_an_exit() {
    const LENGTH: u64 = 4_000_000;
    need!("curl", Need::NetworkNamespaces);
    let (realm, net) = (Realm::new(), Net::new(3));
    net.host(1).add_address("eth0", EXIT);
    net.host(1).reach(WEB);
    net.host(2).add_address("eth0", WEB);
    let listen = || TcpListener::bind("0.0.0.0:80").unwrap();
    let web = net.host(2).enter(|| HttpOrigin::on(listen(), None));
    let own = net.host(1).enter(|| HttpOrigin::on(listen(), None));
    let home = realm.empty("home").on(net.host(1));
    home.init();
    home.configure("[exit]\nallow = [\"alice.cloak\"]\n");
    let home = home.up(&up());
    let laptop = realm.empty("alice").on(net.host(0));
    laptop.join(&home.invite("alice"));
    laptop.configure("[outbound]\ndefault = \"exit:home.cloak\"\n");
    let alice = laptop.up(&up());
    wait_until("alice knows home", SOON, || alice.resolves("home.cloak"));
    assert!(alice.run(&["resolve", "home.cloak"]).success().text().contains("ports exit"));

    let mut curl = net.host(0).command(&program("curl").unwrap());
    let proxy = format!("socks5h://{}", alice.proxy());
    let url = format!("http://{WEB}/bytes/{LENGTH}?rate=1000000");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "50", "--proxy", &proxy, &url]);
    let downloaded = std::thread::scope(|scope| {
        let curl = scope.spawn(|| process::run(curl, b"", Duration::from_secs(60)).success());
        let row = || open_sessions(&alice).into_iter().next().unwrap_or_default();
        wait_until("bytes arrive", SOON, || row()["bytes_received"].as_u64() > Some(0));
        assert_eq!((&row()["host"], &row()["port"]), (&WEB.to_string().into(), &80.into()));
        assert_eq!(row()["peer"], "home.cloak");
        net.host(0).move_to(Ipv4Addr::new(10, 77, 6, 1));
        wait_until("it is resumed", SOON, || row()["resumes"].as_u64() >= Some(1));
        curl.join().unwrap()
    });
    let mut digest = Sha256::new();
    digest.update(&downloaded.stdout);
    assert_eq!(digest.finish(), HttpOrigin::sha256(LENGTH));
    assert_eq!(web.accepted(), 1, "one connection all the time");
    assert_eq!(web.last_peer().unwrap().ip(), net.host(1).address(), "the exit's");

    let proxy = alice.proxy();
    let refused = |host: &str| {
        let refused = net.host(0).enter(|| client::socks5(proxy, host, 80));
        refused.err().unwrap_or_else(|| panic!("{host} was reached")).reply()
    };
    let (beside, own_address) = (net.host(2).address().to_string(), EXIT.to_string());
    for host in ["127.0.0.1", "localhost", &beside, &own_address] {
        assert_eq!(refused(host), 2, "{host}");
    }
    home.configure("[exit]\nallow = []\n");
    let _ = home.run(&["reload"]).success();
    assert_eq!(refused(&WEB.to_string()), 2, "no exit any more");
    assert_eq!((own.accepted(), web.accepted()), (0, 1));
}
