//! One end goes to another device.
//!
//! Each end of a session has one owner at a time, counted by generations, and the other end is the
//! only arbiter of who that is. The owner asks it first ([`SessionFrame::Move`]). Once it may go it is
//! *away*: it touches no byte of its application any more, and what is needed to continue is in its
//! [`Capsule`]. From then on two devices may `Resume` as the next generation, the one that was named
//! and the one that asked; whichever the other end hears first is the owner, and the other one is told
//! that the session moved. Each generation has a secret of its own, bound to the device that is to own
//! it, which both ends derive from the one before: no third device can use it, and nobody that owned the
//! session before.
//!
//! While one end may move the other may not, or both arbiters could be gone at once. Where both ask
//! together the initiator goes first.
//!
//! [`SessionFrame::Move`]: cloak_wire::SessionFrame::Move

use std::time::Duration;

use cloak_base::{DeviceId, Generation, Instant};
use cloak_wire::{Capsule, Code, Received, Secret, SessionFrame};

use super::{Phase, Session};
use crate::error::{CapsuleError, LaneError, Violation};
use crate::lane::Lane;
use crate::proof::owner_secret;
use crate::rank::Rank;
use crate::{Config, End, Event, Memory, Planted, Role};

/// How long an end whose peer may be moving leaves it to the next owner to come back.
const MOVE_PAUSE: Duration = Duration::from_secs(3);

/// How long the next owner may take to come after the one before it has restarted.
const ORPHAN_MAX: Duration = Duration::from_secs(120);
/// No honest stream comes so far, and arithmetic on offsets below cannot overflow.
pub(crate) const OFFSET_MAX: u64 = 1 << 62;

/// A hand-over of this end that the other end has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    to: DeviceId,
    /// To be sent on the lane in use.
    due: bool,
    /// Nobody wants it any more. The other end may have agreed already, so it is answered first.
    withdrawn: bool,
}

/// Our answer to the other end's `Move`, to be sent on the lane in use.
pub(super) type Verdict = Result<(), Code>;

/// What of a hand-over is under way, at this end or at the other.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    /// Which owner of this end we are.
    pub(super) generation: Generation,
    /// Which owner the other end has.
    peer_generation: Generation,
    ask: Option<Ask>,
    /// The other end may go to this device.
    peer_to: Option<DeviceId>,
    /// Since when the owner that may go is gone itself.
    orphaned: Option<Instant>,
    verdict: Option<Verdict>,
}

impl HandOver {
    /// Gives up what was not asked yet, or asked in vain; true where somebody waits for it.
    pub(super) fn withdraw_ask(&mut self) -> bool {
        self.ask.take().is_some_and(|ask| !ask.withdrawn)
    }

    /// Which owner the other end has.
    pub(super) fn peer_generation(&self) -> Generation {
        self.peer_generation
    }
}

impl Session {
    /// Asks the other end to let this one go to the device `to`, as soon as there is a lane that
    /// works and the session is known to be open at both ends. [`Event::MayMove`] or [`Event::Stay`] follows.
    ///
    /// # Errors
    /// [`Code::NotMovable`] unless the session is open here; [`Code::Moving`] while a hand-over
    /// of either end is under way; [`Code::Paused`] where the other end has suspended the session. What this
    /// end has suspended is resumed.
    pub fn hand_over(&mut self, now: Instant, to: DeviceId) -> Result<(), Code> {
        self.tick(now);
        self.may_hand_over()?;
        self.pause.here = false;
        self.hand_over.ask = Some(Ask { to, due: true, withdrawn: false });
        self.settle();
        Ok(())
    }

    /// Whether [`hand_over`](Self::hand_over) may be called now.
    ///
    /// # Errors
    /// As there.
    pub fn may_hand_over(&self) -> Result<(), Code> {
        self.may_change_owner()?;
        if self.pause.there { Err(Code::Paused) } else { Ok(()) }
    }

