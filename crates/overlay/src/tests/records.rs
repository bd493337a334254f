//! Publishing, finding, copies, epochs, expiry.

use std::time::Duration;

use cloak_base::{Epoch, UnixTime};
use cloak_geometry::Address;

use super::world::{World, key, record, seconds};
use crate::message::{Body, Origin, Outcome, Routed};
use crate::{Command, Event, Input, Message, Rank, Record};

fn publish(world: &mut World, peer: usize, name: &str, epoch: u64) {
    world.command(peer, Command::Publish { key: key(name), record: record(name, epoch) });
    world.run(seconds(3));
}

fn epoch_found(event: &Event) -> Option<u64> {
    match event {
        Event::Found { record, .. } => Some(record.epoch.0),
        _ => None,
    }
}

/// How many peers hold a name, as binders and as copies.
fn holders(world: &World, name: &str) -> (usize, usize) {
    let held = world.alive().into_iter().flat_map(|at| world.snapshot(at).held);
    let held: Vec<_> = held.filter(|held| held.key == key(name)).collect();
    let copies = held.iter().filter(|held| held.copy).count();
    (held.len() - copies, copies)
}

#[test]
fn a_name_is_found_from_everywhere() {
    let mut world = World::realm(11, 40);
    publish(&mut world, 5, "alice", 1);
    assert_eq!(holders(&world, "alice").0, 5, "binders");
    assert!(holders(&world, "alice").1 >= 5, "copies");
    for from in world.alive() {
        assert!(world.finds(from, "alice"), "from {from}");
        let absent = world.lookup(from, "nobody");
        assert!(matches!(absent, Event::NotFound { points_asked: 5, .. }), "{from}: {absent:?}");
    }
}

#[test]
fn two_publishers_of_one_name() {
    let mut world = World::realm(12, 30);
    publish(&mut world, 5, "alice", 3);
    publish(&mut world, 9, "alice", 7);
    for from in [0, 5, 9, 20] {
        assert_eq!(epoch_found(&world.lookup(from, "alice")), Some(7));
    }
    publish(&mut world, 6, "alice", 4);
    let told = world.events.iter().filter(|(_, event)| matches!(event, Event::Superseded { .. }));
    let told: Vec<_> = told.collect();
    let expected = Event::Superseded { key: key("alice"), record: record("alice", 7) };
    assert_eq!(told, [&(6, expected.clone())]);
    // The first publisher learns it when it refreshes.
    world.run(seconds(400));
    assert!(world.events.contains(&(5, expected)));
    assert_eq!(epoch_found(&world.lookup(3, "alice")), Some(7));
}

/// A gateway publishes some times within a second while it starts.
#[test]
fn answers_about_a_replaced_record_are_no_conflict() {
    let mut world = World::realm(14, 30);
    for epoch in 1..40 {
        world.command(5, Command::Publish { key: key("alice"), record: record("alice", epoch) });
        world.run(std::time::Duration::from_millis(7 * epoch));
    }
    world.run(seconds(30));
    assert!(!world.events.iter().any(|(_, event)| matches!(event, Event::Superseded { .. })));
    for from in [0, 5, 9, 20] {
        assert_eq!(epoch_found(&world.lookup(from, "alice")), Some(39));
    }
}

#[test]
fn one_epoch_with_two_contents_settles() {
    let mut world = World::realm(13, 30);
    publish(&mut world, 5, "alice", 3);
    let bytes = b"alice zz".as_slice().into();
    let other = Record { bytes, ..record("alice", 3) };
    world.command(9, Command::Publish { key: key("alice"), record: other.clone() });
    world.run(seconds(70));
    for from in world.alive() {
        let Event::Found { record, .. } = world.lookup(from, "alice") else {
            panic!("from {from}")
        };
        assert_eq!(record, other);
    }
}

