//! The task that owns the overlay's state machine: inputs in, messages and events out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_overlay::{
    Code as Reason, Command, Config, Contact, Event, Input, Key, LookupId, Message, Outlet,
    Overlay, Own, Place, Record, Snapshot, drain,
};
use cloak_wire::{Code, PeerFrame};
use tokio::sync::{mpsc, oneshot};

use super::certifier::{Certifier, standing_of};
use super::verifier::Verifier;
use super::{Changes, Found, Item, LookupError, Traced, held};
use crate::peer::Peer;
use crate::shared::Shared;
use crate::sync::lock;
use crate::timer::Timer;

/// The overlay counts on from the wall clock; it is told where the two differ by more. Most of it is
/// the time since its last input.
const CLOCK_STEP: Duration = Duration::from_secs(5);
/// A dial that the overlay asked for is given up after this long; the overlay itself waits less.
const DIAL_FOR: Duration = Duration::from_secs(4);
/// A link that does not come back within this time is lost to the overlay.
const LOST_AFTER: Duration = Duration::from_millis(600);
/// A lost link is dialled for this long.
const RELINK_FOR: Duration = Duration::from_secs(10);
/// Locators that nobody could confirm for this long: we are not reachable any more. A change of the
/// network takes back every confirmation, and most are given again at once.
const UNCONFIRMED_AFTER: Duration = Duration::from_secs(20);
/// A peer that broke the overlay's rules is no neighbour for this long.
const SHUNNED_FOR: Duration = Duration::from_secs(60);

/// Who awaits an answer.
enum Asker {
    Lookup(oneshot::Sender<Result<Found, LookupError>>),
    Ping(oneshot::Sender<Option<u8>>),
    Trace(oneshot::Sender<Traced>),
}

/// What the overlay was told of a link.
struct Told {
    contact: Contact,
    generation: u64,
}

/// What a drain leaves to be done.
#[derive(Default)]
struct Drained {
    messages: Vec<(DeviceId, Message)>,
    events: Vec<Event>,
}

impl Outlet for Drained {
    fn transmit(&mut self, to: DeviceId, message: Message) {
        self.messages.push((to, message));
    }

    fn handle_event(&mut self, event: Event) {
        self.events.push(event);
    }
}

struct Task {
    shared: Arc<Shared>,
    overlay: Overlay,
    links: BTreeMap<DeviceId, Told>,
    /// Links that are gone, and of which the overlay has not been told, and since when.
    lost: BTreeMap<DeviceId, Instant>,
    /// As many as the overlay has questions open: it answers each, or says that nobody did.
    askers: BTreeMap<LookupId, Asker>,
    next: u64,
    /// Records of the last run that go back to their binders, and when the next one does.
    give_back: VecDeque<(Key, Record)>,
    give_back_at: Instant,
    confirmed: bool,
    /// Since when nobody has confirmed our locators, while the overlay believes that somebody did.
    unconfirmed_since: Option<Instant>,
}

pub(super) async fn run(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Item>) {
    let mut timer = Timer::new(Arc::clone(&shared.clock));
    let cancel = shared.cancel.clone();
    let mut task = Task::new(Arc::clone(&shared));
    task.start();
    loop {
        timer.set(task.poll_timeout());
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            // Before messages: those of a new link come behind the news of it.
            () = shared.overlay.news.notified() => task.catch_up(),
            item = inbox.recv() => match item {
                Some(item) => task.take(item),
                None => return,
            },
            () = std::future::poll_fn(|cx| timer.poll(cx)) => task.handle_timeout(),
        }
    }
}

