//! The end of the stream toward a session's application: bytes that it is still to get, and, where the
//! settings say so, the last of those that it got, for the application that comes after it. It is not given more
//! unread than is kept.
//!
//! All offsets here are distances back from the boundary, which is what the session has delivered: it counts
//! as accepted whatever is kept here.

use std::collections::VecDeque;
use std::time::Duration;

use cloak_base::Instant;
use cloak_session::Memory;

use crate::handover::Left;

/// Pauses between two questions whether an application that has much unread has read on.
const ASK_AFTER: Duration = Duration::from_millis(1);
const ASK_AFTER_MAX: Duration = Duration::from_millis(100);

/// The last bytes before the boundary.
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    /// So many of them, the last, are to be given to the application.
    pending: usize,
    /// Most bytes that are kept of those that were given; none where zero.
    max: usize,
    /// Bytes for which memory was charged.
    room: usize,
    memory: Memory,
    /// Bytes that the present application was given, and how many of them it has read at least. Not counted
    /// where none are kept.
    given: u64,
    read: u64,
    /// It cannot be told what it has read.
    is_opaque: bool,
    /// It has as much unread as is kept: when to ask again, and the pause before that.
    asked: Option<(Instant, Duration)>,
    /// How many bytes before the boundary the application before had not read, where that is known.
    not_read: Option<u64>,
}

impl Tail {
    /// Keeps at most `max` bytes of what is given, as far as `memory` allows.
    pub(super) fn new(max: usize, memory: Memory) -> Self {
        Self {
            bytes: VecDeque::new(),
            pending: 0,
            max,
            room: 0,
            memory,
            given: 0,
            read: 0,
            is_opaque: false,
            asked: None,
            not_read: None,
        }
    }

    /// Begins with what the application on another device has left.
    pub(super) fn adopt(&mut self, unread: Vec<u8>, not_read: Option<u64>) {
        // They are here, whether or not there is room.
        self.memory.charge(unread.len() as u64);
        (self.room, self.pending) = (unread.len(), unread.len());
        self.bytes = unread.into();
        self.not_read = not_read;
    }

    /// Whether bytes are kept that were given.
    pub(super) fn is_kept(&self) -> bool {
        self.max > 0
    }

    /// How many bytes back from the boundary there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes back from the boundary the next one is.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// See [`Left::not_read`].
    pub(super) fn not_read(&self) -> Option<u64> {
        self.not_read
    }

    /// The next bytes for the application; empty where it is at the boundary.
    pub(super) fn next(&self) -> &[u8] {
        let (front, back) = self.bytes.as_slices();
        let start = self.bytes.len() - self.pending;
        front.get(start..).filter(|next| !next.is_empty()).unwrap_or_else(|| {
            let start = start.saturating_sub(front.len());
            &back[start..]
        })
    }

    /// The application took so many of [`next`](Self::next).
    pub(super) fn took(&mut self, count: usize) {
        self.pending -= count;
        self.given += count as u64;
        let kept = self.bytes.len() - self.pending;
        self.bytes.drain(..kept.saturating_sub(self.max));
        if self.pending == 0 {
            self.bytes.shrink_to(self.max);
            self.keep_room(self.max);
        }
    }

