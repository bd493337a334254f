//! A relay in use dies. Six gateways are reachable, two are not and meet through one of the six.

use std::time::Duration;

use cloak_tests::clock::{now, wait_until};
use cloak_tests::need;
use cloak_tests::netns::Net;
use cloak_tests::pair::open_sessions;
use cloak_tests::realm::Realm;
use cloak_tests::skip::Need;
use cloak_tests::town::Town;

use super::{RATE, RECOVERED_WITHIN, SOON, drawn, row};

/// Hosts: two that are closed, then those that take the six in turn.
const CLOSED: [usize; 2] = [0, 1];
const OPEN: [usize; 3] = [2, 3, 4];
/// The two that nobody reaches.
const ENDS: [usize; 2] = [6, 7];
/// The load goes on for so long after the death.
const SPAN: Duration = Duration::from_secs(18);
const SEED: u64 = 2;

fn circuits(town: &Town, index: usize) -> u64 {
    town.gateway(index).json(&["status"])["circuits"].as_u64().unwrap()
}

/// Waits until the session rides through a host, and was resumed so often at least.
fn wait_relayed(town: &Town, resumes: u64) {
    for end in ENDS {
        wait_until("the session rides through a host", SOON, || {
            let rows = open_sessions(town.gateway(end));
            let rides = |row: &serde_json::Value| {
                row["lane"] == "relay" && row["resumes"].as_u64() >= Some(resumes)
            };
            !rows.is_empty() && rows.iter().all(rides)
        });
    }
}

#[test]
fn sessions_and_names_outlive_a_relay_in_use() {
    need!(Need::NetworkNamespaces);
    let net = Net::new(5);
    CLOSED.into_iter().for_each(|closed| net.host(closed).refuse_incoming());
    let hosts = OPEN.iter().chain(&OPEN).chain(&CLOSED).map(|host| net.host(*host).clone());
    let mut town = Town::on_hosts(Realm::alone(), hosts.collect());
    let load = town.load(ENDS[0], &town.name(ENDS[1]), RATE, SPAN);
    wait_relayed(&town, 0);
    let used = (0..ENDS[0]).find(|index| circuits(&town, *index) > 0).unwrap();

    let before = load.received();
    wait_until("bytes flow", SOON, || load.received() > before + RATE / 10);
    town.crash(used);
    let since = now();
    let mut questions = drawn(&town, 2, SEED);
    ENDS.into_iter().for_each(|end| questions.extend(row(&town, end)));
    town.assert_resolve(&questions, since, RECOVERED_WITHIN);
    println!("{} died; names resolved after {:?}", town.name(used), since.elapsed());
    wait_relayed(&town, 1);
    assert!(!load.is_over(), "it found another host while bytes flowed");
    load.finish(SPAN + SOON);
}
