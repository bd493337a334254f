//! The sessions of this gateway: who they belong to, how to reach the task that drives each, and
//! what `sessions` shows of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cloak_base::{DeviceId, Generation, Instant, SessionId, UnixTime};
use cloak_session::{Role, Snapshot};
use cloak_wire::{Capsule, Code, SessionFrame, Target};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::api::{Application, Condition, Wish};
use crate::handover::Left;
use crate::lane::Lane;
use crate::peer::Peer;
use crate::sync::lock;
use crate::view::{MovingView, SessionState, SessionView};

/// Commands that may wait for one session. They are rare, and lanes that find the queue full are
/// dropped: the end that offered one tries again.
pub(crate) const INBOX_MAX: usize = 16;
/// Sessions that were lost and stay listed, oldest dropped first; as many that moved.
const ENDED_MAX: usize = 1024;
/// How long a session that was lost or moved stays listed.
const ENDED_LISTED: std::time::Duration = std::time::Duration::from_secs(3600);

/// What the rest of the node may ask of a session's task. Queued in boxes: a queue keeps room for 32 of
/// them as long as its session lives.
pub(crate) enum Command {
    /// A lane to ride, with the frame that came first on it when the peer chose it.
    Lane(Lane, Option<SessionFrame>),
    /// The transport may be dead: probe it.
    Suspect(cloak_session::Suspicion),
    /// Addresses or routes changed: a lane that no longer leaves from its own address is suspect.
    NetworkChanged,
    /// The present run of the peer's device.
    PeerIncarnation(DeviceId, cloak_base::Incarnation),
    /// Look at [`SessionHandle::closing`].
    Close,
    /// A lane that is better than the present one, which works.
    Better(Lane),
    /// Drop the lane as a fault would.
    Cut,
    /// The ledger is over its high-water mark.
    Shed,
    /// Hand our end over to a device: what it needs, once the other end has agreed.
    HandOver(DeviceId, oneshot::Sender<Result<Packed, Code>>),
    /// Nobody waits for that any more.
    Withdraw,
    /// The owner of that generation has it.
    LetGo(Generation),
    /// Have it back; true once it is ours again, false where the next owner has it.
    TakeBack(oneshot::Sender<bool>),
    /// Suspend it on purpose, or resume it.
    Wish(Wish),
    /// Let go of the application, and keep the session.
    Hold(oneshot::Sender<Result<(), Code>>),
    /// Where another application would go on; none unless one may come now.
    Standing(oneshot::Sender<Option<Standing>>),
    /// An application for a session that has none.
    Attach(Attaching),
}

/// An application that comes to a session that has none.
pub(crate) struct Attaching {
    pub(crate) application: Box<dyn Application>,
    /// What `sessions` calls it.
    pub(crate) name: String,
    /// Offset of the first byte that it gets; by itself, where the one before it stopped.
    pub(crate) from: Option<u64>,
    /// The state that the one before it left behind for it.
    pub(crate) done: oneshot::Sender<Result<Vec<u8>, AttachError>>,
}

/// Why an application does not get a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachError {
    /// It has another one, or is about to go elsewhere.
    NotHeld,
    /// It cannot begin where that application would.
    OutOfRange(Standing),
}

/// Where the next application of a session that is held goes on: offsets in the stream from the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Of the first byte that it gets.
    pub(crate) from: u64,
    /// Of the first byte that is still there.
    pub(crate) earliest: u64,
    /// Of the first byte that nobody was given.
    pub(crate) latest: u64,
    /// See [`Left::not_read`].
    pub(crate) not_read: Option<u64>,
}

impl Standing {
    /// How many bytes before `latest` an application begins that wants to go on from there; `None` where it
    /// cannot.
    pub(crate) fn back_to(&self, from: Option<u64>) -> Option<usize> {
        let from = from.unwrap_or(self.from);
        let is_there = (self.earliest..=self.latest).contains(&from);
        is_there.then(|| usize::try_from(self.latest - from).ok()).flatten()
    }
}

