//! Drives one session: moves bytes between the application's socket, the session and its lane.
//!
//! One task owns all three; nothing is handed to another task per chunk. [`Driver::poll`] is the
//! one drain loop: inputs (commands, timer, lane, application), then events and transmissions, until
//! nothing moves or the round limit is reached.

mod escrow;
mod lanes;
mod moves;
mod pause;
mod settling;
mod tail;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cloak_base::Instant;
use cloak_session::{End, Event, Role, Session, State, Transmit};
use cloak_transport::RecvError;
use cloak_wire::{Code, Frame, Item, SessionFrame};
use tokio::io::ReadBuf;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Application, Backend, BoxFuture};
use crate::handover::{Left, Taken};
use crate::lane::Lane;
use crate::peer::Greeting;
use crate::registry::{Command, Guest, Outcome, SessionHandle};
use crate::shared::Shared;
use crate::spill::Spill;
use crate::sync::read;
use crate::timer::Timer;
use escrow::Escrow;
use moves::Moves;
use tail::Tail;

/// Rounds of one poll before other tasks get their turn. A round moves at most what one read of
/// the lane and one of the application give: some 256 KiB.
const ROUNDS_MAX: usize = 8;
/// Largest piece of application data sealed at once, in bytes.
const PIECE_MAX: usize = 256 * 1024;

/// Where the session's application comes from.
pub(crate) enum Source {
    /// A proxy client waits for `Opened`, then attaches its socket.
    Proxy {
        opened: Option<oneshot::Sender<Result<(), Code>>>,
        attach: oneshot::Receiver<Box<dyn Application>>,
    },
    /// The service's backend is being connected.
    Service(BoxFuture<'static, Result<Backend, Code>>),
    /// The application is here, or was.
    Attached,
    /// Handed over to us; there is no application yet, or a service's backend is connected.
    Adopted,
}

/// Where the application's stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Open,
    /// Its end was seen (reading) or is being sent (writing).
    Ending,
    Done,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    handle: Arc<SessionHandle>,
    session: Session,
    /// The lane in use and, while a race is decided, its challenger.
    lanes: Vec<Lane>,
    /// Lanes that go back to their owner once their last bytes are written.
    parting: Vec<Lane>,
    source: Source,
    application: Option<Box<dyn Application>>,
    reading: Side,
    writing: Side,
    inbox: mpsc::Receiver<Box<Command>>,
    timer: Timer,
    spill: Spill,
    /// Had a lane before: the next one is for a resume, or a repeated `Open`.
    has_ridden: bool,
    was_open: bool,
    /// What the session's hand-overs have to tell, and to whom.
    moves: Moves,
    escrow: Escrow,
    /// Who of the two applications spoke last, as far as ours knows, and when.
    spoke: Option<(Spoke, Instant)>,
    /// Bytes that an application gets before those of the session, and the last that it was given.
    tail: Tail,
    /// What an application wants the next one to know.
    state: Vec<u8>,
    /// The application may hold bytes that it has not passed on.
    unflushed: bool,
    /// The state, resumes and reason that the application was told of.
    told: Option<(State, u64, Option<Code>)>,
    /// Until when an application may come, where there is none.
    held_until: Option<Instant>,
    ended: Option<End>,
}

