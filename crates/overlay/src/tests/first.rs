//! First hops: which one a question takes, and what becomes of those that swallow everything.

use std::time::Duration;

use super::world::{World, key, record, seconds};
use crate::first::Score;
use crate::{Command, Event, Role};

fn device(world: &World, peer: usize) -> cloak_base::DeviceId {
    world.peers[peer].own.contact.device
}

fn parent(world: &World, peer: usize) -> usize {
    let device = world.snapshot(peer).parent.expect("a parent");
    world.alive().into_iter().find(|at| world.peers[*at].own.contact.device == device).unwrap()
}

fn extras(world: &World, peer: usize) -> usize {
    let neighbours = world.snapshot(peer).neighbours;
    neighbours.iter().filter(|one| one.role == Role::Extra).count()
}

/// The leaf with the fewest extra links of those whose parent is not the root.
fn leaf(world: &World) -> usize {
    let childless = |at: &usize| {
        world.snapshot(*at).neighbours.iter().all(|one| one.role != Role::Child)
            && world.address(*at).is_some_and(|address| address.depth() > 1)
    };
    let leaves = world.alive().into_iter().filter(childless);
    leaves.min_by_key(|at| extras(world, *at)).expect("a leaf")
}

fn score(world: &World, peer: usize, of: usize) -> Score {
    world.peers[peer].overlay.links.get(device(world, of)).expect("a link").score
}

/// Its parent acknowledges all that it should pass on, and drops it.
#[test]
fn a_parent_that_swallows_everything_is_gone_round() {
    let mut world = World::realm(71, 80);
    let leaf = leaf(&world);
    let liar = parent(&world, leaf);
    world.swallows = Some(liar);
    let names = ["alice", "bob", "carol", "erin", "frank", "grace", "heidi", "ivan"];
    for name in names {
        world.command(leaf, Command::Publish { key: key(name), record: record(name, 1) });
    }
    world.run(seconds(30));
    assert!(score(&world, leaf, liar).is_bad());
    for name in names {
        let from = world.alive().into_iter().find(|at| *at != leaf && *at != liar).unwrap();
        assert!(world.finds(from, name), "{name}");
    }
    // It learned over whom to ask: the first question is the last.
    world.command(20, Command::Publish { key: key("dave"), record: record("dave", 1) });
    world.run(seconds(5));
    let Event::Found { steps, .. } = world.lookup(leaf, "dave") else { panic!("dave") };
    assert_eq!(steps, 1);
    assert!(world.ping(leaf, 20).is_some());
    // It is forgiven in time.
    world.swallows = None;
    world.run(seconds(1000));
    assert!(!score(&world, leaf, liar).is_bad());
}

/// All that it is linked to is a parent that drops what it should pass on, extra links' offers too.
#[test]
fn a_peer_without_a_good_link_takes_those_that_pass() {
    let mut world = World::realm(72, 40);
    let leaf = leaf(&world);
    let liar = parent(&world, leaf);
    world.swallows = Some(liar);
    let links = world.peers[leaf].overlay.links.devices(|link| link.role == Role::Extra);
    for extra in links {
        world.peers[leaf].overlay.on_release(extra);
        let other = world.alive().into_iter().find(|at| device(&world, *at) == extra).unwrap();
        let leaf = device(&world, leaf);
        world.peers[other].overlay.on_release(leaf);
    }
    // Nor does anybody else ask it: no room.
    world.run(seconds(150));
    assert!(extras(&world, leaf) > 0, "no extra link");
    world.command(20, Command::Publish { key: key("dave"), record: record("dave", 1) });
    world.run(seconds(5));
    assert!(world.finds(leaf, "dave"));
}

#[test]
fn an_extra_link_that_swallows_everything_is_given_back() {
    let mut world = World::realm(73, 40);
    let peer = world.alive().into_iter().find(|at| extras(&world, *at) > 1).unwrap();
    let extra = world.peers[peer].overlay.links.with_role(Role::Extra).next().unwrap().device();
    for _ in 0..3 {
        world.peers[peer].overlay.first_unanswered(Some(extra));
    }
    world.run(seconds(40));
    let role = world.peers[peer].overlay.links.get(extra).map(|link| link.role);
    assert_ne!(role, Some(Role::Extra));
}

/// A ping goes another way when no answer came.
#[test]
fn a_ping_is_sent_again_over_another_first_hop() {
    let mut world = World::realm(74, 40);
    let leaf = leaf(&world);
    let liar = parent(&world, leaf);
    world.swallows = Some(liar);
    let far = |at: &usize| *at != leaf && *at != liar;
    for to in world.alive().into_iter().filter(far).take(12) {
        assert!(world.ping(leaf, to).is_some(), "to {to}");
    }
    world.run(Duration::from_secs(1));
}
