//! Copies: where they are, and how they come back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, key, record, seconds};
use crate::message::{Held, HeldRecord, Purpose, Recall};
use crate::{Address, Body, Command, Event, Input, Key, Message, Rank, Role, Snapshot};

const NAMES: usize = 40;

fn name(at: usize) -> String {
    format!("name{at}")
}

/// A realm in which every name is published and has its copies.
fn published(seed: u64, peers: usize) -> World {
    let mut world = World::realm(seed, peers);
    for at in 0..NAMES {
        let record = record(&name(at), 1);
        world.command(at % peers, Command::Publish { key: key(&name(at)), record });
    }
    world.run(seconds(10));
    world
}

/// Who binds each point, and who has a copy for it.
type Holders = BTreeMap<(Address, Key), (Vec<usize>, Vec<usize>)>;

fn holders(world: &World) -> Holders {
    let mut holders = Holders::new();
    for at in world.alive() {
        for held in world.snapshot(at).held {
            let (binders, copies) = holders.entry((held.point, held.key)).or_default();
            if held.copy { copies.push(at) } else { binders.push(at) }
        }
    }
    holders
}

fn role_of(snapshot: &Snapshot, world: &World, other: usize) -> Option<Role> {
    let device = world.peers[other].own.contact.device;
    snapshot.neighbours.iter().find(|one| one.device == device).map(|one| one.role)
}

fn parent(world: &World, peer: usize) -> Option<usize> {
    let device = world.snapshot(peer).parent?;
    world.alive().into_iter().find(|at| world.peers[*at].own.contact.device == device)
}

fn children(world: &World, peer: usize) -> usize {
    let snapshot = world.snapshot(peer);
    snapshot.neighbours.iter().filter(|one| one.role == Role::Child).count()
}

/// All points of all names are bound by somebody, and by one only.
fn assert_bound(world: &World) {
    let holders = holders(world);
    assert_eq!(holders.len(), 5 * NAMES);
    for ((point, key), (binders, _)) in holders {
        assert_eq!(binders.len(), 1, "{key:?} at {point}");
    }
}

fn is_leaf_with_siblings(world: &World, peer: usize) -> bool {
    let siblings = parent(world, peer).map_or(0, |parent| children(world, parent));
    children(world, peer) == 0 && siblings > 2
}

/// A leaf with siblings that binds something.
fn busy_leaf(world: &World) -> usize {
    let leaf = |at: &usize| is_leaf_with_siblings(world, *at);
    let bound = |at: &usize| world.snapshot(*at).held.iter().filter(|held| !held.copy).count();
    world.alive().into_iter().filter(leaf).max_by_key(bound).expect("a leaf")
}

fn holder(world: &World, place: Option<&Address>) -> Option<usize> {
    world.alive().into_iter().find(|at| world.address(*at).as_ref() == place)
}

/// Runs until `look` sees something.
fn wait_for<T>(world: &mut World, look: impl Fn(&World) -> Option<T>) -> T {
    for _ in 0..60_000 {
        if let Some(seen) = look(world) {
            return seen;
        }
        world.run(Duration::from_millis(1));
    }
    panic!("nothing within a minute");
}

#[test]
fn copies_are_with_siblings_of_the_binder() {
    let world = published(61, 60);
    for ((point, key), (binders, copies)) in holders(&world) {
        let [binder] = binders[..] else { panic!("{key:?} at {point}: {binders:?}") };
        let Some(parent) = parent(&world, binder) else { continue };
        let [copy] = copies[..] else { panic!("{key:?} at {point}: {copies:?}") };
        let snapshot = world.snapshot(parent);
        if children(&world, parent) > 1 {
            assert_eq!(role_of(&snapshot, &world, copy), Some(Role::Child), "{key:?} at {point}");
        } else {
            assert_eq!(copy, parent, "{key:?} at {point}");
        }
    }
}