#[test]
fn new_binder_warms_up_before_it_says_not_found() {
    let mut world = World::realm(14, 6);
    let names: Vec<String> = (0..20).map(|at| format!("name{at}")).collect();
    for name in &names {
        world.command(3, Command::Publish { key: key(name), record: record(name, 1) });
    }
    world.run(seconds(5));
    for _ in 0..25 {
        world.add(&[1], Rank::NONE, true);
        for (at, name) in names.iter().enumerate() {
            let from = world.alive()[at % 6];
            assert!(world.finds(from, name), "{name} from {from}");
        }
    }
    world.run(seconds(30));
    world.check_tree();
    for name in &names {
        assert_eq!(holders(&world, name).0, 5, "binders of {name}");
    }
}

#[test]
fn records_end_when_they_expire_and_when_nobody_touches_them() {
    let mut world = World::realm(15, 20);
    let expires =
        UnixTime(1_800_000_000) + world.now.since(cloak_base::Instant::ZERO) + seconds(60);
    let short = Record { expires, ..record("short", 1) };
    world.command(2, Command::Publish { key: key("short"), record: short });
    publish(&mut world, 2, "kept", 1);
    publish(&mut world, 4, "left", 1);
    assert!(world.finds(7, "short") && world.finds(7, "left"));
    world.command(4, Command::Withdraw { key: key("left") });
    world.run(seconds(100));
    assert_eq!(holders(&world, "short"), (0, 0));
    world.run(seconds(1500));
    assert_eq!(holders(&world, "left"), (0, 0));
    assert_eq!(holders(&world, "kept").0, 5);
    assert!(world.finds(7, "kept"));
}

#[test]
fn a_record_that_does_not_count_is_not_kept() {
    let mut world = World::realm(16, 20);
    let forged = Record { bytes: b"mallory".as_slice().into(), ..record("alice", 9) };
    world.command(2, Command::Publish { key: key("alice"), record: forged });
    world.run(seconds(3));
    assert_eq!(holders(&world, "alice"), (0, 0));
}