    /// Whether the session is open, and neither end about to go.
    pub(super) fn may_change_owner(&self) -> Result<(), Code> {
        let is_moving = self.hand_over.ask.is_some() || self.hand_over.peer_to.is_some();
        match self.phase {
            Phase::Open if !is_moving => Ok(()),
            Phase::Open | Phase::Away { .. } | Phase::Taking => Err(Code::Moving),
            Phase::Opening(_) | Phase::Leaving(_) | Phase::Ended(_) => Err(Code::NotMovable),
        }
    }

    /// Gives up a [`hand_over`](Self::hand_over) that has not been answered. Should the other end
    /// agree to it later, this one takes itself back.
    pub fn withdraw(&mut self, now: Instant) {
        self.tick(now);
        if let Some(ask) = &mut self.hand_over.ask {
            ask.withdrawn = true;
        }
    }

    /// What the next owner needs, with the bytes that the other end has not acknowledged. `None`
    /// unless this end is away, after [`Event::MayMove`].
    pub fn capsule(&self) -> Option<(Capsule, Vec<u8>)> {
        let Phase::Away { to } = self.phase else { return None };
        let generation = self.hand_over.generation.next();
        let secret = owner_secret(&self.secret, self.role, generation, to);
        Some(self.pack(secret, self.receive.pack()))
    }

    /// This end as its next owner has it.
    pub(super) fn pack(&self, secret: Secret, received: Received) -> (Capsule, Vec<u8>) {
        let (sent, bytes) = self.send.pack();
        let capsule = Capsule {
            session: self.id,
            initiator: self.role == Role::Initiator,
            secret,
            generation: self.hand_over.generation.next(),
            peer_generation: self.hand_over.peer_generation,
            peer_run: self.incarnation,
            target: self.target.clone(),
            epoch: self.attempted.max(self.committed.epoch),
            sent,
            received,
            resumes: self.resumes,
        };
        (capsule, bytes)
    }

    /// Continues what another device packed: the session resumes, and [`Event::Taken`] says that the
    /// other end has agreed. Only then are there bytes, in either direction.
    ///
    /// # Errors
    /// The capsule contradicts itself or what is allowed here.
    pub fn adopt(
        now: Instant,
        config: Config,
        capsule: &Capsule,
        bytes: &[u8],
        memory: Memory,
        rng: cloak_base::Rng,
    ) -> Result<Self, CapsuleError> {
        let role = if capsule.initiator { Role::Initiator } else { Role::Responder };
        let (id, secret, target) = (capsule.session, capsule.secret, capsule.target.clone());
        check_capsule(&config, capsule, bytes)?;
        let mut session = Self::new(now, config, role, id, secret, target, memory, rng);
        session.send.unpack(&session.memory, &capsule.sent, bytes)?;
        session.receive.unpack(&capsule.received)?;
        session.hand_over.generation = capsule.generation;
        session.hand_over.peer_generation = capsule.peer_generation;
        session.incarnation = capsule.peer_run;
        session.attempted = capsule.epoch;
        session.committed = Rank { epoch: capsule.epoch, role: Role::Initiator };
        session.resumes = capsule.resumes;
        session.confirmed = true;
        session.phase = Phase::Taking;
        session.suspended = Some((session.now, Code::Moving));
        session.settle();
        Ok(session)
    }

    /// The next owner did not take it: asks the other end to have it back, as the next generation's
    /// owner. `local` is our device. [`Event::Taken`] follows, or an end with [`Code::Moved`] where the
    /// next owner was first.
    pub fn take_back(&mut self, now: Instant, local: DeviceId) {
        self.tick(now);
        if matches!(self.phase, Phase::Away { .. }) {
            self.reclaim(local);
        }
        self.settle();
    }

    /// The owner of that generation has it: this end is over, and its application gets an end of file.
    pub fn let_go(&mut self, now: Instant, generation: Generation) {
        self.tick(now);
        let is_next = generation == self.hand_over.generation.next();
        if is_next && matches!(self.phase, Phase::Away { .. }) {
            self.end(End::Moved);
        }
        self.settle();
    }

