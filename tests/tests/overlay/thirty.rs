//! Thirty gateways that joined through one another.

use cloak_tests::client::assert_echo;
use cloak_tests::clock::now;
use cloak_tests::realm::Realm;
use cloak_tests::site::port;
use cloak_tests::town::{Town, side_by_side};

use super::{SOON, column, drawn, row};

const GATEWAYS: usize = 30;
/// Draws who asks for what.
const SEED: u64 = 30;
/// Resident memory of a gateway in a realm of this size.
const RESIDENT_KIB_MAX: u64 = 128 * 1024;

#[test]
fn thirty_gateways_find_every_name_and_reach_every_service() {
    let start = now();
    let town = Town::on_loopback(Realm::new(), GATEWAYS);
    println!("{GATEWAYS} gateways are one overlay after {:?}", start.elapsed());
    let mut questions = drawn(&town, 3, SEED);
    questions.extend(row(&town, 0));
    questions.extend(column(&town, &town.name(GATEWAYS - 1)));
    // An entity's name stands for its devices.
    questions.extend(column(&town, "m01.cloak"));
    let asked = now();
    town.assert_resolve(&questions, asked, SOON);
    println!("{} names were resolved in {:?}", questions.len(), asked.elapsed());

    let sessions = drawn(&town, 1, SEED + 1);
    side_by_side(&sessions, |session| {
        let mut stream = town.reach(session.at, &session.name, port::ECHO);
        assert_echo(&mut stream, b"from one to another");
    });
    let served: u64 = (0..GATEWAYS).map(|index| town.served(index)).sum();
    assert_eq!(served, GATEWAYS as u64, "each session reached one service");

    let resident: Vec<u64> = town.gateways().iter().map(|one| one.resident_kib()).collect();
    println!("resident KiB: {resident:?}");
    assert!(resident.iter().all(|kib| *kib <= RESIDENT_KIB_MAX), "{resident:?}");
    for gateway in town.gateways() {
        let status = gateway.json(&["status"]);
        assert!(status["warnings"].as_array().unwrap().is_empty(), "{status}");
    }
}
