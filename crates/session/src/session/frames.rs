//! What the peer sends. Checks come in this order: may the frame be here, proof, rank, offsets.

use cloak_base::{DeviceId, Instant};
use cloak_wire::{Code, Open, Opened, Resume, Resumed, Secret, SessionFrame};

use super::commit::Standing;
use super::{Leaving, Phase, Session, Tell};
use crate::error::{LaneError, Violation};
use crate::lane::{Greeting, Heard, Hearing};
use crate::proof::{Claim, same_secret, verify_resume, verify_resumed};
use crate::{End, Event, LaneEnds, LaneId, Planted, Rank, Role, Suspicion};

impl Session {
    /// Takes a frame that arrived on `lane`.
    ///
    /// # Errors
    /// The lane has to be closed with the error's code; the session has already forgotten it, and
    /// after a [`LaneError::Violation`] has ended.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        lane: LaneId,
        frame: SessionFrame,
    ) -> Result<(), LaneError> {
        let now = self.tick(now);
        self.heard(now, lane, Heard::from(&frame))?;
        let result = match frame {
            SessionFrame::Open(open) => self.handle_open(lane, open),
            SessionFrame::Opened(opened) => self.handle_opened(lane, opened),
            SessionFrame::Refused { code } => self.handle_refused(lane, code),
            SessionFrame::Resume(resume) => self.handle_resume(lane, resume),
            SessionFrame::Resumed(resumed) => self.handle_resumed(lane, &resumed),
            SessionFrame::Gone { session, code, delivered } => {
                self.handle_gone(lane, session == self.id, code, delivered)
            }
            SessionFrame::Probe { number, unheard } => self.handle_probe(lane, number, unheard),
            SessionFrame::Alive { number } => self.handle_alive(lane, number),
            SessionFrame::Ack { .. }
            | SessionFrame::Fin
            | SessionFrame::Reset { .. }
            | SessionFrame::Move { .. }
            | SessionFrame::MayMove { .. }
            | SessionFrame::Stay { .. }
            | SessionFrame::Escrow { .. }
            | SessionFrame::Escrowed { .. }
            | SessionFrame::Idle => self.handle_on_current(lane, &frame),
        };
        self.conclude(lane, result)
    }

    /// Takes bytes that arrived on `lane`; gives those that are new, which are the next of the
    /// stream. Offer them to the application, call [`delivered`](Self::delivered) for what it took
    /// and [`hold`](Self::hold) for the rest, before anything else. Where bytes are held already,
    /// hold all of these.
    ///
    /// # Errors
    /// As for [`handle_frame`](Self::handle_frame).
    pub fn handle_data<'d>(
        &mut self,
        now: Instant,
        lane: LaneId,
        bytes: &'d [u8],
    ) -> Result<&'d [u8], LaneError> {
        let now = self.tick(now);
        self.heard(now, lane, Heard::Riding)?;
        let result = self.take_data(lane, bytes);
        let fresh = result.unwrap_or_default();
        if !fresh.is_empty() {
            self.moved(now);
        }
        self.conclude(lane, result.map(drop))?;
        Ok(fresh)
    }

    fn take_data<'d>(&mut self, lane: LaneId, bytes: &'d [u8]) -> Result<&'d [u8], LaneError> {
        if self.current != Some(lane) {
            return Err(LaneError::Unexpected);
        }
        match self.phase {
            Phase::Opening(_) | Phase::Away { .. } | Phase::Taking => {
                return Err(LaneError::Unexpected);
            }
            Phase::Open => {}
            Phase::Leaving(_) | Phase::Ended(_) => return Ok(&[]),
        }
        self.confirmed = true;
        let position = self.lane(lane).map_or(0, |lane| lane.position);
        let fresh = self.receive.data(position, bytes)?;
        if let Some(lane) = self.lane_mut(lane) {
            lane.position += bytes.len() as u64;
        }
        Ok(fresh)
    }

    /// Something came: the lane lives, at least in that direction.
    fn heard(&mut self, now: Instant, lane: LaneId, heard: Heard) -> Result<(), LaneError> {
        let Some(lane) = self.lane_mut(lane) else { return Err(LaneError::UnknownLane) };
        if lane.hearing.is_shown_by(heard) {
            lane.hearing = Hearing::Assumed;
            lane.liveness.heard(now);
        }
        Ok(())
    }

    /// Closes a lane on which something was wrong, and the session where that is the rule.
    fn conclude(&mut self, lane: LaneId, result: Result<(), LaneError>) -> Result<(), LaneError> {
        if let Err(error) = result {
            self.forget(lane);
            if matches!(error, LaneError::Violation(_)) && !self.is_ended() {
                self.end(End::Lost(Code::Violation));
            }
        }
        self.settle();
        result
    }

    /// An `Open` again, on another lane: idempotent.
    fn handle_open(&mut self, lane: LaneId, open: Open) -> Result<(), LaneError> {
        if self.role == Role::Initiator || self.dialled_by_us(lane) {
            return Err(LaneError::Unexpected);
        }
        if open.session != self.id || !same_secret(&open.secret, &self.secret) {
            return Err(LaneError::BadProof);
        }
        if self.is_away() {
            return Err(LaneError::Moving);
        }
        if self.is_resting() {
            return Err(LaneError::Paused);
        }
        let rank = Rank { epoch: open.epoch, role: Role::Initiator };
        if self.current == Some(lane) && rank == self.committed && !self.confirmed {
            return Ok(()); // The one that `respond` was given.
        }
        self.check_rank(rank)?;
        let position = self.base + open.early.len() as u64;
        self.early_max = self.early_max.max(open.early.len() as u64);
        let most = self.base + self.early_max;
        let is_fresh = self.receive.received() <= most && self.send.acked() == self.base;
        if !is_fresh || !self.spill.is_here() {
            return Err(LaneError::StaleRank); // The initiator has gone on since.
        }
        if matches!(self.phase, Phase::Opening(_) | Phase::Open) {
            // Where they were shed, or did not come with the first.
            self.receive.early(&self.memory, self.base, &open.early)?;
        }
        self.send.grant(open.credit);
        self.take_opening_lane(lane, rank, position);
        Ok(())
    }

    fn handle_opened(&mut self, lane: LaneId, opened: Opened) -> Result<(), LaneError> {
        let rank = self.attempted_on(lane, Greeting::Open)?;
        self.check_rank(rank)?;
        let (received, delivered) = (self.base + self.early, self.base);
        if self.send.acked() > self.base + self.early_max {
            return Err(Violation::Offset.into());
        }
        if !self.send.can_replay(received) {
            // Overtaken by a `Resume` that stood for an answer, and acknowledged what went early.
            return Err(LaneError::StaleRank);
        }
        self.open_here();
        let standing = Standing { received, delivered, credit: opened.credit };
        self.commit(lane, rank, standing, Hearing::Assumed)?;
        // It confirms the session; most applications say something at once, which does so, too.
        self.receive.ack_soon(self.now);
        Ok(())
    }

    fn handle_refused(&mut self, lane: LaneId, code: Code) -> Result<(), LaneError> {
        self.attempted_on(lane, Greeting::Open)?;
        if !matches!(self.phase, Phase::Opening(_)) {
            return Err(LaneError::Unexpected);
        }
        self.events.push_back(Event::Refused(code));
        self.leave_on(lane, End::Lost(code));
        Ok(())
    }

    fn handle_resume(&mut self, lane: LaneId, resume: Resume) -> Result<(), LaneError> {
        if resume.session != self.id || self.dialled_by_us(lane) {
            return Err(LaneError::Unexpected);
        }
        let role = self.role.other();
        let Resume { session, epoch, received, delivered, credit, proof } = resume;
        let claim = Claim { session, epoch, role, received, delivered, credit };
        if self.is_away() {
            return Err(LaneError::Moving);
        }
        let ends = self.ends(lane)?;
        let proves = |secret: &Secret| verify_resume(secret, &ends, &claim, &proof);
        let is_owner = self.owner == Some(ends.dialler) && proves(&self.secret);
        let next = if is_owner { None } else { self.next_secrets(ends.dialler).find(proves) };
        if !is_owner && next.is_none() {
            return Err(LaneError::BadProof);
        }
        if self.role == Role::Responder && matches!(self.phase, Phase::Opening(_)) {
            return Err(LaneError::Unexpected);
        }
        let rank = Rank { epoch, role };
        self.check_rank(rank)?;
        self.send.check(received, delivered, credit)?;
        if !self.send.can_replay(received) {
            // Overtaken by an `Ack` on the lane that it was to replace.
            return Err(LaneError::StaleRank);
        }
        if !self.config.has(Planted::TakesThePeerForPaused) {
            self.note_awake();
        }
        if self.is_resting() {
            return Err(LaneError::Paused);
        }
        if self.paused_until.is_some() && self.memory.is_short() {
            return Err(LaneError::Busy);
        }
        if !self.spill.is_here() {
            self.spill.park(lane, resume);
            self.want_buffers();
            return Ok(());
        }
        if let Some(secret) = next {
            self.peer_taken(ends.dialler, secret);
        }
        self.open_here();
        self.confirmed = true;
        let standing = Standing { received, delivered, credit };
        self.commit(lane, rank, standing, Hearing::Unanswered)?;
        self.greet_current(Greeting::Resumed);
        Ok(())
    }

    fn handle_resumed(&mut self, lane: LaneId, resumed: &Resumed) -> Result<(), LaneError> {
        let rank = self.attempted_on(lane, Greeting::Resume)?;
        let ends = self.ends(lane)?;
        if ends.acceptor_nonce.is_none() {
            return Err(LaneError::Bug("the peer's nonce is given before its first frame"));
        }
        let Resumed { epoch, received, delivered, credit, proof } = *resumed;
        let (session, role) = (self.id, self.role.other());
        let claim = Claim { session, epoch, role, received, delivered, credit };
        if !verify_resumed(&self.secret, &ends, &claim, &proof) {
            return Err(LaneError::BadProof);
        }
        if epoch != rank.epoch {
            return Err(LaneError::StaleRank);
        }
        self.check_rank(rank)?;
        self.send.check(received, delivered, credit)?;
        if !self.send.can_replay(received) {
            return Err(Violation::Offset.into());
        }
        if let Some(since) = self.lane(lane).and_then(|lane| lane.greeted_at) {
            self.rtt.sample(self.now.since(since));
        }
        self.confirmed = true;
        self.taken();
        let standing = Standing { received, delivered, credit };
        self.commit(lane, rank, standing, Hearing::Assumed)?;
        // Our `Resume` is a round trip old: what was acknowledged since went to a lane that is
        // gone.
        self.receive.ack_now();
        Ok(())
    }

    /// The peer has no such session: clean only if nothing was left to do in either direction.
    fn handle_gone(
        &mut self,
        lane: LaneId,
        is_ours: bool,
        code: Code,
        delivered: u64,
    ) -> Result<(), LaneError> {
        let asked = self.attempt.is_some_and(|attempt| attempt.lane == lane);
        if !asked || !is_ours {
            return Err(LaneError::Unexpected);
        }
        if !self.is_verdict(lane, code) {
            return Err(LaneError::StaleRank);
        }
        let end = match (self.phase, code) {
            (Phase::Leaving(leaving), _) => leaving.end,
            (_, Code::Superseded) => End::Moved,
            (Phase::Opening(_), Code::Closed) => End::Lost(Code::Gone),
            (Phase::Opening(_), code) => End::Lost(code),
            (_, Code::Closed) if self.is_covered_by(delivered) => End::Closed,
            (_, Code::Closed) => End::Lost(Code::Gone),
            (_, Code::Reset | Code::Cancelled | Code::ShuttingDown) => End::Reset(code),
            (_, code) => End::Lost(code),
        };
        match (self.phase, end) {
            (Phase::Opening(_), end) => self.events.push_back(Event::Refused(end.code())),
            (Phase::Open, End::Reset(code) | End::Lost(code)) => {
                self.events.push_back(Event::ResetApplication(code));
            }
            _ => {}
        }
        self.leave_on(lane, end);
        Ok(())
    }

    /// Whether that a peer does not have the session says anything of the session.
    fn is_verdict(&mut self, lane: LaneId, code: Code) -> bool {
        if code == Code::Superseded {
            // Only the other end's owner says who owns this one.
            return self.lane(lane).is_some_and(|lane| self.owner == Some(lane.up.peer));
        }
        if self.phase == Phase::Taking && code == Code::Busy {
            // It has it, and no room for us at present.
            self.pause();
            return false;
        }
        if self.phase != Phase::Open {
            return true;
        }
        if code == Code::Gone && self.has_note() {
            // It has restarted. Whoever has its copy may come.
            self.pause();
            return false;
        }
        // From an owner of the past, who was asked before we knew, or before there was another.
        code != Code::Moved && !self.may_peer_move()
    }

    /// The peer is done with the session and says so on this lane, which is to become idle.
    fn leave_on(&mut self, lane: LaneId, end: End) {
        let others: Vec<LaneId> = self.lanes().filter(|other| *other != lane).collect();
        others.into_iter().for_each(|other| self.evict(other, Code::Closed));
        (self.attempt, self.current) = (None, Some(lane));
        self.leave(end, Tell::Nothing);
    }

    /// Whether a peer that closed with this final `delivered` had everything of ours, and we
    /// everything of its.
    fn is_covered_by(&self, delivered: u64) -> bool {
        let ours = self.send.is_finished() && delivered == self.send.end();
        ours && self.receive.is_complete()
    }

    /// A peer that hears nothing has a path to us, but we may have none to it: asked at once.
    fn handle_probe(&mut self, lane: LaneId, number: u64, unheard: bool) -> Result<(), LaneError> {
        let now = self.now;
        let rtt = self.rtt.smoothed();
        let is_current = self.current == Some(lane);
        let Some(lane) = self.lane_mut(lane) else { return Err(LaneError::UnknownLane) };
        lane.alive_due = Some(number);
        if unheard && is_current {
            lane.hearing = Hearing::Denied;
            lane.probe_due = true;
            lane.liveness.suspect(now, Suspicion::Nudged, rtt);
        }
        Ok(())
    }

    fn handle_alive(&mut self, lane: LaneId, number: u64) -> Result<(), LaneError> {
        let now = self.now;
        let Some(lane) = self.lane_mut(lane) else { return Err(LaneError::UnknownLane) };
        if let Some((_, sent)) = lane.probe.take_if(|(asked, _)| *asked == number) {
            self.rtt.sample(now.since(sent));
        }
        Ok(())
    }

    /// Frames that only the lane in use carries. What comes when the outcome is settled is drained
    /// until `Idle`.
    fn handle_on_current(&mut self, lane: LaneId, frame: &SessionFrame) -> Result<(), LaneError> {
        let is_over = self.lane(lane).is_some_and(|lane| lane.idle_received);
        if self.current != Some(lane) || is_over {
            return Err(LaneError::Unexpected);
        }
        match (self.phase, frame) {
            (Phase::Open, SessionFrame::Ack { delivered, credit }) => {
                self.confirmed = true;
                self.send.acknowledge(*delivered, *credit)?;
            }
            (Phase::Open, SessionFrame::Fin) => self.take_fin(lane)?,
            (Phase::Open | Phase::Opening(_), SessionFrame::Reset { code }) => {
                self.taken_reset(*code);
            }
            (Phase::Leaving(leaving), SessionFrame::Reset { .. }) => {
                self.phase = Phase::Leaving(Leaving { tell: Tell::Nothing, ..leaving });
            }
            (Phase::Leaving(_), SessionFrame::Idle) => self.taken_idle(lane),
            (Phase::Open, SessionFrame::Move { generation, to }) => {
                let local = self.local(lane)?;
                self.handle_move(*generation, *to, local)?;
            }
            (Phase::Open, SessionFrame::MayMove { generation }) => {
                let local = self.local(lane)?;
                self.handle_may_move(*generation, local)?;
            }
            (Phase::Open, SessionFrame::Stay { generation, code }) => {
                self.handle_stay(*generation, *code);
            }
            (Phase::Open, SessionFrame::Escrow { generation, to, copy }) => {
                let local = self.local(lane)?;
                self.handle_escrow(*generation, *to, *copy, local)?;
            }
            (Phase::Open, SessionFrame::Escrowed { generation, code }) => {
                self.handle_escrowed(*generation, *code)?;
            }
            (Phase::Open | Phase::Opening(_), _) => return Err(Violation::IdleEarly.into()),
            _ => {}
        }
        Ok(())
    }

    fn take_fin(&mut self, lane: LaneId) -> Result<(), LaneError> {
        let position = self.lane(lane).map_or(0, |lane| lane.position);
        self.receive.fin(position)?;
        if let Some(lane) = self.lane_mut(lane) {
            lane.position += 1;
        }
        self.confirmed = true;
        self.moved(self.now);
        Ok(())
    }

    fn taken_reset(&mut self, code: Code) {
        self.events.push_back(Event::ResetApplication(code));
        self.leave(End::Reset(code), Tell::Nothing);
    }

    fn taken_idle(&mut self, lane: LaneId) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.idle_received = true;
        }
    }

    /// The responder has opened the session, as its frame shows.
    fn open_here(&mut self) {
        if matches!(self.phase, Phase::Opening(_)) {
            self.phase = Phase::Open;
            self.moved_at = self.now;
            self.events.push_back(Event::Opened);
            self.withdraw_open();
        }
    }

    /// An `Open` that has not gone out is not needed any more; its lane is a spare again.
    fn withdraw_open(&mut self) {
        let attempt = self.attempt.and_then(|attempt| self.lane_mut(attempt.lane));
        let unsent = attempt.and_then(|lane| lane.greeting.take_if(|one| *one == Greeting::Open));
        if unsent.is_some() {
            self.attempt = None;
        }
    }

    /// The rank of our attempt on this lane, if it was made with such a frame.
    fn attempted_on(&self, lane: LaneId, greeting: Greeting) -> Result<Rank, LaneError> {
        let attempt = self.attempt.filter(|attempt| attempt.lane == lane);
        let attempt = attempt.ok_or(LaneError::Unexpected)?;
        let sent = self.lane(lane).filter(|lane| lane.greeted_at.is_some());
        let is_open = sent.is_some_and(|lane| lane.greeted_with == Some(greeting));
        if is_open { Ok(attempt.rank) } else { Err(LaneError::Unexpected) }
    }

    fn dialled_by_us(&self, lane: LaneId) -> bool {
        self.lane(lane).is_some_and(|lane| lane.up.we_dialled)
    }

    /// Our device.
    fn local(&self, lane: LaneId) -> Result<DeviceId, LaneError> {
        self.lane(lane).map(|lane| lane.up.local).ok_or(LaneError::UnknownLane)
    }

    fn ends(&self, lane: LaneId) -> Result<LaneEnds, LaneError> {
        let ends = self.lane(lane).and_then(|lane| lane.up.ends());
        ends.ok_or(LaneError::Bug("the dialler's nonce is given with the lane it dialled"))
    }
}
