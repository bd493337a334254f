//! The buffers into which sockets are read and records are opened: one pair per thread, lent for the
//! length of a poll.

use std::cell::Cell;

use super::SEND_MAX;

/// Bytes read from a socket in one poll, at most. What the other end seals at a time fits, with what
/// TLS adds to it: where the two ends take turns no record is left over. System calls are a small
/// part of the cost by then, and one connection keeps a worker for some 50 µs.
pub(crate) const READ_MAX: usize = SEND_MAX + 16 * 1024;
/// Largest left-over: the front of one record (at most 2^14 + 256 + 5 bytes, RFC 8446), and during
/// the handshake of a message that spans records, of which ours are far smaller.
pub(crate) const LEFT_OVER_MAX: usize = 20 * 1024;

thread_local! {
    static SPARE: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// The buffers of one poll.
pub(crate) struct Scratch {
    /// Room for what an earlier read left over, directly followed by room for a read. Both come
    /// together only once something was read, so a poll that finds nothing copies nothing.
    sealed: Box<[u8]>,
    /// What the records held, in one piece: an application's socket takes 64 KiB at once for little
    /// more than a record's 16, and one copy within the cache is cheaper than three system calls.
    pub(crate) plain: Vec<u8>,
}

impl Scratch {
    /// Runs `poll` with the buffers of this thread.
    pub(crate) fn lend<T>(poll: impl FnOnce(&mut Self) -> T) -> T {
        // Empty on first use, and where a handler polls another connection meanwhile.
        let mut scratch = SPARE.take().unwrap_or_else(Self::new);
        let result = poll(&mut scratch);
        scratch.plain.clear();
        SPARE.set(Some(scratch));
        result
    }

    fn new() -> Self {
        let sealed = vec![0; LEFT_OVER_MAX + READ_MAX].into_boxed_slice();
        Self { sealed, plain: Vec::with_capacity(LEFT_OVER_MAX + READ_MAX) }
    }

    /// Where to read to; at most `max` bytes.
    pub(crate) fn read_space(&mut self, max: usize) -> &mut [u8] {
        &mut self.sealed[LEFT_OVER_MAX..LEFT_OVER_MAX + max.min(READ_MAX)]
    }

    /// The left-over bytes and the `read` bytes after them, in one piece, and where to open them to.
    pub(crate) fn join(&mut self, left_over: &[u8], read: usize) -> (&mut [u8], &mut Vec<u8>) {
        let start = LEFT_OVER_MAX - left_over.len();
        self.sealed[start..LEFT_OVER_MAX].copy_from_slice(left_over);
        (&mut self.sealed[start..LEFT_OVER_MAX + read], &mut self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_and_read_bytes_are_adjacent_and_takers_do_not_share() {
        Scratch::lend(|a| {
            a.read_space(3).copy_from_slice(b"def");
            Scratch::lend(|b| b.read_space(3).copy_from_slice(b"xyz"));
            let (sealed, plain) = a.join(b"abc", 3);
            assert_eq!((&*sealed, plain.is_empty()), (&b"abcdef"[..], true));
            assert_eq!(a.read_space(usize::MAX).len(), READ_MAX);
        });
    }
}
