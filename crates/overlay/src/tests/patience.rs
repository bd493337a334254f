//! What may not go on for ever: questions that are answered with nothing, hops that nobody
//! acknowledges, promises without a ceiling, hand-downs whose end was lost.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;

use super::world::{World, key, record, seconds};
use crate::cert::Term;
use crate::limits::HOPS_MAX;
use crate::message::{Body, HeldRecord, Origin, Routed};
use crate::{Address, Chain, Command, Config, Destination, Event, Input, LookupId};
use crate::{Message, Rank};

fn device(world: &World, at: usize) -> DeviceId {
    world.peers[at].own.contact.device
}

fn say(world: &mut World, to: usize, from: DeviceId, message: Message) {
    world.input(to, Input::Message { from, message });
}

/// A new peer that is linked to `at` and nothing to it.
fn stranger(world: &mut World, at: usize) -> DeviceId {
    let silent = world.add(&[], Rank::NONE, false);
    world.kill(silent);
    let contact = world.peers[silent].own.contact.clone();
    let standing = world.peers[silent].own.standing;
    world.input(at, Input::LinkUp { contact, standing });
    device(world, silent)
}

/// Each such answer made the pause before the next question a second longer.
#[test]
fn answers_that_say_nothing_hold_no_lookup_open() {
    for is_unsure in [true, false] {
        let mut world = World::realm(71, 10);
        let asker = 4;
        let (from, own) = (stranger(&mut world, asker), device(&world, asker));
        let others = world.alive().into_iter().filter(|at| *at != asker);
        others.collect::<Vec<_>>().into_iter().for_each(|at| world.kill(at));
        world.command(asker, Command::Lookup { id: LookupId(1), key: key("nobody") });
        let mut said = 0;
        let over = |world: &World| {
            let ended = |(at, event): &(usize, Event)| {
                *at == asker && matches!(event, Event::NotFound { .. } | Event::LookupFailed { .. })
            };
            world.events.iter().any(ended)
        };
        while !over(&world) {
            said += 1;
            assert!(said < 1000, "unsure {is_unsure}: a lookup is held open");
            let Some(id) = world.peers[asker].overlay.questions.open.first().map(|open| open.id)
            else {
                break;
            };
            let body = match is_unsure {
                true => Body::Unsure { id },
                false => Body::WrongPeer { device: own, id: Some(id) },
            };
            let origin = Origin { device: from, address: Address::ROOT };
            let answer = Routed::new(world.address(asker).unwrap(), Some(own), origin, body);
            say(&mut world, asker, from, Message::Routed(Box::new(answer)));
            world.run(Duration::from_millis(50));
        }
        assert!(over(&world));
    }
}

/// Just after an absence there are no links yet: the question waited its whole time for nothing.
#[test]
fn a_question_that_had_no_way_is_asked_as_soon_as_there_is_one() {
    let mut world = World::realm(77, 12);
    world.command(2, Command::Publish { key: key("alice"), record: record("alice", 1) });
    world.run(seconds(3));
    let absent = world.alive().into_iter().find(|at| {
        *at != world.root() && world.peers[*at].overlay.tree.children.is_empty() && *at != 2
    });
    let absent = absent.unwrap();
    for neighbour in world.snapshot(absent).neighbours {
        world.input(absent, Input::LinkDown { device: neighbour.device });
    }
    world.command(absent, Command::Lookup { id: LookupId(1), key: key("alice") });
    world.run(Duration::from_millis(1500));
    let found = world
        .events
        .iter()
        .any(|(at, event)| *at == absent && matches!(event, Event::Found { .. }));
    assert!(found, "within less than the time of an answer");
}

/// A peer that only one link leads to, and whose acknowledgements come late, was sent the same message
/// again and again, each time with another number.
#[test]
fn a_hop_is_made_so_many_times_and_no_more() {
    let mut world = World::realm(72, 12);
    let asker = world.root();
    let parent = Some(device(&world, asker));
    let child = world.alive().into_iter().find(|at| world.snapshot(*at).parent == parent);
    let child = child.unwrap();
    let hasty = Config { hop_timeout: Duration::from_millis(1), ..(*world.config).clone() };
    world.peers[asker].overlay.config = Arc::new(hasty);
    let to =
        Destination { address: world.address(child).unwrap(), device: Some(device(&world, child)) };
    let before = world.snapshot(asker).stats.hops_lost;
    world.command(asker, Command::Ping { id: LookupId(1), to });
    world.run(seconds(30));
    let lost = world.snapshot(asker).stats.hops_lost - before;
    assert!(lost > 0, "the acknowledgement was late");
    assert!(lost <= u64::from(HOPS_MAX) * 8, "{lost} hops");
}

