//! One end: its session, a driver as thin as the real one, and its application.

use std::time::Duration;

use cloak_base::{DeviceId, Incarnation, Instant, Rng};
use cloak_session::{
    Event, LaneId, LaneUp, Ledger, Memory, Outlet, Session, Tombstones, Transmit, drain,
};
use cloak_wire::{Code, SessionFrame};

use crate::app::App;
use crate::wire::{Bound, Item};
use crate::world::{Happening, World};

pub(crate) fn device(side: usize) -> DeviceId {
    DeviceId::from_bytes([u8::try_from(side).unwrap() + 1; 32])
}

pub(crate) struct Side {
    pub(crate) session: Option<Session>,
    pub(crate) app: App,
    pub(crate) ledger: Ledger,
    pub(crate) memory: Memory,
    /// Taken from the ledger by others.
    pub(crate) pressure: u64,
    pub(crate) tombstones: Tombstones<DeviceId>,
    pub(crate) incarnation: Incarnation,
    /// How far this side's clock is ahead.
    pub(crate) ahead: Duration,
    pub(crate) wants: bool,
    pub(crate) dialling: bool,
    pub(crate) wake_at: Option<Instant>,
    pub(crate) spilled: Option<Vec<u8>>,
    pub(crate) spills: u32,
    pub(crate) restarted: bool,
    /// Its application got bytes before that.
    pub(crate) served: bool,
    /// Everything the session said, in order.
    pub(crate) events: Vec<Event>,
    pub(crate) rng: Rng,
}

impl Side {
    pub(crate) fn new(side: usize, total: u64, memory_max: u64, rng: Rng) -> Self {
        let ledger = Ledger::new(memory_max);
        Self {
            session: None,
            app: App::new(side, total),
            memory: ledger.account(device(1 - side)),
            ledger,
            pressure: 0,
            tombstones: Tombstones::new(Duration::from_secs(48 * 3600)),
            incarnation: Incarnation { counter: 1, random: 1 },
            ahead: Duration::ZERO,
            wants: false,
            dialling: false,
            wake_at: None,
            spilled: None,
            spills: 0,
            restarted: false,
            served: false,
            events: Vec::new(),
            rng,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_ended)
    }

    /// The application's bytes, both ways, as far as they go now; true when something changed.
    fn serve_application(&mut self, now: Instant) -> bool {
        let Some(session) = self.session.as_mut().filter(|session| !session.is_ended()) else {
            return false;
        };
        let app = &mut self.app;
        let mut changed = false;
        // A service is connected to only then.
        while is_open(session) && !session.held().is_empty() {
            let taken = app.take(session.held());
            if taken == 0 {
                break;
            }
            session.delivered(now, taken);
            changed = true;
        }
        if !app.died && app.allowance > 0 && app.written < app.total {
            let taken = app.give(session.space());
            session.wrote(now, taken);
            changed |= taken > 0;
        }
        let can_finish = !self.events.is_empty() || app.side == 1;
        if can_finish && app.wants_to_finish() && is_open(session) {
            app.finished = true;
            session.finish(now);
            changed = true;
        }
        changed
    }
}

fn is_open(session: &Session) -> bool {
    use cloak_session::State;
    matches!(session.snapshot().state, State::Live | State::Suspended)
}

/// What a drain gives, while the session is borrowed.
struct Collected<'w> {
    world: &'w mut World,
    side: usize,
    now: Instant,
    events: Vec<Event>,
}

impl Outlet for Collected<'_> {
    fn room(&mut self, lane: LaneId) -> usize {
        let wire = self.world.wires.get(&lane);
        wire.map_or(0, |wire| {
            if wire.bound[self.side] == Bound::Session { wire.room(self.side) } else { 0 }
        })
    }

    fn transmit(&mut self, lane: LaneId, transmit: Transmit<'_>) {
        let item = match transmit {
            Transmit::Frame(frame) => {
                self.world.trace(self.side, format_args!("sends {lane:?} {frame:?}"));
                let wire = self.world.wires.get_mut(&lane).unwrap();
                match frame {
                    SessionFrame::Resume(_) => wire.resume[self.side] = Some(frame.clone()),
                    SessionFrame::Idle => wire.idle[self.side] = true,
                    _ => {}
                }
                Item::Frame(frame)
            }
            Transmit::Data(bytes) => {
                self.world.trace(self.side, format_args!("sends {lane:?} {} bytes", bytes.len()));
                assert!(!bytes.is_empty(), "an empty Data");
                Item::Data(bytes.to_vec())
            }
        };
        self.world.send(lane, self.side, item);
    }

    fn handle_event(&mut self, event: Event) {
        self.world.trace(self.side, format_args!("at {:?}: {event:?}", self.now));
        self.events.push(event);
    }
}