impl Task {
    fn new(shared: Arc<Shared>) -> Self {
        let trust = shared.home.trust();
        let own = Own {
            contact: Contact::new(shared.tls.device(), &shared.locators.current()),
            standing: standing_of(&trust.credentials),
            started: shared.clock.wall(),
        };
        drop(trust);
        let certifier = Certifier::new(Arc::clone(&shared.home), Arc::clone(&shared.clock));
        let verifier = Verifier::new(Arc::clone(&shared.home));
        let give_back = held::load(&shared.home, shared.clock.wall());
        let give_back_at = shared.clock.now();
        let overlay = Overlay::new(
            shared.clock.now(),
            own,
            Arc::new(Config::default()),
            Arc::new(certifier),
            Arc::new(verifier),
            shared.split_rng(),
        );
        Self {
            shared,
            overlay,
            links: BTreeMap::new(),
            lost: BTreeMap::new(),
            askers: BTreeMap::new(),
            next: 0,
            give_back,
            give_back_at,
            confirmed: false,
            unconfirmed_since: None,
        }
    }

    fn start(&mut self) {
        let known = self.shared.directory.contacts();
        let bootstrap = known.iter().map(|(device, at)| Contact::new(*device, at)).collect();
        self.input(Input::Start { bootstrap });
        self.catch_up();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let unconfirmed = self.unconfirmed_since.map(|since| since + UNCONFIRMED_AFTER);
        let give_back = self.may_give_back().then_some(self.give_back_at);
        let lost = self.lost.values().min().map(|since| *since + LOST_AFTER);
        self.overlay
            .poll_timeout()
            .into_iter()
            .chain(unconfirmed)
            .chain(lost)
            .chain(give_back)
            .min()
    }

    /// The clock may have been set: certificates and records count by it.
    fn look_at_wall_clock(&mut self) {
        let wall = self.shared.clock.wall();
        let counted = self.overlay.unix();
        if wall.0.abs_diff(counted.0) > CLOCK_STEP.as_secs() {
            self.input(Input::WallClock(wall));
        }
    }

    fn handle_timeout(&mut self) {
        self.look_at_wall_clock();
        self.look_at_confirmation();
        self.look_at_lost();
        self.give_back();
        self.input(Input::Timeout);
    }

    fn may_give_back(&self) -> bool {
        !self.give_back.is_empty() && self.overlay.place() != Place::Seeking
    }

    /// The next record of the last run goes back to its binders.
    fn give_back(&mut self) {
        let now = self.shared.clock.now();
        if !self.may_give_back() || now < self.give_back_at {
            return;
        }
        self.give_back_at = now + held::GIVE_BACK_EVERY;
        if let Some((key, record)) = self.give_back.pop_front() {
            self.input(Input::Command(Command::Restore { key, record }));
        }
    }

    /// One input, then everything that came of it.
    fn input(&mut self, input: Input) {
        self.overlay.handle(self.shared.clock.now(), input);
        let mut drained = Drained::default();
        drain(&mut self.overlay, &mut drained);
        for (to, message) in drained.messages {
            if let Some(peer) = self.shared.known_peer(to) {
                tracing::trace!(peer = %to.fmt_short(), ?message, "sent");
                let message = message.encode().into();
                peer.send(PeerFrame::Overlay { message });
            }
        }
        for event in drained.events {
            self.event(event);
        }
    }

    /// Everything that is told by state.
    fn catch_up(&mut self) {
        let Changes { peers, records, woke, moved, .. } = {
            let mut changes = lock(&self.shared.overlay.changes);
            let published = changes.published.clone();
            std::mem::replace(&mut *changes, Changes { published, ..Changes::default() })
        };
        if moved {
            self.look_at_locators();
        }
        self.look_at_confirmation();
        if woke {
            self.input(Input::Woke);
        }
        for device in peers {
            self.look_at(device);
        }
        for (key, record) in records {
            self.input(Input::Command(Command::Publish { key, record }));
        }
    }

    /// Where others reach us.
    fn look_at_locators(&mut self) {
        let locators = self.shared.locators.current();
        if *self.overlay.locators() != *locators {
            self.input(Input::Moved { locators });
        }
    }

    /// Whether anybody reached us.
    fn look_at_confirmation(&mut self) {
        let (now, confirmed) = (self.shared.clock.now(), self.shared.locators.is_confirmed());
        self.unconfirmed_since = match (self.confirmed, confirmed) {
            (true, false) => Some(self.unconfirmed_since.unwrap_or(now)),
            _ => None,
        };
        let lapsed = self.unconfirmed_since.is_some_and(|since| now >= since + UNCONFIRMED_AFTER);
        if confirmed != self.confirmed && (confirmed || lapsed) {
            self.confirmed = confirmed;
            self.unconfirmed_since = None;
            self.input(Input::Reachability { confirmed });
        }
    }