/// What a parent handed down, or kept for its only child, it keeps until the child's copies are
/// elsewhere: it hears of no newer ones.
#[test]
fn parents_forget_what_their_children_bind() {
    let mut world = World::realm(70, 8);
    for at in 0..NAMES {
        let record = record(&name(at), 1);
        world.command(at % 8, Command::Publish { key: key(&name(at)), record });
    }
    world.run(seconds(10));
    for _ in 0..40 {
        world.add(&[1], Rank::NONE, true);
        world.run(seconds(1));
    }
    world.run(seconds(330));
    for ((point, key), (binders, copies)) in holders(&world) {
        let [binder] = binders[..] else { panic!("{key:?} at {point}: {binders:?}") };
        let Some(above) = parent(&world, binder) else { continue };
        if children(&world, above) > 1 {
            assert!(!copies.contains(&above), "{key:?} at {point}");
        }
    }
}

/// It was cut off while its dead parent's place was filled, and has the only copies of what a dead
/// sibling bound.
#[test]
fn what_a_late_orphan_kept_is_recalled() {
    let mut world = World::realm(72, 60);
    // Nobody publishes again what is lost.
    let publisher = world.add(&[1], Rank::NONE, false);
    world.run(seconds(10));
    for at in 0..NAMES {
        let record = record(&name(at), 1);
        world.command(publisher, Command::Publish { key: key(&name(at)), record });
    }
    world.run(seconds(10));
    world.kill(publisher);
    // With somebody beside them who claims the place above.
    let leaf = |at: usize| is_leaf_with_siblings(&world, at);
    let mut kept: BTreeMap<(usize, usize), Vec<(Address, Key)>> = BTreeMap::new();
    for (row, (binders, copies)) in holders(&world) {
        let ([binder], [keeper]) = (&binders[..], &copies[..]) else { continue };
        if leaf(*binder) && leaf(*keeper) {
            kept.entry((*binder, *keeper)).or_default().push(row);
        }
    }
    let most = kept.into_iter().max_by_key(|(_, rows)| rows.len());
    let ((binder, keeper), rows) = most.expect("a leaf that keeps copies for another");
    let above = parent(&world, binder).unwrap();
    assert_ne!(above, world.root());
    let place = world.address(above);
    world.kill(binder);
    world.kill(above);
    world.peers[keeper].side = 1;
    let heir = wait_for(&mut world, |world| {
        holder(world, place.as_ref()).filter(|at| !world.peers[*at].overlay.is_recalling())
    });
    let bound = |world: &World| {
        let holders = holders(world);
        rows.iter().filter(|row| holders.get(*row).is_some_and(|row| row.0 == [heir])).count()
    };
    assert_eq!(bound(&world), 0, "{} {rows:?}", rows.len());
    world.peers[keeper].side = 0;
    world.run(seconds(15));
    assert_eq!(parent(&world, keeper), Some(heir));
    assert_eq!(bound(&world), rows.len());
}

/// A successor from further below leaves its records with its own parent, which answers at once: the
/// dead peer's other children are adopted, and handed them down, only later.
#[test]
fn a_successor_leaves_its_records_with_its_parent() {
    let mut world = published(80, 120);
    // A child without children would be the successor, and have no parent any more.
    let far = |at: &usize| {
        let below = world.alive().into_iter().filter(|other| parent(&world, *other) == Some(*at));
        let below: Vec<usize> = below.map(|child| children(&world, child)).collect();
        parent(&world, *at).is_some() && !below.is_empty() && below.iter().all(|count| *count > 0)
    };
    let inner = world.alive().into_iter().find(far).expect("a peer without leaves");
    let (place, before) = (world.address(inner), holders(&world));
    let parents: Vec<Option<usize>> =
        world.alive().into_iter().map(|at| parent(&world, at)).collect();
    world.kill(inner);
    let heir = wait_for(&mut world, |world| holder(world, place.as_ref()));
    let above = parents[heir].unwrap();
    wait_for(&mut world, |world| (!parent_has(world, above, heir)).then_some(()));
    let bound: Vec<_> = before.iter().filter(|(_, row)| row.0 == [heir]).collect();
    assert!(!bound.is_empty());
    let after = holders(&world);
    for (row, _) in bound {
        assert!(after[row].0.contains(&above), "{row:?}");
    }
}

