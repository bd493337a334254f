//! Gateways stop and start again: what they bound is still bound.

use cloak_tests::client::assert_echo;
use cloak_tests::clock::now;
use cloak_tests::realm::Realm;
use cloak_tests::site::port;
use cloak_tests::town::Town;

use super::{SOON, column, drawn, row};

const GATEWAYS: usize = 12;
/// The one that stays away: neither the founder nor a registrar, and the last whom nobody followed.
const AWAY: usize = GATEWAYS - 1;
/// Those that are back first: the founder is not among them.
const FIRST: [usize; 5] = [2, 3, 5, 6, 8];
const SEED: u64 = 4;

#[test]
fn bindings_persist_while_everybody_restarts() {
    let mut town = Town::on_loopback(Realm::new(), GATEWAYS);
    let away = town.name(AWAY);
    town.assert_resolve(&column(&town, &away), now(), SOON);
    // The publisher goes first, so that nobody heard its name from itself since.
    (0..GATEWAYS).rev().for_each(|index| town.stop(index));

    FIRST.into_iter().for_each(|index| town.start_again(index));
    let mut questions = drawn(&town, 2, SEED);
    questions.extend(row(&town, FIRST[0]));
    town.assert_resolve(&questions, now(), SOON);
    town.assert_one_overlay("those that are back", SOON);

    let rest = (0..AWAY).filter(|index| !FIRST.contains(index)).collect::<Vec<_>>();
    rest.into_iter().for_each(|index| town.start_again(index));
    town.assert_one_overlay("all but one", 2 * SOON);
    // Its record is good for an hour, whoever published it.
    let mut questions = column(&town, &away);
    questions.extend(drawn(&town, 2, SEED + 1));
    town.assert_resolve(&questions, now(), SOON);

    town.start_again(AWAY);
    assert_echo(&mut town.reach(1, &away, port::ECHO), b"back again");
    town.assert_one_overlay("all", 2 * SOON);
}