    /// Compares what the overlay knows of a link with what there is.
    fn look_at(&mut self, device: DeviceId) {
        let peer = self.shared.known_peer(device);
        let now = self.shared.clock.now();
        let linked = peer.and_then(|peer| Some((peer.overlay_link(now)?, peer)));
        let Some((link, peer)) = linked else { return self.link_lost(device) };
        let (mut at, is_known) = self.shared.directory.contact(device);
        // What it says of itself comes with its first message.
        if let (false, Some(dialled)) = (is_known, link.dialled_at) {
            at.insert(0, dialled);
        }
        self.link_up(&peer, link, Contact::new(device, &at));
    }

    /// The overlay hears of a lost link only where it does not come back at once: a connection may
    /// break, and its peer live.
    fn link_lost(&mut self, device: DeviceId) {
        if !self.links.contains_key(&device) {
            return;
        }
        let now = self.shared.clock.now();
        let since = *self.lost.entry(device).or_insert(now);
        if now >= since + LOST_AFTER {
            return self.link_down(device);
        }
        if let (true, Some(peer)) = (since == now, self.shared.known_peer(device)) {
            peer.keep_until(now + RELINK_FOR);
        }
    }

    fn look_at_lost(&mut self) {
        let lost: Vec<DeviceId> = self.lost.keys().copied().collect();
        for device in lost {
            self.look_at(device);
        }
    }

    fn link_up(&mut self, peer: &Peer, link: crate::peer::OverlayLink, contact: Contact) {
        let device = contact.device;
        self.lost.remove(&device);
        let Some(standing) = peer.standing() else { return };
        let standing = standing_of(&standing.credentials);
        let told = self.links.get(&device);
        if told.is_some_and(|told| told.generation == link.generation && told.contact == contact) {
            return;
        }
        peer.keep_for_overlay(true);
        let told = Told { contact: contact.clone(), generation: link.generation };
        self.links.insert(device, told);
        self.input(Input::LinkUp { contact, standing });
    }

    fn link_down(&mut self, device: DeviceId) {
        self.lost.remove(&device);
        if self.links.remove(&device).is_some() {
            if let Some(peer) = self.shared.known_peer(device) {
                peer.keep_for_overlay(false);
                peer.keep_until(self.shared.clock.now() + RELINK_FOR);
            }
            self.input(Input::LinkDown { device });
        }
    }

    /// The overlay has no use for the link any more; sessions may.
    fn release(&self, device: DeviceId) {
        if let Some(peer) = self.shared.known_peer(device) {
            peer.keep_for_overlay(false);
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Message { from, message } => {
                from.end_overlay_message();
                self.message(from.device(), &message);
            }
            Item::Lookup(key, answer) => {
                let id = self.ask(Asker::Lookup(answer));
                self.input(Input::Command(Command::Lookup { id, key }));
            }
            Item::Ping(to, answer) => {
                let id = self.ask(Asker::Ping(answer));
                self.input(Input::Command(Command::Ping { id, to }));
            }
            Item::Trace(to, answer) => {
                let id = self.ask(Asker::Trace(answer));
                self.input(Input::Command(Command::Trace { id, to }));
            }
            Item::Show(answer) => {
                let snapshot: Snapshot = self.overlay.snapshot();
                let _ = answer.send(snapshot);
            }
            Item::Leave(answer) => {
                self.input(Input::Command(Command::Leave));
                let _ = answer.send(());
            }
        }
    }

    fn message(&mut self, from: DeviceId, message: &[u8]) {
        // A peer that began to use a channel that was there for sessions.
        if !self.links.contains_key(&from) {
            self.look_at(from);
        }
        if self.links.contains_key(&from) {
            self.input(match Message::decode(message) {
                Ok(message) => Input::Message { from, message },
                Err(_) => Input::Malformed { from },
            });
        }
    }

