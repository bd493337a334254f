//! Random addresses, also of the kinds that are hardest on arithmetic.

use cloak_base::Rng;
use cloak_geometry::{Address, DEPTH_MAX, Degree};

pub(crate) fn degrees() -> impl Iterator<Item = Degree> {
    (3..=64).map(degree)
}

pub(crate) fn degree(q: u8) -> Degree {
    Degree::new(q).unwrap()
}

/// How a path goes on at each level.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Every child is equally likely.
    Uniform,
    /// Always the first child: such a path runs along a horocycle, where margins are smallest.
    First,
    /// Always the last child.
    Last,
    /// Long runs of first or last children between uniform ones.
    Runs,
}

pub(crate) const HABITS: [Habit; 4] = [Habit::Uniform, Habit::First, Habit::Last, Habit::Runs];

pub(crate) fn habit(rng: &mut Rng) -> Habit {
    HABITS[below(rng, HABITS.len())]
}

pub(crate) fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap()
}

/// `from` with `more` levels below it, as far as addresses go.
pub(crate) fn extend(rng: &mut Rng, from: &Address, more: usize, degree: Degree) -> Address {
    let habit = habit(rng);
    extend_as(rng, from, more, degree, habit)
}

pub(crate) fn extend_as(
    rng: &mut Rng,
    from: &Address,
    more: usize,
    degree: Degree,
    habit: Habit,
) -> Address {
    let mut indices = from.as_bytes().to_vec();
    let mut last = false;
    while indices.len() < (from.depth() + more).min(DEPTH_MAX) {
        let children = degree.children_at(indices.len());
        let uniform = u8::try_from(rng.below(children.into())).unwrap();
        last ^= rng.chance(1, 20);
        indices.push(match habit {
            Habit::Uniform => uniform,
            Habit::First => 0,
            Habit::Last => children - 1,
            Habit::Runs if rng.chance(1, 20) => uniform,
            Habit::Runs => (children - 1) * u8::from(last),
        });
    }
    Address::from_bytes(&indices, degree).unwrap()
}

/// Two addresses with a common part, each end up to `depth` levels below the root.
pub(crate) fn pair(rng: &mut Rng, depth: usize, degree: Degree) -> (Address, Address) {
    let common = below(rng, depth + 1);
    let common = if rng.chance(1, 3) { 0 } else { common };
    let above = extend(rng, &Address::ROOT, common, degree);
    let mut end = || {
        let more = below(rng, depth - common + 1);
        extend(rng, &above, more, degree)
    };
    (end(), end())
}

/// All neighbours of a peer in the full tree.
pub(crate) fn neighbours(peer: &Address, degree: Degree) -> impl Iterator<Item = Address> {
    let indices = 0..degree.children_at(peer.depth());
    let children = indices.filter_map(move |index| peer.child(index, degree).ok());
    peer.parent().into_iter().chain(children)
}