/// One of the two applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoke {
    Ours,
    Theirs,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        handle: Arc<SessionHandle>,
        session: Session,
        source: Source,
        inbox: mpsc::Receiver<Box<Command>>,
    ) -> Self {
        // A service's backend is followed by another one between two requests, or where it does not mind.
        let keeps = handle.role == Role::Initiator;
        let tail = if keeps { read(&shared.config).session.tail.0 } else { 0 };
        let tail = Tail::new(usize::try_from(tail).unwrap_or(0), session.memory().clone());
        Self {
            timer: Timer::new(Arc::clone(&shared.clock)),
            spill: Spill::new(Arc::clone(&shared), handle.id),
            shared,
            handle,
            session,
            lanes: Vec::with_capacity(1),
            parting: Vec::new(),
            source,
            application: None,
            reading: Side::Open,
            writing: Side::Open,
            inbox,
            has_ridden: false,
            was_open: false,
            moves: Moves::default(),
            escrow: Escrow::default(),
            spoke: None,
            tail,
            state: Vec::new(),
            unflushed: false,
            told: None,
            held_until: None,
            ended: None,
        }
    }

    /// Drives an end that was handed over to us: `taken` hears whether the other end has agreed, which is given
    /// up after `within`. A service's end has its backend.
    pub(crate) fn adopt(
        mut self,
        backend: Option<Backend>,
        left: Left,
        taken: Taken,
        within: Duration,
    ) -> Self {
        self.tail.adopt(left.unread, left.not_read);
        self.state = left.state;
        if let Some((application, address)) = backend {
            self.bring_in(application, address);
        }
        self.moves.taking = Some(taken);
        self.moves.settled_by = Some(self.shared.clock.now() + within);
        self
    }

    /// Runs until the session has ended and its lanes are back where they belong.
    pub(crate) async fn run(mut self) {
        let cancel = self.shared.cancel.clone();
        let mut cancelled = std::pin::pin!(cancel.cancelled());
        std::future::poll_fn(|cx| {
            if cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            self.poll(cx)
        })
        .await;
        self.show();
        let outcome = match self.ended {
            Some(End::Moved) => self.moves.went_to().map(Outcome::Moved),
            _ => self.was_lost().then_some(Outcome::Lost),
        };
        let name = |device| self.shared.name_of(device);
        self.shared.sessions.remove(&self.handle, outcome, self.shared.moment(&name));
        self.handle.peer().forget(self.handle.id);
    }

    /// Whether an open session ended by neither its applications nor an operator.
    fn was_lost(&self) -> bool {
        let by_somebody = [Code::Closed, Code::Reset, Code::Cancelled, Code::Moved];
        self.was_open && self.ended.is_some_and(|end| !by_somebody.contains(&end.code()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.shared.clock.now();
        self.commands(cx, now);
        if self.timer.poll(cx).is_ready() {
            let progress = self.kernel_progress();
            self.session.handle_timeout(now, progress);
        }
        self.expire(now);
        let mut moved = true;
        for _ in 0..ROUNDS_MAX {
            if !moved {
                break;
            }
            moved = self.source(cx, now);
            moved |= self.receive(cx, now);
            moved |= self.deliver(cx, now);
            moved |= self.fill(cx, now);
            self.spill(cx, now);
            moved |= self.events(now);
            moved |= self.transmit(cx, now);
            // A lane that became free by its last frame is not read again.
            moved |= self.events(now);
        }
        moved |= self.wishes(cx, now);
        self.part(cx);
        self.lodge(now);
        self.show();
        if self.ended.is_some() && self.parting.is_empty() && self.lanes.is_empty() {
            return Poll::Ready(());
        }
        // Who is about to go is given no more, and who is away has nothing to give.
        let gives = self.has_next() && !self.moves.is_leaving() && !self.session.is_away();
        let may_give = self.tail.poll_timeout().filter(|_| gives);
        let timeouts = [
            self.session.poll_timeout(),
            self.held_until,
            self.moves.poll_timeout(),
            self.escrow.poll_timeout(),
            may_give,
        ];
        self.timer.set(timeouts.into_iter().flatten().min());
        // The timer is polled once more so that its new deadline has our waker.
        if moved || self.timer.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn commands(&mut self, cx: &mut Context<'_>, now: Instant) {
        while let Poll::Ready(Some(command)) = self.inbox.poll_recv(cx) {
            match *command {
                Command::Lane(lane, first) => self.ride(lane, first, now),
                Command::Suspect(why) => self.session.suspect(now, why),
                Command::NetworkChanged => self.network_changed(now),
                Command::PeerIncarnation(device, run) => {
                    self.session.peer_incarnation(now, device, run);
                }
                Command::Close => {}
                Command::Better(lane) => self.improve(lane, now),
                Command::Cut => self.cut(now),
                Command::Shed => {
                    self.session.shed(now);
                    self.tail.shed();
                }
                Command::HandOver(to, packed) => self.hand_over(now, to, packed),
                Command::Withdraw => self.withdraw(now),
                Command::LetGo(generation) => self.session.let_go(now, generation),
                Command::TakeBack(returned) => {
                    self.moves.returning = Some(returned);
                    self.session.take_back(now, self.shared.tls.device());
                }
                Command::Lodged(attempt, lodged) => self.lodged(now, attempt, lodged),
                Command::Settings => self.look_at_settings(now),
                Command::Hold(done) => self.hold(now, done),
                Command::Standing(done) => {
                    let _ = done.send(self.standing());
                }
                Command::Attach(attaching) => self.attach(now, attaching),
                Command::Wish(wish) => self.grant(now, wish),
            }
        }
        self.close_if_told(now);
    }

    /// An operator, or a rule, has ended the session. While it is not ours to end, that waits; one that was
    /// to become ours is left to whoever has it.
    fn close_if_told(&mut self, now: Instant) {
        let is_adopting = matches!(self.source, Source::Adopted) && !self.was_open;
        if self.session.is_away() && !is_adopting {
            return;
        }
        match self.handle.closing() {
            Some(code) if is_adopting => self.session.lose(now, code),
            Some(code) => self.close(code, now),
            None => {}
        }
    }

    fn show(&mut self) {
        let snapshot = self.session.snapshot();
        let current = self.lanes.iter().find(|lane| Some(lane.id) == snapshot.lane);
        let relayed = current.is_some_and(|lane| lane.connection.via().is_some());
        let escrow = self.escrow.shown(&snapshot);
        self.handle.show(snapshot, relayed, self.held_until, self.moves.shown(), escrow);
        self.shared.sessions.show_dormant(&self.handle, snapshot.is_dormant());
        let now = (snapshot.state, snapshot.resumes, snapshot.reason);
        if let Some(application) = &mut self.application
            && self.told.replace(now) != Some(now)
        {
            application.tell(&self.handle.condition(&snapshot));
        }
    }

    fn close(&mut self, code: Code, now: Instant) {
        self.session.reset(now, code);
        self.moves.stop_leaving();
        if let Some(application) = self.application.take() {
            application.reset();
        }
    }

    /// Brings the application in: attached by the proxy, or connected as a service's backend.
    fn source(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        match &mut self.source {
            Source::Attached | Source::Adopted => return false,
            Source::Proxy { opened, attach } => match Pin::new(attach).poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(application)) => self.application = Some(application),
                // The client went away before its session was of use.
                Poll::Ready(Err(_)) => {
                    *opened = None;
                    self.session.reset(now, Code::Cancelled);
                }
            },
            Source::Service(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok((application, address))) => {
                    self.bring_in(application, address);
                    self.was_open = true;
                    self.session.opened(now);
                }
                Poll::Ready(Err(code)) => {
                    self.session.refuse(now, code);
                    if self.was_open {
                        // Nobody goes on where the last one left.
                        self.session.reset(now, code);
                    }
                }
            },
        }
        self.source = Source::Attached;
        true
    }

    fn kernel_progress(&self) -> Option<u64> {
        let current = self.session.snapshot().lane?;
        let lane = self.lanes.iter().find(|lane| lane.id == current)?;
        lane.connection.progress().map(|progress| progress.acked)
    }

    /// Reads each lane once; true when something came.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        for index in (0..self.lanes.len()).rev() {
            // Bytes that an application has not read, or that one which leaves need not get, go first.
            let may_offer = self.tail.pending() == 0 && !self.moves.is_leaving();
            let mut allowance = if may_offer { self.allowance(now) } else { 0 };
            let Self {
                lanes, session, application, writing, shared, spoke, unflushed, tail, ..
            } = self;
            let lane = &mut lanes[index];
            let (id, device) = (lane.id, lane.connection.peer());
            let mut peer_nonce = lane.peer_nonce;
            let mut socket = Context::from_waker(cx.waker());
            // What follows an `Idle` in the same read is the next session's.
            let mut idle = false;
            let mut behind = Vec::new();
            let mut handler = |item: Item<'_>| match item {
                Item::Frame(Frame::Close { code }) => Err(code),
                Item::Frame(Frame::Hello(hello)) if peer_nonce.is_none() => {
                    shared.check(device, &hello)?;
                    session.peer_incarnation(now, device, hello.incarnation);
                    session.lane_nonce(id, hello.nonce);
                    peer_nonce = Some(hello.nonce);
                    Ok(())
                }
                _ if peer_nonce.is_none() => Err(Code::Violation),
                Item::Frame(frame) if idle => {
                    behind.push(frame);
                    Ok(())
                }
                Item::Frame(Frame::Session(frame)) => {
                    idle = frame == SessionFrame::Idle;
                    session.handle_frame(now, id, frame).map_err(|error| error.code())
                }
                Item::Frame(_) => Err(Code::Violation),
                Item::Data(data) => {
                    let fresh = session.handle_data(now, id, data).map_err(|error| error.code())?;
                    let offered = &fresh[..fresh.len().min(allowance)];
                    let taken = offer(application, *writing, session, &mut socket, offered);
                    if taken > 0 {
                        tail.give(&offered[..taken]);
                        allowance -= taken;
                        session.delivered(now, taken);
                        *unflushed = true;
                        *spoke = Some((Spoke::Theirs, now));
                    }
                    if taken < fresh.len() {
                        session.hold(&fresh[taken..]);
                    }
                    Ok(())
                }
            };
            let received = lane.connection.poll_recv(cx, &mut handler);
            if lane.peer_nonce != peer_nonce {
                lane.peer_nonce = peer_nonce;
                lane.greeted(Greeting::Verified);
            }
            let kept = behind.into_iter().try_for_each(|frame| lane.keep_unread(frame));
            let received = match (received, kept) {
                (Poll::Ready(Ok(_)), Err(code)) => Poll::Ready(Err(RecvError::Handler(code))),
                (received, _) => received,
            };
            moved |= received.is_ready();
            if let Poll::Ready(Err(error)) = received {
                self.lane_failed(id, code_of(error), now);
            }
        }
        moved
    }

    /// Hands held bytes to the application; then its end of file, when the peer's is due.
    fn deliver(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.moves.is_leaving() || self.session.is_away() {
            return false;
        }
        let mut moved = false;
        while let Poll::Ready(written) = self.write_next(cx, now) {
            moved = true;
            if written.is_err() {
                self.application_failed(now);
                return true;
            }
        }
        let Some(application) = &mut self.application else { return false };
        self.unflushed |= moved;
        if self.unflushed {
            self.unflushed = Pin::new(&mut **application).poll_flush(cx).is_pending();
        }
        if self.writing != Side::Ending || self.tail.pending() > 0 {
            return moved;
        }
        match Pin::new(&mut **application).poll_shutdown(cx) {
            Poll::Pending => moved,
            // A client that is gone by now has had everything it was still able to take.
            Poll::Ready(_) => {
                self.writing = Side::Done;
                self.session.fin_delivered(now);
                true
            }
        }
    }

    /// Gives the application the next bytes, as many as it takes. Pending where there are none, or it is to
    /// have no more unread.
    fn write_next(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        let allowance = if self.has_next() { self.allowance(now) } else { 0 };
        let Some(application) = &mut self.application else { return Poll::Pending };
        let is_pending = self.tail.pending() > 0;
        let next = if is_pending { self.tail.next() } else { self.session.held() };
        let next = &next[..next.len().min(allowance)];
        if next.is_empty() {
            return Poll::Pending;
        }
        let taken = ready!(Pin::new(&mut **application).poll_write(cx, next))?;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if is_pending {
            self.tail.took(taken);
        } else {
            self.tail.give(&self.session.held()[..taken]);
            self.session.delivered(now, taken);
            self.spoke = Some((Spoke::Theirs, now));
        }
        Poll::Ready(Ok(()))
    }

    /// Whether there are bytes for the application.
    fn has_next(&self) -> bool {
        self.tail.pending() > 0 || !self.session.held().is_empty()
    }

    /// How many of them it may be given.
    fn allowance(&mut self, now: Instant) -> usize {
        let application = self.application.as_ref();
        self.tail.allowance(now, || application?.unread())
    }

    /// Reads the application into the replay buffer.
    fn fill(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.reading != Side::Open {
            return self.has_left(cx, now);
        }
        let Some(application) = &mut self.application else { return false };
        if self.session.is_away() {
            return false;
        }
        let space = self.session.space();
        if space.is_empty() {
            self.session.wrote(now, 0);
            // Its bytes are outstanding, so the session's probes bring us here every second.
            let has_failed = application.has_failed();
            if has_failed {
                self.application_failed(now);
            }
            return has_failed;
        }
        let mut buffer = ReadBuf::new(space);
        let result = Pin::new(&mut **application).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        self.session.wrote(now, count);
        if count > 0 {
            self.spoke = Some((Spoke::Ours, now));
        }
        match result {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                if count == 0 && !self.has_left(cx, now) {
                    self.reading = Side::Done;
                    self.session.finish(now);
                }
                true
            }
            Poll::Ready(Err(_)) => {
                self.application_failed(now);
                true
            }
        }
    }

    fn application_failed(&mut self, now: Instant) {
        self.application = None;
        self.moves.stop_leaving();
        self.session.reset(now, Code::Reset);
    }

    fn events(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(event) = self.session.poll_event() {
            moved = true;
            self.event(event, now);
        }
        moved
    }

    fn log(&self, now: Instant, what: &'static str) {
        let session = self.handle.id.fmt_short();
        match self.handle.peer().may_log(now) {
            true => tracing::info!(%session, "{what}"),
            false => tracing::debug!(%session, "{what}"),
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        let peer = self.handle.peer();
        match event {
            Event::Opened => {
                self.was_open = true;
                if !self.answer(Ok(())) {
                    self.session.reset(now, Code::Cancelled);
                }
            }
            Event::Refused(code) => {
                self.answer(Err(code));
            }
            Event::LaneWanted if self.has_ridden => peer.want_fresh(self.handle.id, now),
            Event::LaneWanted => {
                if let Some(lane) = peer.want(self.handle.id, now) {
                    self.ride(lane, None, now);
                }
            }
            Event::LaneUnwanted => peer.forget(self.handle.id),
            Event::Evict { lane, code } => self.drop_lane(lane, code),
            Event::LaneFree(lane) => {
                if let Some(index) = self.lanes.iter().position(|other| other.id == lane) {
                    self.parting.push(self.lanes.swap_remove(index));
                }
            }
            Event::Finish => self.writing = Side::Ending,
            Event::ResetApplication(_) => {
                if let Some(application) = self.application.take() {
                    application.reset();
                }
            }
            Event::Suspended => self.log(now, "suspended"),
            Event::Resumed => self.log(now, "resumed"),
            Event::Spill => {
                if let Some(buffers) = self.session.take_buffers(now) {
                    self.spill.store(buffers);
                }
            }
            Event::Unspill => self.spill.load(),
            Event::MayMove => self.pack(now),
            Event::Stay(code) => self.stay(now, code),
            Event::Taken => self.taken(now),
            Event::PeerMoving(to) => {
                self.moves.peer_goes(now, to);
                self.shared.sessions.expect(&self.handle, Guest::Next, Some(to));
            }
            Event::PeerEscrow(to) => self.shared.sessions.expect(&self.handle, Guest::Holder, to),
            Event::Escrowed => self.escrowed(),
            Event::EscrowEnded(code) => self.escrow_ended(now, code),
            Event::PeerMoved(device) => {
                self.moves.peer_went();
                let peer = match self.shared.move_peer(&self.handle, device, now) {
                    Ok(peer) => peer,
                    Err(code) => return self.close(code, now),
                };
                if let Some(incarnation) = peer.incarnation() {
                    self.session.peer_incarnation(now, device, incarnation);
                }
                self.log(now, "the other end is on another device");
            }
            Event::Ended(end) => self.end(end, now),
        }
    }

    fn end(&mut self, end: End, now: Instant) {
        tracing::debug!(session = %self.handle.id.fmt_short(), ?end, "ended");
        self.ended = Some(end);
        // Whoever hears of the end from its application finds it listed.
        self.show();
        match end {
            End::Lost(code) => {
                self.answer(Err(code));
                if let Some(application) = self.application.take() {
                    application.reset();
                }
            }
            End::Moved => {
                self.log(now, "handed over to another device");
                self.part_with_application();
            }
            End::Closed | End::Reset(_) => {}
        }
        self.moves.end(end);
        self.escrow.end();
        self.application = None;
        self.lanes.clear();
        self.spill.discard();
        let (id, tombstone) = (self.handle.id, self.session.tombstone());
        self.shared.bury(now, self.handle.peer().device(), id, tombstone);
    }

    /// Tells a client that waits for it how opening ended; false where it gave up meanwhile.
    fn answer(&mut self, result: Result<(), Code>) -> bool {
        if let Source::Proxy { opened, .. } = &mut self.source
            && let Some(opened) = opened.take()
        {
            return opened.send(result).is_ok();
        }
        true
    }

    fn spill(&mut self, cx: &mut Context<'_>, now: Instant) {
        match self.spill.poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(bytes)) => {
                if self.session.restore_buffers(now, &bytes).is_err() {
                    self.session.lose(now, Code::StorageFailed);
                }
            }
            Poll::Ready(Err(_)) => self.session.lose(now, Code::StorageFailed),
        }
    }

    /// Writes what the session has for each lane; true when something was written.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        for index in (0..self.lanes.len()).rev() {
            let Lane { id, connection, .. } = &mut self.lanes[index];
            let id = *id;
            while connection.room() > 0 {
                let most = connection.room().min(PIECE_MAX);
                match self.session.poll_transmit(now, id, most) {
                    None => break,
                    Some(Transmit::Frame(frame)) => connection.queue(&Frame::Session(frame)),
                    Some(Transmit::Data(data)) => connection.queue_data(data),
                }
                moved = true;
            }
            if let Poll::Ready(Err(_)) = connection.poll_flush(cx) {
                self.lane_failed(id, Code::Closed, now);
                moved = true;
            }
        }
        moved
    }
}

/// Why a lane is given up that nothing more is read from.
fn code_of(error: RecvError<Code>) -> Code {
    match error {
        RecvError::Handler(code) => code,
        RecvError::Wire(error) => error.code(),
        _ => Code::Closed,
    }
}

/// Offers fresh bytes to the application at once, when nothing older is held; gives how many it
/// took. A write error shows again at the next write, where it is handled.
fn offer(
    application: &mut Option<Box<dyn Application>>,
    writing: Side,
    session: &Session,
    cx: &mut Context<'_>,
    fresh: &[u8],
) -> usize {
    let Some(application) = application.as_mut().filter(|_| writing == Side::Open) else {
        return 0;
    };
    if !session.held().is_empty() {
        return 0;
    }
    let mut taken = 0;
    while taken < fresh.len() {
        match Pin::new(&mut **application).poll_write(cx, &fresh[taken..]) {
            Poll::Ready(Ok(count)) if count > 0 => taken += count,
            _ => break,
        }
    }
    taken
}