/// Parted from the root, one child stands and lacks votes.
fn candidate() -> (World, usize, usize) {
    let mut world = World::realm(61, 5);
    let root = world.root();
    let voters: Vec<usize> = world.alive().into_iter().filter(|at| *at != root).take(2).collect();
    for at in &voters {
        world.peers[*at].side = 1;
    }
    world.run(seconds(9));
    let stands = |at: &usize| world.peers[*at].overlay.election.is_some();
    let candidate = voters.iter().copied().find(stands).expect("a candidate");
    let elector = voters.into_iter().find(|at| *at != candidate).unwrap();
    (world, candidate, elector)
}

fn stands_in(world: &World, at: usize) -> Term {
    world.peers[at].overlay.election.as_ref().map(|election| election.ballot.term).unwrap()
}

/// With the word of anybody an election could be begun anew for ever.
#[test]
fn only_an_elector_s_promise_starts_a_ballot_over() {
    let (mut world, candidate, elector) = candidate();
    let before = stands_in(&world, candidate);
    let promise = Message::Promised { term: Term(before.0 + 5) };
    let other = stranger(&mut world, candidate);
    say(&mut world, candidate, other, promise.clone());
    assert_eq!(stands_in(&world, candidate), before, "a stranger's promise");
    let elector = device(&world, elector);
    say(&mut world, candidate, elector, promise);
    assert_eq!(stands_in(&world, candidate), Term(before.0 + 6), "an elector's promise");
}

/// After the last of all terms nobody could be elected any more.
#[test]
fn a_promise_far_in_the_future_is_a_lie() {
    let (mut world, candidate, elector) = candidate();
    let before = stands_in(&world, candidate);
    let elector = device(&world, elector);
    say(&mut world, candidate, elector, Message::Promised { term: Term(u64::MAX - 1) });
    assert_eq!(stands_in(&world, candidate), before);

    let mut world = World::realm(62, 8);
    let root = world.root();
    let term =
        |world: &World, at: usize| world.peers[at].overlay.tree.chain.as_ref().map(Chain::term);
    let before = term(&world, root);
    let mut neighbours = world.snapshot(root).neighbours.into_iter();
    let child = neighbours.find(|one| one.role == crate::Role::Child).unwrap().device;
    say(&mut world, root, child, Message::Promised { term: Term(u64::MAX - 1) });
    world.run(seconds(10));
    assert_eq!(term(&world, root), before, "a root stood again");
}

/// A child whose parent's last message was lost with a channel took nobody and said nothing, for good.
#[test]
fn a_hand_down_whose_end_was_lost_is_asked_for_again() {
    let mut world = World::realm(74, 20);
    let root = world.root();
    let child = world.alive().into_iter().find(|at| *at != root).unwrap();
    world.peers[child].overlay.tree.warming = Some(world.now);
    world.run(seconds(30));
    assert!(!world.snapshot(child).warming);
    world.check_tree();
}

/// A fragment that becomes a tree holds everything below itself, its children's points too.
#[test]
fn what_a_child_binds_is_a_stray_at_its_parent() {
    let mut world = World::realm(75, 30);
    let root = world.root();
    let overlay = &world.peers[root].overlay;
    let points = overlay.points(&key("alice"));
    let point = points.iter().find(|point| overlay.child_binding(point).is_some()).unwrap().clone();
    let held =
        HeldRecord { point: point.clone(), key: key("alice"), record: record("alice", 1), age: 0 };
    world.peers[root].overlay.hold(&held, false);
    world.peers[root].overlay.gather_strays();
    assert_eq!(world.peers[root].overlay.store.strays, [(point, key("alice"))]);
}
