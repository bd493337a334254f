//! Joining, greedy routes between all pairs, bounded traffic.

use std::collections::BTreeMap;

use cloak_base::EntityId;
use cloak_geometry::Address;

use super::world::{World, seconds};
use crate::{Command, Destination, Event, LookupId, Place, Rank};

#[test]
fn a_founder_is_joined_and_all_reach_all() {
    let mut world = World::realm(1, 40);
    world.check_tree();
    let alive = world.alive();
    for from in alive.iter().step_by(3) {
        for to in &alive {
            if from != to {
                assert!(world.ping(*from, *to).is_some(), "{from} to {to}");
            }
        }
    }
}

#[test]
fn messages_travel_as_bytes() {
    let mut world = World::new(2);
    world.on_the_wire = true;
    world.add(&[], crate::Rank(0), true);
    world.run(seconds(4));
    for _ in 0..12 {
        world.add(&[0], Rank::NONE, true);
    }
    world.run(seconds(40));
    world.check_tree();
}

#[test]
fn an_idle_peer_costs_little() {
    let mut world = World::realm(3, 40);
    world.run(seconds(60));
    let before = world.bytes;
    world.run(seconds(300));
    let rate = (world.bytes - before) / 300 / 40;
    assert!(rate < 100, "{rate} bytes per second for each idle peer");
}

#[test]
fn a_trace_shows_each_hop() {
    let mut world = World::realm(4, 30);
    let guest = world.add(&[3], Rank::NONE, false);
    world.run(seconds(40));
    let host = &hosts(&world, guest)[0];
    let (from, to) = (7, 21);
    let address = world.address(to).unwrap();
    // One of them has no place but its host's, and from the host it is one hop.
    for (from, to, address) in
        [(from, to, address), (from, guest, host.1.clone()), (host.0, guest, host.1.clone())]
    {
        let device = Some(world.peers[to].own.contact.device);
        let id = LookupId((1 << 40) + to as u64 + from as u64 * 100);
        world.command(from, Command::Trace { id, to: Destination { address, device } });
        world.run(seconds(3));
        let traced = world.events.iter().rev().find_map(|(_, event)| match event {
            Event::Traced { id: other, arrived, passed } if *other == id => {
                Some((*arrived, passed))
            }
            _ => None,
        });
        let (arrived, passed) = traced.expect("an answer");
        assert!(arrived && passed.last().map(|last| last.device) == device, "{from} to {to}");
    }
}

/// The hosts of an attached peer, and their addresses.
fn hosts(world: &World, guest: usize) -> Vec<(usize, Address)> {
    let Place::Attached { hosts } = world.peers[guest].overlay.place() else { panic!() };
    let peer = |device| {
        let is_it = |at: &usize| world.peers[*at].own.contact.device == device;
        world.alive().into_iter().find(is_it).unwrap()
    };
    hosts.into_iter().map(|(device, address)| (peer(device), address)).collect()
}

/// A membership allows four places. Children of one parent were at most two of one entity, and a third
/// device of it was sent to that parent for ever while that had room.
#[test]
fn devices_beyond_the_places_of_their_entity_attach() {
    for (seed, others) in [(5, 0), (6, 6), (7, 60)] {
        let mut world = World::realm(seed, 1 + others);
        let entity = EntityId::from_bytes([9; 32]);
        let devices: Vec<usize> =
            (0..9).map(|_| world.add_device(entity, &[0], Rank::NONE, true)).collect();
        world.run(seconds(60));
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for at in devices {
            match world.peers[at].overlay.place() {
                Place::Inner { address, .. } => *places.entry(address.depth()).or_default() += 1,
                Place::Attached { .. } => {}
                Place::Seeking => panic!("seed {seed}: {at} is outside"),
            }
        }
        assert!(places.values().all(|level| *level <= 4), "seed {seed}: {places:?} of each level");
        assert!(places.values().sum::<usize>() >= 4, "seed {seed}: {places:?}");
    }
}

/// The places of those that went are given to those that attached.
#[test]
fn a_place_of_an_entity_that_is_free_again_is_taken() {
    let mut world = World::realm(8, 12);
    let entity = EntityId::from_bytes([9; 32]);
    let devices: Vec<usize> =
        (0..12).map(|_| world.add_device(entity, &[0], Rank::NONE, true)).collect();
    world.run(seconds(60));
    let is_inner = |world: &World, at: usize| world.address(at).is_some();
    let (inner, attached): (Vec<usize>, Vec<usize>) =
        devices.iter().partition(|at| is_inner(&world, **at));
    assert!(!attached.is_empty());
    for at in &inner {
        world.kill(*at);
    }
    world.run(seconds(100));
    assert!(attached.iter().filter(|at| is_inner(&world, **at)).count() >= 4.min(attached.len()));
}
