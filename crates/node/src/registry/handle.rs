//! One session as the rest of the node knows it: how to reach the task that drives it, and what is shown of
//! it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cloak_base::{DeviceId, Instant, SessionId, UnixTime};
use cloak_session::{Role, Snapshot};
use cloak_wire::{Code, Target};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Command, INBOX_MAX};
use crate::api::Condition;
use crate::peer::Peer;
use crate::sync::lock;
use crate::view::{MovingView, SessionState, SessionView};

/// A session as the rest of the node knows it.
pub(crate) struct SessionHandle {
    pub(crate) id: SessionId,
    pub(crate) role: Role,
    pub(super) peer: Mutex<Arc<Peer>>,
    /// Devices to which the other end may go, by [`Guest`](super::Guest).
    pub(super) guests: Mutex<[Option<DeviceId>; 2]>,
    pub(crate) target: Target,
    pub(crate) opened_at: UnixTime,
    inbox: mpsc::Sender<Box<Command>>,
    /// Why the session is to end, once somebody said so.
    closing: Mutex<Option<Code>>,
    shown: Mutex<Shown>,
    /// The lane in use leads through a host.
    relayed: AtomicBool,
    /// Suspended on purpose, at one of the ends.
    pub(super) dormant: AtomicBool,
}

/// What changes of a session while it lives.
#[derive(Clone)]
struct Shown {
    snapshot: Option<Snapshot>,
    /// Until when it is kept without an application.
    held_until: Option<Instant>,
    moving: Option<Moving>,
    application: String,
    /// Label of the device that may take our end if we die.
    escrow: Option<Arc<str>>,
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
            Shown { snapshot: None, held_until: None, moving: None, application, escrow: None };
        let shown = Mutex::new(shown);
        let closing = Mutex::new(None);
        let (relayed, peer) = (AtomicBool::new(false), Mutex::new(peer));
        let handle = Self {
            id,
            role,
            peer,
            guests: Mutex::default(),
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
        escrow: Option<Arc<str>>,
    ) {
        self.relayed.store(relayed, Ordering::Relaxed);
        let mut shown = lock(&self.shown);
        (shown.snapshot, shown.held_until) = (Some(snapshot), held_until);
        (shown.moving, shown.escrow) = (moving, escrow);
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

    pub(super) fn view(&self, at: Moment<'_>) -> Option<SessionView> {
        let Shown { snapshot, held_until, moving, application, escrow } = lock(&self.shown).clone();
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
            escrow: escrow.map(|label| label.to_string()),
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

pub(crate) fn port(target: &Target) -> u16 {
    match target {
        Target::Service(port) | Target::Host(_, port) => *port,
    }
}

pub(crate) fn host(target: &Target) -> Option<String> {
    match target {
        Target::Service(_) => None,
        Target::Host(host, _) => Some(host.clone()),
    }
}
