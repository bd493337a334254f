//! Every start finds the same binder, whatever the tree looks like and whatever links peers add.

use std::collections::BTreeMap;

use cloak_base::Rng;
use cloak_geometry::{Address, Degree, VirtualPoint, distance};
use proptest::prelude::*;

use crate::addresses::{below, degree};

/// Peers, each with its links apart from the tree's.
struct Tree {
    degree: Degree,
    peers: BTreeMap<Address, Vec<Address>>,
}

/// Where a joiner goes.
#[derive(Debug, Clone, Copy)]
enum Growth {
    /// Level after level: a full tree.
    Full,
    /// Below any peer.
    Random,
    /// Mostly below the last joiner: long branches.
    Deep,
}

impl Tree {
    fn grow(rng: &mut Rng, degree: Degree, size: usize, growth: Growth) -> Self {
        let mut all = vec![Address::ROOT];
        let mut tree = Self { degree, peers: BTreeMap::from([(Address::ROOT, Vec::new())]) };
        let mut parent = 0;
        while all.len() < size {
            let free = tree.free_child(rng, &all[parent]);
            let full = free.is_none();
            if let Some(child) = free {
                tree.peers.insert(child.clone(), Vec::new());
                all.push(child);
            }
            parent = match growth {
                Growth::Full => parent + usize::from(full),
                Growth::Deep if rng.chance(9, 10) => all.len() - 1,
                Growth::Random | Growth::Deep => below(rng, all.len()),
            };
        }
        for links in tree.peers.values_mut() {
            *links = (0..below(rng, 4)).map(|_| all[below(rng, all.len())].clone()).collect();
        }
        tree
    }

    fn free_child(&self, rng: &mut Rng, parent: &Address) -> Option<Address> {
        let children = self.degree.children_at(parent.depth());
        let first = u8::try_from(rng.below(children.into())).unwrap();
        let indices = (first..children).chain(0..first);
        let addresses = indices.filter_map(|index| parent.child(index, self.degree).ok());
        addresses.into_iter().find(|address| !self.peers.contains_key(address))
    }

    fn neighbours(&self, peer: &Address) -> impl Iterator<Item = Address> {
        crate::addresses::neighbours(peer, self.degree)
            .filter(|other| self.peers.contains_key(other))
            .chain(self.peers[peer].iter().cloned())
    }

    /// Where greedy routing ends, each hop being to the nearest neighbour that is nearer.
    fn route<D: Ord>(&self, start: &Address, far: impl Fn(&Address) -> D) -> Address {
        let mut at = start.clone();
        loop {
            let next = self.neighbours(&at).min_by_key(|peer| far(peer)).unwrap();
            if far(&next) >= far(&at) {
                return at;
            }
            at = next;
        }
    }
}

fn growth() -> impl Strategy<Value = Growth> {
    prop_oneof![Just(Growth::Full), Just(Growth::Random), Just(Growth::Deep)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_start_reaches_the_same_binder(
        q in 3_u8..=64, seed: u64, size in 2_usize..150, growth in growth(), name: String,
    ) {
        let tree = Tree::grow(&mut Rng::from_u64(seed), degree(q), size, growth);
        for point in VirtualPoint::of_name(name.as_bytes(), degree(q)) {
            let binder = point.binder(tree.peers.keys()).unwrap();
            for start in tree.peers.keys() {
                let end = tree.route(start, |peer| point.distance_from(peer));
                prop_assert_eq!(&end, binder, "from {}", start);
            }
        }
    }

    #[test]
    fn every_peer_reaches_every_other(
        q in 3_u8..=64, seed: u64, size in 2_usize..50, growth in growth(),
    ) {
        let tree = Tree::grow(&mut Rng::from_u64(seed), degree(q), size, growth);
        for destination in tree.peers.keys() {
            for start in tree.peers.keys() {
                let end = tree.route(start, |peer| distance(peer, destination, degree(q)));
                prop_assert_eq!(&end, destination, "from {}", start);
            }
        }
    }
}
