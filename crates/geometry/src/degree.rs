//! The degree of the tree, and the length of its edges.

use std::fmt;

use crate::turn::Turns;

/// Number of neighbours a peer has in the tree when all its places are taken: the root has `q`
/// children, every other peer a parent and `q - 1` children. Fixed for each realm.
///
/// # The layout, and why greedy routing is right on it
/// Every peer's neighbours are at the same distance `L` and at equal angles `2π/q` around it: the
/// root's child `k` in direction `2πk/q`, another peer's child `k` in direction `π + 2π(k + 1)/q`
/// from the direction in which one arrives from its parent.
///
/// The line that bisects an edge is seen from either end at distance `L/2` under an angle of
/// `2 asin(1 / cosh(L/2))`. With `cosh(L/2) = 1 / sin(π/q)` this is `2π/q` exactly: the bisectors
/// of a peer's edges meet only at infinity, and the half planes beyond them do not overlap. A
/// longer edge would do as well, a shorter one would not, so [`edge_length`](Self::edge_length) is
///
/// ```text
/// L = 2 acosh(1 / sin(π/q))
/// ```
///
/// What lies behind a neighbour in the tree then lies, by induction over the edges, in the half
/// plane beyond that edge's bisector. So for a peer `p` and another address `d`, the neighbour of
/// `p` on the path to `d` is strictly nearer to `d` than `p` is, and every other neighbour of `p`
/// is strictly farther away than `p`, `d` being on `p`'s side of their bisectors. How much nearer:
/// at least about `2 / n` over a path of `n` hops, so rounding does not reach it at any depth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Degree(u8);

/// A number that no tree of an overlay has as its degree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a degree is a number from 3 to 64, not {0}")]
pub struct DegreeError(pub u8);

impl Degree {
    /// The smallest degree: a path would be a line, which has no room to spread names.
    pub const MIN: Self = Self(3);
    /// The largest degree, which bounds what a peer must remember of its neighbours.
    pub const MAX: Self = Self(64);

    /// The degree `q`.
    ///
    /// # Errors
    /// When `q` is not in `3..=64`.
    pub const fn new(q: u8) -> Result<Self, DegreeError> {
        if q < Self::MIN.0 || q > Self::MAX.0 {
            return Err(DegreeError(q));
        }
        Ok(Self(q))
    }

    /// The number `q`.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// How many children a peer at `depth` can have; the root's depth is zero.
    pub const fn children_at(self, depth: usize) -> u8 {
        if depth == 0 { self.0 } else { self.0 - 1 }
    }

    /// The hyperbolic distance between neighbours in the tree.
    pub fn edge_length(self) -> f64 {
        2.0 * libm::acosh(1.0 / Turns::of(self).sin())
    }
}

impl fmt::Display for Degree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Degree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Degree({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        assert_eq!(Degree::new(2), Err(DegreeError(2)));
        assert_eq!(Degree::new(65), Err(DegreeError(65)));
        let degree = Degree::new(8).unwrap();
        assert_eq!((degree.children_at(0), degree.children_at(1)), (8, 7));
    }

    #[test]
    fn edges_of_degree_three_measure_the_logarithm_of_three() {
        let difference = Degree::MIN.edge_length() - libm::log(3.0);
        assert!(difference.abs() < 1e-15, "{difference}");
    }
}
