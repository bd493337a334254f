//! What follows from the state after every input: completion, suspension, wants.

use cloak_wire::Code;

use super::{Leaving, Phase, Session, Tell};
use crate::lane::{Hearing, Lane};
use crate::{End, Event, Role, State};

impl Session {
    /// Brings everything derived in line with the state. The last step of every input.
    pub(super) fn settle(&mut self) {
        if self.phase == Phase::Open {
            self.settle_open();
        }
        if let Phase::Leaving(leaving) = self.phase {
            self.settle_leaving(leaving);
        }
        if !self.is_ended() {
            self.settle_pause();
            self.settle_suspension();
            self.settle_wants();
        }
        self.settle_shown();
    }

    fn settle_open(&mut self) {
        if self.receive.poll_finish() {
            self.events.push_back(Event::Finish);
        }
        if self.send.is_complete() && self.receive.is_complete() {
            self.leave(End::Closed, Tell::Closed);
        }
    }

    fn settle_leaving(&mut self, leaving: Leaving) {
        match self.current.and_then(|id| self.lane(id)) {
            Some(lane) if lane.idle_sent.is_some() && lane.idle_received => {
                let free = lane.id();
                self.forget(free);
                self.events.push_back(Event::LaneFree(free));
                self.end(leaving.end);
            }
            None if leaving.tell == Tell::Nothing => self.end(leaving.end),
            _ => {}
        }
    }

    fn settle_suspension(&mut self) {
        if matches!(self.phase, Phase::Opening(_)) || self.is_away() {
            return;
        }
        match (self.is_riding(), self.suspended) {
            (true, Some(_)) if !self.is_unanswered() => {
                self.suspended = None;
                self.tell_state(Event::Resumed);
            }
            (false, None) => {
                let code = self.why_suspended();
                self.suspended = Some((self.now, code));
                self.busy_at = self.now;
                self.tell_state(Event::Suspended);
            }
            (false, Some((since, code))) => {
                let why = self.why_suspended();
                if (why == Code::Paused) != (code == Code::Paused) {
                    self.suspended = Some((since, why));
                }
            }
            _ => {}
        }
    }

    fn why_suspended(&self) -> Code {
        match self.current {
            _ if self.is_paused() => Code::Paused,
            _ if self.may_peer_move() => Code::Moving,
            None => Code::PeerUnreachable,
            Some(_) => Code::Timeout,
        }
    }

    /// Whether there is a lane in use that is not suspected: no other is needed.
    pub(super) fn is_riding(&self) -> bool {
        self.current_lane().is_some_and(|lane| !lane.liveness.is_suspect())
    }

    /// Whether nothing has shown yet that the peer has our answer on the lane in use.
    pub(super) fn is_unanswered(&self) -> bool {
        self.current_lane().is_some_and(|lane| lane.hearing == Hearing::Unanswered)
    }

    fn current_lane(&self) -> Option<&Lane> {
        self.current.and_then(|id| self.lane(id))
    }

    /// Suspension is news only while the application has something to hope for.
    fn tell_state(&mut self, event: Event) {
        if self.phase == Phase::Open {
            self.events.push_back(event);
        }
    }

    fn settle_wants(&mut self) {
        self.start_attempt();
        let wants = self.wants_lane();
        if wants != self.wanted {
            self.wanted = wants;
            self.events.push_back(if wants { Event::LaneWanted } else { Event::LaneUnwanted });
        }
    }

    /// Whether a further lane would help. While one is tried it would not.
    fn wants_lane(&self) -> bool {
        let is_futile = self.paused_until.is_some() || self.is_paused();
        if self.attempt.is_some() || self.spare().is_some() || is_futile {
            return false;
        }
        match self.phase {
            Phase::Opening(_) => self.role == Role::Initiator,
            Phase::Open => !self.is_riding(),
            Phase::Leaving(leaving) => leaving.tell != Tell::Nothing && !self.is_riding(),
            Phase::Taking => true,
            Phase::Away { .. } | Phase::Ended(_) => false,
        }
    }

    fn settle_shown(&mut self) {
        let shown = match self.phase {
            Phase::Opening(_) => State::Opening,
            Phase::Open if self.suspended.is_some() => State::Suspended,
            Phase::Open => State::Live,
            Phase::Away { .. } | Phase::Taking => State::Held,
            Phase::Leaving(_) => State::Closing,
            Phase::Ended(End::Closed | End::Moved) => State::Closed,
            Phase::Ended(_) => State::Lost,
        };
        if shown != self.shown {
            (self.shown, self.since) = (shown, self.now);
        }
    }
}
