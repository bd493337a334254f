//! Death, succession, fragments, two holders of one address.

use std::time::Duration;

use super::world::{World, key, record, seconds};
use crate::{Command, Contact, Event, Input, Rank};

/// A living peer with children, not the root.
fn inner(world: &World, depth: usize) -> usize {
    let parents: Vec<_> =
        world.alive().iter().filter_map(|at| world.snapshot(*at).parent).collect();
    let found = world.alive().into_iter().find(|at| {
        let device = world.peers[*at].own.contact.device;
        parents.contains(&device) && world.address(*at).is_some_and(|a| a.depth() == depth)
    });
    found.expect("a peer with children")
}

fn addresses(world: &World) -> Vec<(usize, Option<crate::Address>)> {
    world.alive().into_iter().map(|at| (at, world.address(at))).collect()
}

/// How many of the living have another address than before.
fn moved(world: &World, before: &[(usize, Option<crate::Address>)]) -> usize {
    let alive = before.iter().filter(|(at, _)| world.peers[*at].alive);
    alive.filter(|(at, address)| world.address(*at) != *address).count()
}

fn reach(world: &mut World) {
    let alive = world.alive();
    for (from, to) in alive.iter().zip(alive.iter().rev()) {
        if from != to {
            assert!(world.ping(*from, *to).is_some(), "{from} to {to}");
        }
    }
}

#[test]
fn an_inner_peer_dies_and_one_leaf_takes_its_place() {
    let mut world = World::realm(21, 40);
    let dead = inner(&world, 1);
    let before = addresses(&world);
    let address = world.address(dead);
    world.kill(dead);
    world.run(seconds(10));
    assert_eq!(moved(&world, &before), 1, "only the successor moved");
    assert!(world.alive().iter().any(|at| world.address(*at) == address), "the address lives on");
    world.check_tree();
    reach(&mut world);
}

/// After many deaths orphans claim from one arbiter, and it could not hear its nominees for all of them.
#[test]
fn an_arbiter_whose_table_is_full_still_finds_a_successor() {
    let mut world = World::realm(26, 200);
    let dead = inner(&world, 1);
    let (address, root) = (world.address(dead), world.root());
    let silent = world.add(&[], Rank::NONE, false);
    world.kill(silent);
    let standing = world.peers[silent].own.standing;
    world.kill(dead);
    for _ in 0..100 {
        while world.snapshot(root).neighbours.len() < crate::limits::LINKS_MAX {
            let contact = Contact::new(world.device_of(silent), &[]);
            world.input(root, Input::LinkUp { contact, standing });
        }
        world.run(Duration::from_millis(100));
    }
    assert!(world.alive().iter().any(|at| world.address(*at) == address), "the address lives on");
    world.check_tree();
}

/// Each of them took the time of a dial: in these two realms, 15 and 10 seconds together.
#[test]
fn dead_candidates_cost_no_time_one_after_the_other() {
    for seed in [408, 412] {
        let mut world = World::realm(seed, 200);
        let dead = inner(&world, 1);
        let address = world.address(dead).unwrap();
        let parents: Vec<_> =
            world.alive().iter().filter_map(|at| world.snapshot(*at).parent).collect();
        let is_leaf_below = |at: &usize| {
            let device = world.peers[*at].own.contact.device;
            let place = world.address(*at).unwrap();
            address.is_ancestor_of(&place) && !parents.contains(&device)
        };
        let leaves: Vec<usize> = world.alive().into_iter().filter(is_leaf_below).collect();
        let (last, others) = leaves.split_last().unwrap();
        assert!(others.len() >= 3, "seed {seed}: {others:?} but {last}");
        world.kill(dead);
        others.iter().for_each(|at| world.kill(*at));
        world.run(seconds(9));
        let held = world.alive().iter().any(|at| world.address(*at).as_ref() == Some(&address));
        assert!(held, "seed {seed}: the address lives on");
        world.run(seconds(20));
        world.check_tree();
    }
}

#[test]
fn the_root_dies_and_nobody_else_moves() {
    let mut world = World::realm(22, 40);
    let before = addresses(&world);
    let dead = world.root();
    world.kill(dead);
    world.run(seconds(10));
    assert_eq!(moved(&world, &before), 1, "only the successor moved");
    world.check_tree();
    reach(&mut world);
    world.kill(world.root());
    world.run(seconds(12));
    world.check_tree();
    reach(&mut world);
}

#[test]
fn two_levels_die_at_once() {
    for seed in 0..5 {
        let mut world = World::realm(100 + seed, 60);
        let child = inner(&world, 2);
        let parent = world.snapshot(child).parent.unwrap();
        let is_parent = |at: &usize| world.peers[*at].own.contact.device == parent;
        let parent = world.alive().into_iter().find(is_parent).unwrap();
        world.kill(child);
        world.kill(parent);
        world.run(seconds(25));
        world.check_tree();
        reach(&mut world);
    }
}

#[test]
fn the_root_and_a_child_of_it_die_at_once() {
    for seed in 0..5 {
        let mut world = World::realm(200 + seed, 60);
        let child = inner(&world, 1);
        world.kill(world.root());
        world.kill(child);
        world.run(seconds(30));
        world.check_tree();
        reach(&mut world);
    }
}

