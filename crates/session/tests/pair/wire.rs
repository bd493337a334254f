//! A lane: one ordered pipe in each direction, which may be slow, silent, or cut anywhere.

use std::collections::VecDeque;
use std::time::Duration;

use cloak_base::{Incarnation, Instant};
use cloak_wire::{Code, Nonce, SessionFrame};

#[derive(Debug, Clone)]
pub(crate) enum Item {
    Hello(Nonce, Incarnation),
    Frame(SessionFrame),
    Data(Vec<u8>),
    /// The transport ends here, with what its end said last.
    End(Code),
}

impl Item {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len() + 4,
            Self::Hello(..) | Self::Frame(_) => 64,
            Self::End(_) => 0,
        }
    }
}

/// What a side has to do with a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Accepted; its first frame will tell.
    Waiting,
    /// Its session has it.
    Session,
    /// Answered without a session; drained until `Idle`.
    Answered,
    /// Given back after a session: nothing of that may come any more.
    Free,
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) items: VecDeque<(Instant, Item)>,
    last: Instant,
    pub(crate) in_flight: usize,
    /// Bytes that have arrived: what the sender's kernel sees acknowledged.
    pub(crate) arrived: u64,
    /// Cut: what is left arrives whatever the network does.
    pub(crate) cut: bool,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) dialler: usize,
    pub(crate) nonces: [Nonce; 2],
    /// By sender.
    pub(crate) pipes: [Pipe; 2],
    pub(crate) bound: [Bound; 2],
    pub(crate) latency: Duration,
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Bytes that may be under way in each direction.
    pub(crate) capacity: usize,
    /// A zombie: silent for ever, though the transport stands.
    pub(crate) silent: bool,
    /// Who has said `Idle` on it.
    pub(crate) idle: [bool; 2],
    /// The last `Resume` sent on it, by sender.
    pub(crate) resume: [Option<SessionFrame>; 2],
}

impl Wire {
    /// Puts an item under way; gives when it arrives.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        from: usize,
        item: Item,
        jitter: Duration,
    ) -> Instant {
        let pipe = &mut self.pipes[from];
        let len = item.len();
        let spent = Duration::from_micros(len as u64 * 1_000_000 / self.rate);
        let start = pipe.last.max(now + self.latency + jitter);
        pipe.last = start + spent;
        pipe.in_flight += len;
        pipe.items.push_back((pipe.last, item));
        pipe.last
    }

    pub(crate) fn room(&self, from: usize) -> usize {
        self.capacity.saturating_sub(self.pipes[from].in_flight)
    }

    /// Loses everything after the first `keep` items of a direction, and ends there.
    pub(crate) fn cut(&mut self, from: usize, keep: usize, now: Instant) {
        let pipe = &mut self.pipes[from];
        if pipe.cut {
            return;
        }
        if let Some((_, Item::Data(bytes))) = pipe.items.get_mut(keep) {
            bytes.truncate(bytes.len() / 2);
            pipe.items.truncate(keep + 1);
        } else {
            pipe.items.truncate(keep);
        }
        let at = pipe.items.back().map_or(now, |(at, _)| *at);
        pipe.items.push_back((at, Item::End(Code::Closed)));
        pipe.cut = true;
    }
}