    fn reclaim(&mut self, local: DeviceId) {
        self.hand_over.generation = self.hand_over.generation.next();
        self.secret = owner_secret(&self.secret, self.role, self.hand_over.generation, local);
        let unasked = self.config.has(Planted::TakesBackUnasked);
        self.phase = if unasked { Phase::Open } else { Phase::Taking };
    }

    pub(super) fn generation(&self) -> Generation {
        self.hand_over.generation
    }

    pub(super) fn peer_generation(&self) -> Generation {
        self.hand_over.peer_generation
    }

    /// Nothing of the application's is touched from here on. What it was not given yet is dropped:
    /// the other end still has it.
    fn go_away(&mut self, to: DeviceId) {
        self.receive.drop_held();
        // We are nobody's arbiter any more.
        self.forget_note();
        self.evict_all(Code::Moving);
        self.suspended = Some((self.now, Code::Moving));
        self.phase = Phase::Away { to };
        self.events.push_back(Event::MayMove);
    }

    /// The other end has agreed that this is its peer now.
    pub(super) fn taken(&mut self) {
        if self.phase == Phase::Taking {
            self.phase = Phase::Open;
            self.moved_at = self.now;
            self.events.push_back(Event::Taken);
            self.void_escrow(Code::Moved);
        }
    }

    /// The other end asks whether it may go.
    pub(super) fn handle_move(
        &mut self,
        generation: Generation,
        to: DeviceId,
        local: DeviceId,
    ) -> Result<(), Violation> {
        let is_other = self.hand_over.peer_to.is_some_and(|known| known != to);
        if generation != self.hand_over.peer_generation.next() || is_other {
            return Err(Violation::Generation);
        }
        if to == local {
            // We would be both ends, and nobody the arbiter.
            self.hand_over.verdict = Some(Err(Code::NotMovable));
            return Ok(());
        }
        let both = self.hand_over.ask.is_some();
        if both && self.role == Role::Initiator {
            self.hand_over.verdict = Some(Err(Code::Moving));
            return Ok(());
        }
        if self.hand_over.withdraw_ask() {
            self.events.push_back(Event::Stay(Code::Moving));
        }
        self.hand_over.verdict = Some(Ok(()));
        if self.hand_over.peer_to.replace(to).is_none() {
            self.events.push_back(Event::PeerMoving(to));
        }
        Ok(())
    }

    pub(super) fn handle_may_move(
        &mut self,
        generation: Generation,
        local: DeviceId,
    ) -> Result<(), LaneError> {
        if generation != self.hand_over.generation.next() {
            return Err(LaneError::Unexpected);
        }
        let Some(ask) = self.hand_over.ask.take() else { return Err(LaneError::Unexpected) };
        self.go_away(ask.to);
        if ask.withdrawn {
            self.events.pop_back();
            self.reclaim(local);
        }
        Ok(())
    }

    pub(super) fn handle_stay(&mut self, generation: Generation, code: Code) {
        if generation == self.hand_over.generation.next() && self.hand_over.withdraw_ask() {
            self.events.push_back(Event::Stay(code));
        }
    }

    /// The question or answer that is due on the lane in use.
    pub(super) fn poll_hand_over(&mut self) -> Option<SessionFrame> {
        if let Some(verdict) = self.hand_over.verdict.take() {
            let generation = self.hand_over.peer_generation.next();
            return Some(match verdict {
                Ok(()) => {
                    self.paused_until = Some(self.now + MOVE_PAUSE);
                    SessionFrame::MayMove { generation }
                }
                Err(code) => SessionFrame::Stay { generation, code },
            });
        }
        // An initiator that has not heard of its session yet would not know what is meant.
        let ask = self.hand_over.ask.as_mut().filter(|_| self.confirmed)?;
        let (generation, to) = (self.hand_over.generation.next(), ask.to);
        std::mem::take(&mut ask.due).then_some(SessionFrame::Move { generation, to })
    }

