//! Failures that the swarm found, each by its seed and its name.

use cloak_sim::{Journal, swarm};

#[track_caller]
fn is_good(seed: u64) {
    let outcome = swarm::run(seed, Journal::hash_only());
    assert!(outcome.is_good(), "seed {seed}: {}\n{outcome}", outcome.parameters);
}

/// Two peers certified each other in turn, and their addresses grew for ever.
#[test]
fn nobody_is_its_own_ancestor() {
    is_good(1144);
}

/// The root died, and with it the majority that could have elected another one.
#[test]
fn a_realm_without_a_majority_gets_a_root() {
    is_good(187);
    is_good(626);
}

/// Both sides of a healed partition kept their own root.
#[test]
fn two_roots_of_one_tree_settle() {
    is_good(137);
    is_good(144);
}

/// Orphans of several dead levels never linked to those who took the places.
#[test]
fn orphans_find_the_new_holders() {
    is_good(1019);
    is_good(1159);
    is_good(54);
}

/// Bindings were refreshed at peers that were nobody's binders any more.
#[test]
fn names_are_found_after_the_tree_was_rebuilt() {
    is_good(376);
    is_good(705);
}

/// The simulator's own fault: a sleeper was never told that others can dial it.
#[test]
fn a_sleeper_hears_whether_it_can_be_dialled() {
    is_good(3445);
    is_good(52);
}
