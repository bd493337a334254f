//! Distances from many addresses to one.

use crate::address::Address;
use crate::degree::Degree;
use crate::distance::{Distance, across, rising};
use crate::turn::{Product, Turns};

/// An address to which distances are wanted, with the work that all of them share: what lies below
/// a common ancestor on the way to it is the same for all that have that ancestor in common.
///
/// A distance depends on the two addresses alone, so all peers agree on it. It may differ in its
/// last bits from that of [`distance`](crate::distance): do not compare one with the other.
pub struct Towards<'a> {
    to: &'a Address,
    degree: Degree,
    turns: &'static Turns,
    /// The product of the turns at and below each level of `to`.
    below: Vec<Product>,
}

impl<'a> Towards<'a> {
    /// Prepares for distances to `to` in the tree of `degree`.
    pub fn new(to: &'a Address, degree: Degree) -> Self {
        let turns = Turns::of(degree);
        let mut below = Vec::with_capacity(to.depth() + 1);
        below.push(Product::IDENTITY);
        for index in to.as_bytes().iter().rev() {
            let next = below.last().unwrap_or(&Product::IDENTITY);
            below.push(next.after(turns.turn(usize::from(*index) + 1)));
        }
        below.reverse();
        Self { to, degree, turns, below }
    }

    /// The distance from `from`. Costs some ten multiplications for each level of `from` below the
    /// lowest common ancestor, and for one more.
    pub fn distance(&self, from: &Address) -> Distance {
        let common = from.common_prefix_len(self.to);
        let (up, down) = (&from.as_bytes()[common..], &self.to.as_bytes()[common..]);
        if up.is_empty() && down.is_empty() {
            return Distance::ZERO;
        }
        let ascent = rising(up, self.degree).chain(across(up, down, self.degree));
        let ascent = self.turns.product(ascent);
        let below = self.below.get(common + 1).unwrap_or(&Product::IDENTITY);
        Distance::across(&ascent.times(below), self.turns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::distance;

    fn address(degree: Degree, digits: &[u8]) -> Address {
        let valid = |(depth, digit): (usize, &u8)| digit % degree.children_at(depth);
        let digits: Vec<u8> = digits.iter().enumerate().map(valid).collect();
        Address::from_bytes(&digits, degree).unwrap()
    }

    proptest! {
        #[test]
        fn it_is_the_distance(
            q in 3_u8..=64,
            shared in proptest::collection::vec(any::<u8>(), 0..30),
            a in proptest::collection::vec(any::<u8>(), 0..300),
            b in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let degree = Degree::new(q).unwrap();
            let from = address(degree, &[&shared[..], &a].concat());
            let to = address(degree, &[&shared[..], &b].concat());
            let (one, other) = (Towards::new(&to, degree).distance(&from), distance(&from, &to, degree));
            let error = (one.length() - other.length()).abs() / other.length().max(1.0);
            prop_assert!(error < 1e-13, "{from} to {to}: {one:?}, {other:?}");
            prop_assert_eq!(one == Distance::ZERO, from == to);
        }

        /// The peer next on the way is nearer, by a margin that rounding does not touch.
        #[test]
        fn every_step_is_nearer(
            q in 3_u8..=64,
            a in proptest::collection::vec(any::<u8>(), 0..40),
            b in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let degree = Degree::new(q).unwrap();
            let (mut at, to) = (address(degree, &a), address(degree, &b));
            let towards = Towards::new(&to, degree);
            while let Some(next) = at.next_towards(&to) {
                prop_assert!(towards.distance(&next) < towards.distance(&at), "{at} to {to}");
                at = next;
            }
        }
    }
}