/// An end of a session, packed for another device.
pub(crate) struct Packed {
    pub(crate) capsule: Capsule,
    pub(crate) bytes: Vec<u8>,
    pub(crate) left: Left,
}

/// A session as the rest of the node knows it.
pub(crate) struct SessionHandle {
    pub(crate) id: SessionId,
    pub(crate) role: Role,
    peer: Mutex<Arc<Peer>>,
    /// A device to which the other end may go.
    guest: Mutex<Option<DeviceId>>,
    pub(crate) target: Target,
    pub(crate) opened_at: UnixTime,
    inbox: mpsc::Sender<Box<Command>>,
    /// Why the session is to end, once somebody said so.
    closing: Mutex<Option<Code>>,
    shown: Mutex<Shown>,
    /// The lane in use leads through a host.
    relayed: AtomicBool,
    /// Suspended on purpose, at one of the ends.
    dormant: AtomicBool,
}

/// What changes of a session while it lives.
#[derive(Clone)]
struct Shown {
    snapshot: Option<Snapshot>,
    /// Until when it is kept without an application.
    held_until: Option<Instant>,
    moving: Option<Moving>,
    application: String,
}

/// An end of a session is on its way to another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) side: Whose,
    pub(crate) to: DeviceId,
    pub(crate) since: Instant,
}

/// Which end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Own,
    Peer,
}

/// How a session left, where it stays listed for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was lost.
    Lost,
    /// It went to this device.
    Moved(DeviceId),
}

impl SessionHandle {
    /// A handle and the queue its task reads.
    pub(crate) fn new(
        id: SessionId,
        role: Role,
        peer: Arc<Peer>,
        target: Target,
        opened_at: UnixTime,
        application: String,
    ) -> (Arc<Self>, mpsc::Receiver<Box<Command>>) {
        let (inbox, commands) = mpsc::channel(INBOX_MAX);
        let shown =
            Mutex::new(Shown { snapshot: None, held_until: None, moving: None, application });
        let closing = Mutex::new(None);
        let (relayed, peer) = (AtomicBool::new(false), Mutex::new(peer));
        let handle = Self {
            id,
            role,
            peer,
            guest: Mutex::default(),
            target,
            opened_at,
            inbox,
            closing,
            shown,
            relayed,
            dormant: AtomicBool::new(false),
        };
        (Arc::new(handle), commands)
    }

    /// The device at the other end.
    pub(crate) fn peer(&self) -> Arc<Peer> {
        Arc::clone(&lock(&self.peer))
    }

    /// Gives the session's task something to do.
    ///
    /// # Errors
    /// The command, where its queue is full or it has ended.
    pub(crate) fn tell(&self, command: impl Into<Box<Command>>) -> Result<(), Box<Command>> {
        self.inbox.try_send(command.into()).map_err(TrySendError::into_inner)
    }

    /// Gives the session's task something to do, once its queue has room.
    ///
    /// # Errors
    /// [`Code::Gone`] where it has ended.
    pub(crate) async fn order(&self, command: Command) -> Result<(), Code> {
        self.inbox.send(Box::new(command)).await.map_err(|_| Code::Gone)
    }

    /// Ends the session. It is not lost when the queue is full: whatever fills it wakes the task,
    /// which looks.
    pub(crate) fn close(&self, code: Code) {
        lock(&self.closing).get_or_insert(code);
        let _ = self.tell(Command::Close);
    }

    /// Why the session is to end; given once.
    pub(crate) fn closing(&self) -> Option<Code> {
        lock(&self.closing).take()
    }

    /// Called by the session's task whenever something visible changed.
    pub(crate) fn show(
        &self,
        snapshot: Snapshot,
        relayed: bool,
        held_until: Option<Instant>,
        moving: Option<Moving>,
    ) {
        self.relayed.store(relayed, Ordering::Relaxed);
        let mut shown = lock(&self.shown);
        (shown.snapshot, shown.held_until, shown.moving) = (Some(snapshot), held_until, moving);
    }

    /// Whether the session goes on without an application.
    pub(crate) fn is_held(&self) -> bool {
        lock(&self.shown).held_until.is_some()
    }

