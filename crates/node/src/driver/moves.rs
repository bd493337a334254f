//! The session and its application part, or the session goes to another device.

use std::task::{Context, Poll};
use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_session::{End, Role};
use cloak_wire::Code;
use tokio::sync::oneshot;

use super::settling::{Next, Settling};
use super::{Driver, Side, Source, Spoke};
use crate::api::{Application, Movable};
use crate::handover::part_with;
use crate::registry::{AttachError, Attaching, Guest, Moving, Packed, Standing, Whose};

/// A backend that spoke last and is quiet for so long has said what it had to say.
const QUIET: Duration = Duration::from_millis(100);
/// How long who moves a session has to say what became of it; longer than all that it waits for.
const SETTLED_AFTER: Duration = Duration::from_secs(75);
/// How long an application may take to leave its stream.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who waits for the steps of a hand-over.
#[derive(Default)]
pub(super) struct Moves {
    /// For the capsule.
    pub(super) packing: Option<oneshot::Sender<Result<Packed, Code>>>,
    /// The application was asked to leave, for a move to this device, and has to until then; or it has, and
    /// its last bytes are to be read.
    pub(super) leaving: Option<(DeviceId, Option<Instant>)>,
    /// The application cannot leave by itself, and is to be parted from once it reads no more.
    pub(super) settling: Option<Settling>,
    /// It reads no more, and the other end is asked.
    pub(super) is_settled: bool,
    /// When an end that is away, or not ours yet, does not wait any longer to hear what became of it.
    pub(super) settled_by: Option<Instant>,
    /// For this end to be ours again.
    pub(super) returning: Option<oneshot::Sender<bool>>,
    /// For the other end to agree that it is ours, after it was handed over to us.
    pub(super) taking: Option<oneshot::Sender<Result<(), Code>>>,
    /// Where this end is going, and where the other one is, each since when.
    going: Option<(DeviceId, Instant)>,
    peer_going: Option<(DeviceId, Instant)>,
}

impl Driver {
    /// Has the session leave for another device: its application first, if it can tell the next one where
    /// it was.
    pub(super) fn hand_over(
        &mut self,
        now: Instant,
        to: DeviceId,
        packing: oneshot::Sender<Result<Packed, Code>>,
    ) {
        if let Err(code) = self.may_hand_over(now) {
            let _ = packing.send(Err(code));
            return;
        }
        self.moves.packing = Some(packing);
        self.moves.going = Some((to, now));
        let leaves =
            self.application.as_mut().is_some_and(|application| application.ask_to_leave());
        if leaves {
            self.moves.leaving = Some((to, Some(now + LEAVE_TIMEOUT)));
        } else if self.application.is_some() && self.tail.is_kept() {
            self.moves.settling = Some(Settling::new(now, Next::Move(to)));
            self.ask_reading(now);
        } else {
            self.ask(now, to);
        }
    }

    fn may_hand_over(&self, now: Instant) -> Result<(), Code> {
        self.session.may_hand_over()?;
        if self.moves.is_under_way() || !self.has_source() {
            return Err(Code::Moving);
        }
        if self.may_leave(now) { Ok(()) } else { Err(Code::NotMovable) }
    }

    /// Whether no application is on its way.
    fn has_source(&self) -> bool {
        matches!(self.source, Source::Attached | Source::Adopted)
    }

    /// Asks the other end.
    pub(super) fn ask(&mut self, now: Instant, to: DeviceId) {
        if let Err(code) = self.session.hand_over(now, to) {
            self.stay(now, code);
        }
    }

    /// Nobody waits for the move any more.
    pub(super) fn withdraw(&mut self, now: Instant) {
        self.session.withdraw(now);
        self.stay(now, Code::Cancelled);
    }

    /// Whether the application has left because it was asked to. All that it wrote was read.
    pub(super) fn has_left(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let (Some((to, _)), Some(application)) = (self.moves.leaving, &mut self.application) else {
            return false;
        };
        // One that ended for good in this very moment may still leave, as far as it reads.
        let Poll::Ready(left) = application.poll_departure(cx) else { return false };
        self.moves.leaving = None;
        self.tail.put_back(&left.unread);
        self.state = left.state;
        self.application = None;
        if self.moves.packing.is_some() {
            self.ask(now, to);
        } else {
            self.go_on(now);
        }
        true
    }

    /// The session does not go.
    pub(super) fn stay(&mut self, now: Instant, code: Code) {
        self.moves.going = None;
        self.moves.is_settled = false;
        let _ = self.moves.settling.take_if(|settling| settling.is_for_move());
        if let Some(packing) = self.moves.packing.take() {
            let _ = packing.send(Err(code));
        }
        if self.moves.leaving.is_some() {
            let stays = self.application.as_mut().is_none_or(|application| application.stay());
            // One that has left already is followed by another once its last bytes are read.
            self.moves.leaving = self.moves.leaving.filter(|_| !stays).map(|(to, _)| (to, None));
        }
        self.go_on(now);
    }

