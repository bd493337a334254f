//! Pooled pieces of memory that buffers are made of.
//!
//! Four [`SIZES`]. A page is what a session takes whose buffer is empty, so that a keystroke does
//! not cost 64 KiB. 16 KiB is one TLS record, for an application that says some of that at a time;
//! 64 KiB is four. 256 KiB is what a stream gets that fills those: a chunk is read, sealed, and
//! written at once, and a quarter of the system calls and wake-ups is left.

use std::sync::{Mutex, PoisonError};

use crate::Memory;

/// Bytes of a chunk, smallest first.
pub(crate) const SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// Free chunks of each size that are kept: 1 MiB, 4 MiB, 8 MiB and 8 MiB.
const FREE_MAX: [usize; SIZES.len()] = [256, 256, 128, 32];

/// The smallest size that holds `bytes`; the largest where none does.
pub(crate) fn size_for(bytes: usize) -> usize {
    SIZES.into_iter().find(|size| *size >= bytes).unwrap_or(SIZES[SIZES.len() - 1])
}

/// Memory charged to an account; goes back to the pool and the ledger when dropped.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Box<[u8]>,
    memory: Memory,
}

/// Free chunks of each size.
#[derive(Debug, Default)]
pub(crate) struct Pool([Mutex<Vec<Box<[u8]>>>; SIZES.len()]);

impl Chunk {
    /// A chunk of `size`, or `None` when the ledger refuses it.
    pub(crate) fn try_new(memory: &Memory, size: usize) -> Option<Self> {
        memory.try_charge(size as u64).then(|| Self::charged(memory, size))
    }

    /// A chunk of `size`, whatever the ledger says.
    pub(crate) fn new(memory: &Memory, size: usize) -> Self {
        memory.charge(size as u64);
        Self::charged(memory, size)
    }

    fn charged(memory: &Memory, size: usize) -> Self {
        Self { bytes: memory.pool().take(size), memory: memory.clone() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.memory.release(self.bytes.len() as u64);
        self.memory.pool().put(std::mem::take(&mut self.bytes));
    }
}

impl Pool {
    fn take(&self, size: usize) -> Box<[u8]> {
        let free = self.0[class(size)].lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn put(&self, bytes: Box<[u8]>) {
        let class = class(bytes.len());
        let mut free = self.0[class].lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_MAX[class] {
            free.push(bytes);
        }
    }
}

fn class(size: usize) -> usize {
    let class = SIZES.iter().position(|other| *other == size);
    class.expect("invariant: chunks are made in these sizes only")
}

#[cfg(test)]
mod tests {
    use cloak_base::DeviceId;

    use super::*;
    use crate::Ledger;

    #[test]
    fn chunks_are_charged_while_they_live() {
        let ledger = Ledger::new(1 << 20);
        let memory = ledger.account(DeviceId::from_bytes([1; 32]));
        let [small, .., large] = SIZES;
        let page = Chunk::try_new(&memory, small).unwrap();
        let pieces: Vec<_> = (0..3).filter_map(|_| Chunk::try_new(&memory, large)).collect();
        assert_eq!((pieces.len(), ledger.held()), (3, 4096 + 3 * 262_144));
        assert!(Chunk::try_new(&memory, large).is_none());
        drop((page, pieces));
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn a_size_holds_what_it_is_for() {
        assert_eq!([0, 4096, 4097, 16_384].map(size_for), [4096, 4096, 16_384, 16_384]);
        assert_eq!([16_385, 65_536, 65_537].map(size_for), [65_536, 65_536, 262_144]);
        assert_eq!(size_for(usize::MAX), 262_144);
    }
}
