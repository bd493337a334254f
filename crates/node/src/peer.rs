//! A peer device: its channel, its pool of warm lanes, and every dial to it.
//!
//! Sessions ask a [`Peer`] for a lane and go on with their lives; retries belong to the peer, so a
//! thousand suspended sessions return with one successful dial. The task behind it is in
//! [`task`]; what may be shared with session tasks is here.

mod allowance;
mod channel;
mod redialling;
mod task;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_base::{DeviceId, EntityId, Incarnation, Instant, SessionId, UnixTime};
use cloak_identity::Credentials;
use cloak_transport::Connection;
use cloak_wire::{Code, Hello, PeerFrame};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::lane::Lane;
use crate::shared::Shared;
use crate::sync::lock;
use crate::view::PeerView;
use allowance::Allowance;

/// Dials in flight to one peer device, whoever asked for them, that of the channel included.
pub(crate) const DIALS_MAX: usize = 32;
/// Most warm lanes kept per peer device.
const IDLE_MAX: usize = 16;
/// Warm lanes kept ready for a peer whose lanes were used lately.
const IDLE_SPARE: usize = 2;
/// A warm lane unused for this long is closed.
const IDLE_AGE: Duration = Duration::from_secs(300);
/// Lanes of one peer device that await its next session, at most.
const PARKED_MAX: usize = 64;
/// Messages that may wait for a peer's task: gossip that finds it full is sent again at the next
/// link.
const INBOX_MAX: usize = 512;

/// What others ask of a peer's task.
pub(crate) enum PeerCommand {
    /// A channel that the peer dialled.
    Channel(Box<Connection>, Box<Hello>),
    /// What became of a lane that a session got before the peer's `Hello` had come.
    Greeted(Greeting),
    /// To be sent over the channel, if there is one.
    Send(PeerFrame),
    /// Our addresses or routes changed.
    NetworkChanged,
    /// The machine slept.
    Woke,
    /// The peer's binding changed: there may be new locators.
    Rebound,
    /// The peer reached us through a host: a direct path is looked for from now on.
    Relayed,
    /// Something suggests that the channel is dead: probe it.
    Suspect,
    /// The peer was revoked, or asked to be forgotten.
    Dismiss(Code),
    /// Nobody needs the peer any more: its task ends.
    Retire,
}

/// See the module.
pub(crate) struct Peer {
    device: DeviceId,
    shown: Mutex<Shown>,
    demand: Mutex<Demand>,
    lines: Mutex<Allowance>,
    /// Lanes being dialled, for whomever: until they are greeted.
    dials: AtomicUsize,
    /// See [`Peer::next_waiting`].
    begins_at_the_back: bool,
    /// Lanes on which the peer's next session is awaited.
    parked: AtomicUsize,
    /// Cancelled when the peer may no longer be served, until it shows better certificates.
    dismissed: Mutex<CancellationToken>,
    /// Tells the task that demand rose.
    wanted: Notify,
    inbox: mpsc::Sender<PeerCommand>,
}

/// Who the peer is and how it fares, for people.
struct Shown {
    name: String,
    entity_name: String,
    entity: Option<EntityId>,
    incarnation: Option<Incarnation>,
    standing: Option<Standing>,
    state: LinkState,
    since: UnixTime,
    link: Option<Link>,
    is_relayed: bool,
    rtt: Option<Duration>,
    last_error: Option<String>,
}

/// The certificates that a peer showed last, and under which knowledge of the realm they counted.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) credentials: Credentials,
    /// [`Home::version`](crate::home::Home::version) when they were verified.
    pub(crate) version: u64,
    pub(crate) expires: UnixTime,
}

/// The transport of a direct peer channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where the peer's end is.
    pub(crate) from: SocketAddr,
    /// Where we reached the peer, if we dialled one.
    pub(crate) dialled_at: Option<SocketAddr>,
}

/// State of the link to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The channel works.
    Linked,
    /// No channel; dials are under way.
    Dialling,
    /// No channel, and the last dial failed.
    Unreachable,
}

