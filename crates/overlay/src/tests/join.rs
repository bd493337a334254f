//! Joining, greedy routes between all pairs, bounded traffic.

use super::world::{World, seconds};
use crate::{Command, Destination, Event, LookupId};

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
        world.add(&[0], crate::Rank::NONE, true);
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
    let (from, to) = (7, 21);
    let address = world.address(to).unwrap();
    let device = Some(world.peers[to].own.contact.device);
    let id = LookupId(1 << 40);
    world.command(from, Command::Trace { id, to: Destination { address, device } });
    world.run(seconds(3));
    let traced = world.events.iter().rev().find_map(|(_, event)| match event {
        Event::Traced { id: other, arrived, passed } if *other == id => Some((*arrived, passed)),
        _ => None,
    });
    let (arrived, passed) = traced.expect("an answer");
    assert!(arrived && passed.last().map(|last| last.device) == device);
}
