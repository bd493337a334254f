//! Taking a lane: the one place where a session changes the lane that it rides on.

use cloak_wire::Code;

use super::{Phase, Session};
use crate::error::{LaneError, Violation};
use crate::lane::{Greeting, Hearing};
use crate::{LaneId, Planted, Rank};

/// Where the streams stand at the peer, as its frame says and as was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) received: u64,
    pub(super) delivered: u64,
    pub(super) credit: u64,
}

impl Session {
    /// Whether a frame with this rank may take a lane.
    pub(super) fn check_rank(&self, rank: Rank) -> Result<(), LaneError> {
        let is_above = rank > self.committed || self.config.has(Planted::EpochUnchecked);
        if is_above { Ok(()) } else { Err(LaneError::StaleRank) }
    }

    /// Rides on `lane` from here on. The lane before it is evicted at once, even if it looks alive,
    /// and so is an attempt of ours that ranks below.
    ///
    /// A lane on which the peer asked is [`Hearing::Unanswered`]: it is in use, but that it works is
    /// shown only by what follows our answer. Where the lane before it was not given up here, the peer
    /// most likely did, and has not heard us for seconds: what follows is waited for only briefly.
    pub(super) fn commit(
        &mut self,
        lane: LaneId,
        rank: Rank,
        peer: Standing,
        hearing: Hearing,
    ) -> Result<(), Violation> {
        let was_riding = self.phase == Phase::Open && self.is_riding();
        self.committed = rank;
        self.improving = false;
        self.note_awake();
        self.pause.owed = self.pause.here;
        if let Some(attempt) = self.attempt {
            if attempt.lane == lane {
                self.attempt = None;
            } else if attempt.rank < rank {
                self.evict(attempt.lane, Code::StaleRank);
            }
        }
        if let Some(old) = self.current.filter(|old| *old != lane) {
            self.evict(old, Code::StaleRank);
            self.resumes += 1;
        } else if self.suspended.is_some() {
            self.resumes += 1;
        }
        self.current = Some(lane);
        self.repeat_hand_over();
        self.spill.withdraw();
        let late = u64::from(self.config.has(Planted::OffByOneReplay));
        self.send.acknowledge(peer.delivered, peer.credit)?;
        self.send.replay_from((peer.received + late).min(self.send.sent_max()));
        self.freshen(lane, hearing);
        if was_riding && hearing == Hearing::Unanswered {
            self.await_what_follows(lane);
        }
        if let Some(spare) = self.spare() {
            self.release_spare(spare);
        }
        Ok(())
    }

    /// Rides on a lane whose `Open` came first, or came again before anything else did.
    /// What follows on it begins at `position`.
    pub(super) fn take_opening_lane(&mut self, lane: LaneId, rank: Rank, position: u64) {
        let standing = Standing { received: self.base, delivered: self.base, credit: 0 };
        let taken = self.commit(lane, rank, standing, Hearing::Unanswered);
        debug_assert_eq!(taken, Ok(()), "the beginning of a stream is always valid");
        if let Some(lane) = self.lane_mut(lane) {
            lane.position = position;
        }
        match self.phase {
            Phase::Open => self.greet_current(Greeting::Opened),
            Phase::Leaving(leaving) => {
                self.greet_current(match leaving.tell {
                    super::Tell::Nothing => Greeting::Refused(leaving.end.code()),
                    _ => Greeting::Opened,
                });
            }
            Phase::Opening(_) | Phase::Away { .. } | Phase::Taking | Phase::Ended(_) => {}
        }
    }

    fn await_what_follows(&mut self, lane: LaneId) {
        let (now, rtt) = (self.now, self.rtt.smoothed());
        if let Some(lane) = self.lane_mut(lane) {
            lane.liveness.answered(now, rtt);
        }
    }

    fn freshen(&mut self, lane: LaneId, hearing: Hearing) {
        let now = self.now;
        if let Some(lane) = self.lane_mut(lane) {
            lane.hearing = hearing;
            lane.liveness.heard(now);
            (lane.reset_sent, lane.idle_sent, lane.idle_received) = (false, None, false);
        }
    }
}
