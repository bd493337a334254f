//! Wills that change, elections under them, and voters who forgot or promised something.

use super::world::{World, seconds};
use crate::cert::{Term, TreeId};
use crate::will::{Elector, WillTerms};
use cloak_base::{DeviceId, UnixTime};

/// Electors are drawn from so many.
const DEVICES: u8 = 5;

fn elector(number: u8) -> Elector {
    Elector { device: DeviceId::from_bytes([number; 32]), index: number, term: Term(7) }
}

/// Those whose bits are set.
fn set(bits: u8) -> Vec<Elector> {
    (0..DEVICES).filter(|number| bits & (1 << number) != 0).map(elector).collect()
}

fn will(before: u8, electorate: u8) -> WillTerms {
    let founder = DeviceId::from_bytes([0xff; 32]);
    WillTerms {
        tree: TreeId { rank: crate::Rank(0), founded: UnixTime(1), founder },
        root: founder,
        term: Term(9),
        version: 1,
        nominees: Vec::new(),
        before: set(before),
        electorate: set(electorate),
        before_by: founder,
    }
}

fn among(bits: u8) -> impl Fn(&Elector) -> bool {
    move |elector| bits & (1 << elector.index) != 0 && elector.device.as_bytes()[0] < DEVICES
}

/// The root died while its children changed: half of them knew one will, half the next, and each half
/// elected a root in the same term. (Seeds 223, 362, 775 and 1675 of the swarm.)
#[test]
fn elections_under_neighbouring_wills_share_a_voter() {
    let all = 1u8 << DEVICES;
    for (first, second) in (0..all).flat_map(|a| (0..all).map(move |b| (a, b))) {
        let (old, new) = (will(first, first), will(first, second));
        let elects = |will: &WillTerms, votes| will.decides(among(votes));
        let old_votes: Vec<u8> = (0..all).filter(|votes| elects(&old, *votes)).collect();
        for votes in (0..all).filter(|votes| elects(&new, *votes)) {
            assert!(old_votes.iter().all(|old| old & votes & first != 0), "{first:b} {second:b}");
        }
        for kept in (0..all).filter(|kept| new.sustains(among(*kept))) {
            let apart = old_votes.iter().filter(|old| **old & kept & first == 0).count();
            assert_eq!(apart, 0, "a settled will {first:b} {second:b} and an old election");
        }
    }
}

/// A root that had been cut off came back, stood again with half of its electorate and its own casting
/// vote, while the one that had followed it kept the other half and had a casting vote, too. (Seeds 4122,
/// 4363 and 7999.)
#[test]
fn only_who_wrote_a_will_decides_a_tie_of_its_electorate() {
    let all = 1u8 << DEVICES;
    let author = DeviceId::from_bytes([0xff; 32]);
    for (first, second) in (0..all).flat_map(|a| (0..all).map(move |b| (a, b))) {
        let old = will(first, first);
        let heir = DeviceId::from_bytes([0xfe; 32]);
        let new = WillTerms { root: heir, term: Term(10), ..will(first, second) };
        let elects =
            |votes: u8| old.decides(|elector| elector.device == author || among(votes)(elector));
        let elections: Vec<u8> = (0..all).filter(|votes| elects(*votes)).collect();
        for kept in (0..all).filter(|kept| new.sustains(among(*kept))) {
            assert!(
                elections.iter().all(|votes| votes & kept & first != 0),
                "{first:b} {second:b}"
            );
        }
    }
}

#[test]
fn a_child_that_came_back_is_another_elector() {
    let terms = will(0b111, 0b111);
    assert!(terms.enfranchises(&elector(1)));
    assert!(!terms.enfranchises(&Elector { term: Term(8), ..elector(1) }));
}

/// Two children lose the root and one votes for the other; they are too few. Back with the root they
/// could not keep its will any more, which voting below a promise would have made unsafe.
#[test]
fn a_root_stands_again_above_what_its_children_promised() {
    let mut world = World::realm(61, 5);
    let root = world.root();
    let term =
        |world: &World| world.peers[root].overlay.tree.chain.as_ref().map(crate::Chain::term);
    let before = term(&world);
    let voters: Vec<usize> = world.alive().into_iter().filter(|at| *at != root).take(2).collect();
    for at in &voters {
        world.peers[*at].side = 1;
    }
    world.run(seconds(9));
    let promised = voters.iter().map(|at| world.peers[*at].overlay.tree.promised).max();
    assert!(promised > before, "nobody voted: {promised:?}");
    for at in &voters {
        world.peers[*at].side = 0;
    }
    world.run(seconds(60));
    world.check_tree();
    assert_eq!(world.root(), root);
    assert!(term(&world) > promised, "{:?} is not above {promised:?}", term(&world));
    world.kill(root);
    world.run(seconds(15));
    world.check_tree();
}

/// A root died a second after its realm was founded: its first will needed the consent of nobody, which
/// nobody could give.
#[test]
fn a_root_that_dies_young_has_a_successor() {
    for seed in 70..90 {
        let mut world = World::new(seed);
        world.config = std::sync::Arc::new(crate::Config::default());
        let root = world.add(&[], crate::Rank(0), true);
        world.run(seconds(3));
        for others in 1..8 {
            let known: Vec<usize> = (0..others).collect();
            let _ = world.add(&known, crate::Rank::NONE, true);
        }
        world.run(std::time::Duration::from_millis(900));
        let tree = world.peers[root].overlay.tree.chain.as_ref().map(crate::Chain::tree);
        world.kill(root);
        world.run(seconds(15));
        let heir = world.root();
        let theirs = world.peers[heir].overlay.tree.chain.as_ref().map(crate::Chain::tree);
        assert_eq!(theirs, tree, "seed {seed}: another tree was founded");
        world.check_tree();
    }
}