/// The heir's children come one after the other, and one of them that bound something does not.
#[test]
fn an_heir_recalls_what_a_dead_child_of_its_predecessor_bound() {
    let mut world = published(71, 60);
    let leaf = busy_leaf(&world);
    let above = parent(&world, leaf).unwrap();
    world.kill(leaf);
    world.kill(above);
    world.run(seconds(25));
    world.check_tree();
    let holders = holders(&world);
    let bound = holders.values().filter(|(binders, _)| binders.len() == 1).count();
    // What the dead peer kept for others, or others among the dead, comes back with the next touch.
    assert!(bound * 100 >= 98 * 5 * NAMES, "{bound}");
}

#[test]
fn what_a_dead_leaf_bound_is_recalled() {
    let mut world = published(62, 60);
    let leaf = busy_leaf(&world);
    let above = parent(&world, leaf).unwrap();
    let bound = world.snapshot(leaf).held.into_iter().filter(|held| !held.copy).count();
    assert!(bound > 0);
    world.kill(leaf);
    world.run(seconds(9));
    assert_bound(&world);
    let binds = world.snapshot(above).held.into_iter().filter(|held| !held.copy).count();
    assert!(binds >= bound, "{binds} of {bound}");
}

#[test]
fn what_an_inner_peer_bound_follows_its_place() {
    let mut world = published(63, 60);
    let inner = |at: &usize| children(&world, *at) > 1 && parent(&world, *at).is_some();
    let inner = world.alive().into_iter().find(inner).unwrap();
    world.kill(inner);
    world.run(seconds(20));
    assert_bound(&world);
    world.check_tree();
}

#[test]
fn copies_of_a_dead_keeper_are_made_anew() {
    let mut world = published(64, 60);
    let before = holders(&world);
    let keeper = busy_leaf(&world);
    let kept = |(_, copies): &&(Vec<usize>, Vec<usize>)| copies.contains(&keeper);
    assert!(before.values().any(|row| kept(&row)));
    world.kill(keeper);
    world.run(seconds(15));
    for (row, _) in before.iter().filter(|(_, row)| kept(row)) {
        let (binders, copies) = &holders(&world)[row];
        assert_eq!((binders.len(), copies.len()), (1, 1), "{row:?}");
    }
}

/// The parent of a dead binder binds its points at once, and does not have the records yet.
#[test]
fn nothing_is_said_to_be_missing_during_a_recall() {
    let mut world = published(65, 60);
    let leaf = busy_leaf(&world);
    let askers: Vec<usize> = world.alive().into_iter().filter(|at| *at != leaf).collect();
    let held = world.snapshot(leaf).held.into_iter().filter(|held| !held.copy);
    let above = parent(&world, leaf).unwrap();
    let (point, wanted) = held.map(|held| (held.point, held.key)).next().unwrap();
    world.kill(leaf);
    // It is missed after some seconds.
    wait_for(&mut world, |world| (!parent_has(world, above, leaf)).then_some(()));
    assert!(world.peers[above].overlay.is_recalling());
    let origin = crate::message::Origin {
        device: world.peers[askers[0]].own.contact.device,
        address: world.address(askers[0]).unwrap(),
    };
    let answers = |world: &World, which: fn(&Body) -> bool| {
        let out = world.peers[above].overlay.out.iter();
        let body = |(_, message): &(_, Message)| match message {
            Message::Routed(routed) => which(&routed.body),
            _ => false,
        };
        out.filter(|sent| body(sent)).count()
    };
    world.peers[above].overlay.on_find(&origin, &point, &wanted, 7, 3);
    assert_eq!(answers(&world, |body| matches!(body, Body::Unsure { id: 7 })), 1);
    world.run(seconds(2));
    assert!(!world.peers[above].overlay.is_recalling());
    world.peers[above].overlay.on_find(&origin, &point, &wanted, 7, 3);
    assert_eq!(answers(&world, |body| matches!(body, Body::Found(_))), 1);
}

fn parent_has(world: &World, parent: usize, child: usize) -> bool {
    role_of(&world.snapshot(parent), world, child) == Some(Role::Child)
}