    /// Whether the session rides on a lane that leads through a host.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relayed.load(Ordering::Relaxed)
    }

    /// The backend or proxy client that the session serves.
    pub(crate) fn set_application(&self, application: String) {
        lock(&self.shown).application = application;
    }

    /// The last snapshot.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        lock(&self.shown).snapshot
    }

    /// What the session's application is told.
    pub(crate) fn condition(&self, snapshot: &Snapshot) -> Condition {
        Condition {
            state: state(snapshot),
            reason: snapshot.reason,
            peer_device: self.peer().name(),
            resumes: snapshot.resumes,
        }
    }

    fn view(&self, at: Moment<'_>) -> Option<SessionView> {
        let Shown { snapshot, held_until, moving, application } = lock(&self.shown).clone();
        let snapshot = snapshot?;
        let state = match state(&snapshot) {
            SessionState::Live if held_until.is_some() => SessionState::Held,
            state => state,
        };
        let suspended = state == SessionState::Suspended;
        Some(SessionView {
            id: self.id.to_string(),
            state,
            state_since: at.past(snapshot.since),
            reason: snapshot.reason.map(|code| code.as_str().to_owned()),
            missing_side: suspended
                .then(|| if snapshot.paused_here { "local" } else { "peer" }.to_owned()),
            role: match self.role {
                Role::Initiator => "initiator".to_owned(),
                Role::Responder => "responder".to_owned(),
            },
            peer: self.peer().entity_name(),
            peer_device: self.peer().name(),
            port: port(&self.target),
            host: host(&self.target),
            lane: snapshot
                .lane
                .filter(|_| !suspended)
                .map(|_| if self.is_relayed() { "relay".to_owned() } else { "direct".to_owned() }),
            opened_at: self.opened_at.to_string(),
            resumes: snapshot.resumes,
            bytes_sent: snapshot.sent,
            bytes_received: snapshot.delivered,
            bytes_held: snapshot.held,
            rtt_ms: snapshot.rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
            application,
            device: None,
            expires: snapshot
                .expires
                .into_iter()
                .chain(held_until)
                .min()
                .map(|until| at.future(until)),
            moving: moving.map(|moving| at.moving(moving)),
            generation: snapshot.generation.0,
            peer_generation: snapshot.peer_generation.0,
        })
    }
}

/// When sessions are looked at, and who knows the names of devices.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) wall: UnixTime,
    pub(crate) name: &'a dyn Fn(DeviceId) -> String,
}

impl Moment<'_> {
    fn past(self, at: Instant) -> String {
        UnixTime(self.wall.0.saturating_sub(self.now.since(at).as_secs())).to_string()
    }

    fn future(self, at: Instant) -> String {
        UnixTime(self.wall.0.saturating_add(at.since(self.now).as_secs())).to_string()
    }

    fn moving(self, Moving { side, to, since }: Moving) -> MovingView {
        let side = match side {
            Whose::Own => "own",
            Whose::Peer => "peer",
        };
        MovingView { side: side.to_owned(), to: (self.name)(to), since: self.past(since) }
    }
}

fn state(snapshot: &Snapshot) -> SessionState {
    use cloak_session::State;
    match snapshot.state {
        State::Opening => SessionState::Opening,
        State::Live => SessionState::Live,
        State::Suspended => SessionState::Suspended,
        State::Held => SessionState::Held,
        State::Closing | State::Closed => SessionState::Closing,
        State::Lost => SessionState::Lost,
    }
}

fn port(target: &Target) -> u16 {
    match target {
        Target::Service(port) | Target::Host(_, port) => *port,
    }
}

fn host(target: &Target) -> Option<String> {
    match target {
        Target::Service(_) => None,
        Target::Host(host, _) => Some(host.clone()),
    }
}

/// Why a session could not be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is one with this id already.
    Exists,
    /// The peer has as many as it may have.
    Full,
}

/// The sessions with one device.
#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    /// Those suspended on purpose.
    dormant: AtomicUsize,
}

