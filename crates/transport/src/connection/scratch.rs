//! The buffer into which sockets are read: one per thread, lent for the length of a poll.

use std::cell::Cell;

/// Bytes read from a socket in one poll, at most. Fifteen full records: system calls are a small
/// part of the cost by then, and one connection keeps a worker for some 50 µs.
pub(crate) const READ_MAX: usize = 256 * 1024;
/// Largest left-over: the front of one record (at most 2^14 + 256 + 5 bytes, RFC 8446), and during
/// the handshake of a message that spans records, of which ours are far smaller.
pub(crate) const LEFT_OVER_MAX: usize = 20 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Room for what an earlier read left over, directly followed by room for a read. Both come
/// together only once something was read, so a poll that finds nothing copies nothing.
pub(crate) struct Scratch(Box<[u8]>);

impl Scratch {
    pub(crate) fn take() -> Self {
        // Empty on first use, and where a handler polls another connection meanwhile.
        Self(SPARE.take().unwrap_or_else(|| vec![0; LEFT_OVER_MAX + READ_MAX].into_boxed_slice()))
    }

    /// Where to read to; at most `max` bytes.
    pub(crate) fn read_space(&mut self, max: usize) -> &mut [u8] {
        &mut self.0[LEFT_OVER_MAX..LEFT_OVER_MAX + max.min(READ_MAX)]
    }

    /// The left-over bytes and the `read` bytes after them, in one piece.
    pub(crate) fn join(&mut self, left_over: &[u8], read: usize) -> &mut [u8] {
        let start = LEFT_OVER_MAX - left_over.len();
        self.0[start..LEFT_OVER_MAX].copy_from_slice(left_over);
        &mut self.0[start..LEFT_OVER_MAX + read]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(Some(std::mem::take(&mut self.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_and_read_bytes_are_adjacent_and_takers_do_not_share() {
        let mut a = Scratch::take();
        let mut b = Scratch::take();
        a.read_space(3).copy_from_slice(b"def");
        b.read_space(3).copy_from_slice(b"xyz");
        assert_eq!(a.join(b"abc", 3), b"abcdef");
        assert_eq!(a.read_space(usize::MAX).len(), READ_MAX);
    }
}
