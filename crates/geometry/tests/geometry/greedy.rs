//! The greedy property: the neighbour on the tree's path is nearer, all others are farther away.

use cloak_base::Rng;
use cloak_geometry::{Address, DEPTH_MAX, Degree, distance};
use proptest::prelude::*;

use crate::addresses::{HABITS, degree, degrees, extend_as, neighbours, pair};

fn check(peer: &Address, destination: &Address, degree: Degree) {
    let Some(next) = peer.next_towards(destination) else {
        assert_eq!(peer, destination);
        return;
    };
    let own = distance(peer, destination, degree);
    let what = || format!("degree {degree}, from {peer} to {destination}");
    assert!(distance(&next, destination, degree) < own, "not nearer: {}", what());
    for other in neighbours(peer, degree).filter(|other| *other != next) {
        assert!(distance(&other, destination, degree) > own, "{other} is nearer: {}", what());
    }
}

proptest! {
    #[test]
    fn the_neighbour_on_the_path_is_the_only_nearer_one(
        q in 3_u8..=64, seed: u64, depth in 0_usize..=60,
    ) {
        let (peer, destination) = pair(&mut Rng::from_u64(seed), depth, degree(q));
        check(&peer, &destination, degree(q));
        check(&destination, &peer, degree(q));
    }

    #[test]
    fn distance_is_the_same_both_ways_and_zero_only_at_home(
        q in 3_u8..=64, seed: u64, depth in 0_usize..=1000,
    ) {
        let (a, b) = pair(&mut Rng::from_u64(seed), depth, degree(q));
        let there = distance(&a, &b, degree(q));
        prop_assert_eq!(there, distance(&b, &a, degree(q)));
        prop_assert_eq!(a == b, there.length() == 0.0);
        let hops = u32::try_from(a.hops_to(&b)).unwrap();
        let longest = f64::from(hops) * degree(q).edge_length();
        prop_assert!(there.length() <= longest * (1.0 + 1e-12));
    }

    #[test]
    fn bytes_and_text_round_trip(q in 3_u8..=64, seed: u64, depth in 0_usize..=100) {
        let (address, _) = pair(&mut Rng::from_u64(seed), depth, degree(q));
        prop_assert_eq!(Address::from_bytes(address.as_bytes(), degree(q)), Ok(address.clone()));
        prop_assert_eq!(Address::parse(&address.to_string(), degree(q)), Ok(address));
    }

    #[test]
    fn arbitrary_bytes_and_text_are_refused_or_read(
        q in 3_u8..=64, bytes: Vec<u8>, text: String,
    ) {
        let valid = bytes.iter().enumerate().all(|(depth, index)| *index < q - u8::from(depth > 0));
        prop_assert_eq!(Address::from_bytes(&bytes, degree(q)).is_ok(), valid);
        if let Ok(address) = Address::parse(&text, degree(q)) {
            prop_assert_eq!(address.to_string(), text);
        }
    }
}

/// Some 3,000 pairs up to the deepest addresses there are.
#[test]
fn greedy_is_right_in_deep_trees_of_every_degree() {
    for degree in degrees() {
        let mut rng = Rng::from_u64(degree.get().into());
        for _ in 0..50 {
            let (peer, destination) = pair(&mut rng, DEPTH_MAX, degree);
            check(&peer, &destination, degree);
        }
    }
}

/// From the end of one longest path to the end of another, along the horocycles on which the next
/// hop is nearer by as little as it can be.
#[test]
fn greedy_is_right_where_the_margin_is_smallest() {
    for degree in degrees() {
        let mut rng = Rng::from_u64(degree.get().into());
        for index in [0, degree.get() - 1] {
            let top = Address::ROOT.child(index, degree).unwrap();
            for (here, there) in HABITS.into_iter().zip(HABITS.into_iter().cycle().skip(1)) {
                let peer = extend_as(&mut rng, &top, DEPTH_MAX, degree, here);
                let destination = extend_as(&mut rng, &Address::ROOT, DEPTH_MAX, degree, there);
                check(&peer, &destination, degree);
                check(&peer.ancestor_at(1), &destination, degree);
                check(&Address::ROOT, &destination, degree);
            }
        }
    }
}