#[test]
fn a_third_dies_at_once() {
    for seed in 0..6 {
        let mut world = World::realm(300 + seed, 80);
        let names: Vec<String> = (0..40).map(|at| format!("n{at}")).collect();
        for (at, name) in names.iter().enumerate() {
            world.command(at, Command::Publish { key: key(name), record: record(name, 1) });
        }
        world.run(seconds(5));
        for at in 0..80 {
            if world.rng.chance(3, 10) {
                world.kill(at);
            }
        }
        // Where the root and most of its children died, a new tree is founded after 45 s.
        world.run(seconds(120));
        world.check_tree();
        reach(&mut world);
        let from = world.alive()[3];
        for (at, name) in names.iter().enumerate() {
            if world.peers[at].alive {
                assert!(world.finds(from, name), "seed {seed}, {name}");
            }
        }
    }
}

#[test]
fn bindings_survive_their_binder() {
    let mut world = World::realm(23, 40);
    let names: Vec<String> = (0..30).map(|at| format!("n{at}")).collect();
    for name in &names {
        world.command(1, Command::Publish { key: key(name), record: record(name, 1) });
    }
    world.run(seconds(5));
    let dead = inner(&world, 1);
    world.kill(dead);
    world.run(seconds(6));
    for name in &names {
        for from in [2, 11, 30] {
            if from != dead {
                assert!(world.finds(from, name), "{name} from {from}");
            }
        }
    }
}

#[test]
fn two_holders_of_one_address_settle() {
    let mut world = World::realm(24, 40);
    let cut = inner(&world, 1);
    world.peers[cut].side = 1;
    world.run(seconds(40));
    let successor = world.alive().into_iter().filter(|at| *at != cut);
    let held = successor.filter(|at| world.address(*at).is_some()).count();
    assert_eq!(held, 39);
    world.peers[cut].side = 0;
    world.run(seconds(90));
    world.check_tree();
    reach(&mut world);
}

#[test]
fn halves_of_a_realm_become_one_again() {
    for seed in 0..4 {
        let mut world = World::realm(400 + seed, 50);
        for at in 0..50 {
            world.command(
                at,
                Command::Publish {
                    key: key(&format!("n{at}")),
                    record: record(&format!("n{at}"), 1),
                },
            );
        }
        world.run(seconds(5));
        for at in 25..50 {
            world.peers[at].side = 1;
        }
        world.run(seconds(60));
        for peer in &mut world.peers {
            peer.side = 0;
        }
        world.run(seconds(60));
        world.check_tree();
        for at in 0..50 {
            assert!(world.finds((at * 7 + 3) % 50, &format!("n{at}")), "seed {seed}, n{at}");
        }
    }
}

#[test]
fn a_leaver_goes_in_order() {
    let mut world = World::realm(25, 40);
    for leaver in [inner(&world, 1), world.root()] {
        let before = addresses(&world);
        world.command(leaver, Command::Leave);
        world.run(seconds(1));
        world.kill(leaver);
        world.run(seconds(6));
        assert!(moved(&world, &before) <= 1);
        world.check_tree();
    }
    reach(&mut world);
}

#[test]
fn routing_table_is_fresh_after_wake() {
    let mut world = World::realm(26, 40);
    world.command(1, Command::Publish { key: key("alice"), record: record("alice", 1) });
    world.run(seconds(5));
    // One sleeps: it is alive, but hears and says nothing; meanwhile a third of the others die.
    let sleeper = 17;
    world.kill(sleeper);
    for at in (18..40).step_by(3) {
        world.kill(at);
    }
    world.run(seconds(120));
    world.peers[sleeper].alive = true;
    world.input(sleeper, Input::Woke);
    world.run(seconds(8));
    assert!(world.finds(sleeper, "alice"), "names_resolve_right_after_wake");
    world.run(seconds(60));
    world.check_tree();
    for neighbour in world.snapshot(sleeper).neighbours {
        let alive = world.alive();
        let known = alive.iter().any(|at| world.peers[*at].own.contact.device == neighbour.device);
        assert!(known, "a dead neighbour is still in the table");
    }
}

#[test]
fn continuous_churn_keeps_one_tree() {
    let mut world = World::realm(27, 60);
    let mut failed = 0;
    for round in 0..60_u64 {
        let alive = world.alive();
        let dead =
            alive[usize::try_from(world.rng.below(u64::try_from(alive.len()).unwrap())).unwrap()];
        world.kill(dead);
        let known = world.alive()[0];
        let new = world.add(&[known], Rank::NONE, true);
        let name = format!("n{round}");
        world.command(new, Command::Publish { key: key(&name), record: record(&name, 1) });
        world.run(seconds(20));
        let from = world.alive()[5];
        failed += u32::from(!world.finds(from, &name));
    }
    world.run(seconds(30));
    world.check_tree();
    assert!(failed <= 1, "{failed} of 60 lookups failed");
}

#[test]
fn events_say_where_we_are() {
    let mut world = World::realm(28, 10);
    world.run(Duration::from_secs(1));
    for at in 0..10 {
        let last = world.events.iter().rev().find_map(|(peer, event)| match event {
            Event::Placed(place) if *peer == at => Some(place.clone()),
            _ => None,
        });
        assert_eq!(last, Some(world.snapshot(at).place));
    }
}
