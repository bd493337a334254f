//! Lanes come and go: which one is tried next, which ones are closed.

use cloak_base::{DeviceId, Incarnation, Instant};
use cloak_wire::{Code, Nonce};

use super::{Attempt, Phase, Session};
use crate::lane::{Greeting, LANES_MAX, Lane};
use crate::{End, Event, LaneId, LaneUp, Rank, Role, Suspicion};

impl Session {
    /// A lane is there. On one that we dialled the session opens or resumes, when it has a use for
    /// it; on one that the peer dialled it waits for the peer's frame.
    pub fn lane_up(&mut self, now: Instant, up: LaneUp) {
        let now = self.tick(now);
        if self.is_ended() || self.lane(up.lane).is_some() {
            self.events.push_back(Event::Evict { lane: up.lane, code: Code::Gone });
            return;
        }
        self.make_room(&up);
        self.give_up_silent_attempt(&up);
        self.owner.get_or_insert(up.peer);
        self.lanes.push(Lane::new(up, now));
        let is_first = self.role == Role::Responder && self.committed == Rank::NONE;
        if is_first && !up.we_dialled {
            let rank = Rank { epoch: self.attempted, role: Role::Initiator };
            self.take_opening_lane(up.lane, rank, self.receive.received());
        }
        self.settle();
    }