    /// The secrets with which a device may `Resume` besides the present one: as the next owner, where
    /// the other end may go to it, or back to it, or where it has its copy.
    pub(super) fn next_secrets(&self, device: DeviceId) -> impl Iterator<Item = Secret> {
        let to = self.hand_over.peer_to;
        let may_move = to.is_some_and(|to| device == to || self.owner == Some(device));
        let generation = self.hand_over.peer_generation.next();
        let secret = || owner_secret(&self.secret, self.role.other(), generation, device);
        may_move.then(secret).into_iter().chain(self.noted_secret(device))
    }

    /// The owner that may go has restarted: it cannot have itself back. What it handed over to itself it may
    /// still have.
    pub(super) fn note_orphan(&mut self, device: DeviceId) {
        if self.hand_over.peer_to != Some(device) && !self.has_note() {
            self.hand_over.orphaned.get_or_insert(self.now);
        }
    }

    /// When the other end is given up, since neither who had it nor who was to have it comes.
    pub(super) fn orphan_deadline(&self) -> Option<Instant> {
        self.hand_over.orphaned.map(|since| since + ORPHAN_MAX)
    }

    pub(super) fn may_peer_move(&self) -> bool {
        self.hand_over.peer_to.is_some()
    }

    /// The other end has its next owner.
    pub(super) fn peer_taken(&mut self, device: DeviceId, secret: Secret) {
        if self.config.has(Planted::OwnerUnchecked) {
            self.owner = Some(device);
            self.events.push_back(Event::PeerMoved(device));
            return;
        }
        self.secret = secret;
        self.hand_over.peer_generation = self.hand_over.peer_generation.next();
        (self.hand_over.peer_to, self.hand_over.orphaned) = (None, None);
        self.paused_until = None;
        self.forget_note();
        // The other end's new owner knows of no copy of ours, and secrets are others.
        self.void_escrow(Code::Moved);
        let others = self.lanes.iter().filter(|lane| lane.up.peer != device);
        let others: Vec<_> = others.map(Lane::id).collect();
        others.into_iter().for_each(|lane| self.evict(lane, Code::Moved));
        if self.owner.replace(device) != Some(device) {
            // Another device, another run.
            self.incarnation = None;
        }
        self.events.push_back(Event::PeerMoved(device));
    }

    /// Whether this end is not ours to use: it is away, or not ours yet.
    pub fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away { .. } | Phase::Taking)
    }

    /// A lane was taken: what was asked or answered on the one before it may be lost.
    pub(super) fn repeat_hand_over(&mut self) {
        self.repeat_escrow();
        self.hand_over.verdict = None;
        if let Some(ask) = &mut self.hand_over.ask {
            ask.due = true;
        }
    }

    /// A lane to a peer that may be moving was refused, or broke.
    pub(super) fn pause_for_move(&mut self) {
        if self.hand_over.peer_to.is_some() {
            self.pause();
        }
    }

    /// Leaves it to the other end's next owner to come.
    pub(super) fn pause(&mut self) {
        self.paused_until = Some(self.now + MOVE_PAUSE);
    }
}

/// Whether a capsule is one that may be continued here, as far as it shows; gives the credit that the
/// other end may have beyond what was delivered.
pub(crate) fn check_capsule(
    config: &Config,
    capsule: &Capsule,
    bytes: &[u8],
) -> Result<u64, CapsuleError> {
    let promised = capsule.received.credit.saturating_sub(capsule.received.delivered);
    if bytes.len() as u64 > config.buffer_max || promised > config.buffer_max {
        return Err(CapsuleError::TooLarge);
    }
    let offsets = [capsule.sent.sent, capsule.sent.credit, capsule.received.credit];
    if offsets.into_iter().any(|offset| offset > OFFSET_MAX) {
        return Err(CapsuleError::Offsets);
    }
    Ok(promised)
}
