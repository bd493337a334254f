//! What a simulation is made of, before it runs.

use std::time::Duration;

use cloak_overlay::{Config, Degree};

use crate::signatures::Signatures;

/// A simulated realm. Everything in it follows from these values.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Draws everything that is random.
    pub seed: u64,
    /// Peers that join.
    pub peers: usize,
    /// Those that nobody can dial.
    pub unreachable: Share,
    /// Those that sleep, each half of the time.
    pub sleeping: Share,
    /// Those that lie.
    pub adversaries: Share,
    /// Messages that must be sent twice.
    pub loss: Share,
    /// The number of peers doubles in this time while they join.
    pub doubling: Duration,
    /// How they sign.
    pub signatures: Signatures,
    /// How the overlay is set.
    pub overlay: Config,
}

/// A part of all, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// A number that is no share.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a share is a number from 0 to 1, not {0}")]
pub struct NotAShare(pub f64);

impl Setup {
    /// Honest, reachable peers with the overlay's own settings.
    pub fn new(seed: u64, peers: usize) -> Self {
        Self {
            seed,
            peers,
            unreachable: Share::NONE,
            sleeping: Share::NONE,
            adversaries: Share::NONE,
            loss: Share(1000),
            doubling: Duration::from_secs(8),
            signatures: Signatures::for_peers(peers),
            overlay: Config::default(),
        }
    }

    /// The tree's degree.
    pub fn degree(&self) -> Degree {
        self.overlay.degree
    }
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// The share of this size.
    ///
    /// # Errors
    /// When it is not from 0 to 1.
    pub fn new(share: f64) -> Result<Self, NotAShare> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self((share * MILLION) as u32))
        } else {
            Err(NotAShare(share))
        }
    }

    /// So many hundredths.
    pub const fn percent(percent: u32) -> Self {
        Self(if percent > 100 { 1_000_000 } else { percent * 10_000 })
    }

    /// As a number from 0 to 1.
    pub fn get(self) -> f64 {
        f64::from(self.0) / MILLION
    }

    /// As parts per million.
    pub const fn per_million(self) -> u64 {
        self.0 as u64
    }

    /// This share of `count`, rounded to the nearest.
    pub fn of(self, count: usize) -> usize {
        (self.get() * count as f64).round() as usize
    }
}

impl std::str::FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        Self::new(text.parse().unwrap_or(f64::NAN))
    }
}

const MILLION: f64 = 1_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_a_whole() {
        assert_eq!(Share::percent(30).of(10), 3);
        assert_eq!("0.25".parse(), Ok(Share::percent(25)));
        assert!("1.1".parse::<Share>().is_err() && "x".parse::<Share>().is_err());
        assert_eq!(Share::percent(10).per_million(), 100_000);
    }
}