#[derive(Default)]
struct Demand {
    /// Sessions that want a lane, first come first served; each at most once.
    waiting: VecDeque<SessionId>,
    idle: Vec<(Instant, Lane)>,
    last_used: Option<Instant>,
    /// Lanes that we are dialling because the peer asked.
    reversing: usize,
    /// A lane broke since the path was last proved.
    doubtful: bool,
}

/// What a peer's task is to provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Sessions that wait for a lane.
    pub(crate) waiting: usize,
    /// Warm lanes that are missing.
    pub(crate) spare: usize,
}

impl Peer {
    /// A peer, and the task that serves it for as long as the node lives.
    pub(crate) fn start(shared: &Arc<Shared>, device: DeviceId) -> Arc<Self> {
        let (inbox, commands) = mpsc::channel(INBOX_MAX);
        let peer = Arc::new(Self {
            device,
            shown: Mutex::new(Shown {
                name: format!("{}", device.fmt_short()),
                entity_name: String::new(),
                entity: None,
                incarnation: None,
                standing: None,
                state: LinkState::Dialling,
                since: shared.clock.wall(),
                link: None,
                is_relayed: false,
                rtt: None,
                last_error: None,
            }),
            demand: Mutex::default(),
            lines: Mutex::new(Allowance::lines(shared.clock.now())),
            dials: AtomicUsize::new(0),
            begins_at_the_back: shared.tls.device() < device,
            parked: AtomicUsize::new(0),
            dismissed: Mutex::new(shared.cancel.child_token()),
            wanted: Notify::new(),
            inbox,
        });
        shared.tasks.spawn(task::run(Arc::clone(shared), Arc::clone(&peer), commands));
        peer
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    /// Whether one more thing that the peer can cause is worth a line of the log, not of debugging.
    pub(crate) fn may_log(&self, now: Instant) -> bool {
        lock(&self.lines).take(now)
    }

    /// The device's name, or a short id while no certificate was seen.
    pub(crate) fn name(&self) -> String {
        lock(&self.shown).name.clone()
    }

    /// The entity's name; empty while no certificate was seen.
    pub(crate) fn entity_name(&self) -> String {
        lock(&self.shown).entity_name.clone()
    }

    /// The entity, once a certificate was seen.
    pub(crate) fn entity(&self) -> Option<EntityId> {
        lock(&self.shown).entity
    }

    /// Takes over certificates that counted just now.
    pub(crate) fn stand(&self, standing: Standing, shared: &Shared) {
        lock(&self.shown).standing = Some(standing);
        let mut dismissed = lock(&self.dismissed);
        if dismissed.is_cancelled() {
            *dismissed = shared.cancel.child_token();
        }
    }

    /// The certificates that the peer showed last.
    pub(crate) fn standing(&self) -> Option<Standing> {
        lock(&self.shown).standing.clone()
    }

    /// Cancelled when the peer may no longer be served.
    pub(crate) fn dismissal(&self) -> CancellationToken {
        lock(&self.dismissed).clone()
    }

    /// Ends the peer's channel and its parked lanes.
    pub(crate) fn dismiss(&self, code: Code) {
        lock(&self.dismissed).cancel();
        self.tell(PeerCommand::Dismiss(code));
    }

    /// A place for a lane that awaits the peer's next session, while there is one.
    pub(crate) fn park(&self) -> Option<Parked<'_>> {
        let parked = self.parked.fetch_add(1, Ordering::Relaxed);
        let place = Parked(self);
        (parked < PARKED_MAX).then_some(place)
    }

    /// A dial goes on in a session's hands until the peer's `Hello` has come.
    pub(crate) fn lend(self: &Arc<Self>) -> Lent {
        Lent { dial: Dial::begin(self), greeting: Greeting::Abandoned }
    }

    /// A place for one more lane to be dialled, while there is one.
    pub(crate) fn begin_dial(self: &Arc<Self>, most: usize) -> Option<Dial> {
        let dial = Dial::begin(self);
        (self.dials.load(Ordering::Relaxed) <= most).then_some(dial)
    }

