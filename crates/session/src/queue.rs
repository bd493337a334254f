//! A queue of bytes addressed by stream offset, in pooled chunks, without memory when empty.

use std::collections::VecDeque;

use crate::Memory;
use crate::chunk::{Chunk, size_for};

/// The bytes of a stream from `start` up to `end`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    start: u64,
    end: u64,
    pieces: VecDeque<Piece>,
}

/// A chunk and where its bytes belong. Only the last piece of a queue may have room.
#[derive(Debug)]
struct Piece {
    chunk: Chunk,
    /// Offset of its first byte.
    base: u64,
    filled: usize,
}

impl Queue {
    /// An empty queue at `offset`.
    pub(crate) fn at(offset: u64) -> Self {
        Self { start: offset, end: offset, pieces: VecDeque::new() }
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room behind the last byte; takes a chunk where there is none. Empty when the ledger refuses,
    /// unless the queue is empty: a session goes on, if slowly, whatever others hold.
    pub(crate) fn room(&mut self, memory: &Memory, size: usize) -> &mut [u8] {
        if !self.has_room() {
            let chunk = match Chunk::try_new(memory, size) {
                None if self.is_empty() => Chunk::new(memory, size_for(0)),
                None => return &mut [],
                Some(chunk) => chunk,
            };
            self.pieces.push_back(Piece { chunk, base: self.end, filled: 0 });
        }
        let piece = self.pieces.back_mut().expect("invariant: a piece with room is there");
        &mut piece.chunk.bytes_mut()[piece.filled..]
    }

    /// Counts `len` bytes that were written into the room; gives an unused chunk back.
    pub(crate) fn wrote(&mut self, len: usize) {
        if let Some(piece) = self.pieces.back_mut() {
            piece.filled += len;
            debug_assert!(piece.filled <= piece.chunk.bytes().len(), "more than the room");
            self.end += len as u64;
        }
        self.pieces.pop_back_if(|piece| piece.filled == 0);
    }

    /// Copies `bytes` to the end, whatever the ledger says.
    pub(crate) fn push(&mut self, memory: &Memory, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if !self.has_room() {
                let chunk = Chunk::new(memory, size_for(bytes.len()));
                self.pieces.push_back(Piece { chunk, base: self.end, filled: 0 });
            }
            let piece = self.pieces.back_mut().expect("invariant: a piece with room is there");
            let room = &mut piece.chunk.bytes_mut()[piece.filled..];
            let len = room.len().min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
            piece.filled += len;
            self.end += len as u64;
            bytes = &bytes[len..];
        }
    }

    /// At most `max` contiguous bytes from `offset`; empty outside the queue.
    pub(crate) fn slice(&self, offset: u64, max: u64) -> &[u8] {
        if offset < self.start || offset >= self.end {
            return &[];
        }
        let after = self.pieces.partition_point(|piece| piece.base <= offset);
        let piece = &self.pieces[after - 1];
        let filled = &piece.chunk.bytes()[..piece.filled];
        let rest = &filled[to_usize(offset - piece.base)..];
        &rest[..rest.len().min(to_usize(max))]
    }

    /// All bytes, in pieces.
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        let (mut at, mut slices) = (self.start, Vec::with_capacity(self.pieces.len()));
        while at < self.end {
            let slice = self.slice(at, u64::MAX);
            at += slice.len() as u64;
            slices.push(slice);
        }
        slices
    }

    /// Frees everything below `offset`, at most the whole queue.
    pub(crate) fn release(&mut self, offset: u64) {
        self.start = offset.clamp(self.start, self.end);
        while self.pieces.pop_front_if(|piece| piece.base + piece.filled as u64 <= offset).is_some()
        {
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// Drops all bytes; the queue is empty at `offset`.
    pub(crate) fn clear(&mut self, offset: u64) {
        *self = Self::at(offset);
    }

    fn has_room(&self) -> bool {
        self.pieces.back().is_some_and(|piece| piece.filled < piece.chunk.bytes().len())
    }
}

/// Memory sizes fit; offsets that do not are cut to what memory could hold.
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use cloak_base::{DeviceId, Rng};

    use super::*;
    use crate::Ledger;

    /// Against a plain vector, around 2^32 and with chunk borders everywhere.
    #[test]
    fn behaves_like_a_vector_with_an_offset() {
        let ledger = Ledger::new(64 << 20);
        let memory = ledger.account(DeviceId::from_bytes([1; 32]));
        let base = (1 << 32) - 50_000;
        for seed in 0..20 {
            let mut rng = Rng::from_u64(seed);
            let (mut queue, mut model) = (Queue::at(base), Vec::new());
            for _ in 0..200 {
                step(&mut queue, &mut model, &memory, &mut rng);
                let at = queue.start() + rng.below(queue.len() + 1);
                let slice = queue.slice(at, rng.below(100_000));
                let index = to_usize(at - base);
                assert_eq!(slice, &model[index..index + slice.len()], "seed {seed}");
                assert_eq!(queue.end(), base + model.len() as u64);
                assert!(ledger.held() <= queue.len() + 2 * size_for(usize::MAX) as u64);
            }
            queue.release(u64::MAX);
            assert_eq!((queue.is_empty(), ledger.held()), (true, 0), "idle holds nothing");
        }
    }

    fn step(queue: &mut Queue, model: &mut Vec<u8>, memory: &Memory, rng: &mut Rng) {
        match rng.below(3) {
            0 => {
                let room = queue.room(memory, size_for(to_usize(rng.below(100_000))));
                let len = to_usize(rng.below(room.len() as u64 + 1));
                rng.fill(&mut room[..len]);
                model.extend_from_slice(&room[..len]);
                queue.wrote(len);
            }
            1 => {
                let mut bytes = vec![0; to_usize(rng.below(10_000))];
                rng.fill(&mut bytes);
                model.extend_from_slice(&bytes);
                queue.push(memory, &bytes);
            }
            _ => queue.release(queue.start() + rng.below(queue.len() + 1)),
        }
    }
}
