//! Pooled pieces of memory that buffers are made of.
//!
//! Two sizes. [`LARGE`] is 64 KiB: four TLS records, so that a vectored write of one chunk is a
//! full flight of records and the bookkeeping per byte vanishes, while 4 MiB are no more than 64 of
//! them. [`SMALL`] is 4 KiB, a page: what a session takes whose buffer is empty, so that a keystroke
//! does not cost 64 KiB.

use std::sync::{Mutex, PoisonError};

use crate::Memory;

/// Bytes of a large chunk.
pub(crate) const LARGE: usize = 64 << 10;
/// Bytes of a small chunk.
pub(crate) const SMALL: usize = 4 << 10;
/// Free chunks of each size that are kept: 16 MiB of large ones, 4 MiB of small ones.
const FREE_MAX: [usize; 2] = [1024, 256];

/// Memory charged to an account; goes back to the pool and the ledger when dropped.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Box<[u8]>,
    memory: Memory,
}

/// Free chunks: small ones, large ones.
#[derive(Debug, Default)]
pub(crate) struct Pool([Mutex<Vec<Box<[u8]>>>; 2]);

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
    debug_assert!(size == SMALL || size == LARGE, "chunks have two sizes");
    usize::from(size == LARGE)
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
        let small = Chunk::try_new(&memory, SMALL).unwrap();
        let large: Vec<_> = (0..15).filter_map(|_| Chunk::try_new(&memory, LARGE)).collect();
        assert_eq!((large.len(), ledger.held()), (15, 4096 + 15 * 65_536));
        assert!(Chunk::try_new(&memory, LARGE).is_none());
        drop((small, large));
        assert_eq!(ledger.held(), 0);
    }
}