impl World {
    /// Empties a side's session, serves its application, and sets its timer.
    pub(crate) fn pump(&mut self, side: usize) {
        loop {
            let now = self.local(side);
            let Some(mut session) = self.sides[side].session.take() else { return };
            let mut out = Collected { world: self, side, now, events: Vec::new() };
            drain(&mut session, now, &mut out);
            let events = out.events;
            self.sides[side].session = Some(session);
            let mut changed = !events.is_empty();
            for event in events {
                self.handle_event(side, event);
            }
            changed |= self.sides[side].serve_application(now);
            if !changed {
                break;
            }
        }
        self.check(side);
        self.set_timer(side);
    }

    fn set_timer(&mut self, side: usize) {
        let now = self.local(side);
        let ahead = self.sides[side].ahead;
        let at = self.sides[side].session.as_ref().and_then(Session::poll_timeout);
        let at = at.map(|at| at.max(now) - ahead);
        if let Some(at) = at.filter(|at| Some(*at) != self.sides[side].wake_at) {
            self.schedule(at, Happening::Wake(side));
        }
        self.sides[side].wake_at = at;
    }

    fn handle_event(&mut self, side: usize, event: Event) {
        let now = self.local(side);
        assert!(
            !self.sides[side].events.iter().any(|event| matches!(event, Event::Ended(_))),
            "{event:?} after the end"
        );
        self.sides[side].events.push(event);
        match event {
            Event::Opened | Event::Suspended | Event::Resumed | Event::Refused(_) => {}
            Event::LaneWanted => self.want(side),
            Event::LaneUnwanted => self.sides[side].wants = false,
            Event::Evict { lane, code } => self.close(lane, side, code),
            Event::LaneFree(lane) => self.free(lane, side),
            Event::Finish => {
                let app = &mut self.sides[side].app;
                assert!(!app.ended, "two ends of file");
                app.ended = true;
                let (read, side_read) = (app.read, app.side);
                let restarted = self.sides[1 - side].restarted;
                let other = &self.sides[1 - side].app;
                assert!(other.finished || restarted, "an end of file that nobody wrote");
                assert_eq!(read, other.total, "side {side_read} got an early end of file");
                self.session(side).fin_delivered(now);
            }
            Event::ResetApplication(code) => self.sides[side].app.reset = Some(code),
            Event::Spill => {
                if let Some(buffers) = self.session(side).take_buffers(now) {
                    let bytes = buffers.slices().concat();
                    assert_eq!(bytes.len() as u64, buffers.len());
                    self.sides[side].spilled = Some(bytes);
                    self.sides[side].spills += 1;
                }
            }
            Event::Unspill => {
                let delay = Duration::from_millis(30);
                self.schedule(self.now + delay, Happening::Unspill(side));
            }
            Event::MayMove
            | Event::Stay(_)
            | Event::Taken
            | Event::Escrowed
            | Event::EscrowEnded(_)
            | Event::PeerEscrow(_)
            | Event::PeerMoving(_)
            | Event::PeerMoved(_) => unreachable!("nobody moves here"),
            Event::Ended(_) => {
                let (id, tombstone) = (self.id, self.session(side).tombstone());
                let side = &mut self.sides[side];
                side.tombstones.insert(now, device(1 - side.app.side), id, tombstone);
                side.wants = false;
            }
        }
    }

    pub(crate) fn unspill(&mut self, side: usize) {
        let now = self.local(side);
        if let Some(bytes) = self.sides[side].spilled.take()
            && self.sides[side].session.as_ref().is_some_and(|session| !session.is_ended())
        {
            // After a reset the bytes are not wanted any more.
            let _ = self.session(side).restore_buffers(now, &bytes);
            self.pump(side);
        }
    }

    /// Gives a lane to the side's session.
    pub(crate) fn give_lane(&mut self, lane: LaneId, side: usize, knows_peer: bool) {
        let now = self.local(side);
        let wire = self.wires.get_mut(&lane).unwrap();
        wire.bound[side] = Bound::Session;
        let up = LaneUp {
            lane,
            we_dialled: wire.dialler == side,
            local_nonce: wire.nonces[side],
            peer_nonce: knows_peer.then_some(wire.nonces[1 - side]),
            local: device(side),
            peer: device(1 - side),
        };
        self.trace(side, format_args!("has {lane:?} up"));
        self.session(side).lane_up(now, up);
    }

