//! The event queue, the network, and the checkers that watch both ends.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use cloak_base::{Epoch, Incarnation, Instant, Rng, SessionId};
use cloak_session::{
    Claim, End, Event, FirstBytes, LaneEnds, LaneError, LaneId, LaneUp, Role, Session, State,
    resume_proof,
};
use cloak_wire::{Code, Nonce, Open, Resume, Secret, SessionFrame, Target};

use crate::plan::{Fault, Plan};
use crate::side::{Side, device};
use crate::wire::{Bound, Item, Pipe, Wire};

/// After the last fault has healed, a session has so long to finish.
const HEALED_MAX: Duration = Duration::from_secs(400);
/// Steps of one schedule: far above what any needs, far below for ever.
const STEPS_MAX: u64 = 2_000_000;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Happening {
    Wake(usize),
    Arrive(LaneId, usize),
    Dial(usize),
    Connected(usize),
    Application(usize),
    Backend,
    Fault(Fault),
    Heal([bool; 2]),
    Relieve(usize),
    Unspill(usize),
    /// A side that was suspended on purpose goes on.
    Resume(usize),
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) plan: Plan,
    pub(crate) id: SessionId,
    pub(crate) secret: Secret,
    pub(crate) sides: [Side; 2],
    pub(crate) wires: HashMap<LaneId, Wire>,
    /// Directions that are silent, by sender; counted, since silences overlap.
    pub(crate) silent: [u32; 2],
    /// Somebody who knows the secret broke the rules.
    pub(crate) was_hostile: bool,
    rng: Rng,
    agenda: BTreeMap<(Instant, u64), Happening>,
    sequence: u64,
    lanes: u64,
    pub(crate) healed_at: Instant,
    pub(crate) steps: u64,
    /// Control frames that each side has sent.
    pub(crate) frames: [u64; 2],
    log: DefaultHasher,
    is_traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::from_u64(seed ^ 0x5eed);
        let (id, secret) = (SessionId::from_bytes(rng.bytes()), Secret(rng.bytes().into()));
        let sides = [0, 1].map(|side| {
            let rng = rng.split();
            Side::new(side, plan.totals[side], plan.memory, rng)
        });
        let mut world = Self {
            now: Instant::from_micros(1_000_000_000),
            id,
            secret,
            sides,
            wires: HashMap::new(),
            silent: [0, 0],
            was_hostile: false,
            rng,
            agenda: BTreeMap::new(),
            sequence: 0,
            lanes: 0,
            healed_at: Instant::from_micros(1_000_000_000),
            steps: 0,
            frames: [0; 2],
            log: DefaultHasher::new(),
            is_traced: std::env::var_os("CLOAK_SEED").is_some(),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let (plan, now) = (self.plan.clone(), self.now);
        let session = Session::initiate(
            now,
            plan.config,
            self.id,
            self.secret,
            Target::Service(80),
            self.sides[0].memory.clone(),
            self.sides[0].rng.split(),
        );
        let early = self.sides[0].app.say(plan.early);
        let session = session.starting_at(plan.base).saying(&early, FirstBytes::WithOpen);
        self.sides[0].session = Some(session);
        if plan.acquainted {
            let (run, lane) = (self.sides[1].incarnation, self.wire(0));
            self.session(0).peer_incarnation(now, device(1), run);
            self.give_lane(lane, 0, true);
        }
        for (at, fault) in plan.faults {
            self.schedule(now + at, Happening::Fault(fault));
        }
        self.schedule(now, Happening::Application(0));
        self.schedule(now, Happening::Application(1));
        self.pump(0);
    }

    pub(crate) fn respond(&mut self, side: usize, open: &Open) {
        let (now, base) = (self.local(side), self.plan.base);
        let (memory, rng) = (self.sides[side].memory.clone(), self.sides[side].rng.split());
        let session = Session::respond(now, self.plan.config.clone(), open, memory, rng);
        self.sides[side].session = Some(session.starting_at(base));
        self.schedule(self.now + self.plan.backend_delay, Happening::Backend);
    }

    /// A side's own clock.
    pub(crate) fn local(&self, side: usize) -> Instant {
        self.now + self.sides[side].ahead
    }

    pub(crate) fn trace(&mut self, side: usize, what: fmt::Arguments<'_>) {
        let text = what.to_string();
        (self.now, side, &text).hash(&mut self.log);
        if self.is_traced {
            println!("{:?} side {side} {text}", self.now);
        }
    }

    pub(crate) fn log_hash(&self) -> u64 {
        self.log.finish()
    }

    pub(crate) fn schedule(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((at.max(self.now), self.sequence), happening);
    }

    /// Runs until both ends are done, or panics.
    pub(crate) fn run(&mut self) {
        while !self.is_done() {
            assert!(self.step(), "nothing happens any more: {:?}", self.states());
            let late = self.now.since(self.healed_at) > HEALED_MAX;
            if late && self.is_forsaken() {
                return;
            }
            assert!(!late, "stuck after everything healed: {:?}", self.states());
            assert!(self.steps < STEPS_MAX, "no end: {:?}", self.states());
        }
        self.check_outcome();
    }

    /// Whether an end waits for one that was suspended on purpose and has forgotten the session: it would hear
    /// of a restart over the peer channel, and else the session lingers.
    fn is_forsaken(&mut self) -> bool {
        let waits = |side: &Side| {
            let session = side.session.as_ref().map(Session::snapshot);
            !side.wants && session.is_some_and(|session| session.lane.is_none())
        };
        let [a, b] = &self.sides;
        self.plan.is_lethal() && ((a.is_over() && waits(b)) || (b.is_over() && waits(a)))
    }

    /// Runs until `done`, or until `length` has passed; true when it was done.
    pub(crate) fn run_for(
        &mut self,
        length: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let until = self.now + length;
        while !done(self) {
            match self.agenda.first_key_value() {
                Some(((at, _), _)) if *at <= until => self.step(),
                _ => {
                    self.now = until;
                    return done(self);
                }
            };
        }
        true
    }

    pub(crate) fn step(&mut self) -> bool {
        let Some(((at, _), happening)) = self.agenda.pop_first() else { return false };
        self.now = at;
        self.steps += 1;
        match happening {
            Happening::Wake(side) => self.wake(side),
            Happening::Arrive(lane, side) => self.arrive(lane, side),
            Happening::Dial(side) => self.dial(side),
            Happening::Connected(side) => self.connected(side),
            Happening::Application(side) => self.application(side),
            Happening::Backend => self.backend(),
            Happening::Fault(fault) => self.strike(fault),
            Happening::Heal(from) => self.heal(from),
            Happening::Relieve(side) => self.relieve(side),
            Happening::Unspill(side) => self.unspill(side),
            Happening::Resume(side) => self.with_session(side, |session, now| {
                // Where the other end is paused as well, it goes on when that one does.
                let _ = session.resume(now);
            }),
        }
        true
    }

    pub(crate) fn is_done(&self) -> bool {
        let pending = self.agenda.values().any(|next| matches!(next, Happening::Fault(_)));
        let over = self.sides[0].is_over() && self.sides[1].is_over();
        // A session that never reached the responder, or whose fault is still to come.
        over && (!pending || self.sides[0].session.is_some())
    }

    fn wake(&mut self, side: usize) {
        if self.sides[side].wake_at != Some(self.now) || self.sides[side].session.is_none() {
            return;
        }
        self.sides[side].wake_at = None;
        let (now, progress) = (self.local(side), self.progress(side));
        let session = self.session(side);
        session.handle_timeout(now, progress);
        let next = session.poll_timeout();
        assert!(next.is_none_or(|at| at > now), "a timer that does not go off");
        self.pump(side);
    }

    fn progress(&self, side: usize) -> Option<u64> {
        let lane = self.sides[side].session.as_ref()?.snapshot().lane?;
        Some(self.wires.get(&lane)?.pipes[side].arrived)
    }

    fn application(&mut self, side: usize) {
        let (pause, size) = self.plan.pace[side];
        let steps = self.rng.below(2) + 1;
        let app = &mut self.sides[side].app;
        app.allowance = (app.allowance + size).min(1 << 20);
        app.appetite = (app.appetite + size * steps).min(1 << 20);
        if !self.is_done() {
            self.schedule(self.now + pause, Happening::Application(side));
        }
        self.pump(side);
    }

    fn backend(&mut self) {
        let now = self.local(1);
        let refuses = self.plan.refuses;
        if let Some(session) = &mut self.sides[1].session {
            if refuses || self.sides[1].app.died {
                session.refuse(now, Code::BackendRefused);
            } else {
                session.opened(now);
            }
            self.pump(1);
        }
    }

    // --- lanes ---

    pub(crate) fn want(&mut self, side: usize) {
        self.sides[side].wants = true;
        if !std::mem::replace(&mut self.sides[side].dialling, true) {
            let delay = self.rng.duration(Duration::ZERO, Duration::from_millis(100));
            self.schedule(self.now + delay, Happening::Dial(side));
        }
    }

    fn dial(&mut self, side: usize) {
        if !self.sides[side].wants {
            self.sides[side].dialling = false;
            return;
        }
        if self.silent != [0, 0] && self.plan.warm[side] > 0 {
            self.plan.warm[side] -= 1;
            self.sides[side].dialling = false;
            self.connect(side);
            return;
        }
        if self.silent != [0, 0] {
            let delay = self.rng.duration(Duration::from_millis(200), Duration::from_millis(400));
            self.schedule(self.now + delay, Happening::Dial(side));
            return;
        }
        let handshake = self.plan.latency * 3 + self.rng.duration(Duration::ZERO, self.plan.jitter);
        self.schedule(self.now + handshake, Happening::Connected(side));
    }

    fn connected(&mut self, side: usize) {
        if self.silent != [0, 0] {
            self.schedule(self.now, Happening::Dial(side));
            return;
        }
        self.sides[side].dialling = false;
        if self.sides[side].wants && !self.sides[side].is_over() {
            self.connect(side);
        }
    }

    /// A transport is up between the two.
    pub(crate) fn connect(&mut self, side: usize) -> LaneId {
        let lane = self.wire(side);
        for from in [side, 1 - side] {
            let (nonce, run) = (self.wires[&lane].nonces[from], self.sides[from].incarnation);
            self.send(lane, from, Item::Hello(nonce, run));
        }
        self.give_lane(lane, side, false);
        self.pump(side);
        lane
    }

    fn wire(&mut self, side: usize) -> LaneId {
        self.lanes += 1;
        let lane = LaneId(self.lanes);
        let slower = self.rng.duration(Duration::ZERO, self.plan.jitter);
        let mut bound = [Bound::Waiting; 2];
        bound[side] = Bound::Session;
        let wire = Wire {
            dialler: side,
            nonces: [Nonce(self.rng.bytes().into()), Nonce(self.rng.bytes().into())],
            pipes: [Pipe::default(), Pipe::default()],
            bound,
            latency: self.plan.latency + slower,
            rate: self.plan.rate,
            capacity: self.plan.capacity,
            silent: false,
            idle: [false; 2],
            resume: [None, None],
        };
        self.wires.insert(lane, wire);
        lane
    }

    pub(crate) fn send(&mut self, lane: LaneId, from: usize, item: Item) {
        let jitter = self.rng.duration(Duration::ZERO, self.plan.jitter / 8);
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&lane) else { return };
        if !wire.pipes[from].cut {
            self.frames[from] += u64::from(matches!(item, Item::Frame(_)));
            let at = wire.push(now, from, item, jitter);
            self.schedule(at, Happening::Arrive(lane, 1 - from));
        }
    }

    pub(crate) fn send_end(&mut self, lane: LaneId, from: usize, code: Code) {
        self.send(lane, from, Item::End(code));
    }

    /// A side closes a lane, and says why.
    pub(crate) fn close(&mut self, lane: LaneId, side: usize, code: Code) {
        self.trace(side, format_args!("closes {lane:?}"));
        if let Some(wire) = self.wires.get_mut(&lane)
            && wire.bound[side] != Bound::Closed
        {
            wire.bound[side] = Bound::Closed;
            // The kernel may have bytes that nobody has read; then its reset overtakes the code.
            let is_lost = code == Code::Paused && self.rng.chance(1, 4);
            self.send_end(lane, side, if is_lost { Code::Closed } else { code });
        }
    }

    /// A session gives a lane back: nothing that was sent may still be on its way.
    pub(crate) fn free(&mut self, lane: LaneId, side: usize) {
        let wire = self.wires.get_mut(&lane).unwrap();
        wire.bound[side] = Bound::Free;
        let under_way = &wire.pipes[1 - side].items;
        let stale =
            under_way.iter().any(|(_, item)| !matches!(item, Item::Hello(..) | Item::End(_)));
        assert!(!stale, "side {side} frees a lane with {under_way:?} on its way");
    }

    fn arrive(&mut self, lane: LaneId, side: usize) {
        loop {
            let now = self.now;
            let Some(wire) = self.wires.get_mut(&lane) else { return };
            let pipe = &mut wire.pipes[1 - side];
            if !pipe.cut && (self.silent[1 - side] > 0 || wire.silent) {
                return; // A retransmission brings it once the path is back.
            }
            if pipe.items.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let (_, item) = pipe.items.pop_front().unwrap();
            pipe.in_flight = pipe.in_flight.saturating_sub(item.len());
            pipe.arrived += item.len() as u64;
            self.take(lane, side, item);
            self.pump(1 - side); // It has room again.
        }
    }

    // --- faults ---

    pub(crate) fn strike(&mut self, fault: Fault) {
        self.trace(9, format_args!("{fault:?}"));
        self.healed_at = self.healed_at.max(self.now);
        match fault {
            Fault::Cut { all } => self.cut(all),
            Fault::Zombie => {
                if let Some(lane) = self.newest() {
                    self.wires.get_mut(&lane).unwrap().silent = true;
                }
            }
            Fault::Silence { from, length } => self.silence(from, length),
            Fault::Shed(side) => self.with_session(side, Session::shed),
            Fault::ClockJump(side) => {
                self.sides[side].ahead += Duration::from_secs(8 * 3600);
                self.sides[side].wake_at = None;
                self.pump(side);
            }
            Fault::Suspect(side, why) => {
                self.with_session(side, |session, now| session.suspect(now, why));
            }
            Fault::Pressure(side, length) => self.press(side, length),
            Fault::Replay => self.replay(),
            Fault::Stale(side) => self.stale(side),
            Fault::Reset(side) => self.kill_application(side),
            Fault::ResetBoth => {
                self.kill_application(0);
                self.kill_application(1);
            }
            Fault::Hostile(side) => self.hostile(side),
            Fault::Restart(side) => self.restart(side),
            Fault::Suspend(side, length) => self.suspend(side, length),
        }
    }

    pub(crate) fn with_session(&mut self, side: usize, act: impl FnOnce(&mut Session, Instant)) {
        let now = self.local(side);
        if let Some(session) = &mut self.sides[side].session {
            act(session, now);
            self.pump(side);
        }
    }

    fn newest(&self) -> Option<LaneId> {
        let live = |wire: &Wire| wire.bound.contains(&Bound::Session);
        self.wires.iter().filter(|(_, wire)| live(wire)).map(|(lane, _)| *lane).max()
    }

    pub(crate) fn cut(&mut self, all: bool) {
        let newest = self.newest();
        let mut lanes: Vec<LaneId> = self.wires.keys().copied().collect();
        lanes.sort_unstable();
        lanes.retain(|lane| all || Some(*lane) == newest);
        for lane in lanes {
            for from in 0..2 {
                let len = self.wires[&lane].pipes[from].items.len() as u64;
                let keep = usize::try_from(self.rng.below(len + 1)).unwrap();
                let (now, wire) = (self.now, self.wires.get_mut(&lane).unwrap());
                wire.cut(from, keep, now);
                let at = wire.pipes[from].items.back().map_or(now, |(at, _)| *at);
                self.schedule(at, Happening::Arrive(lane, 1 - from));
            }
        }
    }

    pub(crate) fn silence(&mut self, from: [bool; 2], length: Duration) {
        for (count, is_silent) in self.silent.iter_mut().zip(from) {
            *count += u32::from(is_silent);
        }
        self.schedule(self.now + length, Happening::Heal(from));
        self.healed_at = self.healed_at.max(self.now + length);
    }

    fn heal(&mut self, from: [bool; 2]) {
        let mut lanes: Vec<LaneId> = self.wires.keys().copied().collect();
        lanes.sort_unstable();
        for (count, was_silent) in self.silent.iter_mut().zip(from) {
            *count -= u32::from(was_silent);
        }
        for lane in lanes {
            for side in 0..2 {
                let items = &self.wires[&lane].pipes[1 - side].items;
                let times: Vec<Instant> = items.iter().map(|(at, _)| *at).collect();
                for at in times {
                    self.schedule(at, Happening::Arrive(lane, side));
                }
            }
        }
    }

    fn press(&mut self, side: usize, length: Duration) {
        let here = &mut self.sides[side];
        if here.pressure == 0 {
            here.pressure = here.ledger.max();
            here.memory.charge(here.pressure);
            self.healed_at = self.healed_at.max(self.now + length);
            self.schedule(self.now + length, Happening::Relieve(side));
        }
    }

    fn relieve(&mut self, side: usize) {
        let here = &mut self.sides[side];
        here.memory.release(std::mem::take(&mut here.pressure));
        self.pump(side);
    }

    /// An end is suspended on purpose for a while.
    pub(crate) fn suspend(&mut self, side: usize, length: Duration) {
        self.with_session(side, |session, now| {
            // Not now: whoever asked for it would be told.
            let _ = session.suspend(now);
        });
        self.schedule(self.now + length, Happening::Resume(side));
        self.healed_at = self.healed_at.max(self.now + length);
    }

    /// The last `Resume` on the newest lane, again.
    fn replay(&mut self) {
        let Some(lane) = self.newest() else { return };
        for from in 0..2 {
            let wire = &self.wires[&lane];
            if let Some(frame) = wire.resume[from].clone().filter(|_| !wire.idle[from]) {
                self.send(lane, from, Item::Frame(frame));
            }
        }
    }

    /// A `Resume` by somebody who knows the secret, on a fresh lane to `side`; gives the answer.
    fn forged(&mut self, side: usize, epoch: Epoch, received: u64) -> Result<(), LaneError> {
        self.lanes += 1;
        let lane = LaneId(self.lanes);
        let ends = LaneEnds {
            dialler: device(1 - side),
            acceptor: device(side),
            dialler_nonce: Nonce([7; 32].into()),
            acceptor_nonce: None,
        };
        let role = if side == 0 { Role::Responder } else { Role::Initiator };
        let (session, delivered, credit) = (self.id, received, u64::MAX);
        let claim = Claim { session, epoch, role, received, delivered, credit };
        let proof = resume_proof(&self.secret, &ends, &claim);
        let resume = Resume { session, epoch, received, delivered, credit, proof };
        let now = self.local(side);
        let up = LaneUp {
            lane,
            we_dialled: false,
            local_nonce: Nonce([8; 32].into()),
            peer_nonce: Some(Nonce([7; 32].into())),
            local: device(side),
            peer: device(1 - side),
        };
        self.trace(side, format_args!("gets a forged {resume:?}"));
        let session = self.session(side);
        session.lane_up(now, up);
        session.handle_frame(now, lane, SessionFrame::Resume(resume))
    }

    fn is_established(&self, side: usize) -> bool {
        self.sides[side].session.as_ref().is_some_and(|session| {
            let state = session.snapshot().state;
            matches!(state, State::Live | State::Suspended) && session.lanes().count() < 4
        })
    }

    fn stale(&mut self, side: usize) {
        if !self.is_established(side) {
            return;
        }
        let before = self.session(side).snapshot();
        let result = self.forged(side, Epoch(0), before.acked);
        assert_eq!(result, Err(LaneError::StaleRank), "a stale rank is refused");
        assert_eq!(self.session(side).snapshot(), before, "and changes nothing");
        self.pump(side);
    }

    fn hostile(&mut self, side: usize) {
        if self.is_established(side) {
            self.was_hostile = true;
            let beyond = self.session(side).snapshot().sent + 1 + self.rng.below(1 << 33);
            let result = self.forged(side, Epoch(1 << 20), beyond);
            assert!(matches!(result, Err(LaneError::Violation(_))), "{result:?}");
            self.pump(side);
        }
    }

    /// The gateway's process is gone with everything it knew.
    fn restart(&mut self, side: usize) {
        let mut lanes: Vec<LaneId> = self.wires.keys().copied().collect();
        lanes.sort_unstable();
        lanes.into_iter().for_each(|lane| self.close(lane, side, Code::Closed));
        let here = &mut self.sides[side];
        here.incarnation = Incarnation {
            counter: here.incarnation.counter + 1,
            random: here.incarnation.counter + 1,
        };
        here.tombstones = cloak_session::Tombstones::new(Duration::from_secs(3600));
        let was_there = here.session.take().is_some();
        here.restarted |= was_there;
        here.wants = false;
        here.spilled = None;
        if side == 1 && was_there {
            // A new request may reach the service; the old one must not have.
            here.served |= here.app.read > 0;
            here.app = crate::app::App::new(1, here.app.total);
            here.events.clear();
        }
    }

    // --- checkers ---

    /// What holds after every step.
    pub(crate) fn check(&mut self, side: usize) {
        let base = self.plan.base;
        let Some(here) = self.sides[side].session.as_ref().map(Session::snapshot) else { return };
        let [_, service] = &self.sides;
        assert!(!service.served || service.app.read == 0, "the service got the beginning twice");
        let other = &self.sides[1 - side];
        let fin = u64::from(other.app.ended);
        let (has, restarted) = (other.app.read + fin, other.restarted);
        assert!(
            other.app.died || restarted || here.acked - base <= has,
            "{} bytes acknowledged, {has} delivered",
            here.acked - base
        );
        assert!(here.delivered <= here.received, "{here:?}");
        let most = 2 * self.plan.config.buffer_max;
        assert!(here.held <= most, "{} bytes held, {most} allowed", here.held);
        let held = self.sides[side].memory.held() - self.sides[side].pressure;
        assert!(held <= most + 4 * (64 << 10), "{held} bytes charged");
        if here.held == 0 {
            assert_eq!(held, 0, "an idle session holds memory");
        }
    }

    fn outcome(&self, side: usize) -> Option<End> {
        self.sides[side].events.iter().find_map(|event| match event {
            Event::Ended(end) => Some(*end),
            _ => None,
        })
    }

    fn check_outcome(&mut self) {
        let ends = [self.outcome(0), self.outcome(1)];
        for side in 0..2 {
            if ends[side] == Some(End::Closed) {
                let (here, there) = (&self.sides[side].app, &self.sides[1 - side].app);
                assert!(here.ended && here.read == there.total, "clean with bytes missing");
                let complete = there.ended && there.read == here.total;
                assert!(complete || there.died || self.sides[1 - side].restarted, "{ends:?}");
            }
            assert_eq!(self.sides[side].memory.held(), self.sides[side].pressure, "a leak");
            self.check_told(side, ends[side]);
        }
        let may_fail = self.plan.is_lethal() || self.plan.may_time_out();
        assert!(may_fail || ends == [Some(End::Closed); 2], "nothing lethal happened: {ends:?}");
    }

    /// An application whose stream was cut short is told.
    fn check_told(&self, side: usize, end: Option<End>) {
        let here = &self.sides[side];
        if let Some(End::Lost(_) | End::Reset(_)) = end
            && !here.app.died
        {
            let refused = here.events.iter().any(|event| matches!(event, Event::Refused(_)));
            let never_opened = side == 1 && here.app.read == 0 && here.app.written == 0;
            assert!(here.app.reset.is_some() || refused || never_opened, "{:?}", here.events);
        }
    }

    fn states(&self) -> Vec<String> {
        let show = |side: &Side| {
            format!("{:?} {:?}", side.session.as_ref().map(Session::snapshot), side.app)
        };
        self.sides.iter().map(show).collect()
    }
}
