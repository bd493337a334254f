//! The session's state machine: its parts, how it begins, and what it shows.
//!
//! Inputs take the time first and change the state at once; then the driver empties the session
//! with [`drain`](crate::drain) before the next input. Time never runs backwards: an input with an
//! earlier time counts as the latest one seen.

mod application;
mod commit;
mod escrow;
mod frames;
mod handover;
mod lanes;
mod pause;
mod settle;
mod spill;
mod timers;
mod transmit;

use std::collections::VecDeque;
use std::time::Duration;

use cloak_base::{DeviceId, Epoch, Incarnation, Instant, Rng, SessionId};
use cloak_wire::{Code, Early, Open, Secret, Target};

use crate::lane::Lane;
use crate::receive::Receive;
use crate::rtt::Rtt;
use crate::send::Send;
use crate::{Config, End, Event, LaneId, Memory, Rank, Role, Snapshot, State, Tombstone};

pub use escrow::{BATCH_MAX, Batch, News};
pub(crate) use handover::{OFFSET_MAX, check_capsule};
pub use spill::Buffers;

/// One end of a virtual session.
///
/// A responder's first lane is the one on which the [`Open`] came: give it with
/// [`lane_up`](Self::lane_up) right after [`respond`](Self::respond); that `Open` needs no
/// `handle_frame`. A repeated `Open` on another lane does: `lane_up`, then `handle_frame`.
#[derive(Debug)]
pub struct Session {
    config: Config,
    id: SessionId,
    role: Role,
    secret: Secret,
    target: Target,
    /// Offset at which both streams begin; zero but in tests.
    base: u64,
    /// Initiator: when the first bytes go.
    first: FirstBytes,
    /// Initiator: bytes that went with the last `Open`.
    early: u64,
    /// Most bytes that went with an `Open`.
    early_max: u64,
    phase: Phase,

    lanes: Vec<Lane>,
    /// The lane that the session rides on.
    current: Option<LaneId>,
    /// Our `Open` or `Resume` that is not answered.
    attempt: Option<Attempt>,
    /// Rank with which `current`, or the last lane before it, was taken.
    committed: Rank,
    /// Epoch of our last attempt.
    attempted: Epoch,
    /// The peer's run, once a `Hello` told it.
    incarnation: Option<Incarnation>,
    /// Responder: the initiator is known to have our `Opened`.
    confirmed: bool,
    /// The peer's device, from the first lane on.
    owner: Option<DeviceId>,
    hand_over: handover::HandOver,
    pause: pause::Pause,
    /// Few sessions have one.
    escrow: Option<Box<escrow::Escrow>>,

    send: Send,
    receive: Receive,
    memory: Memory,
    spill: spill::Spill,

    rtt: Rtt,
    /// When bytes moved last, in either direction.
    moved_at: Instant,
    /// When there was a reason to keep buffers in memory: bytes taken, buffers restored.
    busy_at: Instant,
    /// Since when no lane is known to work, and why.
    suspended: Option<(Instant, Code)>,
    /// The next lane that we dial is tried although the present one works: it is a better one.
    improving: bool,
    /// Until when a lane would only bring bytes that were shed.
    paused_until: Option<Instant>,
    /// When to ask the ledger again, and how long the wait was.
    memory_retry: Option<Instant>,
    memory_wait: Duration,
    resumes: u64,
    since: Instant,
    shown: State,

    /// Whether the last `LaneWanted` still stands.
    wanted: bool,
    events: VecDeque<Event>,
    rng: Rng,
    now: Instant,
}

/// Where the session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until this time: then it is given up.
    Opening(Instant),
    Open,
    /// Packed for this device, and untouched until it is known who owns this end.
    Away {
        to: DeviceId,
    },
    /// Asks the other end to be its peer.
    Taking,
    /// The outcome is settled here.
    Leaving(Leaving),
    Ended(End),
}

/// A session whose outcome is settled at this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaving {
    end: End,
    tell: Tell,
    /// When to stop trying.
    until: Instant,
}

/// What the other end has yet to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    /// Nothing; only the lane has to become idle.
    Nothing,
    /// That its last bytes were delivered.
    Closed,
    /// Our `Reset`.
    Reset(Code),
}

/// When the first bytes of an initiator's application go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// With `Open`, on a lane at whose other end the peer's run is known: no round trip of their own.
    WithOpen,
    /// After its answer, like all others.
    OnceOpened,
}

/// An `Open` or `Resume` of ours that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt {
    lane: LaneId,
    rank: Rank,
    /// The rank that was committed when it was begun.
    after: Rank,
}

