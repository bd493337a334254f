//! Attached peers, several trees, false claims.

use super::world::{World, key, record, seconds};
use crate::{Code, Command, Event, Input, Place, Rank, Role};

#[test]
fn unreachable_peers_attach_and_take_no_slot() {
    let mut world = World::realm(31, 20);
    for at in 0..20 {
        world.add(&[at], Rank::NONE, false);
    }
    world.run(seconds(60));
    world.check_tree();
    for at in 20..40 {
        let Place::Attached { hosts } = world.peers[at].overlay.place() else {
            panic!("{at} has no hosts")
        };
        assert!((2..=3).contains(&hosts.len()), "{at} has {} hosts", hosts.len());
        assert!(world.snapshot(at).held.is_empty());
        let name = format!("n{at}");
        world.command(at, Command::Publish { key: key(&name), record: record(&name, 1) });
    }
    world.run(seconds(5));
    for at in 20..40 {
        assert!(world.finds((at * 3) % 40, &format!("n{at}")));
        assert!(world.ping((at + 7) % 40, at).is_some(), "{at} is reached through a host");
    }
}

#[test]
fn a_host_dies_and_its_guests_find_another() {
    let mut world = World::realm(32, 20);
    let guest = world.add(&[3], Rank::NONE, false);
    world.run(seconds(40));
    for _ in 0..3 {
        let Place::Attached { hosts } = world.peers[guest].overlay.place() else { panic!() };
        let host =
            world.alive().into_iter().find(|at| world.peers[*at].own.contact.device == hosts[0].0);
        world.kill(host.unwrap());
        world.run(seconds(100));
        let hosts = world.snapshot(guest).neighbours;
        let hosts = hosts.iter().filter(|link| link.role == Role::Host).count();
        assert!(hosts >= 2, "{hosts} hosts");
        assert!(world.ping(0, guest).is_some());
    }
}

/// It asked the one that it had already, again and again, until that dropped it for a flood.
#[test]
fn a_guest_of_the_only_host_looks_for_more_in_no_hurry() {
    let mut world = World::new(34);
    let host = world.add(&[], Rank(0), true);
    let guest = world.add(&[host], Rank::NONE, false);
    world.run(seconds(20));
    let Place::Attached { hosts } = world.peers[guest].overlay.place() else { panic!() };
    assert_eq!(hosts.len(), 1);
    let sent = |world: &World| world.snapshot(guest).stats.sent;
    let before = sent(&world);
    world.run(seconds(100));
    assert!(sent(&world) - before < 200, "{} messages in 100 s", sent(&world) - before);
}

#[test]
fn a_peer_changes_as_its_reachability_does() {
    let mut world = World::realm(33, 20);
    let peer = world.add(&[2], Rank::NONE, false);
    world.run(seconds(30));
    assert_eq!(world.address(peer), None);
    world.peers[peer].dialable = true;
    world.input(peer, Input::Reachability { confirmed: true });
    world.run(seconds(30));
    assert!(world.address(peer).is_some());
    world.check_tree();
    world.peers[peer].dialable = false;
    world.input(peer, Input::Reachability { confirmed: false });
    world.run(seconds(30));
    assert!(matches!(world.peers[peer].overlay.place(), Place::Attached { .. }));
    world.check_tree();
}

#[test]
fn offline_boot_does_not_capture_the_realm() {
    let mut world = World::new(34);
    // A laptop and two others boot offline and found an island, long before the realm.
    world.add(&[], Rank::NONE, true);
    for _ in 0..2 {
        world.add(&[0], Rank::NONE, true);
    }
    for at in 0..3 {
        world.peers[at].side = 1;
    }
    world.run(seconds(60));
    let first = world.add(&[], Rank(1), true);
    world.run(seconds(5));
    for _ in 0..12 {
        world.add(&[first], Rank::NONE, true);
    }
    world.run(seconds(30));
    let before: Vec<_> = (3..16).map(|at| world.address(at)).collect();
    for at in 0..3 {
        world.peers[at].side = 0;
    }
    let contact = world.peers[first].own.contact.clone();
    world.input(1, Input::Start { bootstrap: vec![contact] });
    world.run(seconds(120));
    world.check_tree();
    let after: Vec<_> = (3..16).map(|at| world.address(at)).collect();
    assert_eq!(before, after, "nobody of the realm moved");
}

