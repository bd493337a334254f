//! The network parts into two halves, and is whole again.

use std::time::Duration;

use cloak_tests::clock::{full, now, wait_until};
use cloak_tests::need;
use cloak_tests::netns::Net;
use cloak_tests::realm::Realm;
use cloak_tests::skip::Need;
use cloak_tests::town::{Question, Town};

use super::{RATE, SOON, column, drawn, row};

const GATEWAYS: usize = 12;
/// After a partition the halves are one overlay again within this time, and every name resolves.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
const SEED: u64 = 3;

/// A minute; in a short run less than it takes a half to become a tree of its own.
fn length() -> Duration {
    Duration::from_secs(if full() { 60 } else { 12 })
}

#[test]
fn a_parted_realm_is_one_overlay_again_with_every_name() {
    need!(Need::NetworkNamespaces);
    let net = Net::new(2);
    // Who invited whom crosses the line: neighbours by number are on different sides.
    let hosts = (0..GATEWAYS).map(|index| net.host(index % 2).clone());
    let mut town = Town::on_hosts(Realm::new(), hosts.collect());
    let span = length() + Duration::from_secs(15);
    let within = [(0, 4), (2, 6), (1, 7), (3, 9)];
    let load = |from, to| town.load(from, &town.name(to), RATE, span);
    let within: Vec<_> = within.into_iter().map(|(from, to)| load(from, to)).collect();
    let across = [load(0, 3), load(9, 2)];
    for load in within.iter().chain(&across) {
        wait_until("bytes flow", SOON, || load.received() > RATE / 10);
    }

    net.host(0).drop_packets();
    let parted = now();
    // Each side gets a device that the other cannot have heard of.
    let late = [town.add_device(4, "late"), town.add_device(1, "late")];
    let before: Vec<u64> = within.iter().map(|load| load.received()).collect();
    for (load, before) in within.iter().zip(before) {
        wait_until("bytes flow within a half", SOON, || load.received() > before + RATE);
    }
    wait_until("the partition is over", length() + SOON, || parted.elapsed() >= length());
    let stuck = across.iter().map(|load| load.received()).collect::<Vec<_>>();
    net.host(0).pass_packets();

    let healed = now();
    println!("one overlay after {:?}", town.assert_one_overlay("all", HEALED_WITHIN));
    let mut questions: Vec<Question> = drawn(&town, 2, SEED);
    for side in [0, 1] {
        questions.extend(row(&town, side));
        // A binder that was out of reach can keep an older record until its publisher touches it, five
        // minutes later at most. The long run asks for what is promised.
        if full() {
            questions.extend(column(&town, &town.name(late[side])));
        }
    }
    questions.retain(|question| full() || !late.iter().any(|one| town.name(*one) == question.name));
    town.assert_resolve(&questions, healed, HEALED_WITHIN);
    println!("{} names resolved after {:?}", questions.len(), healed.elapsed());
    for (load, stuck) in across.iter().zip(stuck) {
        wait_until("bytes flow across the line", SOON, || load.received() > stuck);
    }
    for load in within.into_iter().chain(across) {
        load.finish(span + SOON);
    }
}