/// All sessions that have not ended, and for a while those that ended with an error. Keyed by the
/// peer's device as well, so that nobody can name another's session.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: DashMap<(DeviceId, SessionId), Arc<SessionHandle>>,
    /// Devices to which the other end of a session may go, and where it is until then.
    guests: DashMap<(DeviceId, SessionId), DeviceId>,
    per_peer: DashMap<DeviceId, Counts>,
    lost: Mutex<Listed>,
    moved: Mutex<Listed>,
    removed: Notify,
}

/// Sessions that are gone and stay listed, in the order in which they went.
#[derive(Default)]
struct Listed(VecDeque<(Instant, SessionView)>);

impl Listed {
    fn push(&mut self, now: Instant, view: SessionView) {
        self.0.push_back((now, view));
        while self.0.len() > ENDED_MAX {
            self.0.pop_front();
        }
    }

    fn views(&mut self, now: Instant) -> impl Iterator<Item = SessionView> {
        while self.0.front().is_some_and(|(since, _)| now.since(*since) > ENDED_LISTED) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, view)| view.clone())
    }
}

impl Registry {
    /// Enters a session.
    pub(crate) fn insert(
        &self,
        handle: Arc<SessionHandle>,
        peer_max: usize,
    ) -> Result<(), Refusal> {
        let peer = handle.peer().device();
        if self.count(peer) >= peer_max {
            return Err(Refusal::Full);
        }
        match self.sessions.entry((peer, handle.id)) {
            Entry::Occupied(_) => return Err(Refusal::Exists),
            Entry::Vacant(entry) => entry.insert(handle),
        };
        self.per_peer.entry(peer).or_default().all.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Called by the session's task: whether the session needs nothing of its peer.
    pub(crate) fn show_dormant(&self, handle: &SessionHandle, dormant: bool) {
        if handle.dormant.swap(dormant, Ordering::Relaxed) == dormant {
            return;
        }
        if let Some(counts) = self.per_peer.get(&handle.peer().device()) {
            match dormant {
                true => counts.dormant.fetch_add(1, Ordering::Relaxed),
                false => counts.dormant.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }

    /// A session that went away is here again.
    pub(crate) fn came_back(&self, id: SessionId) {
        let id = id.to_string();
        lock(&self.moved).0.retain(|(_, view)| view.id != id);
    }

    /// The session with this id whose other end is on this device, or may go to it.
    pub(crate) fn get(&self, peer: DeviceId, id: SessionId) -> Option<Arc<SessionHandle>> {
        let at = |device| self.sessions.get(&(device, id)).map(|entry| Arc::clone(&entry));
        at(peer).or_else(|| at(*self.guests.get(&(peer, id))?))
    }

    /// The other end of a session may go to the device `to`. Where that one has a session of this id, it
    /// may not, and finds that.
    pub(crate) fn expect(&self, handle: &SessionHandle, to: DeviceId) {
        let host = handle.peer().device();
        if to != host && !self.sessions.contains_key(&(to, handle.id)) {
            self.forget_guest(handle);
            *lock(&handle.guest) = Some(to);
            self.guests.insert((to, handle.id), host);
        }
    }

    fn forget_guest(&self, handle: &SessionHandle) {
        if let Some(guest) = lock(&handle.guest).take() {
            let host = handle.peer().device();
            self.guests.remove_if(&(guest, handle.id), |_, known| *known == host);
        }
    }

    /// Whether a session's other end could be with this device.
    pub(crate) fn has_room(&self, handle: &SessionHandle, peer: DeviceId, peer_max: usize) -> bool {
        self.count(peer) < peer_max && !self.sessions.contains_key(&(peer, handle.id))
    }

    /// The other end of a session is with `peer` from now on; whoever else was expected is not any more.
    /// Gives the device that it was on.
    ///
    /// # Errors
    /// That device has another session of this id; everything is as before.
    pub(crate) fn rehome(
        &self,
        handle: &Arc<SessionHandle>,
        peer: Arc<Peer>,
    ) -> Result<DeviceId, Refusal> {
        let (before, now) = (handle.peer().device(), peer.device());
        if before != now {
            // Known under both until it is out of the old place, so that nobody finds it gone.
            match self.sessions.entry((now, handle.id)) {
                Entry::Occupied(_) => return Err(Refusal::Exists),
                Entry::Vacant(entry) => entry.insert(Arc::clone(handle)),
            };
            // Who comes from another device is awake.
            self.show_dormant(handle, false);
            self.per_peer.entry(now).or_default().all.fetch_add(1, Ordering::Relaxed);
        }
        self.forget_guest(handle);
        *lock(&handle.peer) = peer;
        if before != now && self.sessions.remove(&(before, handle.id)).is_some() {
            self.uncount(before);
        }
        Ok(before)
    }

    fn uncount(&self, peer: DeviceId) {
        if let Some(count) = self.per_peer.get(&peer) {
            count.all.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sessions with this device.
    pub(crate) fn count(&self, peer: DeviceId) -> usize {
        self.per_peer.get(&peer).map_or(0, |counts| counts.all.load(Ordering::Relaxed))
    }

    /// Sessions with this device, without those that are suspended on purpose: these need no channel.
    pub(crate) fn count_awake(&self, peer: DeviceId) -> usize {
        self.per_peer.get(&peer).map_or(0, |counts| {
            let all = counts.all.load(Ordering::Relaxed);
            all.saturating_sub(counts.dormant.load(Ordering::Relaxed))
        })
    }

    /// Takes a session out; one that was lost or moved stays listed for an hour. What an application or an
    /// operator ended is neither.
    pub(crate) fn remove(&self, handle: &SessionHandle, outcome: Option<Outcome>, at: Moment<'_>) {
        // Listed first: it may come back as soon as it is out.
        if let Some(outcome) = outcome {
            self.list(handle, outcome, at);
        }
        let peer = handle.peer().device();
        self.forget_guest(handle);
        self.show_dormant(handle, false);
        if self.sessions.remove(&(peer, handle.id)).is_some() {
            self.uncount(peer);
            self.removed.notify_waiters();
        }
    }

    fn list(&self, handle: &SessionHandle, outcome: Outcome, at: Moment<'_>) {
        let Some(view) = handle.view(at) else { return };
        let view = SessionView { expires: None, moving: None, ..view };
        match outcome {
            Outcome::Lost => lock(&self.lost).push(at.now, view),
            Outcome::Moved(to) => {
                let (state, device) = (SessionState::Moved, Some((at.name)(to)));
                lock(&self.moved).push(at.now, SessionView { state, device, ..view });
            }
        }
    }

    /// Waits until there is no live session.
    pub(crate) async fn emptied(&self) {
        loop {
            let removed = self.removed.notified();
            if self.sessions.is_empty() {
                return;
            }
            removed.await;
        }
    }

    /// Every live session, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<SessionHandle>> {
        self.sessions.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// The live sessions with this device.
    pub(crate) fn of(&self, peer: DeviceId) -> Vec<Arc<SessionHandle>> {
        self.sessions
            .iter()
            .filter(|entry| entry.key().0 == peer)
            .map(|entry| Arc::clone(&entry))
            .collect()
    }

    /// Rows of `cloak sessions`, oldest first.
    pub(crate) fn views(&self, at: Moment<'_>) -> Vec<SessionView> {
        let mut rows: Vec<_> = self.all().iter().filter_map(|handle| handle.view(at)).collect();
        rows.extend(lock(&self.lost).views(at.now));
        rows.extend(lock(&self.moved).views(at.now));
        rows.sort_by(|a, b| (&a.opened_at, &a.id).cmp(&(&b.opened_at, &b.id)));
        rows
    }

    /// Where the session went whose id begins with `prefix`, the last one of these.
    pub(crate) fn went_to(&self, prefix: &str) -> Option<String> {
        let moved = lock(&self.moved);
        let (_, view) = moved.0.iter().rev().find(|(_, view)| view.id.starts_with(prefix))?;
        view.device.clone()
    }

    /// The live sessions whose id begins with `prefix`.
    pub(crate) fn find(&self, prefix: &str) -> Vec<Arc<SessionHandle>> {
        let mut found = self.all();
        found.retain(|handle| handle.id.to_string().starts_with(prefix));
        found
    }
}
