//! Who wants lanes to a peer, and the warm ones that there are.
//!
//! Sessions wait in line, each once; whoever has a lane gives it to the session whose turn it is. A
//! free lane goes into the pool, and out of it when it is taken, broken or old. The peer's task asks
//! what is missing and dials it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloak_base::{Instant, SessionId};

use super::{Peer, PeerCommand};
use crate::lane::Lane;
use crate::sync::lock;

/// Most warm lanes kept per peer device.
const IDLE_MAX: usize = 64;
/// Warm lanes kept ready for a peer whose lanes were used lately.
const IDLE_SPARE: usize = 2;
/// A warm lane unused for this long is closed.
const IDLE_AGE: Duration = Duration::from_secs(300);

/// What is wanted of a peer, and what it has.
#[derive(Default)]
pub(super) struct Demand {
    /// Sessions that want a lane, first come first served; each at most once.
    waiting: VecDeque<SessionId>,
    pub(super) idle: Vec<(Instant, Lane)>,
    last_used: Option<Instant>,
    /// Lanes that we are dialling because the peer asked.
    reversing: usize,
    /// A lane broke since the path was last proved.
    doubtful: bool,
}

impl Demand {
    fn wait(&mut self, session: SessionId) {
        if !self.waiting.contains(&session) {
            self.waiting.push_back(session);
        }
    }

    fn pop_healthy(&mut self) -> Option<Lane> {
        while let Some((_, mut lane)) = self.idle.pop() {
            if lane.is_healthy() {
                return Some(lane);
            }
        }
        None
    }
}

/// What a peer's task is to provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Sessions that wait for a lane.
    pub(crate) waiting: usize,
    /// Warm lanes that are missing.
    pub(crate) spare: usize,
}

impl Peer {
    /// A warm lane for a session that opens, or a promise: its task is given a lane when there is
    /// one.
    pub(crate) fn want(&self, session: SessionId, now: Instant) -> Option<Lane> {
        let mut demand = lock(&self.demand);
        demand.last_used = Some(now);
        let lane = demand.pop_healthy();
        if lane.is_none() {
            demand.wait(session);
        }
        if demand.idle.len() < IDLE_SPARE {
            self.wanted.notify_one();
        }
        lane
    }

    /// Promises a lane to a session whose lane broke or is suspect. The warm ones may be as dead as
    /// that, whatever the kernel says, so they are dropped, and the path has to be proved anew.
    pub(crate) fn want_fresh(&self, session: SessionId, now: Instant) {
        let mut demand = lock(&self.demand);
        demand.last_used = Some(now);
        demand.idle.clear();
        let first = demand.waiting.is_empty();
        demand.doubtful |= first;
        demand.wait(session);
        drop(demand);
        self.wanted.notify_one();
        if first {
            self.tell(PeerCommand::Suspect);
        }
    }

    /// The session goes on waiting for a lane.
    pub(crate) fn wait_on(&self, session: SessionId) {
        lock(&self.demand).wait(session);
    }

    /// The session no longer wants a lane.
    pub(crate) fn forget(&self, session: SessionId) {
        lock(&self.demand).waiting.retain(|waiting| *waiting != session);
    }

    /// The session whose turn it is; it is taken off the list. After an outage both ends have much
    /// the same list: one begins at its front, the other at its back, or both would dial for the
    /// same sessions.
    pub(crate) fn next_waiting(&self) -> Option<SessionId> {
        let waiting = &mut lock(&self.demand).waiting;
        if self.begins_at_the_back { waiting.pop_back() } else { waiting.pop_front() }
    }

    /// Sessions that wait, for a `Nudge`.
    pub(crate) fn waiting(&self, most: usize) -> Vec<SessionId> {
        lock(&self.demand).waiting.iter().take(most).copied().collect()
    }

    /// Puts a free lane into the pool.
    pub(crate) fn keep(&self, lane: Lane, now: Instant) {
        let mut demand = lock(&self.demand);
        if demand.idle.len() < IDLE_MAX {
            demand.idle.push((now, lane));
        }
        if !demand.waiting.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// Whether one more lane may be dialled at the peer's request.
    pub(crate) fn begin_reverse(&self, most: usize) -> bool {
        let mut demand = lock(&self.demand);
        let begin = demand.reversing < most;
        demand.reversing += usize::from(begin);
        begin
    }

    /// A lane dialled at the peer's request is up, or is not.
    pub(crate) fn end_reverse(&self) {
        lock(&self.demand).reversing -= 1;
    }

    /// Drops warm lanes: those that died or aged, or all of them.
    pub(crate) fn sweep(&self, now: Instant, all: bool) {
        lock(&self.demand)
            .idle
            .retain_mut(|(since, lane)| !all && now.since(*since) < IDLE_AGE && lane.is_healthy());
    }

    /// Drops the warm lanes that lead through a host: there is a direct path.
    pub(crate) fn drop_relayed(&self) {
        lock(&self.demand).idle.retain(|(_, lane)| lane.connection.via().is_none());
    }

    /// What the task is to provide now.
    pub(crate) fn needs(&self, now: Instant) -> Needs {
        let demand = lock(&self.demand);
        let used = demand.last_used.is_some_and(|at| now.since(at) < IDLE_AGE);
        let spare = if used { IDLE_SPARE.saturating_sub(demand.idle.len()) } else { 0 };
        Needs { waiting: demand.waiting.len(), spare }
    }

    /// Whether a session waits for a lane.
    pub(crate) fn is_waited_for(&self) -> bool {
        !lock(&self.demand).waiting.is_empty()
    }

    /// Whether a session came to doubt the path since this was last asked.
    pub(crate) fn take_doubt(&self) -> bool {
        std::mem::take(&mut lock(&self.demand).doubtful)
    }

    /// Whether a channel may be of use soon, so that it is left open.
    pub(crate) fn may_need_channel(&self, now: Instant) -> bool {
        let used = |at| now.since(at) < IDLE_AGE;
        self.parked.load(Ordering::Relaxed) > 0 || lock(&self.demand).last_used.is_some_and(used)
    }

    /// Whether nothing would be missed if the peer were forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_linked()
            && lock(&self.demand).waiting.is_empty()
            && self.parked.load(Ordering::Relaxed) == 0
    }
}
