//! A reference that shares nothing with the crate: absolute coordinates on the hyperboloid, with as
//! many bits as it takes to subtract them from each other.

use astro_float_num::{BigFloat, Consts, RoundingMode};
use cloak_geometry::{Address, Degree};

const ROUND: RoundingMode = RoundingMode::ToEven;
/// Bits of a distance that are kept when all that cancels is gone.
const SPARE_BITS: usize = 256;

/// The layout of one degree in numbers of `bits` bits.
pub(crate) struct Exact {
    bits: usize,
    constants: Consts,
    /// Cosine and sine of `2πk/q`.
    directions: Vec<[BigFloat; 2]>,
    /// Hyperbolic cosine and sine of an edge's length.
    edge: [BigFloat; 2],
}

impl Exact {
    /// Exact enough for addresses down to `depth`.
    pub(crate) fn new(degree: Degree, depth: usize) -> Self {
        // A coordinate at depth n is about exp(n L); two of them are multiplied.
        let digits = 2.0 * (depth as f64) * degree.edge_length() / std::f64::consts::LN_2;
        let bits = (digits as usize + SPARE_BITS).next_multiple_of(64);
        let mut constants = Consts::new().unwrap();
        let pi = constants.pi(bits, ROUND);
        let angle = pi.div(&whole(degree.get(), bits), bits, ROUND);
        let sin = angle.sin(bits, ROUND, &mut constants);
        let cos = angle.cos(bits, ROUND, &mut constants);
        let one = whole(1, bits);
        let two = whole(2, bits);
        let square = sin.mul(&sin, bits, ROUND);
        let cosh = two.div(&square, bits, ROUND).sub(&one, bits, ROUND);
        let sinh = cosh.mul(&cosh, bits, ROUND).sub(&one, bits, ROUND).sqrt(bits, ROUND);
        let step = [
            one.sub(&two.mul(&square, bits, ROUND), bits, ROUND),
            two.mul(&sin, bits, ROUND).mul(&cos, bits, ROUND),
        ];
        let first = [one, whole(0, bits)];
        let next = |last: &[BigFloat; 2]| Some(rotate(last, &step, bits));
        let turns = std::iter::successors(Some(first), next);
        let directions = turns.take(degree.get().into()).collect();
        Self { bits, constants, directions, edge: [cosh, sinh] }
    }

    /// The distance between two addresses.
    pub(crate) fn distance(&mut self, a: &Address, b: &Address) -> f64 {
        if a == b {
            return 0.0;
        }
        let ([ax, ay, at], [bx, by, bt]) = (self.point(a), self.point(b));
        let product = |a: &BigFloat, b: &BigFloat| a.mul(b, self.bits, ROUND);
        let space = product(&ax, &bx).add(&product(&ay, &by), self.bits, ROUND);
        let mut cosh = product(&at, &bt).sub(&space, self.bits, ROUND);
        cosh.set_precision(SPARE_BITS, ROUND).unwrap();
        cosh.acosh(128, ROUND, &mut self.constants).to_string().parse().unwrap()
    }

    /// Where an address is: `x`, `y` and `t`, with `t² - x² - y² = 1` and the root at `t = 1`.
    fn point(&self, address: &Address) -> [BigFloat; 3] {
        let bits = self.bits;
        let mut x = whole(0, bits);
        let mut y = whole(0, bits);
        let mut t = whole(1, bits);
        let [cosh, sinh] = &self.edge;
        let sum = |a: &BigFloat, b: &BigFloat, c: &BigFloat, d: &BigFloat| {
            a.mul(b, bits, ROUND).add(&c.mul(d, bits, ROUND), bits, ROUND)
        };
        for (above, index) in address.as_bytes().iter().enumerate().rev() {
            (x, t) = (sum(&x, cosh, &t, sinh), sum(&x, sinh, &t, cosh));
            if above == 0 {
                [x, y] = rotate(&[x, y], &self.directions[usize::from(*index)], bits);
            } else {
                let direction = &self.directions[usize::from(*index) + 1];
                [x, y] = rotate(&[x, y], direction, bits).map(|coordinate| coordinate.neg());
            }
        }
        [x, y, t]
    }
}

fn whole(number: u8, bits: usize) -> BigFloat {
    BigFloat::from_u8(number, bits)
}

fn rotate([x, y]: &[BigFloat; 2], [cos, sin]: &[BigFloat; 2], bits: usize) -> [BigFloat; 2] {
    let product = |a: &BigFloat, b: &BigFloat| a.mul(b, bits, ROUND);
    [
        product(x, cos).sub(&product(y, sin), bits, ROUND),
        product(x, sin).add(&product(y, cos), bits, ROUND),
    ]
}