    /// Whether nothing would be missed if the peer were forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_linked()
            && lock(&self.demand).waiting.is_empty()
            && self.parked.load(Ordering::Relaxed) == 0
    }

    /// Takes over what the peer's verified certificates say.
    pub(crate) fn identify(&self, name: String, entity_name: String, entity: EntityId) {
        let mut shown = lock(&self.shown);
        shown.name = name;
        shown.entity_name = entity_name;
        shown.entity = Some(entity);
    }

    /// The peer's present run, once a `Hello` told it.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        lock(&self.shown).incarnation
    }

    /// Notes the peer's present run; true when it is another than before.
    pub(crate) fn incarnated(&self, incarnation: Incarnation) -> bool {
        let before = lock(&self.shown).incarnation.replace(incarnation);
        before.is_some_and(|before| before != incarnation)
    }

    /// A warm lane for a session that opens, or a promise: its task is given a lane when there is
    /// one.
    pub(crate) fn want(&self, session: SessionId, now: Instant) -> Option<Lane> {
        let mut demand = lock(&self.demand);
        demand.last_used = Some(now);
        let lane = demand.pop_healthy();
        if lane.is_none() {
            demand.wait(session);
        }
        drop(demand);
        self.wanted.notify_one();
        lane
    }

    /// Promises a lane to a session whose lane broke or is suspect. The warm ones may be as dead as
    /// that, whatever the kernel says, so they are dropped, and the path has to be proved anew.
    pub(crate) fn want_fresh(&self, session: SessionId, now: Instant) {
        let mut demand = lock(&self.demand);
        demand.last_used = Some(now);
        demand.idle.clear();
        let first = demand.waiting.is_empty();
        demand.doubtful |= first;
        demand.wait(session);
        drop(demand);
        self.wanted.notify_one();
        if first {
            self.tell(PeerCommand::Suspect);
        }
    }

    /// The session goes on waiting for a lane.
    pub(crate) fn wait_on(&self, session: SessionId) {
        lock(&self.demand).wait(session);
    }

    /// The session no longer wants a lane.
    pub(crate) fn forget(&self, session: SessionId) {
        lock(&self.demand).waiting.retain(|waiting| *waiting != session);
    }

    /// The session whose turn it is; it is taken off the list. After an outage both ends have much
    /// the same list: one begins at its front, the other at its back, or both would dial for the
    /// same sessions.
    pub(crate) fn next_waiting(&self) -> Option<SessionId> {
        let waiting = &mut lock(&self.demand).waiting;
        if self.begins_at_the_back { waiting.pop_back() } else { waiting.pop_front() }
    }

    /// Sessions that wait, for a `Nudge`.
    pub(crate) fn waiting(&self, most: usize) -> Vec<SessionId> {
        lock(&self.demand).waiting.iter().take(most).copied().collect()
    }

    /// Puts a free lane into the pool.
    pub(crate) fn keep(&self, lane: Lane, now: Instant) {
        let mut demand = lock(&self.demand);
        if demand.idle.len() < IDLE_MAX {
            demand.idle.push((now, lane));
        }
        if !demand.waiting.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// Whether one more lane may be dialled at the peer's request.
    pub(crate) fn begin_reverse(&self, most: usize) -> bool {
        let mut demand = lock(&self.demand);
        let begin = demand.reversing < most;
        demand.reversing += usize::from(begin);
        begin
    }

    /// A lane dialled at the peer's request is up, or is not.
    pub(crate) fn end_reverse(&self) {
        lock(&self.demand).reversing -= 1;
    }

    /// Drops warm lanes: those that died or aged, or all of them.
    pub(crate) fn sweep(&self, now: Instant, all: bool) {
        lock(&self.demand)
            .idle
            .retain_mut(|(since, lane)| !all && now.since(*since) < IDLE_AGE && lane.is_healthy());
    }

    /// Drops the warm lanes that lead through a host: there is a direct path.
    pub(crate) fn drop_relayed(&self) {
        lock(&self.demand).idle.retain(|(_, lane)| lane.connection.via().is_none());
    }

    /// What the task is to provide now.
    pub(crate) fn needs(&self, now: Instant) -> Needs {
        let demand = lock(&self.demand);
        let used = demand.last_used.is_some_and(|at| now.since(at) < IDLE_AGE);
        let spare = if used { IDLE_SPARE.saturating_sub(demand.idle.len()) } else { 0 };
        Needs { waiting: demand.waiting.len(), spare }
    }

    /// Whether a session waits for a lane.
    pub(crate) fn is_waited_for(&self) -> bool {
        !lock(&self.demand).waiting.is_empty()
    }

    /// Whether a session came to doubt the path since this was last asked.
    pub(crate) fn take_doubt(&self) -> bool {
        std::mem::take(&mut lock(&self.demand).doubtful)
    }

    /// Waits until demand may have risen.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Gives the task a message; dropped when its queue is full.
    pub(crate) fn tell(&self, command: PeerCommand) {
        if self.inbox.try_send(command).is_err() {
            tracing::debug!(peer = %self.device.fmt_short(), "peer queue is full");
        }
    }

    pub(crate) fn is_linked(&self) -> bool {
        lock(&self.shown).state == LinkState::Linked
    }

    fn set_state(&self, state: LinkState, wall: UnixTime) {
        let mut shown = lock(&self.shown);
        if shown.state != state {
            shown.state = state;
            shown.since = wall;
        }
    }

    fn set_link(&self, link: Option<Link>, is_relayed: bool, rtt: Option<Duration>) {
        let mut shown = lock(&self.shown);
        (shown.link, shown.is_relayed) = (link, is_relayed);
        shown.rtt = rtt.or(shown.rtt);
    }

    /// The other end of the channel, where it is direct.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.direct_link().map(|link| link.from)
    }

    /// The direct channel, if there is one.
    pub(crate) fn direct_link(&self) -> Option<Link> {
        lock(&self.shown).link
    }

    fn set_error(&self, error: Option<String>) {
        lock(&self.shown).last_error = error;
    }

    /// The row of `cloak peers`, without what the peer published.
    pub(crate) fn view(&self, sessions: usize) -> PeerView {
        let idle = lock(&self.demand).idle.len();
        let shown = lock(&self.shown);
        PeerView {
            device: self.device.to_string(),
            name: shown.name.clone(),
            state: match shown.state {
                LinkState::Linked => "linked",
                LinkState::Dialling => "dialling",
                LinkState::Unreachable => "unreachable",
            }
            .to_owned(),
            state_since: shown.since.to_string(),
            address: shown.link.map(|link| link.from.to_string()),
            link: match shown.state {
                LinkState::Linked if shown.is_relayed => Some("relay".to_owned()),
                LinkState::Linked => Some("direct".to_owned()),
                LinkState::Dialling | LinkState::Unreachable => None,
            },
            locators: Vec::new(),
            relays: Vec::new(),
            is_relay: false,
            rtt_ms: shown.rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
            lanes: sessions as u64,
            idle_lanes: idle as u64,
            sessions: sessions as u64,
            last_error: shown.last_error.clone(),
        }
    }
}