    /// Where the application has left, another one is to come.
    fn go_on(&mut self, now: Instant) {
        self.replace_application();
        self.wait_for_application(now);
    }

    /// Whatever has waited for long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.held_until) {
            // Nobody came for it.
            self.held_until = None;
            self.session.reset(now, Code::LingerExceeded);
        }
        if is_due(self.moves.leaving.and_then(|(_, until)| until)) {
            self.stay(now, Code::NotMovable);
        }
        if is_due(self.moves.settled_by) {
            self.moves.settled_by = None;
            self.settle(now);
        }
        self.ask_reading(now);
    }

    /// Whoever was to tell what became of a hand-over has not: the other end is asked. An end that was
    /// handed over to us, and that the other end does not give us, is given up.
    fn settle(&mut self, now: Instant) {
        if !self.session.is_away() {
            return;
        }
        if matches!(self.source, Source::Adopted) && !self.was_open {
            self.session.lose(now, Code::Timeout);
        } else {
            self.session.take_back(now, self.shared.tls.device());
        }
    }

    /// Whether the application can do without what follows: a service's backend only as its owner says.
    fn may_leave(&self, now: Instant) -> bool {
        if self.handle.role == Role::Initiator {
            return true;
        }
        match self.shared.services.movable(&self.handle.target) {
            Movable::No => false,
            Movable::Always => true,
            Movable::Idle => {
                let has_answered =
                    |(who, at): (Spoke, Instant)| who == Spoke::Ours && now.since(at) >= QUIET;
                let snapshot = self.session.snapshot();
                snapshot.held == 0 && self.spoke.is_none_or(has_answered)
            }
        }
    }

    /// The other end has agreed: gives the session to whoever is to send it. Takes it back where nobody waits for
    /// it any more.
    pub(super) fn pack(&mut self, now: Instant) {
        // While we are away nobody is to take the other end.
        self.shared.sessions.expect(&self.handle, Guest::Holder, None);
        let packing = self.moves.packing.take();
        // While the other end was asked, its application may have said something.
        let packed = if self.may_leave(now) {
            let packed = self.session.capsule().ok_or(Code::Gone);
            let is_known = self.tail.is_kept();
            let unread = self.application.is_some().then(|| self.unread().filter(|_| is_known));
            let left = self.tail.left(unread, self.state.clone());
            packed.map(|(capsule, bytes)| Packed { capsule, bytes, left })
        } else {
            Err(Code::NotMovable)
        };
        self.moves.is_settled = false;
        let may_go = packed.is_ok();
        let is_told = packing.is_some_and(|packing| packing.send(packed).is_ok());
        self.moves.settled_by = Some(now + SETTLED_AFTER);
        if !(may_go && is_told) {
            self.session.take_back(now, self.shared.tls.device());
        }
    }

    /// The other end has agreed that this end is ours, or ours again.
    pub(super) fn taken(&mut self, now: Instant) {
        self.was_open = true;
        (self.moves.settled_by, self.moves.going) = (None, None);
        self.go_on(now);
        // Whoever hears of it finds it listed as it is.
        self.show();
        if let Some(taking) = self.moves.taking.take() {
            let _ = taking.send(Ok(()));
        }
        if let Some(returning) = self.moves.returning.take() {
            let _ = returning.send(true);
        }
        // Only now the other end has shown who it is.
        if let Err(code) = self.shared.reauthorise(&self.handle) {
            self.handle.close(code);
        }
        self.close_if_told(now);
    }

    /// A service's backend that has left in vain is followed by another one here.
    fn replace_application(&mut self) {
        if self.handle.role == Role::Responder && self.application.is_none() && self.has_source() {
            let state = std::mem::take(&mut self.state);
            self.source = Source::Service(self.shared.backend_after(&self.handle, state));
        }
    }

    /// Ends the application's stream in order, once it reads no more, and keeps the session for another
    /// application.
    pub(super) fn hold(&mut self, now: Instant, done: oneshot::Sender<Result<(), Code>>) {
        if self.session.is_away() || self.moves.is_under_way() {
            let _ = done.send(Err(Code::Moving));
        } else if self.application.is_none() || !self.has_source() {
            let _ = done.send(Err(Code::NotMovable));
        } else if self.tail.is_kept() {
            self.moves.settling = Some(Settling::new(now, Next::Hold(done)));
            self.ask_reading(now);
        } else {
            self.part_to_hold(now, None);
            let _ = done.send(Ok(()));
        }
    }

    /// The application goes, with so much unread, where that is known; another one may come.
    pub(super) fn part_to_hold(&mut self, now: Instant, unread: Option<u64>) {
        self.tail.leave(unread);
        self.part_with_application();
        self.wait_for_application(now);
        self.show();
    }

    /// Where another application would go on; none unless one may come now.
    pub(super) fn standing(&self) -> Option<Standing> {
        if !self.is_held() || self.session.is_away() {
            return None;
        }
        // The end of the stream takes an offset, and is no byte.
        let end = u64::from(self.session.peer_has_finished());
        let latest = self.session.snapshot().delivered - end;
        let back = |bytes: usize| latest - bytes as u64;
        let (from, earliest) = (back(self.tail.pending()), back(self.tail.len()));
        Some(Standing { from, earliest, latest, not_read: self.tail.not_read() })
    }

    /// Brings in an application where there is none, and resumes a session that was suspended here.
    pub(super) fn attach(&mut self, now: Instant, attaching: Attaching) {
        let Attaching { application, name, from, done } = attaching;
        let back = match self.standing() {
            None => Err(AttachError::NotHeld),
            Some(standing) => standing.back_to(from).ok_or(AttachError::OutOfRange(standing)),
        };
        let attached = back.map(|back| {
            self.tail.begin(back);
            std::mem::take(&mut self.state)
        });
        match &attached {
            Ok(_) => {
                self.bring_in(application, name);
                // Who attaches wants to go on; where the other end has suspended the session, once that one does.
                let _ = self.session.resume(now);
            }
            Err(_) => application.reset(),
        }
        self.show();
        let _ = done.send(attached);
    }

    /// The application goes on where the session stands, which may be behind one or both ends of the stream.
    pub(super) fn bring_in(&mut self, application: Box<dyn Application>, name: String) {
        self.application = Some(application);
        (self.held_until, self.told) = (None, None);
        self.handle.set_application(name);
        self.reading = if self.session.has_finished() { Side::Done } else { Side::Open };
        if self.session.peer_has_finished() || self.writing == Side::Done {
            self.writing = Side::Ending;
        }
    }

    /// Whether the session goes on without an application.
    pub(super) fn is_held(&self) -> bool {
        self.held_until.is_some()
    }

    /// Gives an application time to come, where there is none and none is on its way.
    fn wait_for_application(&mut self, now: Instant) {
        if self.application.is_none() && self.has_source() {
            self.held_until = Some(now + self.shared.session_config().linger);
            self.handle.set_application(String::new());
        }
    }

    /// The application gets an end of file, not a reset: for it the stream ends here.
    pub(super) fn part_with_application(&mut self) {
        if let Some(application) = self.application.take() {
            self.shared.tasks.spawn(part_with(application));
        }
    }
}

