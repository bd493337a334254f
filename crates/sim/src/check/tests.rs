//! Canaries: a good world that no checker complains about, and one fault for each to find.

use cloak_base::{DeviceId, Epoch, UnixTime};
use cloak_overlay::{
    Address, Config, Degree, Holding, Neighbour, Place, Rank, Role, Snapshot, Stats, Term, TreeId,
};

use super::*;
use crate::malice::Malice;
use crate::names;
use crate::view::View;

const TREE: TreeId =
    TreeId { rank: Rank(0), founded: UnixTime(1), founder: DeviceId::from_bytes([0; 32]) };

fn device(number: u32) -> DeviceId {
    let mut id = [0; 32];
    id[28..].copy_from_slice(&number.to_be_bytes());
    DeviceId::from_bytes(id)
}

fn degree() -> Degree {
    Config::default().degree
}

fn address(indices: &[u8]) -> Address {
    Address::from_bytes(indices, degree()).unwrap()
}

/// The root 0 with children 1 and 2, a child 3 of 1, and 4, attached to 3.
fn good() -> Views {
    let places: [&[u8]; 4] = [&[], &[0], &[9], &[0, 4]];
    let inner =
        |at: usize| Place::Inner { address: address(places[at]), tree: TREE, term: Term(1) };
    let place = |at: usize| match at {
        4 => Place::Attached { hosts: vec![(device(3), address(places[3]))] },
        at => inner(at),
    };
    let parents = [None, Some(0), Some(0), Some(1), None];
    let mut all: Vec<View> = (0..5u32)
        .map(|number| View {
            peer: PeerId(number),
            device: device(number),
            reachable: number != 4,
            malice: Malice::None,
            snapshot: Snapshot {
                place: place(number as usize),
                rooted: true,
                warming: false,
                parent: parents[number as usize].map(device),
                neighbours: Vec::new(),
                held: Vec::new(),
                stats: Stats::default(),
            },
        })
        .collect();
    for (child, parent) in [(1, 0), (2, 0), (3, 1)] {
        link(&mut all, child, parent, Role::Parent);
        link(&mut all, parent, child, Role::Child);
    }
    bind(&mut all);
    Views::new(all)
}

fn link(all: &mut [View], from: u32, to: u32, role: Role) {
    let address = all[to as usize].address().cloned();
    let neighbour = Neighbour { device: device(to), role, address, suspected: false };
    all[from as usize].snapshot.neighbours.push(neighbour);
}

/// Every binder of name 1 has it.
fn bind(all: &mut [View]) {
    let (key, epoch) = expected();
    for point in cloak_geometry::VirtualPoint::of_name(key.as_bytes(), degree()) {
        let addresses: Vec<Address> = all.iter().filter_map(View::address).cloned().collect();
        let binder = point.binder(&addresses).unwrap().clone();
        let record = names::record(&key, epoch, UnixTime(1));
        let point = point.path().clone();
        let held = Holding { key: key.clone(), point, record, copy: false };
        let view = all.iter_mut().find(|view| view.address() == Some(&binder)).unwrap();
        view.snapshot.held.push(held);
    }
}

fn expected() -> (Key, Epoch) {
    (names::key(1), Epoch(3))
}

fn broken(change: impl Fn(&mut Vec<View>)) -> Views {
    let mut all = good().all;
    change(&mut all);
    Views::new(all)
}

fn place(view: &mut View, new: &[u8], term: u64) {
    view.snapshot.place = Place::Inner { address: address(new), tree: TREE, term: Term(term) };
}

#[test]
fn a_good_world_has_no_faults() {
    let views = good();
    assert_eq!(quiescent(&views, &Config::default()), []);
    assert_eq!(lost(&views, &[expected()]), []);
    assert_eq!(unbound(&views, &[expected()], degree()), []);
}

#[test]
fn two_trees_are_found() {
    let views = broken(|all| {
        let tree = TreeId { rank: Rank::NONE, ..TREE };
        all[2].snapshot.place = Place::Inner { address: address(&[9]), tree, term: Term(1) };
    });
    assert_eq!(tree(&views), [Fault::TwoTrees(PeerId(0), PeerId(2))]);
}