/// How the greeting on a lent lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The peer's `Hello` was verified.
    Verified,
    /// The connection broke before, or the peer refused us.
    Failed(Code),
    /// The session found a better lane.
    Abandoned,
}

/// The place of a lane that is being dialled.
pub(crate) struct Dial(Arc<Peer>);

impl Dial {
    fn begin(peer: &Arc<Peer>) -> Self {
        peer.dials.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(peer))
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        self.0.dials.fetch_sub(1, Ordering::Relaxed);
        self.0.wanted.notify_one();
    }
}

/// A dial that goes on in a session's hands. The peer's task is told how it ends.
pub(crate) struct Lent {
    dial: Dial,
    greeting: Greeting,
}

impl Lent {
    /// It ended.
    pub(crate) fn end(mut self, greeting: Greeting) {
        self.greeting = greeting;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.dial.0.tell(PeerCommand::Greeted(self.greeting));
    }
}

/// The place of a parked lane.
pub(crate) struct Parked<'a>(&'a Peer);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Demand {
    fn wait(&mut self, session: SessionId) {
        if !self.waiting.contains(&session) {
            self.waiting.push_back(session);
        }
    }

    fn pop_healthy(&mut self) -> Option<Lane> {
        while let Some((_, mut lane)) = self.idle.pop() {
            if lane.is_healthy() {
                return Some(lane);
            }
        }
        None
    }
}