/// A child that answers nothing does not hold up the others' askers.
#[test]
fn a_recall_ends_without_the_last_answer() {
    let mut world = published(66, 60);
    let leaf = busy_leaf(&world);
    let above = parent(&world, leaf).unwrap();
    let siblings = world.alive().into_iter().filter(|at| parent(&world, *at) == Some(above));
    let silent = siblings.into_iter().find(|at| *at != leaf).unwrap();
    let (leaf, silent) = (device(&world, leaf), device(&world, silent));
    let now = world.now;
    let overlay = &mut world.peers[above].overlay;
    overlay.handle(now, Input::LinkDown { device: leaf });
    overlay.handle(now, Input::Timeout);
    let asked =
        |(to, message): &(_, Message)| *to == silent && matches!(message, Message::Recall(_));
    let before = overlay.out.len();
    overlay.out.retain(|sent| !asked(sent));
    assert_eq!(overlay.out.len() + 1, before);
    world.run(seconds(2));
    assert!(world.peers[above].overlay.is_recalling());
    world.run(seconds(2));
    assert!(!world.peers[above].overlay.is_recalling());
}

fn device(world: &World, peer: usize) -> cloak_base::DeviceId {
    world.peers[peer].own.contact.device
}

/// A parent that asks all the time gets what is kept once a second; others get nothing.
#[test]
fn recalls_are_answered_at_a_pace_and_only_to_the_parent() {
    let mut world = published(67, 60);
    let leaf = busy_leaf(&world);
    let above = parent(&world, leaf).unwrap();
    let index = world.address(leaf).unwrap().index().unwrap();
    let recall = Message::Recall(Recall { children: [index].into(), lost: [].into() });
    let stranger = world.alive().into_iter().find(|at| *at != above && *at != leaf).unwrap();
    let answers = |world: &mut World, from: usize| {
        let from = device(world, from);
        let overlay = &mut world.peers[leaf].overlay;
        (0..5).for_each(|_| overlay.dispatch(from, recall.clone()));
        let ends = |message: &Message| matches!(message, Message::Held(held) if held.last);
        let out = std::mem::take(&mut overlay.out);
        out.iter().filter(|(_, message)| ends(message)).count()
    };
    assert_eq!(answers(&mut world, stranger), 0);
    assert_eq!(answers(&mut world, above), 1);
    world.run(seconds(2));
    assert_eq!(answers(&mut world, above), 1);
}

/// Copies that a child sends for what it does not bind go nowhere.
#[test]
fn a_child_gives_copies_of_its_own_points_only() {
    let mut world = published(68, 60);
    let leaf = busy_leaf(&world);
    let above = parent(&world, leaf).unwrap();
    let own = world.address(leaf).unwrap();
    let (key, record) = (key("mallory"), record("mallory", 1));
    let foreign = world.snapshot(above).held.into_iter().map(|held| held.point);
    let elsewhere = |point: &Address| !point.as_bytes().starts_with(own.as_bytes());
    let rows = holders(&world).into_keys().map(|(point, _)| point);
    let point = rows.chain(foreign).find(elsewhere).unwrap();
    let held = HeldRecord { point, key: key.clone(), record, age: 0 };
    let held = Held { purpose: Purpose::Copy, last: false, records: vec![held] };
    let from = device(&world, leaf);
    world.input(above, Input::Message { from, message: Message::Held(Box::new(held)) });
    world.run(seconds(2));
    assert!(holders(&world).keys().all(|(_, other)| *other != key));
}

#[test]
fn names_are_found_while_peers_die_one_after_the_other() {
    let mut world = published(69, 60);
    for round in 0..12 {
        let alive = world.alive();
        let publishes = |at: &usize| *at < NAMES;
        // Publishers live: what they published must be found.
        let others: Vec<usize> = alive.into_iter().filter(|at| !publishes(at)).collect();
        world.kill(others[round % others.len()]);
        world.run(seconds(12));
        let from = world.alive()[round];
        let found = world.lookup(from, &name(round));
        assert!(matches!(found, Event::Found { .. }), "{round}: {found:?}");
    }
    assert_bound(&world);
}