    /// The application, at the boundary, was given these, which moved it on.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        if self.max == 0 || bytes.is_empty() {
            return;
        }
        self.given += bytes.len() as u64;
        let room = self.make_room(bytes.len());
        let bytes = &bytes[bytes.len().saturating_sub(room)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(room);
        self.bytes.drain(..excess.min(self.bytes.len()));
        self.bytes.extend(bytes);
    }

    /// Grows for so many bytes more, as far as it may; gives how many there is room for in all.
    fn make_room(&mut self, more: usize) -> usize {
        let wanted = (self.bytes.len() + more).min(self.max);
        if wanted > self.room {
            let wanted = wanted.next_power_of_two().min(self.max);
            if self.memory.try_charge((wanted - self.room) as u64) {
                self.room = wanted;
                self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
            }
        }
        self.room.min(self.max)
    }

    /// Memory is short: keeps nothing but what is to be given.
    pub(super) fn shed(&mut self) {
        self.bytes.drain(..self.bytes.len() - self.pending);
        self.bytes.shrink_to_fit();
        self.keep_room(self.pending);
    }

    fn keep_room(&mut self, most: usize) {
        let excess = self.room.saturating_sub(most);
        if excess > 0 {
            self.memory.release(excess as u64);
            self.room -= excess;
        }
    }

    /// Another application begins, so many bytes before the boundary.
    pub(super) fn begin(&mut self, back: usize) {
        debug_assert!(back <= self.bytes.len(), "checked before");
        self.pending = back;
        (self.given, self.read, self.not_read) = (0, 0, None);
        (self.is_opaque, self.asked) = (false, None);
    }

    /// How many bytes the application may be given: it never has more unread than is kept, as far as that can be
    /// told. `unread` asks.
    pub(super) fn allowance(
        &mut self,
        now: Instant,
        unread: impl FnOnce() -> Option<u64>,
    ) -> usize {
        if self.max == 0 || self.is_opaque {
            return usize::MAX;
        }
        if self.asked.is_some_and(|(at, _)| now < at) {
            return 0;
        }
        if self.asked.is_some() || self.left_of_max() == 0 {
            self.ask(now, unread());
        }
        match self.asked {
            _ if self.is_opaque => usize::MAX,
            Some(_) => 0,
            None => self.left_of_max(),
        }
    }

    fn left_of_max(&self) -> usize {
        let unread = usize::try_from(self.given - self.read).unwrap_or(usize::MAX);
        self.max.saturating_sub(unread)
    }

    fn ask(&mut self, now: Instant, unread: Option<u64>) {
        let Some(unread) = unread else {
            (self.is_opaque, self.asked) = (true, None);
            return;
        };
        self.read = self.given - unread.min(self.given);
        // Not in crumbs.
        self.asked = (self.left_of_max() < self.max / 4).then(|| {
            let pause = self.asked.map_or(ASK_AFTER, |(_, pause)| (pause * 2).min(ASK_AFTER_MAX));
            (now + pause, pause)
        });
    }

    /// When the application may have read on.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.asked.map(|(at, _)| at)
    }

    /// How many of the bytes that the application was given are among `unread` of its socket: what was
    /// said to it before the session is none of them.
    pub(super) fn of_given(&self, unread: u64) -> u64 {
        unread.min(self.given)
    }

    /// The application has left without having read the last `unread` bytes that it was given. Where
    /// that is not known, or not all of them are kept, the next one goes on where this one was given
    /// no more.
    pub(super) fn leave(&mut self, unread: Option<u64>) {
        (self.pending, self.not_read) = self.without(unread);
    }

    /// The same of an application that hands back what it has not read.
    pub(super) fn put_back(&mut self, unread: &[u8]) {
        if self.bytes.len() - self.pending < unread.len() {
            let pending = self.bytes.split_off(self.bytes.len() - self.pending);
            self.bytes = unread.iter().copied().chain(pending).collect();
        }
        self.leave(Some(unread.len() as u64));
    }

    /// What travels to another device where the application leaves here with so much unread; nothing is
    /// known of it yet while there is one, and of the last one where there is none.
    pub(super) fn left(&self, application: Option<Option<u64>>, state: Vec<u8>) -> Left {
        let (pending, not_read) =
            application.map_or((self.pending, self.not_read), |unread| self.without(unread));
        let unread = self.bytes.range(self.bytes.len() - pending..).copied().collect();
        Left { unread, state, not_read }
    }

    fn without(&self, unread: Option<u64>) -> (usize, Option<u64>) {
        let Some(unread) = unread else { return (self.pending, None) };
        let back = usize::try_from(unread).ok().map(|unread| unread.saturating_add(self.pending));
        let pending = back.filter(|back| *back <= self.bytes.len()).unwrap_or(self.pending);
        (pending, Some(unread + self.pending as u64))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.keep_room(0);
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::DeviceId;
    use cloak_session::Ledger;

    use super::*;

    fn tail(max: usize, ledger: &Ledger) -> Tail {
        Tail::new(max, ledger.account(DeviceId::from_bytes([1; 32])))
    }

    fn all(tail: &mut Tail) -> Vec<u8> {
        let mut all = Vec::new();
        while !tail.next().is_empty() {
            let next = tail.next().to_vec();
            all.extend_from_slice(&next);
            tail.took(next.len());
        }
        all
    }

    #[test]
    fn the_next_application_gets_first_what_the_last_one_has_not_read() {
        let ledger = Ledger::new(1 << 20);
        let mut tail = tail(8, &ledger);
        // The ring goes round.
        for piece in [&b"abcde"[..], b"fgh", b"ijk"] {
            tail.give(piece);
        }
        assert_eq!((tail.len(), ledger.held()), (8, 8));
        tail.leave(Some(4));
        assert_eq!((tail.not_read(), tail.pending()), (Some(4), 4));
        assert_eq!(tail.left(None, Vec::new()).unread, b"hijk");
        assert_eq!(tail.next(), &b"hijk"[..tail.next().len()]);
        let count = tail.next().len().min(2);
        tail.took(count);
        // It got some, of which it has read none.
        tail.leave(Some(count as u64));
        assert_eq!(tail.left(None, Vec::new()).not_read, Some(4));
        assert_eq!(all(&mut tail), b"hijk");
        assert_eq!(tail.len(), 8, "kept for another one");
        tail.begin(8);
        assert_eq!(all(&mut tail), b"defghijk");
        tail.give(b"l");
        tail.begin(1);
        assert_eq!(all(&mut tail), b"l");
        let bystander = ledger.account(DeviceId::from_bytes([2; 32]));
        bystander.charge(1);
        drop(tail);
        drop(self::tail(8, &ledger));
        bystander.release(1);
        assert!(ledger.held() == 0 && bystander.try_charge(1 << 20), "it is alone");
    }

    #[test]
    fn what_came_with_the_session_is_charged_until_it_was_given() {
        let ledger = Ledger::new(1 << 20);
        let mut none_kept = tail(0, &ledger);
        none_kept.adopt(b"0123456789".to_vec(), Some(10));
        none_kept.shed();
        assert_eq!(ledger.held(), 10, "it is to be given");
        assert_eq!(all(&mut none_kept), b"0123456789");
        assert_eq!(ledger.held(), 0);
        let mut some_kept = tail(4, &ledger);
        some_kept.adopt(b"0123456789".to_vec(), Some(10));
        assert_eq!(all(&mut some_kept), b"0123456789");
        some_kept.give(b"ab");
        assert_eq!((some_kept.len(), ledger.held()), (4, 4), "no more than others");
    }

    #[test]
    fn what_is_not_all_kept_is_left_out_and_said() {
        let ledger = Ledger::new(1 << 20);
        let mut tail = tail(4, &ledger);
        tail.give(b"abcdefgh");
        assert_eq!(
            tail.left(Some(Some(5)), Vec::new()),
            Left { not_read: Some(5), ..Left::default() }
        );
        assert_eq!(tail.left(Some(Some(4)), Vec::new()).unread, b"efgh");
        assert_eq!(tail.left(Some(None), Vec::new()), Left::default());
        assert_eq!(tail.pending(), 0, "it may stay after all");
        assert_eq!((tail.of_given(100), tail.of_given(3)), (8, 3));
    }

    #[test]
    fn without_a_tail_only_what_is_to_be_given_is_held() {
        let ledger = Ledger::new(1 << 20);
        let mut tail = tail(0, &ledger);
        tail.give(b"abc");
        assert_eq!(tail.len(), 0);
        tail.adopt(b"unread".to_vec(), Some(6));
        assert_eq!((tail.pending(), tail.not_read()), (6, Some(6)));
        tail.begin(6);
        tail.took(2);
        tail.put_back(b"n");
        assert_eq!(
            tail.left(None, Vec::new()),
            Left { unread: b"nread".to_vec(), state: Vec::new(), not_read: Some(5) }
        );
        tail.begin(5);
        assert_eq!((all(&mut tail), tail.len()), (b"nread".to_vec(), 0));
    }

    #[test]
    fn nobody_has_more_unread_than_is_kept() {
        let (ledger, at) = (Ledger::new(1 << 20), Instant::from_micros);
        let mut tail = tail(8, &ledger);
        assert_eq!(tail.allowance(at(0), || panic!("no need")), 8);
        tail.give(b"abcdef");
        assert_eq!(tail.allowance(at(0), || panic!("no need")), 2);
        tail.give(b"gh");
        assert_eq!(tail.allowance(at(0), || Some(7)), 0, "too little to go on with");
        assert_eq!(tail.poll_timeout(), Some(at(1000)));
        assert_eq!(tail.allowance(at(999), || panic!("too early")), 0);
        assert_eq!(tail.allowance(at(1000), || Some(7)), 0);
        assert_eq!(tail.poll_timeout(), Some(at(3000)), "twice as long");
        assert_eq!(tail.allowance(at(3000), || Some(5)), 3);
        assert_eq!(tail.poll_timeout(), None);
        tail.give(b"ijk");
        assert_eq!(tail.allowance(at(3000), || None), usize::MAX, "it is gone, or elsewhere");
        tail.begin(0);
        assert_eq!(tail.allowance(at(3000), || panic!("another one")), 8);
    }

    #[test]
    fn memory_bounds_what_is_kept() {
        let ledger = Ledger::new(16);
        let mut tail = tail(1 << 10, &ledger);
        tail.give(b"0123456789");
        assert_eq!((tail.len(), ledger.held()), (10, 16), "all there is");
        tail.give(b"abcdefghij");
        assert_eq!((tail.len(), ledger.held()), (16, 16));
        tail.leave(Some(2));
        tail.shed();
        assert_eq!((tail.len(), ledger.held()), (2, 2), "what is to be given");
        assert_eq!(all(&mut tail), b"ij");
    }
}
