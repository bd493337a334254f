//! A copy of this end is kept up to date at another device, which may take the end should ours die.
//!
//! While such an *escrow* is set up, the *gate* is on: nothing goes to the other end, and nothing is
//! acknowledged to it, beyond what the holder has confirmed to have. So whatever the other end knows of
//! us, the holder can continue. The other end has to agree as well, since it alone says who owns this
//! one: it is asked once the holder has caught up with everything that went before the gate was on, and
//! asked again before the gate is off.
//!
//! Only the initiator's end can be kept.

use cloak_base::{DeviceId, Epoch, Generation, Instant};
use cloak_wire::{Capsule, Code, Mark, Secret, SessionFrame};

use super::{Phase, Session};
use crate::error::{LaneError, Violation};
use crate::proof::escrow_secret;
use crate::rtt::Rtt;
use crate::{Event, Planted, Role};

/// Most bytes that go to the holder at once, after the copy itself.
pub const BATCH_MAX: usize = 1 << 20;
/// The holder hears of so many bytes that it may drop, where there is nothing else to tell.
const DROP_EVERY: u64 = 64 << 10;
/// The holder's attempts rank above any that we make meanwhile, of which it does not know.
const EPOCHS: u64 = 1 << 32;

/// What the holder gets next. It confirms each with its number, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// For [`Session::kept`]. Never used twice by a session.
    pub number: u64,
    /// What it is.
    pub news: News,
    /// Bytes of our application.
    pub bytes: Vec<u8>,
}

/// What a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The copy itself, with all bytes that the other end has not acknowledged.
    Copy(Box<Capsule>),
    /// What has changed since.
    Mark(Mark),
}

/// Of either end; see the fields for whose.
#[derive(Debug, Default)]
pub(super) struct Escrow {
    /// Initiator: the copy of our end.
    ours: Option<Ours>,
    /// Batches so far.
    batches: u64,
    /// Responder: the device that may take the other end, and the number of its copy.
    note: Option<(DeviceId, u64)>,
    /// Responder: our answer, to be sent on the lane in use.
    answer: Option<Option<Code>>,
}

#[derive(Debug)]
struct Ours {
    holder: DeviceId,
    stage: Stage,
    /// Number of the batch that is the copy itself.
    copy: u64,
    /// The question on the lane in use that is not answered: whether the holder is to be noted.
    asked: Option<bool>,
    /// The other end may have noted the holder.
    may_be_noted: bool,
    /// What the holder was given, once it has the copy.
    given: Option<Progress>,
    /// The batch that is not confirmed, and when it went.
    under_way: Option<(u64, Progress, Instant)>,
    rtt: Rtt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The holder gets the copy; the gate is off.
    Copying,
    /// The gate is on. The other end is asked as soon as the holder has caught up.
    Asking,
    /// The other end has agreed.
    InForce,
    /// The other end is asked to forget it; the gate stays on until it has.
    Revoking,
}

/// How far the holder's copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// End of the bytes that it has.
    end: u64,
    /// Of our stream.
    fin: Option<u64>,
    acked: u64,
    delivered: u64,
}

impl Progress {
    /// The offset after the last one that it has, that of our `Fin` included.
    fn sent(&self) -> u64 {
        self.end + u64::from(self.fin.is_some())
    }
}

impl Session {
    /// Has `holder` keep a copy of this end: [`poll_escrow`](Self::poll_escrow) gives what it is to get.
    /// [`Event::Escrowed`] follows once the other end has agreed, or [`Event::EscrowEnded`].
    ///
    /// # Errors
    /// [`Code::NotMovable`] unless this is an initiator whose session is open, and `holder` a third
    /// device; [`Code::Moving`] while there is an escrow already, or this end is away.
    pub fn begin_escrow(&mut self, now: Instant, holder: DeviceId) -> Result<(), Code> {
        self.tick(now);
        if self.is_away() || self.copied().is_some() {
            return Err(Code::Moving);
        }
        let is_third = self.owner != Some(holder);
        if self.role != Role::Initiator || self.phase != Phase::Open || !is_third {
            return Err(Code::NotMovable);
        }
        self.escrow.get_or_insert_default().ours = Some(Ours {
            holder,
            stage: Stage::Copying,
            copy: 0,
            asked: None,
            may_be_noted: false,
            given: None,
            under_way: None,
            rtt: Rtt::default(),
        });
        Ok(())
    }

