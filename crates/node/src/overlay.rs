//! This gateway's overlay peer: one task owns the state machine, everybody else has this handle.
//!
//! What may not be lost is told by state, not by messages: [`OverlayPeer::changed`] names a peer
//! whose link is to be looked at, [`OverlayPeer::publish`] leaves a record to be published, and the
//! task compares. Overlay messages and questions wait in a bounded inbox; what finds it full is lost
//! as on a bad link, and asked again.

mod certifier;
mod entity;
mod held;
mod task;
mod verifier;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_base::{DeviceId, Epoch};
use cloak_overlay::{Config, Degree, Destination, Key, Passed, Place, Record, Snapshot};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::shared::Shared;
use crate::sync::lock;

pub(crate) use entity::Siblings;
pub(crate) use task::key as overlay_key;

/// Messages and questions that wait for the task.
const INBOX_MAX: usize = 2048;
/// Overlay messages of one peer among them.
pub(crate) const MESSAGES_PER_PEER_MAX: usize = 256;

/// See the module.
pub(crate) struct OverlayPeer {
    inbox: mpsc::Sender<Item>,
    waiting: Mutex<Option<mpsc::Receiver<Item>>>,
    changes: Mutex<Changes>,
    news: Notify,
    place: watch::Sender<Place>,
}

/// What the task has not looked at yet.
#[derive(Default)]
struct Changes {
    peers: BTreeSet<DeviceId>,
    /// Records of ours.
    records: BTreeMap<Key, Record>,
    woke: bool,
    /// Our locators may be others.
    moved: bool,
    /// The epochs of our records that were published last: our device's, and our entity's twice.
    published: BTreeMap<Key, Epoch>,
}

/// What waits for the task.
enum Item {
    Message { from: Arc<crate::peer::Peer>, message: Vec<u8> },
    Lookup(Key, oneshot::Sender<Result<Found, LookupError>>),
    Ping(Destination, oneshot::Sender<Option<u8>>),
    Trace(Destination, oneshot::Sender<Traced>),
    Show(oneshot::Sender<Snapshot>),
    Leave(oneshot::Sender<()>),
}

/// A record that a lookup found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) binder: DeviceId,
    pub(crate) hops: u8,
    /// Time since its publisher last confirmed it at the binder.
    pub(crate) age: Duration,
}

/// Why a lookup found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// Enough binders have nothing.
    #[error("no such record")]
    NotFound,
    /// Too few binders answered, or there is no overlay in reach.
    #[error("the overlay did not answer")]
    Failed,
}

/// The way to a peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traced {
    /// Whether its last step is the destination.
    pub(crate) arrived: bool,
    pub(crate) passed: Vec<Passed>,
}

impl OverlayPeer {
    pub(crate) fn new() -> Self {
        let (inbox, waiting) = mpsc::channel(INBOX_MAX);
        Self {
            inbox,
            waiting: Mutex::new(Some(waiting)),
            changes: Mutex::default(),
            news: Notify::new(),
            place: watch::Sender::new(Place::Seeking),
        }
    }

    /// A peer's link, record or use may be another than before.
    pub(crate) fn changed(&self, device: DeviceId) {
        lock(&self.changes).peers.insert(device);
        self.news.notify_one();
    }

    /// Our own locators may be others, or confirmed, or no longer.
    pub(crate) fn moved(&self) {
        lock(&self.changes).moved = true;
        self.news.notify_one();
    }

    /// The machine slept, or is on another network.
    pub(crate) fn woke(&self) {
        lock(&self.changes).woke = true;
        self.news.notify_one();
    }

    /// Publishes a record of ours, and keeps it alive. Of two that are made at the same time, the
    /// higher epoch stays.
    pub(crate) fn publish(&self, key: Key, record: Record) {
        let mut changes = lock(&self.changes);
        let last = changes.published.get(&key).copied();
        if last.is_some_and(|last| record.epoch < last) {
            return;
        }
        changes.published.insert(key.clone(), record.epoch);
        changes.records.insert(key, record);
        drop(changes);
        self.news.notify_one();
    }

    /// Takes what a peer sent. What is too much is dropped.
    pub(crate) fn deliver(&self, from: &Arc<crate::peer::Peer>, message: Vec<u8>) {
        if from.begin_overlay_message(MESSAGES_PER_PEER_MAX) {
            let item = Item::Message { from: Arc::clone(from), message };
            if self.inbox.try_send(item).is_err() {
                from.end_overlay_message();
            }
        }
    }

    /// Where this device is in the overlay.
    pub(crate) fn place(&self) -> Place {
        self.place.borrow().clone()
    }

    /// Whether names can be looked up.
    pub(crate) fn is_placed(&self) -> bool {
        *self.place.borrow() != Place::Seeking
    }

    /// Follows [`OverlayPeer::place`].
    pub(crate) fn watch_place(&self) -> watch::Receiver<Place> {
        self.place.subscribe()
    }

    /// Finds the record under a key.
    pub(crate) async fn lookup(&self, key: Key) -> Result<Found, LookupError> {
        if !self.is_placed() {
            return Err(LookupError::Failed);
        }
        self.ask(|answer| Item::Lookup(key, answer)).await.unwrap_or(Err(LookupError::Failed))
    }

    /// Hops to a peer; `None` when it did not answer.
    pub(crate) async fn ping(&self, to: Destination) -> Option<u8> {
        self.ask(|answer| Item::Ping(to, answer)).await.flatten()
    }

    /// The way to a peer; `None` when no answer came.
    pub(crate) async fn trace(&self, to: Destination) -> Option<Traced> {
        let traced = self.ask(|answer| Item::Trace(to, answer)).await;
        traced.filter(|traced| traced.arrived || !traced.passed.is_empty())
    }

    /// What the state machine shows of itself.
    pub(crate) async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Item::Show).await
    }

    /// Leaves the overlay in order. The messages are then with the peers' tasks.
    pub(crate) async fn leave(&self) {
        let _ = self.ask(Item::Leave).await;
    }

    async fn ask<T>(&self, item: impl FnOnce(oneshot::Sender<T>) -> Item) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.inbox.send(item(sender)).await.ok()?;
        answer.await.ok()
    }
}

/// The degree of every realm's tree.
pub(crate) fn degree() -> Degree {
    Config::default().degree
}

/// Runs the overlay peer until the node stops. To be called once.
pub(crate) fn start(shared: &Arc<Shared>) {
    if let Some(inbox) = lock(&shared.overlay.waiting).take() {
        shared.tasks.spawn(task::run(Arc::clone(shared), inbox));
    }
}
