//! Gateways that others depend on die without a word.

use std::time::Duration;

use cloak_tests::clock::{now, wait_until};
use cloak_tests::paced::Load;
use cloak_tests::realm::Realm;
use cloak_tests::town::{self, Place, Town};

use super::{RATE, RECOVERED_WITHIN, SOON, drawn, row};

const GATEWAYS: usize = 30;
/// Draws who asks for what after a death.
const SEED: u64 = 1;
/// Loads run from before a death until names have to be there again, and beyond.
const SPAN: Duration = Duration::from_secs(10);

/// Loads between pairs of gateways, none of which is `victim`; bytes flow in all of them.
fn loads(town: &Town, victim: usize) -> Vec<Load> {
    let others: Vec<usize> = town.living().into_iter().filter(|one| *one != victim).collect();
    let pairs = [(0, 1), (2, others.len() - 1), (others.len() / 2, 3)];
    let start =
        |(from, to): (usize, usize)| town.load(others[from], &town.name(others[to]), RATE, SPAN);
    let loads = pairs.map(start);
    for load in &loads {
        wait_until("bytes flow", SOON, || load.received() > RATE / 10);
    }
    loads.into()
}

/// Kills one gateway; sessions of the others go on, and they find every name in time.
fn kill(town: &mut Town, victim: usize) {
    let loads = loads(town, victim);
    let dead = town.name(victim);
    town.crash(victim);
    let since = now();
    let asker = town.living()[town.living().len() / 3];
    let mut questions = drawn(town, 2, SEED);
    questions.extend(row(town, asker));
    town.assert_resolve(&questions, since, RECOVERED_WITHIN);
    println!("{dead} died; {} names resolved after {:?}", questions.len(), since.elapsed());
    for load in loads {
        load.finish(SPAN + SOON);
    }
    town.assert_one_overlay("the others", SOON);
}

fn addresses(town: &Town) -> Vec<String> {
    town.gateways().into_iter().map(|gateway| Place::of(gateway).address).collect()
}

/// A device that answers for a name, and neither asks for it nor has it.
fn binder(town: &Town) -> usize {
    let living = town.living();
    let numbers = |device: &str| living.iter().copied().find(|one| town.name(*one) == device);
    let bound = living.windows(2).find_map(|pair| {
        let device = town::binder(town.gateway(pair[0]), &town.name(pair[1]))?;
        numbers(&device).filter(|binder| !pair.contains(binder))
    });
    bound.expect("somebody binds a name for others")
}

#[test]
fn sessions_and_names_outlive_the_root_and_a_binder() {
    let mut town = Town::on_loopback(Realm::alone(), GATEWAYS);
    // All of them are reachable; none moves by itself any more.
    wait_until("everybody has a place of its own", 2 * SOON, || {
        town.gateways().into_iter().map(Place::of).all(|place| place.kind == "inner")
    });
    let root = town.living()[town::root(&town.gateways())];
    let mut before = addresses(&town);
    before.remove(root);
    kill(&mut town, root);
    let successor = town.living()[town::root(&town.gateways())];
    println!("{} follows {}", town.name(successor), town.name(root));
    let after = addresses(&town);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!(moved <= 1, "nobody moves but the successor: {before:?} {after:?}");

    let binder = binder(&town);
    kill(&mut town, binder);
}
