//! The sessions of this gateway: who they belong to, what may be asked of them, and those that are gone and
//! stay listed.

mod handle;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cloak_base::{DeviceId, Generation, Instant, SessionId};
use cloak_wire::{Capsule, Code, SessionFrame};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::{Notify, oneshot};

pub(crate) use handle::{Moment, Moving, SessionHandle, Whose, host, port};

use crate::api::{Application, Wish};
use crate::handover::Left;
use crate::lane::Lane;
use crate::peer::Peer;
use crate::sync::lock;
use crate::view::{SessionState, SessionView};

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
    /// What became of the copy of our end at its holder, in that attempt.
    Lodged(u64, Lodged),
    /// The settings were changed.
    Settings,
    /// Let go of the application, and keep the session.
    Hold(oneshot::Sender<Result<(), Code>>),
    /// Where another application would go on; none unless one may come now.
    Standing(oneshot::Sender<Option<Standing>>),
    /// An application for a session that has none.
    Attach(Attaching),
}

/// What becomes of a copy of our end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lodged {
    /// This device is to keep it.
    Found(DeviceId),
    /// The holder has the batch with this number.
    Kept(u64),
    /// There is no holder.
    Lost(Code),
}

/// Why a device may become a session's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guest {
    /// It is handed over to it.
    Next,
    /// It keeps a copy.
    Holder,
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

/// How a session left, where it stays listed for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was lost.
    Lost,
    /// It went to this device.
    Moved(DeviceId),
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

    /// The other end of a session may go to the device `to`, or to nobody as such a guest. Where that one has
    /// a session of this id, it may not, and finds that.
    pub(crate) fn expect(&self, handle: &SessionHandle, guest: Guest, to: Option<DeviceId>) {
        let host = handle.peer().device();
        let is_free = |to: &DeviceId| !self.sessions.contains_key(&(*to, handle.id));
        let to = to.filter(|to| *to != host && is_free(to));
        let mut guests = lock(&handle.guests);
        let before = std::mem::replace(&mut guests[guest as usize], to);
        if let Some(before) = before.filter(|before| !guests.contains(&Some(*before))) {
            self.guests.remove_if(&(before, handle.id), |_, known| *known == host);
        }
        if let Some(to) = to {
            self.guests.insert((to, handle.id), host);
        }
    }

    fn forget_guests(&self, handle: &SessionHandle) {
        for guest in [Guest::Next, Guest::Holder] {
            self.expect(handle, guest, None);
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
        self.forget_guests(handle);
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
        self.forget_guests(handle);
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