impl Moves {
    /// Whether somebody waits for the session to go, or its application is about to.
    pub(super) fn is_under_way(&self) -> bool {
        self.packing.is_some() || self.is_leaving()
    }

    /// Whether the application is about to go: it is given no more.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some() || self.settling.is_some() || self.is_settled
    }

    /// There is no application any more that could go.
    pub(super) fn stop_leaving(&mut self) {
        (self.leaving, self.settling, self.is_settled) = (None, None, false);
    }

    /// What is under way, for people.
    pub(super) fn shown(&self) -> Option<Moving> {
        let moving = |side, (to, since)| Moving { side, to, since };
        let own = self.going.map(|going| moving(Whose::Own, going));
        own.or(self.peer_going.map(|going| moving(Whose::Peer, going)))
    }

    /// Where this end went, once it is over because it did.
    pub(super) fn went_to(&self) -> Option<DeviceId> {
        self.going.map(|(to, _)| to)
    }

    /// The other end may go to a device.
    pub(super) fn peer_goes(&mut self, now: Instant, to: DeviceId) {
        self.peer_going = Some((to, now));
    }

    /// The other end is where it belongs.
    pub(super) fn peer_went(&mut self) {
        self.peer_going = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.and_then(|(_, until)| until);
        let asking = self.settling.as_ref().map(Settling::poll_timeout);
        leaving.into_iter().chain(self.settled_by).chain(asking).min()
    }

    /// The session is over, and everybody who waits is told.
    pub(super) fn end(&mut self, end: End) {
        self.stop_leaving();
        self.settled_by = None;
        if let Some(packing) = self.packing.take() {
            let _ = packing.send(Err(Code::Gone));
        }
        if let Some(taking) = self.taking.take() {
            let _ = taking.send(Err(end.code()));
        }
        if end == End::Moved
            && let Some(returning) = self.returning.take()
        {
            let _ = returning.send(false);
        }
    }
}
