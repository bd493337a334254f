//! Failures that the swarm found, each by its seed and its name.

use cloak_sim::Journal;
use cloak_sim::swarm::{self, Company};

#[track_caller]
fn is_good(seed: u64) {
    let outcome = swarm::run(seed, Company::Honest, Journal::hash_only());
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

/// The root died while its children changed, and wills with different electorates elected one each, in
/// the same term.
#[test]
fn one_root_in_a_term() {
    is_good(223);
    is_good(362);
    is_good(775);
    is_good(1675);
}

/// A root that came back and the one that had followed it each decided a tie of one electorate.
#[test]
fn one_root_has_the_casting_vote_of_an_electorate() {
    is_good(4122);
    is_good(4363);
    is_good(7999);
}

/// A peer took a place below its own child, and had it as parent and child at once: what the one told
/// it of its place was not heard as the other.
#[test]
fn nobody_is_parent_and_child_of_a_peer() {
    is_good(865);
    is_good(1839);
}

/// A neighbour that is only suspected is waited for where there is no other way.
#[test]
fn a_late_acknowledgement_is_no_hole() {
    is_good(1169);
}

/// Two trees of one peer each had nobody in common but a guest, which told neither of the other.
#[test]
fn a_guest_makes_two_trees_known_to_each_other() {
    is_good(3865);
}

/// A guest that could be dialled after all never got a place: its hosts' offers of one were passed over,
/// because as hosts it had them already.
#[test]
fn a_guest_takes_a_place_below_its_host() {
    is_good(43);
    is_good(86);
}

/// The simulator's own fault: a sleeper was never told that others can dial it.
#[test]
fn a_sleeper_hears_whether_it_can_be_dialled() {
    is_good(3445);
    is_good(52);
}

/// Two hosts sent a guest's search for a third to and fro, and each copy that was acknowledged late made
/// another one.
#[test]
fn a_search_for_more_hosts_is_passed_on_once() {
    is_good(44);
}

/// A peer that waited for records from its parent founded a tree, waited on, and took nobody in.
#[test]
fn a_founder_waits_for_no_records() {
    is_good(21);
}

/// A root with all its children took a place elsewhere, where a peer may have one child less.
#[test]
fn a_past_root_has_no_child_too_many() {
    is_good(579);
}

/// A place was certified too late for a peer that was elsewhere by then. It said that it leaves, and was
/// believed to be there for good.
#[test]
fn who_left_a_place_is_not_routed_to_there() {
    is_good(3997);
    is_good(3179);
}