    fn ask(&mut self, asker: Asker) -> LookupId {
        self.next += 1;
        self.askers.insert(LookupId(self.next), asker);
        LookupId(self.next)
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Dial { contact } => self.dial(&contact),
            Event::Hangup { device, code } => {
                tracing::debug!(peer = %device.fmt_short(), ?code, "the overlay left a link");
                self.links.remove(&device);
                self.lost.remove(&device);
                self.release(device);
                if let (Reason::Silent, Some(peer)) = (code, self.shared.known_peer(device)) {
                    // The connection is dead; its peer may live.
                    peer.keep_until(self.shared.clock.now() + RELINK_FOR);
                }
            }
            Event::Placed(place) => self.placed(place),
            Event::Found { id, record, binder, hops, age, .. } => {
                self.answer_lookup(id, Ok(Found { record, binder, hops, age }));
            }
            Event::NotFound { id, .. } => self.answer_lookup(id, Err(LookupError::NotFound)),
            Event::LookupFailed { id, .. } => self.answer_lookup(id, Err(LookupError::Failed)),
            Event::Superseded { key, record } => self.shared.superseded(&key, &record.bytes),
            Event::Pong { id, hops } => {
                if let Some(Asker::Ping(answer)) = self.askers.remove(&id) {
                    let _ = answer.send(hops);
                }
            }
            Event::Traced { id, arrived, passed } => {
                if let Some(Asker::Trace(answer)) = self.askers.remove(&id) {
                    let _ = answer.send(Traced { arrived, passed });
                }
            }
            Event::Misbehaved { device, code } => self.misbehaved(device, code),
        }
    }

    fn answer_lookup(&mut self, id: LookupId, result: Result<Found, LookupError>) {
        if let Some(Asker::Lookup(answer)) = self.askers.remove(&id) {
            let _ = answer.send(result);
        }
    }

    fn dial(&mut self, contact: &Contact) {
        let device = contact.device;
        tracing::debug!(peer = %device.fmt_short(), "the overlay dials");
        self.shared.directory.note_contact(device, &contact.locators);
        // Without room for the peer the dial is never answered, which the overlay takes for a failure.
        let Ok(peer) = self.shared.admit_peer(device) else { return };
        peer.keep_until(self.shared.clock.now() + DIAL_FOR);
        self.shared.overlay.changed(device);
    }

    fn placed(&mut self, place: Place) {
        match &place {
            Place::Seeking => tracing::info!("no place in the overlay"),
            Place::Inner { address, .. } => tracing::info!(%address, "a place in the overlay"),
            Place::Attached { hosts } => {
                tracing::info!(hosts = hosts.len(), "attached to the overlay");
            }
        }
        self.shared.overlay.place.send_replace(place);
        self.shared.check_entity_record();
        // Where we are is part of our record, and so are our hosts.
        self.shared.publish();
    }

    fn misbehaved(&mut self, device: DeviceId, reason: Reason) {
        self.links.remove(&device);
        self.lost.remove(&device);
        let Some(peer) = self.shared.known_peer(device) else { return };
        let code = code(reason);
        tracing::warn!(peer = %peer.name(), %code, "dropped a peer that broke the overlay's rules");
        peer.keep_for_overlay(false);
        peer.shun(code, self.shared.clock.now() + SHUNNED_FOR);
    }
}

/// What a peer is told when it is dropped.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::Unused => Code::Closed,
        Reason::Silent => Code::Timeout,
        Reason::Malformed => Code::Malformed,
        Reason::Flood => Code::Flood,
        Reason::FalseAddress => Code::FalseAddress,
        Reason::FalseRecord => Code::FalseRecord,
    }
}

/// A record as the overlay carries it.
pub(super) fn record(
    epoch: cloak_base::Epoch,
    expires: cloak_base::UnixTime,
    bytes: &[u8],
) -> Record {
    Record { epoch, expires, bytes: bytes.into() }
}

/// A key as the overlay carries it.
pub(crate) fn key(key: &cloak_identity::RecordKey) -> Key {
    Key::new(&key.to_bytes()).expect("invariant: every key of a record is short enough")
}
