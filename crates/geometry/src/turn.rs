//! What it takes to pass a peer on the way along the tree, as a matrix without negative entries.
//!
//! In the upper half plane, let an edge `p -> n` be bisected by the imaginary axis, `p` on the left
//! and `n` on the right, at `e^{iα}` with `α = π/q`. The half planes behind `n`'s other edges are
//! the intervals between neighbouring images of infinity under the rotation about `n`; they fill
//! the positive axis. The isometry that takes the edge `p -> n` to the edge that leaves `n` after
//! `j` steps of `2α` around it, `0 < j < q`, is
//!
//! ```text
//! M_j = | s_j      s_{j+1} |     s_j = sin(jα) / sin(α),   det M_j = 1
//!       | s_{j-1}  s_j     |
//! ```
//!
//! These are the generators of Hecke's triangle group, as in the Stern-Brocot tree for `q = 3`.
//! That no entry is negative is what makes their products exact: nothing is ever subtracted.

use std::sync::LazyLock;

use crate::degree::Degree;

/// The matrices of one degree.
pub(crate) struct Turns {
    sin: f64,
    cos: f64,
    /// `s_j` for `j` in `0..=q`.
    ratios: Vec<f64>,
}

/// A product of turns, `2^SCALE_BITS` to the power of `scale` times the matrix `[[a, b], [c, d]]`.
pub(crate) struct Product {
    pub(crate) a: f64,
    pub(crate) b: f64,
    pub(crate) c: f64,
    pub(crate) d: f64,
    pub(crate) scale: i32,
}

impl Turns {
    /// The turns of the tree of this degree.
    pub(crate) fn of(degree: Degree) -> &'static Self {
        &ALL[usize::from(degree.get() - Degree::MIN.get())]
    }

    fn new(q: u8) -> Self {
        let angle = std::f64::consts::PI / f64::from(q);
        let sin = libm::sin(angle);
        // Mirrored, so that turns left and right by the same angle are exact mirror images.
        let ratio = |j: u8| match j.min(q - j) {
            0 => 0.0,
            1 => 1.0,
            j => libm::sin(angle * f64::from(j)) / sin,
        };
        Self { sin, cos: libm::cos(angle), ratios: (0..=q).map(ratio).collect() }
    }

    /// `sin(π/q)`.
    pub(crate) fn sin(&self) -> f64 {
        self.sin
    }

    /// `cos(π/q)`.
    pub(crate) fn cos(&self) -> f64 {
        self.cos
    }

    /// The product of the turns by `steps`, each in `0..q`.
    pub(crate) fn product(&self, steps: impl Iterator<Item = usize>) -> Product {
        steps.fold(Product::IDENTITY, |product, step| product.then(self.turn(step)))
    }

    /// `s_{j-1}`, `s_j` and `s_{j+1}`. Going back the way one came (`j = 0`) is no turn: only
    /// addresses of another degree lead to it, and they have no meaningful distance.
    pub(crate) fn turn(&self, step: usize) -> [f64; 3] {
        let at = step.clamp(1, self.ratios.len() - 2);
        [self.ratios[at - 1], self.ratios[at], self.ratios[at + 1]]
    }
}

impl Product {
    pub(crate) const IDENTITY: Self = Self { a: 1.0, b: 0.0, c: 0.0, d: 1.0, scale: 0 };

    fn then(self, [before, at, after]: [f64; 3]) -> Self {
        let Self { a, b, c, d, scale } = self;
        Self {
            a: a * at + b * before,
            b: a * after + b * at,
            c: c * at + d * before,
            d: c * after + d * at,
            scale,
        }
        .rescaled()
    }

    /// This product after one more turn at its beginning.
    pub(crate) fn after(&self, [before, at, after]: [f64; 3]) -> Self {
        let Self { a, b, c, d, scale } = *self;
        Self {
            a: at * a + after * c,
            b: at * b + after * d,
            c: before * a + at * c,
            d: before * b + at * d,
            scale,
        }
        .rescaled()
    }

    /// The product of both.
    pub(crate) fn times(&self, next: &Self) -> Self {
        let Self { a, b, c, d, scale } = *self;
        Self {
            a: a * next.a + b * next.c,
            b: a * next.b + b * next.d,
            c: c * next.a + d * next.c,
            d: c * next.b + d * next.d,
            scale: scale + next.scale,
        }
        .rescaled()
    }

    /// Entries stay within a factor of a few thousand of each other, so that one scale is enough.
    fn rescaled(self) -> Self {
        let Self { a, b, c, d, scale } = self;
        if a + b + c + d < LARGE {
            return self;
        }
        Self { a: a / LARGE, b: b / LARGE, c: c / LARGE, d: d / LARGE, scale: scale + 1 }
    }
}

/// Bits of the factor that is taken out of a product when it has grown by it.
pub(crate) const SCALE_BITS: i32 = 256;
/// `2^SCALE_BITS`: a turn multiplies entries by less than 2^7, and a product of two products is
/// below 2^513 and is scaled down at once, so squares stay below 2^1024.
const LARGE: f64 = f64::from_bits((1023 + SCALE_BITS as u64) << 52);

static ALL: LazyLock<Vec<Turns>> =
    LazyLock::new(|| (Degree::MIN.get()..=Degree::MAX.get()).map(Turns::new).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_isometries_without_negative_entries() {
        assert_eq!(LARGE, libm::ldexp(1.0, SCALE_BITS));
        for turns in ALL.iter() {
            for step in 1..turns.ratios.len() - 1 {
                let [before, at, after] = turns.turn(step);
                assert!(before >= 0.0 && at >= 1.0 && after >= 0.0);
                let error = (at * at - before * after - 1.0) / (at * at);
                assert!(error.abs() < 1e-14, "{step} of {}: {error}", turns.ratios.len());
            }
        }
    }
}
