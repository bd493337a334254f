//! A peer device: its channel, its pool of warm lanes, and every dial to it.
//!
//! Sessions ask a [`Peer`] for a lane and go on with their lives; retries belong to the peer, so a
//! thousand suspended sessions return with one successful dial. The task behind it is in
//! [`task`]; what may be shared with session tasks is here: what is known of the peer ([`shown`]),
//! who wants lanes ([`demand`]), what is being dialled ([`dials`]), and what the overlay needs
//! ([`neighbour`]).

mod allowance;
mod channel;
mod demand;
mod dials;
mod neighbour;
mod redialling;
mod shown;
mod task;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use cloak_base::{DeviceId, Instant};
use cloak_transport::Connection;
use cloak_wire::{Code, Hello, PeerFrame};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;
use crate::sync::lock;
use allowance::Allowance;
use demand::Demand;
pub(crate) use dials::{DIALS_MAX, Greeting, Lent};
pub(crate) use neighbour::OverlayLink;
use neighbour::OverlayUse;
use shown::Shown;
pub(crate) use shown::Standing;

/// Messages that may wait for a peer's task: gossip that finds it full is sent again at the next
/// link.
const INBOX_MAX: usize = 512;
/// Places among them that no message takes: a task that is behind with what the peer makes us say still
/// hears that the peer is to be dropped.
const INBOX_RESERVED: usize = 128;

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
    /// The peer broke the rules: its channels are closed with this code.
    Drop(Code),
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
    /// What the overlay has to do with it.
    overlay: Mutex<OverlayUse>,
    /// Overlay messages of the peer that wait.
    overlay_messages: AtomicUsize,
    /// Cancelled when the peer may no longer be served, until it shows better certificates.
    dismissed: Mutex<CancellationToken>,
    /// Tells the task that demand rose.
    wanted: Notify,
    /// Tells others of a new direct link.
    relinked: Notify,
    inbox: mpsc::Sender<PeerCommand>,
}

impl Peer {
    /// A peer, and the task that serves it for as long as the node lives.
    pub(crate) fn start(shared: &Arc<Shared>, device: DeviceId) -> Arc<Self> {
        let (inbox, commands) = mpsc::channel(INBOX_MAX);
        let peer = Arc::new(Self {
            device,
            shown: Mutex::new(Shown::new(shared, device)),
            demand: Mutex::default(),
            lines: Mutex::new(Allowance::lines(shared.clock.now())),
            dials: AtomicUsize::new(0),
            begins_at_the_back: shared.tls.device() < device,
            parked: AtomicUsize::new(0),
            overlay: Mutex::default(),
            overlay_messages: AtomicUsize::new(0),
            dismissed: Mutex::new(shared.cancel.child_token()),
            wanted: Notify::new(),
            relinked: Notify::new(),
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

    /// Cancelled when the peer may no longer be served.
    pub(crate) fn dismissal(&self) -> CancellationToken {
        lock(&self.dismissed).clone()
    }

    /// Ends the peer's channel and its parked lanes.
    pub(crate) fn dismiss(&self, code: Code) {
        lock(&self.dismissed).cancel();
        self.tell(PeerCommand::Dismiss(code));
    }

    /// Waits until demand may have risen.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Gives the task an order.
    pub(crate) fn tell(&self, command: PeerCommand) {
        if self.inbox.try_send(command).is_err() {
            tracing::warn!(peer = %self.device.fmt_short(), "peer queue is full");
        }
    }

    /// Gives the task a message for the peer; dropped when too many wait.
    pub(crate) fn send(&self, frame: PeerFrame) {
        if self.inbox.capacity() > INBOX_RESERVED {
            self.tell(PeerCommand::Send(frame));
        }
    }
}