impl Session {
    /// Begins a session. `id` and `secret` are fresh random bytes.
    pub fn initiate(
        now: Instant,
        config: Config,
        id: SessionId,
        secret: Secret,
        target: Target,
        memory: Memory,
        rng: Rng,
    ) -> Self {
        let mut session = Self::new(now, config, Role::Initiator, id, secret, target, memory, rng);
        session.settle();
        session
    }

    /// The application's first bytes. To be given before the first lane.
    #[must_use]
    pub fn saying(mut self, early: &Early, first: FirstBytes) -> Self {
        self.send.early(&self.memory, early);
        self.first = first;
        self
    }

    /// The other end of a session, begun by `open` from an authorised peer.
    pub fn respond(now: Instant, config: Config, open: &Open, memory: Memory, rng: Rng) -> Self {
        let (secret, target) = (open.secret, open.target.clone());
        let mut session =
            Self::new(now, config, Role::Responder, open.session, secret, target, memory, rng);
        session.attempted = open.epoch;
        session.send.grant(open.credit);
        session.early_max = open.early.len() as u64;
        let taken = session.receive.early(&session.memory, session.base, &open.early);
        debug_assert_eq!(taken, Ok(()), "the beginning of a stream is always valid");
        session
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "private, and each argument is a type of its own"
    )]
    fn new(
        now: Instant,
        config: Config,
        role: Role,
        id: SessionId,
        secret: Secret,
        target: Target,
        memory: Memory,
        rng: Rng,
    ) -> Self {
        Self {
            id,
            role,
            secret,
            target,
            base: 0,
            first: FirstBytes::OnceOpened,
            early: 0,
            early_max: 0,
            phase: Phase::Opening(now + config.opening_max),
            lanes: Vec::new(),
            current: None,
            attempt: None,
            committed: Rank::NONE,
            attempted: Epoch(0),
            incarnation: None,
            confirmed: role == Role::Initiator,
            owner: None,
            hand_over: handover::HandOver::default(),
            pause: pause::Pause::default(),
            escrow: None,
            send: Send::new(0, config.buffer_start, config.buffer_max),
            receive: Receive::new(0, &config, now),
            memory,
            spill: spill::Spill::default(),
            rtt: Rtt::default(),
            moved_at: now,
            busy_at: now,
            suspended: None,
            improving: false,
            paused_until: None,
            memory_retry: None,
            memory_wait: Duration::ZERO,
            resumes: 0,
            since: now,
            shown: State::Opening,
            wanted: false,
            events: VecDeque::new(),
            rng,
            now,
            config,
        }
    }

    /// Makes both streams begin at `offset` instead of zero, at both ends alike.
    #[cfg(feature = "planted")]
    #[doc(hidden)]
    #[must_use]
    pub fn starting_at(mut self, offset: u64) -> Self {
        self.base = offset;
        self.send = Send::new(offset, self.config.buffer_start, self.config.buffer_max);
        self.send.grant(offset + self.config.idle_credit);
        let early = self.receive.held().to_vec();
        self.receive = Receive::new(offset, &self.config, self.now);
        self.receive.early(&self.memory, offset, &early).expect("the beginning is valid");
        self
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What the session is for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The lanes that the session has, at most [`LANES_MAX`](crate::LANES_MAX).
    pub fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.lanes.iter().map(Lane::id)
    }

    /// The peer's device, from the first lane on.
    pub fn peer(&self) -> Option<DeviceId> {
        self.owner
    }

    /// Whether the session ended; nothing but events is left.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// The account to which its buffers are charged.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the session shows of itself.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self.id,
            role: self.role,
            state: self.shown,
            since: self.since,
            reason: match self.phase {
                Phase::Ended(end) | Phase::Leaving(Leaving { end, .. }) => Some(end.code()),
                _ => self.suspended.map(|(_, code)| code),
            },
            paused_here: self.pause.here,
            expires: self.suspension_deadline().filter(|_| self.shown == State::Suspended),
            generation: self.hand_over.generation,
            peer_generation: self.hand_over.peer_generation(),
            resumes: self.resumes,
            sent: self.send.sent_max(),
            received: self.receive.received(),
            delivered: self.receive.delivered(),
            acked: self.send.acked(),
            held: self.send.held() + self.receive.held_len(),
            rtt: self.rtt.smoothed(),
            lane: self.current,
            escrow: self.escrow_holder(),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }

    /// What to remember of the session once it has ended; before that, as if it were lost now.
    pub fn tombstone(&self) -> Tombstone {
        let code = match self.phase {
            Phase::Ended(end) => end.code(),
            _ => Code::Gone,
        };
        Tombstone { delivered: self.receive.delivered(), code }
    }

    fn tick(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        debug_assert!(self.receive.is_resolved() || self.is_ended(), "offered bytes are resolved");
        self.now
    }

    fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.id() == id)
    }

    fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id() == id)
    }
}
