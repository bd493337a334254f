//! Everything that happens by itself.

use std::time::Duration;

use cloak_base::Instant;
use cloak_wire::Code;

use super::{Leaving, Phase, Session};
use crate::lane::Lane;
use crate::liveness::Due;
use crate::{End, LaneId, Role};

/// How long a lane waits for the peer's `Idle` after ours.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long the peer may keep a lane that it dialled without saying anything on it.
const SILENT_LANE_MAX: Duration = Duration::from_secs(10);
/// Shortest and longest wait before the ledger is asked again after it refused; doubled each time.
pub(super) const MEMORY_WAIT_MIN: Duration = Duration::from_millis(50);
pub(super) const MEMORY_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a responder keeps a suspended session of which the initiator may not know.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(600);
/// How long silence is watched for after bytes moved.
const WATCH: Duration = Duration::from_secs(10);

impl Session {
    /// When [`handle_timeout`](Self::handle_timeout) has something to do. Calling it earlier is
    /// harmless.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_ended() {
            return None;
        }
        let lanes = self.lanes.iter().filter_map(|lane| self.lane_deadline(lane));
        let whole = [
            self.phase_deadline(),
            self.suspension_deadline(),
            self.orphan_deadline(),
            self.spill_deadline(),
            self.receive.ack_at().filter(|_| self.current.is_some()),
            self.paused_until,
            self.memory_retry,
        ];
        whole.into_iter().flatten().chain(lanes).min()
    }

    /// Time has passed. `progress`: the kernel's count of bytes that the peer's kernel acknowledged
    /// on the lane in use, where it is known.
    pub fn handle_timeout(&mut self, now: Instant, progress: Option<u64>) {
        let now = self.tick(now);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.current.is_some() {
            self.receive.handle_timeout(now);
        }
        self.paused_until = self.paused_until.filter(|at| *at > now);
        self.memory_retry = self.memory_retry.filter(|at| *at > now);
        let due = self.lanes.iter().filter(|lane| is_due(self.lane_deadline(lane)));
        let due: Vec<LaneId> = due.map(Lane::id).collect();
        for lane in due {
            self.lane_timeout(now, lane, progress);
        }
        if is_due(self.spill_deadline()) {
            self.ask_spill();
        }
        if is_due(self.phase_deadline()) {
            self.phase_timeout();
        } else if is_due(self.orphan_deadline()) {
            self.end(End::Lost(Code::PeerRestarted));
        } else if is_due(self.suspension_deadline()) {
            self.end(End::Lost(self.suspension_code()));
        }
        self.settle();
    }

    /// Until when an answer is due on the lane in use.
    pub(super) fn expecting_until(&self) -> Option<Instant> {
        let always = Instant::from_micros(u64::MAX);
        Some(match self.phase {
            Phase::Opening(_) | Phase::Leaving(_) => always,
            Phase::Open if self.send.is_outstanding() || self.is_unanswered() => always,
            Phase::Open => self.moved_at + WATCH,
            Phase::Taking => always,
            Phase::Away { .. } | Phase::Ended(_) => return None,
        })
    }

    fn lane_deadline(&self, lane: &Lane) -> Option<Instant> {
        if let Some(sent) = lane.idle_sent {
            return Some(sent + IDLE_MAX);
        }
        if self.current == Some(lane.id()) {
            // A responder that connects its backend has nothing to wait for.
            let waits = !(self.role == Role::Responder && matches!(self.phase, Phase::Opening(_)));
            return lane.liveness.deadline(self.expecting_until().filter(|_| waits));
        }
        if self.attempt.is_some_and(|attempt| attempt.lane == lane.id()) {
            return lane.liveness.deadline(Some(Instant::from_micros(u64::MAX)));
        }
        let waits = !lane.up.we_dialled && !self.spill.is_parked(lane.id());
        waits.then(|| lane.since + SILENT_LANE_MAX)
    }

    fn lane_timeout(&mut self, now: Instant, id: LaneId, progress: Option<u64>) {
        let (is_current, rtt) = (self.current == Some(id), self.rtt.smoothed());
        let is_attempt = self.attempt.is_some_and(|attempt| attempt.lane == id);
        let Some(lane) = self.lane_mut(id) else { return };
        if lane.idle_sent.is_some() || !(is_current || is_attempt) {
            self.evict(id, Code::Timeout);
            return;
        }
        match lane.liveness.handle_timeout(now, progress.filter(|_| is_current), rtt) {
            Due::Probe => lane.probe_due = true,
            // The lane in use stays: it may yet answer before another one does. A last probe tells
            // the peer, whom we cannot hear and who may hear us.
            Due::Suspect if is_current => lane.probe_due = true,
            Due::Suspect => self.evict(id, Code::Timeout),
        }
    }

    fn phase_deadline(&self) -> Option<Instant> {
        match self.phase {
            // The responder's backend connection has a deadline of its own.
            Phase::Opening(until) => Some(until).filter(|_| self.role == Role::Initiator),
            Phase::Leaving(leaving) => Some(leaving.until),
            Phase::Open | Phase::Away { .. } | Phase::Taking | Phase::Ended(_) => None,
        }
    }

    fn phase_timeout(&mut self) {
        match self.phase {
            Phase::Opening(_) => self.end(End::Lost(Code::Timeout)),
            Phase::Leaving(Leaving { end, .. }) => self.end(end),
            Phase::Open | Phase::Away { .. } | Phase::Taking | Phase::Ended(_) => {}
        }
    }

    /// A session is kept for `linger`, but not one whose initiator may never have learned that it is
    /// open and gave up.
    pub(super) fn suspension_deadline(&self) -> Option<Instant> {
        let (since, _) = self.suspended?;
        let longest = if self.confirmed {
            self.config.linger
        } else {
            UNCONFIRMED_MAX.min(self.config.linger)
        };
        Some(since + longest)
    }

    fn suspension_code(&self) -> Code {
        if self.confirmed { Code::LingerExceeded } else { Code::Timeout }
    }
}
