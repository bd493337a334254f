//! Sealed bytes that the socket has not taken yet.

use std::cell::Cell;

/// Largest buffer that is kept for the next sender: a full cap of payload with its records' overhead
/// and some control frames.
const SPARE_MAX: usize = 384 * 1024;

thread_local! {
    /// One buffer per thread goes from sender to sender, so that a bulk transfer neither allocates
    /// nor clears memory, and an idle connection holds none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A queue of bytes in one piece: sealed at the back, sent from the front, freed when empty.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// All of it is initialised, so that it can be handed out for writing without clearing it first.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outgoing {
    /// Room for at least `len` bytes behind what is queued. What is written there counts only after
    /// [`commit`](Self::commit).
    pub(crate) fn space(&mut self, len: usize) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = SPARE.take();
        }
        if self.buffer.len() - self.end < len {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let wanted = self.end + len;
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Queues the first `len` bytes of the space.
    pub(crate) fn commit(&mut self, len: usize) {
        self.end += len;
        debug_assert!(self.end <= self.buffer.len());
        self.release_if_empty();
    }

    /// What is queued, oldest first.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops the first `len` bytes: the socket took them.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end);
        self.release_if_empty();
    }

    /// Number of bytes queued.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    fn release_if_empty(&mut self) {
        if self.start != self.end {
            return;
        }
        (self.start, self.end) = (0, 0);
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() <= SPARE_MAX {
            SPARE.set(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(out: &mut Outgoing, bytes: &[u8]) {
        out.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        out.commit(bytes.len());
    }

    #[test]
    fn first_in_first_out_and_nothing_held_when_empty() {
        let mut out = Outgoing::default();
        put(&mut out, b"hello ");
        out.consume(4);
        put(&mut out, &[b'x'; 1000]);
        put(&mut out, b"end");
        assert_eq!(out.len(), 2 + 1000 + 3);
        assert_eq!(&out.unsent()[..3], b"o x");
        assert!(out.unsent().ends_with(b"xend"));
        out.consume(1005);
        assert_eq!((out.len(), out.capacity(), out.unsent()), (0, 0, &b""[..]));
    }

    #[test]
    fn space_that_is_not_used_is_given_back() {
        let mut out = Outgoing::default();
        assert!(out.space(100).len() >= 100);
        out.commit(0);
        assert_eq!(out.capacity(), 0);
    }
}
