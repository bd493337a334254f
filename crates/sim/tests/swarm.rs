//! Small random realms with random mishaps. A seed that fails here fails alone with
//! `cloak-sim swarm --seed N --seeds 1`.

use cloak_sim::Journal;
use cloak_sim::swarm::{self, Company};

/// Seeds of each of the tests, which run side by side.
const SEEDS: u64 = 50;

fn run(first: u64) {
    for seed in first..first + SEEDS {
        let outcome = swarm::run(seed, Company::Honest, Journal::hash_only());
        assert!(outcome.is_good(), "seed {seed}: {}\n{outcome}", outcome.parameters);
    }
}

#[test]
fn realms_find_together_again_1() {
    run(0);
}

#[test]
fn realms_find_together_again_2() {
    run(SEEDS);
}

#[test]
fn realms_find_together_again_3() {
    run(2 * SEEDS);
}

#[test]
fn realms_find_together_again_4() {
    run(3 * SEEDS);
}
