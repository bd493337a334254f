//! One end suspends the session on purpose, to need no lane for as long as nothing is to be said.
//!
//! It closes its lane with [`Code::Paused`] and wants none until it is resumed. The other end hears so from
//! that code; where the code was lost with the lane it asks for the session once, and the answer is the
//! same. Then it leaves it to the end that paused to come back. Bytes that either application writes meanwhile
//! wait in its end's buffer.
//!
//! That the other end is paused is believed only of the last lane that both had in common, or of an answer to what
//! was asked since then; and not any longer once it asks for the session itself, even in vain. So an end
//! that believes it and is wrong is one that the other is on its way to.

use cloak_base::Instant;
use cloak_wire::Code;

use super::{Phase, Session};
use crate::{Event, LaneId, Rank};

/// Which ends have suspended the session.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// This one, until it is resumed.
    pub(super) here: bool,
    /// The other one, as far as we know.
    pub(super) there: bool,
    /// This one was, and the other may still believe it, and leave the next dial to us.
    pub(super) owed: bool,
}

impl Session {
    /// Suspends the session until [`resume`](Self::resume): the lane is closed, and no other is wanted. At a
    /// responder that happens once the initiator is known to have its `Opened`. Bytes that wait for the
    /// application are still given to it.
    ///
    /// [`hand_over`](Self::hand_over) and [`reset`](Self::reset) resume it as well: they need the other end. A
    /// session that stays suspended for `linger` is lost, as for any other reason.
    ///
    /// # Errors
    /// [`Code::NotMovable`] unless the session is open here; [`Code::Moving`] while a hand-over of either
    /// end is under way.
    pub fn suspend(&mut self, now: Instant) -> Result<(), Code> {
        self.tick(now);
        self.may_change_owner()?;
        (self.pause.here, self.pause.owed) = (true, true);
        self.settle();
        Ok(())
    }

    /// Goes on with a session that this end has suspended; does nothing where it has not.
    ///
    /// # Errors
    /// [`Code::Paused`]: only the other end has suspended it, which goes on when that one resumes.
    pub fn resume(&mut self, now: Instant) -> Result<(), Code> {
        self.tick(now);
        let was_here = std::mem::take(&mut self.pause.here);
        let is_theirs = self.phase == Phase::Open && self.pause.there && !was_here;
        self.settle();
        if is_theirs { Err(Code::Paused) } else { Ok(()) }
    }

    /// This end does without lanes. An initiator that may not have heard of its session would give up, and
    /// an end that may go to another device has to find this one.
    pub(super) fn is_resting(&self) -> bool {
        let is_settled = self.confirmed && self.may_change_owner().is_ok();
        self.phase == Phase::Open && self.pause.here && is_settled
    }

    /// Whether a lane would lead to nothing, since one of the ends does not want one.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.there || self.is_resting()
    }

    /// Gives up what an end that is paused does not need. On lanes that the peer dialled it has yet to
    /// ask, and is answered.
    pub(super) fn settle_pause(&mut self) {
        if self.is_resting() {
            let used = [self.current, self.attempt.map(|attempt| attempt.lane)];
            used.into_iter().flatten().for_each(|lane| self.evict(lane, Code::Paused));
        }
        if self.is_paused()
            && let Some(spare) = self.spare()
        {
            self.release_spare(spare);
        }
    }

    /// The peer has closed this lane because it is paused. A lane that is not in use says so only
    /// where no other was taken since it was tried, and the one in use only where we asked on no later one: the
    /// peer may have taken that, and the one in use be a straggler.
    pub(super) fn note_paused(&mut self, lane: LaneId) {
        let tried = self.attempt.filter(|attempt| attempt.lane == lane);
        let asked = Rank { epoch: self.attempted, role: self.role };
        let is_news =
            tried.map_or(self.committed >= asked, |attempt| attempt.after == self.committed);
        let is_ours = self.current == Some(lane) || tried.is_some();
        if self.phase == Phase::Taking && is_ours {
            // It is asked again now and then: it does not know that we would have to hear of it.
            self.pause();
        }
        if !(is_ours && is_news && matches!(self.phase, Phase::Open | Phase::Leaving(_))) {
            return;
        }
        self.pause.there = true;
        // It has not agreed to a hand-over, or it would not have paused; and it has not heard of ours.
        if self.hand_over.withdraw_ask() {
            self.events.push_back(Event::Stay(Code::Paused));
        }
    }

    /// The peer asks for the session: it is not paused.
    pub(super) fn note_awake(&mut self) {
        self.pause.there = false;
    }
}
