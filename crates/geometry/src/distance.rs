//! Hyperbolic distance between addresses.

use crate::address::Address;
use crate::degree::Degree;
use crate::turn::{Product, SCALE_BITS, Turns};

/// A hyperbolic distance `d`, kept as `sinh²(d/2)` in the form `mantissa * 2^exponent`: that orders
/// as `d` does, needs no logarithm, and does not overflow at any depth.
///
/// The order is total and the same on every platform. Two addresses can be equally far from a
/// third; whoever compares breaks the tie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance {
    exponent: i32,
    /// The bits of a number in `0.5..1`, or of zero: positive numbers order as their bits do.
    mantissa: u64,
}

/// The distance between `a` and `b` in the tree of `degree`, the same both ways to the last bit.
///
/// Costs some ten multiplications for each hop between them. Both addresses must be of that degree;
/// of others the distance is some number.
///
/// # Precision
/// The relative error is below 1e-13 at any depth (a few 1e-15 in the tests), and a peer and its
/// tree neighbours, whose distances to a third address differ by at least about `2 / hops`, are
/// always told apart.
pub fn distance(a: &Address, b: &Address, degree: Degree) -> Distance {
    // One order of the factors, so that rounding is the same both ways.
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    let common = a.common_prefix_len(b);
    let (up, down) = (&a.as_bytes()[common..], &b.as_bytes()[common..]);
    if up.is_empty() && down.is_empty() {
        return Distance::ZERO;
    }
    let turns = Turns::of(degree);
    Distance::across(&turns.product(steps(up, down, degree)), turns)
}

/// How far one turns at each peer between the two ends, in steps of `2π/q` from the edge one came
/// by: first upwards, at the lowest common ancestor, then downwards.
fn steps<'a>(up: &'a [u8], down: &'a [u8], degree: Degree) -> impl Iterator<Item = usize> + 'a {
    let falling = split(down).1.iter().map(|index| usize::from(*index) + 1);
    rising(up, degree).chain(across(up, down, degree)).chain(falling)
}

/// The turns on the way up. An inner peer's parent is in place 0, its child k in place k + 1.
pub(crate) fn rising(up: &[u8], degree: Degree) -> impl Iterator<Item = usize> + '_ {
    let q = usize::from(degree.get());
    split(up).1.iter().rev().map(move |index| q.saturating_sub(usize::from(*index) + 1))
}

/// The turn at the lowest common ancestor, if the way does not end there. Only the difference
/// counts, so it may as well be the root, whose child k is in place k.
pub(crate) fn across(up: &[u8], down: &[u8], degree: Degree) -> Option<usize> {
    let q = usize::from(degree.get());
    let (from, to) = split(up).0.zip(split(down).0)?;
    Some((to + 4 * q - from.min(4 * q)) % q)
}

fn split(indices: &[u8]) -> (Option<usize>, &[u8]) {
    match indices.split_first() {
        Some((first, rest)) => (Some(usize::from(*first)), rest),
        None => (None, &[]),
    }
}

impl Distance {
    /// From an address to itself.
    pub const ZERO: Self = Self { exponent: i32::MIN, mantissa: 0 };

    /// The length in the plane's own unit (curvature -1).
    pub fn length(self) -> f64 {
        let mantissa = f64::from_bits(self.mantissa);
        if mantissa == 0.0 {
            0.0
        } else if self.exponent < FAR_EXPONENT {
            2.0 * libm::asinh(libm::sqrt(libm::ldexp(mantissa, self.exponent)))
        } else {
            // sinh²(d/2) is exp(d) / 4 to all digits there are.
            libm::log(4.0 * mantissa) + f64::from(self.exponent) * std::f64::consts::LN_2
        }
    }

    /// The distance between the ends of a path with this product of turns.
    ///
    /// The path begins at `-e^{-iα}` and ends at `(a e^{iα} + b) / (c e^{iα} + d)`, see
    /// [`crate::turn`]. With `sinh²(d/2) = |z - w|² / (4 Im z Im w)` and `det = 1` this gives
    /// `((b + c + (a + d) cos α)² + (a - d)² sin² α) / (4 sin² α)`.
    pub(crate) fn across(product: &Product, turns: &Turns) -> Self {
        let Product { a, b, c, d, scale } = *product;
        let real = (b + c + (a + d) * turns.cos()) / (2.0 * turns.sin());
        let imaginary = (a - d) / 2.0;
        let (mantissa, exponent) = libm::frexp(real * real + imaginary * imaginary);
        Self { exponent: exponent + 2 * SCALE_BITS * scale, mantissa: mantissa.to_bits() }
    }
}

impl std::fmt::Debug for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Distance({})", self.length())
    }
}

/// From `sinh²(d/2) = 2^100` on, a double cannot tell it from `exp(d) / 4`.
const FAR_EXPONENT: i32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees() -> impl Iterator<Item = Degree> {
        (3..=64).map(|q| Degree::new(q).unwrap())
    }

    #[test]
    fn neighbours_are_an_edge_apart() {
        for degree in degrees() {
            let peer = Address::from_bytes(&[degree.get() - 1, 1, 0], degree).unwrap();
            let child = peer.child(1, degree).unwrap();
            for (a, b) in [(&Address::ROOT, &peer.ancestor_at(1)), (&child, &peer)] {
                let error = distance(a, b, degree).length() - degree.edge_length();
                assert!(error.abs() < 1e-14, "{degree}: {error}");
            }
        }
    }

    #[test]
    fn at_degree_four_opposite_neighbours_are_two_edges_apart() {
        let degree = Degree::new(4).unwrap();
        let child = |index| Address::ROOT.child(index, degree).unwrap();
        let across = distance(&child(0), &child(2), degree);
        assert!((across.length() - 2.0 * degree.edge_length()).abs() < 1e-14);
        assert!(distance(&child(0), &child(1), degree) < across);
        assert_eq!(distance(&child(0), &child(1), degree), distance(&child(3), &child(0), degree));
    }

    #[test]
    fn addresses_of_another_degree_have_some_distance() {
        let big = Address::from_bytes(&[63, 62, 61, 0], Degree::MAX).unwrap();
        let other = Address::from_bytes(&[0, 62, 2], Degree::MAX).unwrap();
        assert!(distance(&big, &other, Degree::MIN).length().is_finite());
        assert_eq!(distance(&big, &big, Degree::MIN), Distance::ZERO);
        assert_eq!(Distance::ZERO.length(), 0.0);
    }
}