    /// The peer's `Hello` arrived on a lane that we dialled: needed before its `Resumed`.
    pub fn lane_nonce(&mut self, lane: LaneId, peer_nonce: Nonce) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.up.peer_nonce = Some(peer_nonce);
        }
    }

    /// The next lane given with [`lane_up`](Self::lane_up) is better than the one in use, which works:
    /// the session goes over to it, and keeps the present one until it has.
    pub fn improve(&mut self, now: Instant) {
        self.tick(now);
        self.improving = self.phase == Phase::Open && self.current.is_some();
        self.settle();
    }

    /// The lane's transport broke, or the peer closed it: with this code, [`Code::Closed`] where it gave
    /// none.
    pub fn lane_down(&mut self, now: Instant, lane: LaneId, code: Code) {
        self.tick(now);
        if code == Code::Paused {
            self.note_paused(lane);
        }
        if self.attempt.is_some_and(|attempt| attempt.lane == lane) {
            self.pause_for_move();
        }
        self.forget(lane);
        self.settle();
    }

    /// There is a reason to think that the lane in use is dead: it is asked at once, and another is
    /// wanted if it does not answer soon.
    pub fn suspect(&mut self, now: Instant, why: Suspicion) {
        let now = self.tick(now);
        if why == Suspicion::Nudged {
            self.note_awake();
        }
        let rtt = self.rtt.smoothed();
        let tried = self.attempt.map(|attempt| attempt.lane);
        // What the peer says of its lanes is older than an attempt under way.
        let asked = [self.current, tried.filter(|_| why != Suspicion::Nudged)];
        for lane in &mut self.lanes {
            if asked.contains(&Some(lane.id())) && lane.idle_sent.is_none() {
                lane.probe_due |= lane.liveness.suspect(now, why, rtt);
            }
        }
        self.settle();
    }

    /// The present run of the peer's `device`, from each `Hello`. A newer one than before means that the
    /// peer restarted and no longer has the session: it ends, unless none of our bytes was sent on it
    /// yet. Devices that had the other end before do not count.
    pub fn peer_incarnation(&mut self, now: Instant, device: DeviceId, incarnation: Incarnation) {
        self.tick(now);
        if self.owner.is_some_and(|owner| owner != device) {
            return;
        }
        let known = *self.incarnation.get_or_insert(incarnation);
        let is_newer = incarnation.counter >= known.counter && incarnation != known;
        if is_newer && (self.may_peer_move() || self.has_note()) {
            // What it has lost, the next owner may have.
            self.incarnation = Some(incarnation);
            self.note_orphan(device);
        } else if is_newer {
            self.incarnation = Some(incarnation);
            let never_opened = self.role == Role::Initiator
                && matches!(self.phase, Phase::Opening(_))
                && self.early_max == 0;
            if !never_opened && !self.is_ended() {
                self.end(End::Lost(Code::PeerRestarted));
            }
        }
        self.settle();
    }

    /// Tries the spare lane, when there is a use for one.
    pub(super) fn start_attempt(&mut self) {
        let is_needed = match self.phase {
            Phase::Opening(_) => self.role == Role::Initiator,
            Phase::Open => !self.is_riding() || self.improving,
            Phase::Leaving(_) => !self.is_riding(),
            Phase::Taking => true,
            Phase::Away { .. } | Phase::Ended(_) => false,
        };
        let is_futile = self.paused_until.is_some() || self.is_paused();
        if !is_needed || self.attempt.is_some() || is_futile {
            return;
        }
        let Some(lane) = self.spare() else { return };
        if !self.spill.is_here() {
            self.want_buffers();
            return;
        }
        let epoch = self.attempted.max(self.committed.epoch).next();
        let opening = matches!(self.phase, Phase::Opening(_));
        let now = self.now;
        if let Some(lane) = self.lane_mut(lane) {
            lane.greeting = Some(if opening { Greeting::Open } else { Greeting::Resume });
            lane.liveness.heard(now);
        }
        self.attempted = epoch;
        let (rank, after) = (Rank { epoch, role: self.role }, self.committed);
        self.attempt = Some(Attempt { lane, rank, after });
    }

    /// A lane that we dialled and have not used: kept for when the present attempt fails.
    pub(super) fn spare(&self) -> Option<LaneId> {
        let tried = self.attempt.map(|attempt| attempt.lane);
        let used = [self.current, tried];
        let mut spares = self.lanes.iter().filter(|lane| lane.is_untouched()).map(Lane::id);
        spares.rfind(|id| !used.contains(&Some(*id)))
    }

    /// Keeps the number of lanes bounded: one spare, and no more than [`LANES_MAX`] in all.
    fn make_room(&mut self, up: &LaneUp) {
        if up.we_dialled
            && let Some(spare) = self.spare()
        {
            self.release_spare(spare);
        }
        if self.lanes.len() == LANES_MAX {
            let keep = [self.current, self.attempt.map(|attempt| attempt.lane)];
            let oldest = self.lanes.iter().map(Lane::id).find(|id| !keep.contains(&Some(*id)));
            oldest.into_iter().for_each(|lane| self.evict(lane, Code::Busy));
        }
    }

    /// A whole handshake later than the lane that is being tried, a new one is there: if not even
    /// the peer's `Hello` has come on the old one, nothing will.
    fn give_up_silent_attempt(&mut self, up: &LaneUp) {
        let tried = self.attempt.and_then(|attempt| self.lane(attempt.lane));
        if let Some(silent) = tried.filter(|lane| up.we_dialled && lane.up.peer_nonce.is_none()) {
            self.evict(silent.id(), Code::Timeout);
        }
    }

    /// Gives back a lane on which nothing was said.
    pub(super) fn release_spare(&mut self, lane: LaneId) {
        self.forget(lane);
        self.events.push_back(Event::LaneFree(lane));
    }

    /// Forgets a lane and has it closed.
    pub(super) fn evict(&mut self, lane: LaneId, code: Code) {
        self.forget(lane);
        self.events.push_back(Event::Evict { lane, code });
    }

    pub(super) fn evict_all(&mut self, code: Code) {
        while let Some(lane) = self.lanes.first().map(Lane::id) {
            self.evict(lane, code);
        }
        self.lanes = Vec::new();
    }

    /// Forgets a lane, whatever it was for.
    pub(super) fn forget(&mut self, lane: LaneId) {
        self.lanes.retain(|other| other.id() != lane);
        self.current = self.current.filter(|current| *current != lane);
        self.attempt = self.attempt.filter(|attempt| attempt.lane != lane);
        self.spill.forget(lane);
    }

    pub(super) fn greet_current(&mut self, greeting: Greeting) {
        if let Some(lane) = self.current.and_then(|id| self.lane_mut(id)) {
            lane.greeting = Some(greeting);
        }
    }
}