/// The publisher of a name dies with the island on which it published.
#[test]
fn a_dissolved_tree_brings_along_what_it_bound() {
    let mut world = World::new(36);
    world.add(&[], Rank::NONE, true);
    for _ in 0..4 {
        world.add(&[0], Rank::NONE, true);
    }
    for at in 0..5 {
        world.peers[at].side = 1;
    }
    world.run(seconds(30));
    for name in ["alice", "bob", "carol"] {
        world.command(4, Command::Publish { key: key(name), record: record(name, 1) });
    }
    world.run(seconds(5));
    world.kill(4);
    world.run(seconds(25));
    let first = world.add(&[], Rank(1), true);
    world.run(seconds(5));
    for _ in 0..12 {
        world.add(&[first], Rank::NONE, true);
    }
    world.run(seconds(30));
    for at in 0..4 {
        world.peers[at].side = 0;
    }
    let contact = world.peers[first].own.contact.clone();
    world.input(1, Input::Start { bootstrap: vec![contact] });
    // It asks one of those that it remembers each minute, and one of the two is dead.
    world.run(seconds(180));
    world.check_tree();
    for name in ["alice", "bob", "carol"] {
        assert!(world.finds(first + 3, name), "{name}");
    }
}

#[test]
fn address_of_the_losing_tree_is_answered_wrong_peer() {
    let mut world = World::realm(35, 20);
    let address = world.address(7).unwrap().child(0, world.config.degree).unwrap();
    let device = Some(cloak_base::DeviceId::from_bytes([9; 32]));
    let to = crate::Destination { address, device };
    let id = crate::LookupId(9);
    let start = world.now;
    world.command(12, Command::Ping { id, to });
    world.run(seconds(2));
    let ended = world.events.iter().any(|(_, event)| *event == Event::Pong { id, hops: None });
    assert!(ended, "answered long before its time is over: {:?}", world.now.since(start));
}

#[test]
fn claimed_address_without_certificate_is_ignored() {
    let mut world = World::realm(36, 12);
    // Peer 5 shows the chain of peer 6 as its own.
    let stolen = world.peers[6].overlay.tree.chain.clone();
    let (liar, from) = (5, world.peers[5].own.contact.device);
    let victim = world.alive().into_iter().find(|at| {
        *at != liar && world.snapshot(*at).neighbours.iter().any(|link| link.device == from)
    });
    let greet = crate::message::Greet { chain: stolen, rooted: true };
    let message = crate::Message::Greet(Box::new(greet));
    let victim = victim.unwrap();
    world.input(victim, Input::Message { from, message });
    let dropped = Event::Misbehaved { device: from, code: Code::FalseAddress };
    assert!(world.events.contains(&(victim, dropped)));
    world.run(seconds(40));
    world.check_tree();
}

#[test]
fn extra_links_are_bounded_and_both_ways() {
    let mut world = World::realm(37, 60);
    world.run(seconds(120));
    let mut total = 0;
    for at in world.alive() {
        let device = world.peers[at].own.contact.device;
        for link in world.snapshot(at).neighbours {
            if link.role != Role::Extra {
                continue;
            }
            total += 1;
            let other = world
                .alive()
                .into_iter()
                .find(|other| world.peers[*other].own.contact.device == link.device);
            let back = world.snapshot(other.unwrap()).neighbours;
            let back = back.iter().find(|link| link.device == device).map(|link| link.role);
            assert_eq!(back, Some(Role::Extra));
        }
        let extra = world.snapshot(at).neighbours;
        let extra = extra.iter().filter(|link| link.role == Role::Extra).count();
        assert!(extra <= world.config.extra_max, "{extra} extra links");
    }
    assert!(total > 60 * 4, "{total} ends of extra links");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::realm(seed, 25);
        world.kill(3);
        world.run(seconds(30));
        (world.bytes, format!("{:?}", world.events))
    };
    assert_eq!(run(38), run(38));
    assert_ne!(run(38), run(39));
}
