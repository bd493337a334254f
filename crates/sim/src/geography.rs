//! Where peers are, and how long a message takes between them.
//!
//! A transit-stub model: transit domains (regions of the Internet's core) lie in a plane and a
//! message between two of them takes as long as light in fibre takes on a detour; each has stub
//! domains (access networks); each peer has a last mile. Latency is symmetric, constant in time,
//! and costs a few additions and one look into a small table.

use std::time::Duration;

use cloak_base::Rng;

/// Transit domains.
const TRANSITS: usize = 32;
/// Stub domains of each transit domain.
const STUBS: usize = 24;
/// Side of the square that transit domains lie in, in microseconds of one-way delay: about the
/// greatest distances on earth, in fibre.
const SIDE_MICROS: u64 = 80_000;
/// Delay between any two transit domains on top of the distance.
const TRANSIT_MIN_MICROS: u32 = 1_000;
/// Delay between a stub and its transit domain: from, to.
const STUB_MICROS: (u64, u64) = (500, 6_000);
/// Delay of a last mile: from, to. Drawn twice, the smaller counts, so that most are short.
const LAST_MILE_MICROS: (u64, u64) = (300, 15_000);
/// Delay between two peers of one stub on top of their last miles.
const SAME_STUB_MICROS: u32 = 200;

/// The domains and their distances.
pub struct Geography {
    transit: Vec<u32>,
    stub: Vec<u32>,
}

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    transit: u16,
    stub: u16,
    last_mile: u32,
}

impl Geography {
    /// Draws the domains.
    pub fn draw(rng: &mut Rng) -> Self {
        let points: Vec<(f64, f64)> =
            (0..TRANSITS).map(|_| (coordinate(rng), coordinate(rng))).collect();
        let between = |a: usize, b: usize| {
            let (x, y) = (points[a].0 - points[b].0, points[a].1 - points[b].1);
            if a == b { 0 } else { TRANSIT_MIN_MICROS + x.hypot(y) as u32 }
        };
        let pairs = (0..TRANSITS * TRANSITS).map(|at| between(at / TRANSITS, at % TRANSITS));
        let stub = (0..TRANSITS * STUBS).map(|_| draw(rng, STUB_MICROS)).collect();
        Self { transit: pairs.collect(), stub }
    }

    /// Draws a place for a peer.
    pub fn place(&self, rng: &mut Rng) -> Place {
        let stub = rng.below(self.stub.len() as u64);
        let last_mile = draw(rng, LAST_MILE_MICROS).min(draw(rng, LAST_MILE_MICROS));
        let narrow = |number| u16::try_from(number).expect("invariant: there are few domains");
        Place { transit: narrow(stub / STUBS as u64), stub: narrow(stub), last_mile }
    }

    /// One-way delay between two peers.
    pub fn latency(&self, a: Place, b: Place) -> Duration {
        let last_miles = a.last_mile + b.last_mile;
        let between = if a.stub == b.stub {
            SAME_STUB_MICROS
        } else {
            let pair = usize::from(a.transit) * TRANSITS + usize::from(b.transit);
            self.stub[usize::from(a.stub)] + self.stub[usize::from(b.stub)] + self.transit[pair]
        };
        Duration::from_micros(u64::from(last_miles + between))
    }
}

fn coordinate(rng: &mut Rng) -> f64 {
    rng.below(SIDE_MICROS) as f64
}

fn draw(rng: &mut Rng, (from, to): (u64, u64)) -> u32 {
    u32::try_from(from + rng.below(to - from)).expect("invariant: delays are below an hour")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_symmetric_and_of_the_internets_size() {
        let mut rng = Rng::from_u64(1);
        let geography = Geography::draw(&mut rng);
        let places: Vec<Place> = (0..200).map(|_| geography.place(&mut rng)).collect();
        let mut all = Vec::new();
        for a in &places {
            for b in &places {
                assert_eq!(geography.latency(*a, *b), geography.latency(*b, *a));
                all.push(geography.latency(*a, *b).as_millis());
            }
        }
        all.sort_unstable();
        let median = all[all.len() / 2];
        assert!((20..80).contains(&median), "median {median} ms");
        assert!(all[all.len() - 1] < 200, "{} ms", all[all.len() - 1]);
    }
}