#[test]
fn peers_without_a_place_are_found() {
    let views = broken(|all| all[2].snapshot.place = Place::Seeking);
    assert_eq!(tree(&views), [Fault::NoPlace(PeerId(2))]);
    let views = broken(|all| all[4].reachable = true);
    assert_eq!(tree(&views), [Fault::NoPlace(PeerId(4))]);
}

#[test]
fn dead_parents_hosts_and_roots_are_found() {
    let views = broken(|all| drop(all.remove(1)));
    assert_eq!(tree(&views), [Fault::NoParent(PeerId(3), address(&[0, 4]))]);
    let views = broken(|all| drop(all.remove(3)));
    assert_eq!(tree(&views), [Fault::NoHost(PeerId(4), device(3))]);
    let views = broken(|all| drop(all.remove(0)));
    assert!(tree(&views).contains(&Fault::Roots(0)));
    let views = broken(|all| place(&mut all[2], &[], 1));
    assert!(tree(&views).contains(&Fault::Roots(2)));
}

#[test]
fn two_holders_of_one_address_are_found() {
    let views = broken(|all| place(&mut all[2], &[0], 1));
    let expected = Fault::TwoHolders(PeerId(1), PeerId(2), address(&[0]));
    assert_eq!(addresses(&views), [expected]);
    let views = broken(|all| place(&mut all[2], &[0], 2));
    assert_eq!(addresses(&views), []);
}

#[test]
fn places_given_twice_are_found() {
    let views = broken(|all| place(&mut all[2], &[0], 1));
    let expected = Fault::TwoHolders(PeerId(1), PeerId(2), address(&[0]));
    assert_eq!(given_twice(&views), [expected]);
    let views = broken(|all| {
        place(&mut all[2], &[0], 1);
        all[2].snapshot.parent = Some(device(3));
    });
    assert_eq!(given_twice(&views), []);
    let views = broken(|all| {
        place(&mut all[2], &[], 1);
        all[2].snapshot.parent = None;
    });
    let expected = Fault::TwoHolders(PeerId(0), PeerId(2), address(&[]));
    assert_eq!(given_twice(&views), [expected]);
}

#[test]
fn lost_bindings_are_found() {
    let views = broken(|all| all.iter_mut().for_each(|view| view.snapshot.held.clear()));
    assert_eq!(lost(&views, &[expected()]), [Fault::Lost(names::key(1))]);
    let newer = (names::key(1), Epoch(4));
    assert_eq!(lost(&good(), std::slice::from_ref(&newer)), [Fault::Lost(newer.0)]);
}

#[test]
fn binders_without_their_binding_are_found() {
    let views = broken(|all| {
        let holder = all.iter_mut().find(|view| !view.snapshot.held.is_empty()).unwrap();
        holder.snapshot.held.pop();
    });
    assert_eq!(unbound(&views, &[expected()], degree()).len(), 1);
    assert_eq!(lost(&views, &[expected()]), []);
}

#[test]
fn loops_and_dead_ends_are_found() {
    let views = broken(|all| {
        // Peer 1 believes that its parent sits at its child's place.
        let up = all[1].snapshot.neighbours.iter_mut().find(|one| one.role == Role::Parent);
        up.unwrap().address = Some(address(&[0, 4]));
        all[1].snapshot.neighbours.retain(|one| one.role == Role::Parent);
    });
    assert!(loops(&views, degree()).contains(&Fault::Loop(PeerId(0), address(&[0, 4]))));
    let views = broken(|all| all[1].snapshot.neighbours.retain(|one| one.role == Role::Parent));
    let end = Fault::DeadEnd(PeerId(2), address(&[0, 4]), address(&[0]));
    assert!(loops(&views, degree()).contains(&end));
}

#[test]
fn broken_bounds_are_found() {
    let extras = Config::default().extra_max + 1;
    let views = broken(|all| (0..extras).for_each(|_| link(all, 2, 3, Role::Extra)));
    let config = Config::default();
    assert_eq!(bounds(&views, &config), [Fault::Neighbours(PeerId(2), Role::Extra, extras)]);
    let few = Config { records_max: 0, ..config };
    assert!(bounds(&good(), &few).iter().all(|fault| matches!(fault, Fault::Records(..))));
    assert!(!bounds(&good(), &few).is_empty());
}