    /// The next batch for the holder. `None` while one is not confirmed, and where there is no news.
    pub fn poll_escrow(&mut self, now: Instant) -> Option<Batch> {
        let now = self.tick(now);
        let given =
            self.copied().filter(|ours| ours.may_give()).map(|ours| (ours.holder, ours.given));
        let (holder, given) = given?;
        if self.phase != Phase::Open || !self.spill.is_here() {
            return None;
        }
        let number = self.escrow.as_ref()?.batches + 1;
        let (news, bytes, progress) = match given {
            None => self.copy_for(holder, number),
            Some(given) => self.changes_since(&given)?,
        };
        let escrow = self.escrow.as_mut()?;
        escrow.batches = number;
        let ours = escrow.ours.as_mut()?;
        if given.is_none() {
            ours.copy = number;
        }
        (ours.given, ours.under_way) = (Some(progress), Some((number, progress, now)));
        Some(Batch { number, news, bytes })
    }

    /// The holder has that batch.
    pub fn kept(&mut self, now: Instant, number: u64) {
        let now = self.tick(now);
        let Some(ours) = self.copied_mut() else { return };
        let batch = ours.under_way.take_if(|(under_way, ..)| *under_way == number);
        let Some((_, progress, since)) = batch else { return };
        ours.rtt.sample(now.since(since));
        if ours.stage == Stage::Copying {
            ours.stage = Stage::Asking;
        }
        if !self.config.has(Planted::EscrowUngated) {
            self.send.keep_below(progress.sent());
            self.receive.keep_below(now, progress.delivered);
        }
        self.settle();
    }

    /// The holder is lost, or not wanted any more. [`Event::EscrowEnded`] follows, once the other end
    /// has agreed that it is not to have this end.
    pub fn end_escrow(&mut self, now: Instant) {
        self.tick(now);
        match self.copied_mut() {
            Some(ours) if ours.may_be_noted => ours.stage = Stage::Revoking,
            Some(_) => self.void_escrow(Code::Cancelled),
            None => {}
        }
        self.settle();
    }

    /// The device that may take this end if ours dies.
    pub fn escrow_holder(&self) -> Option<DeviceId> {
        let in_force = self.copied().filter(|ours| ours.stage == Stage::InForce);
        in_force.map(|ours| ours.holder)
    }

    fn copied(&self) -> Option<&Ours> {
        self.escrow.as_ref()?.ours.as_ref()
    }

    fn copied_mut(&mut self) -> Option<&mut Ours> {
        self.escrow.as_mut()?.ours.as_mut()
    }

    fn copy_for(&self, holder: DeviceId, number: u64) -> (News, Vec<u8>, Progress) {
        let generation = self.generation().next();
        let secret = escrow_secret(&self.secret, self.role, generation, holder, number);
        let (mut capsule, bytes) = self.pack(secret, self.receive.copy());
        capsule.epoch = Epoch(capsule.epoch.0.saturating_add(EPOCHS));
        // It may all be sent once the holder has it.
        capsule.sent.sent = self.send.end();
        let progress = Progress {
            end: self.send.bytes_end(),
            fin: capsule.sent.fin,
            acked: capsule.sent.acked,
            delivered: capsule.received.delivered,
        };
        (News::Copy(Box::new(capsule)), bytes, progress)
    }

    fn changes_since(&self, given: &Progress) -> Option<(News, Vec<u8>, Progress)> {
        let acked = self.send.acked();
        // What was acknowledged before the gate was on may not be here any more.
        let from = given.end.max(acked.min(self.send.bytes_end()));
        let bytes = self.send.copy(from, BATCH_MAX);
        let end = from + bytes.len() as u64;
        let fin = self.send.fin().filter(|fin| *fin == end);
        let received = self.receive.copy();
        let progress = Progress { end, fin, acked, delivered: received.delivered };
        let may_drop = acked >= given.end || acked - given.acked >= DROP_EVERY;
        let is_news = progress.sent() > given.sent()
            || progress.delivered > given.delivered
            || (acked > given.acked && may_drop);
        let mark = Mark {
            acked,
            fin,
            delivered: received.delivered,
            peer_fin: received.fin,
            bytes: bytes.len() as u64,
        };
        is_news.then_some((News::Mark(mark), bytes, progress))
    }

    /// How long the holder takes to confirm: the other end waits for that, too.
    pub(super) fn escrow_round_trip(&self) -> Option<std::time::Duration> {
        self.copied().and_then(|ours| ours.rtt.smoothed())
    }