#[test]
fn liars_can_deny_but_not_forge() {
    let mut world = World::realm(17, 30);
    publish(&mut world, 5, "alice", 3);
    // Whoever is asked first answers with something else; the asker goes on until it is right.
    let forged = Record { bytes: b"mallory".as_slice().into(), ..record("alice", 9) };
    world.forge = Some(forged);
    for from in 0..30 {
        match world.lookup(from, "alice") {
            Event::Found { record, .. } => assert_eq!(record.epoch, Epoch(3)),
            Event::LookupFailed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn garbage_and_floods_drop_their_sender_only() {
    let mut world = World::realm(18, 12);
    let snapshot = world.snapshot(0);
    let (bad, flooding) = (snapshot.neighbours[0].device, snapshot.neighbours[1].device);
    world.input(0, Input::Malformed { from: bad });
    // A neighbour in the tree passes on what thousands send.
    let codes = [3_000, 20_000].map(|messages| {
        for _ in 0..messages {
            world.input(0, Input::Message { from: flooding, message: Message::Probe });
        }
        let codes = world.events.iter().filter_map(|(at, event)| match event {
            Event::Misbehaved { device, code } => Some((*at, *device, *code)),
            _ => None,
        });
        codes.collect::<Vec<_>>()
    });
    let [few, many] = codes;
    assert_eq!(few, [(0, bad, crate::Code::Malformed)]);
    assert_eq!(many, [(0, bad, crate::Code::Malformed), (0, flooding, crate::Code::Flood)]);
    world.run(seconds(60));
    world.check_tree();
    world.run(Duration::from_secs(1));
}

/// A binder that was out of reach had an older record than its publisher, and kept it until the next
/// touch, minutes later; and peers that had had copies answered with them. One of a thousand questions
/// may meet a binder that came to its place after the touch.
#[test]
fn what_was_published_during_a_partition_is_found_soon_after() {
    let (mut stale, mut asked) = (Vec::new(), 0);
    for seed in 40..60 {
        let mut world = World::realm(seed, 24);
        for at in 0..24 {
            publish(&mut world, at, &format!("n{at}"), 1);
        }
        for at in 0..24 {
            world.peers[at].side = u8::from(at % 2 == 0);
        }
        world.run(seconds(12 + seed % 3 * 24));
        for at in 0..24 {
            publish(&mut world, at, &format!("n{at}"), 2);
        }
        for at in 0..24 {
            world.peers[at].side = 0;
        }
        world.run(seconds(60));
        for at in 0..24 {
            for name in 0..24 {
                let event = world.lookup(at, &format!("n{name}"));
                asked += 1;
                if epoch_found(&event) != Some(2) {
                    stale.push((seed, at, name, epoch_found(&event)));
                }
            }
        }
    }
    assert!(stale.len() * 1000 <= asked, "{} of {asked}: {stale:?}", stale.len());
}

/// A routed message that a stranger makes up, as it arrives at `to` over its link with `from`.
fn told(world: &mut World, from: usize, to: usize, point: &Address, body: Body) {
    let [stranger, victim] = [from, to].map(|at| world.peers[at].own.contact.device);
    let address = world.address(from).unwrap();
    let origin = Origin { device: stranger, address };
    let device = matches!(body, Body::Stored { .. } | Body::Unsure { .. }).then_some(victim);
    let routed = Routed::new(point.clone(), device, origin, body);
    let message = Message::Routed(Box::new(routed));
    world.input(to, Input::Message { from: stranger, message });
}

/// A neighbour of a peer.
fn neighbour(world: &World, of: usize) -> usize {
    let linked = world.snapshot(of).neighbours[0].device;
    world.alive().into_iter().find(|at| world.peers[*at].own.contact.device == linked).unwrap()
}

/// A bare number pushed a publisher's epoch to the end of its range.
#[test]
fn nobody_is_believed_a_higher_epoch_without_its_record() {
    let mut world = World::realm(20, 20);
    publish(&mut world, 5, "alice", 1);
    let stranger = neighbour(&world, 5);
    let points = world.peers[5].overlay.points(&key("alice"));
    let superseded = |bytes: &str| Body::Stored {
        key: key("alice"),
        point: points[0].clone(),
        epoch: Epoch(1),
        outcome: Outcome::Superseded(Record {
            epoch: Epoch(u64::MAX),
            bytes: bytes.as_bytes().to_vec().into(),
            ..record("alice", 1)
        }),
    };
    let is_told = |world: &World| {
        world.events.iter().any(|(at, event)| *at == 5 && matches!(event, Event::Superseded { .. }))
    };
    told(&mut world, stranger, 5, &points[0], superseded("not of its owner"));
    assert!(!is_told(&world));
    told(&mut world, stranger, 5, &points[0], superseded("alice signed this"));
    assert!(is_told(&world), "one that counts is");
}

/// A store was filled with one valid record under addresses that nobody asks.
#[test]
fn a_record_is_kept_at_a_point_of_its_key_only() {
    let mut world = World::realm(21, 20);
    let point = world.peers[0].overlay.points(&key("alice"))[0].clone();
    let binds = |at: &usize| world.peers[*at].overlay.binds(&point);
    let binder = world.alive().into_iter().find(binds).unwrap();
    let (own, stranger) = (world.address(binder).unwrap(), neighbour(&world, binder));
    let below = |index| own.child(index, crate::Degree::new(6).unwrap()).unwrap();
    let mut made_up = (0..5).map(below);
    let made_up = made_up.find(|point| world.peers[binder].overlay.binds(point)).unwrap();
    let held = [made_up, point].map(|point| {
        let body = Body::Store { key: key("alice"), record: record("alice", 1) };
        told(&mut world, stranger, binder, &point, body);
        world.snapshot(binder).held.len()
    });
    assert_eq!(held, [0, 1]);
}