    /// Takes an item that arrived.
    pub(crate) fn take(&mut self, lane: LaneId, side: usize, item: Item) {
        let now = self.local(side);
        let bound = self.wires[&lane].bound[side];
        match (bound, item) {
            (Bound::Closed, _) => {}
            (Bound::Free, item) => assert!(
                matches!(item, Item::End(_) | Item::Hello(..)),
                "{item:?} on a lane that was free at side {side}"
            ),
            (_, Item::End(code)) => {
                self.wires.get_mut(&lane).unwrap().bound[side] = Bound::Closed;
                if bound == Bound::Session {
                    self.trace(side, format_args!("loses {lane:?}"));
                    self.session(side).lane_down(now, lane, code);
                    self.send_end(lane, side, Code::Closed);
                }
            }
            (_, Item::Hello(nonce, incarnation)) => {
                if let Some(session) = &mut self.sides[side].session {
                    session.peer_incarnation(now, device(1 - side), incarnation);
                    if bound == Bound::Session {
                        session.lane_nonce(lane, nonce);
                    }
                }
            }
            (Bound::Waiting, Item::Frame(frame)) => self.route(lane, side, frame),
            (Bound::Session, Item::Frame(frame)) => self.frame(lane, side, frame),
            (Bound::Session, Item::Data(bytes)) => self.data(lane, side, &bytes),
            (Bound::Answered, Item::Frame(SessionFrame::Idle)) => {
                self.close(lane, side, Code::Closed)
            }
            (Bound::Answered, _) => {}
            (Bound::Waiting, Item::Data(_)) => self.close(lane, side, Code::Violation),
        }
        self.pump(side);
    }

    fn frame(&mut self, lane: LaneId, side: usize, frame: SessionFrame) {
        let now = self.local(side);
        self.trace(side, format_args!("gets {lane:?} {frame:?}"));
        if let Err(error) = self.session(side).handle_frame(now, lane, frame) {
            self.lane_error(lane, side, error);
        }
    }

    fn data(&mut self, lane: LaneId, side: usize, bytes: &[u8]) {
        let now = self.local(side);
        let mut session = self.sides[side].session.take().unwrap();
        let result = session.handle_data(now, lane, bytes);
        if let Ok(fresh) = result {
            let taken =
                if session.held().is_empty() { self.sides[side].app.take(fresh) } else { 0 };
            session.delivered(now, taken);
            session.hold(&fresh[taken..]);
        }
        self.sides[side].session = Some(session);
        if let Err(error) = result {
            self.lane_error(lane, side, error);
        }
    }

    pub(crate) fn lane_error(
        &mut self,
        lane: LaneId,
        side: usize,
        error: cloak_session::LaneError,
    ) {
        use cloak_session::LaneError;
        self.trace(side, format_args!("closes {lane:?}: {error}"));
        assert!(!matches!(error, LaneError::Bug(_) | LaneError::BadProof), "{error}");
        if matches!(error, LaneError::Violation(_)) {
            assert!(self.was_hostile, "an honest peer was called hostile: {error}");
        }
        self.close(lane, side, error.code());
    }

    /// The first frame on a lane that the peer dialled.
    fn route(&mut self, lane: LaneId, side: usize, frame: SessionFrame) {
        let now = self.local(side);
        let key = device(1 - side);
        let tombstone = self.sides[side].tombstones.get(now, &key, self.id);
        let exists = self.sides[side].session.as_ref().is_some_and(|session| !session.is_ended());
        match frame {
            SessionFrame::Open(_) | SessionFrame::Resume(_) if exists => {
                self.give_lane(lane, side, true);
                self.frame(lane, side, frame);
            }
            SessionFrame::Open(open) if tombstone.is_none() => {
                self.respond(side, &open);
                self.give_lane(lane, side, true);
                self.frame(lane, side, SessionFrame::Open(open));
            }
            SessionFrame::Open(_) | SessionFrame::Resume(_) => {
                let id = self.id;
                let answer = self.sides[side].tombstones.answer(now, &key, id);
                self.trace(side, format_args!("answers {lane:?} {answer:?}"));
                self.wires.get_mut(&lane).unwrap().bound[side] = Bound::Answered;
                self.send(lane, side, Item::Frame(answer));
                self.send(lane, side, Item::Frame(SessionFrame::Idle));
            }
            _ => self.close(lane, side, Code::Violation),
        }
    }

    pub(crate) fn session(&mut self, side: usize) -> &mut Session {
        self.sides[side].session.as_mut().expect("the side has a session")
    }

    /// The application dies.
    pub(crate) fn kill_application(&mut self, side: usize) {
        let now = self.local(side);
        self.sides[side].app.died = true;
        if let Some(session) = &mut self.sides[side].session {
            session.reset(now, Code::Reset);
        }
        self.pump(side);
    }
}