    /// There is no escrow any more, and nobody who could take this end.
    pub(super) fn void_escrow(&mut self, code: Code) {
        if let Some(escrow) = &mut self.escrow
            && escrow.ours.take().is_some()
        {
            self.open_gate();
            self.events.push_back(Event::EscrowEnded(code));
        }
    }

    /// The session is over at this end, which is not to wait for its holder any more.
    pub(super) fn leave_escrow(&mut self) {
        if let Some(ours) = self.copied_mut() {
            ours.under_way = None;
        }
        self.open_gate();
    }

    fn open_gate(&mut self) {
        self.send.keep_below(u64::MAX);
        self.receive.keep_below(self.now, u64::MAX);
    }

    /// The other end has a holder for its copy, or none any more.
    pub(super) fn handle_escrow(
        &mut self,
        generation: Generation,
        to: Option<DeviceId>,
        copy: u64,
        local: DeviceId,
    ) -> Result<(), Violation> {
        if generation != self.peer_generation().next() {
            return Err(Violation::Generation);
        }
        self.confirmed = true;
        let is_possible = self.role == Role::Responder && to != Some(local);
        let holder = to.filter(|_| is_possible);
        let escrow = self.escrow.get_or_insert_default();
        escrow.answer = Some((holder != to).then_some(Code::NotMovable));
        escrow.note = holder.map(|holder| (holder, copy));
        self.events.push_back(Event::PeerEscrow(holder));
        Ok(())
    }

    pub(super) fn handle_escrowed(
        &mut self,
        generation: Generation,
        code: Option<Code>,
    ) -> Result<(), LaneError> {
        if generation != self.generation().next() {
            return Err(LaneError::Unexpected);
        }
        let ours = self.copied_mut().ok_or(LaneError::Unexpected)?;
        let was_to_note = ours.asked.take().ok_or(LaneError::Unexpected)?;
        match (ours.stage, was_to_note, code) {
            (Stage::Asking, true, None) => {
                ours.stage = Stage::InForce;
                self.events.push_back(Event::Escrowed);
            }
            (_, true, Some(code)) => self.void_escrow(code),
            (Stage::Revoking, false, _) => self.void_escrow(Code::Cancelled),
            // The one to forget it follows.
            _ => {}
        }
        Ok(())
    }

    /// The question or answer that is due on the lane in use.
    pub(super) fn poll_escrow_frame(&mut self) -> Option<SessionFrame> {
        let has_caught_up = self.send.is_kept() && self.receive.is_kept();
        let (generation, theirs) = (self.generation().next(), self.peer_generation().next());
        let escrow = self.escrow.as_mut()?;
        if let Some(code) = escrow.answer.take() {
            return Some(SessionFrame::Escrowed { generation: theirs, code });
        }
        let ours = escrow.ours.as_mut().filter(|ours| ours.asked.is_none())?;
        let to = match ours.stage {
            Stage::Asking if has_caught_up => Some(ours.holder),
            Stage::Revoking => None,
            Stage::Asking | Stage::Copying | Stage::InForce => return None,
        };
        ours.asked = Some(to.is_some());
        ours.may_be_noted = true;
        Some(SessionFrame::Escrow { generation, to, copy: ours.copy })
    }

    /// A lane was taken: what was asked or answered on the one before it may be lost.
    pub(super) fn repeat_escrow(&mut self) {
        if let Some(escrow) = &mut self.escrow {
            escrow.answer = None;
            if let Some(ours) = &mut escrow.ours {
                ours.asked = None;
            }
        }
    }

    /// The secret with which a device that has the other end's copy may `Resume`.
    pub(super) fn noted_secret(&self, device: DeviceId) -> Option<Secret> {
        let (_, copy) = self.escrow.as_ref()?.note.filter(|(holder, _)| *holder == device)?;
        let generation = self.peer_generation().next();
        Some(escrow_secret(&self.secret, self.role.other(), generation, device, copy))
    }

    /// Whether the other end may be taken by a device that has its copy.
    pub(super) fn has_note(&self) -> bool {
        self.escrow.as_ref().is_some_and(|escrow| escrow.note.is_some())
    }

    /// The other end has another owner, or this one may have: whoever had the other end's copy cannot use it
    /// any more.
    pub(super) fn forget_note(&mut self) {
        if let Some(escrow) = &mut self.escrow {
            (escrow.note, escrow.answer) = (None, None);
        }
    }
}

impl Ours {
    fn may_give(&self) -> bool {
        self.under_way.is_none() && self.stage != Stage::Revoking
    }
}
