//! A pseudo-random byte stream in which every byte follows from its offset.
//!
//! A receiver can check each byte as it comes, from any offset on: a lost, doubled or foreign byte
//! shows at once and with its position, where a digest at the end only says that something is wrong.

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;

/// The stream of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// A byte that is not the one its offset calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// Where in the stream.
    pub offset: u64,
    /// What came.
    pub found: u8,
    /// What belongs there.
    pub expected: u8,
}

impl Pattern {
    /// The stream of `seed`; different seeds have nothing in common.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The byte at `offset`.
    #[must_use]
    pub fn byte(self, offset: u64) -> u8 {
        self.word(offset / 8)[usize::try_from(offset % 8).unwrap_or(0)]
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub fn fill(self, offset: u64, buffer: &mut [u8]) {
        let mut word = self.word(offset / 8);
        for (at, byte) in (offset..).zip(buffer) {
            let lane = usize::try_from(at % 8).unwrap_or(0);
            if lane == 0 {
                word = self.word(at / 8);
            }
            *byte = word[lane];
        }
    }

    /// Checks that `bytes` are those from `offset` on.
    ///
    /// # Errors
    /// The first byte that is not.
    pub fn check(self, offset: u64, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut word = self.word(offset / 8);
        for (at, &found) in (offset..).zip(bytes) {
            let lane = usize::try_from(at % 8).unwrap_or(0);
            if lane == 0 {
                word = self.word(at / 8);
            }
            if found != word[lane] {
                return Err(Mismatch { offset: at, found, expected: word[lane] });
            }
        }
        Ok(())
    }

    /// The first `length` bytes.
    #[must_use]
    pub fn bytes(self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(0, &mut bytes);
        bytes
    }

    /// SHA-256 of the first `length` bytes, in hexadecimal.
    #[must_use]
    pub fn sha256(self, length: u64) -> String {
        let mut digest = Sha256::new();
        let mut buffer = [0; 8192];
        let mut offset = 0;
        while offset < length {
            let take = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(offset, &mut buffer[..take]);
            digest.update(&buffer[..take]);
            offset += take as u64;
        }
        digest.finish()
    }

    /// One splitmix64 step per eight bytes.
    fn word(self, index: u64) -> [u8; 8] {
        let mut z =
            self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

/// A running SHA-256.
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in hexadecimal.
    #[must_use]
    pub fn finish(self) -> String {
        HEXLOWER.encode(self.0.finish().as_ref())
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_follows_from_its_offset() {
        let pattern = Pattern::new(7);
        let whole = pattern.bytes(100);
        let mut part = [0; 41];
        pattern.fill(13, &mut part);
        assert_eq!(part, whole[13..54]);
        assert_eq!(pattern.byte(60), whole[60]);
        assert_ne!(whole, Pattern::new(8).bytes(100));
    }

    #[test]
    fn a_lost_a_doubled_and_a_wrong_byte_are_found_where_they_are() {
        let pattern = Pattern::new(1);
        let good = pattern.bytes(64);
        assert_eq!(pattern.check(0, &good), Ok(()));
        let mut lost = good.clone();
        lost.remove(20);
        let mut doubled = good.clone();
        doubled.insert(20, good[20]);
        let mut wrong = good;
        wrong[20] ^= 1;
        assert!(pattern.check(0, &lost).is_err_and(|error| (20..24).contains(&error.offset)));
        assert!(pattern.check(0, &doubled).is_err_and(|error| (21..25).contains(&error.offset)));
        assert!(pattern.check(0, &wrong).is_err_and(|error| error.offset == 20));
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        let mut digest = Sha256::new();
        digest.update(b"abc");
        assert_eq!(
            digest.finish(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut digest = Sha256::new();
        digest.update(&Pattern::new(3).bytes(10_000));
        assert_eq!(Pattern::new(3).sha256(10_000), digest.finish());
    }
}
