//! The world: peers, the network between them, and time.
//!
//! One event after the other: an input goes into one peer's state machine, which is then emptied,
//! and what came out becomes later events. Nothing else changes a peer. A run is a function of the
//! [`Setup`] and of what the scenario does from outside.

mod ahead;
mod faults;
mod links;
mod outlet;

use std::sync::Arc;

use cloak_base::{DeviceId, Epoch, Instant, Rng, UnixTime};
use cloak_overlay::{
    Command, Config, Contact, Event as Said, Input, Key, LookupId, Message, Overlay, Own, Rank,
    RecordVerifier, Snapshot, Standing,
};

use crate::directory::Directory;
use crate::geography::Geography;
use crate::journal::{Journal, Kind, Line};
use crate::names;
use crate::peer::{LinkId, Nature, Peer, PeerId};
use crate::queue::Queue;
use crate::setup::Setup;

pub use links::DIAL_TIMEOUT;

/// A simulated network of overlay peers.
pub struct World {
    setup: Setup,
    config: Arc<Config>,
    verifier: Arc<dyn RecordVerifier + Send + Sync>,
    now: Instant,
    queue: Queue<Event>,
    peers: Vec<Peer>,
    directory: Directory,
    geography: Geography,
    rng: Rng,
    journal: Journal,
    answers: Vec<Answer>,
    next_link: u32,
    next_lookup: u64,
    partitioned: bool,
    dropped: u64,
}

/// What a peer said to its owner.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When.
    pub at: Instant,
    /// Who.
    pub peer: PeerId,
    /// What.
    pub said: Said,
}

/// Something that will happen at one peer.
enum Event {
    Timer { peer: PeerId },
    Message { to: PeerId, from: PeerId, link: LinkId, bytes: u32, message: Message },
    Accept { dialler: PeerId, listener: PeerId, begun: Instant },
    LinkUp { peer: PeerId, with: PeerId, link: LinkId },
    LinkDown { peer: PeerId, with: PeerId, link: LinkId },
    DialFailed { peer: PeerId, device: DeviceId },
    Reachability { peer: PeerId },
}

/// Wall-clock time at the origin of simulated time.
const WALL_CLOCK_START: u64 = 1_800_000_000;

impl World {
    /// An empty world.
    pub fn new(setup: Setup) -> Self {
        Self::with_journal(setup, Journal::hash_only())
    }

    /// An empty world whose events are written to this journal.
    pub fn with_journal(setup: Setup, journal: Journal) -> Self {
        let mut rng = Rng::from_u64(setup.seed);
        Self {
            config: Arc::new(setup.overlay.clone()),
            verifier: Arc::new(names::Verifier),
            now: Instant::ZERO,
            queue: Queue::new(),
            peers: Vec::with_capacity(setup.peers),
            directory: Directory::new(setup.signatures),
            geography: Geography::draw(&mut rng),
            rng,
            journal,
            answers: Vec::new(),
            next_link: 0,
            next_lookup: 0,
            partitioned: false,
            dropped: 0,
            setup,
        }
    }

    /// Adds a peer of an entity of its own. It does nothing before it is started.
    pub fn add(&mut self, nature: Nature, rank: Rank) -> PeerId {
        self.add_device(nature, rank, None)
    }

    /// Adds a peer that belongs to the entity of another one.
    pub fn add_sibling(&mut self, of: PeerId, nature: Nature) -> PeerId {
        let entity = self.peers[of.index()].rest.standing;
        self.add_device(nature, Rank::NONE, Some(entity))
    }

    /// Starts a peer that remembers these others; also one that died, which forgot the rest.
    pub fn start(&mut self, peer: PeerId, remembered: &[PeerId]) {
        let bootstrap = remembered.iter().map(|other| self.contact(*other)).collect();
        let started = self.wall_clock();
        let (now, config, verifier) = (self.now, self.config.clone(), self.verifier.clone());
        let one = &mut self.peers[peer.index()];
        let own = Own { contact: one.rest.contact.clone(), standing: one.rest.standing, started };
        let rng = one.rest.rng.split();
        one.overlay =
            Some(Box::new(Overlay::new(now, own, config, one.certifier(), verifier, rng)));
        one.rest.started_at = now;
        one.rest.remembered = remembered.into();
        one.told_reachability = false;
        self.note(peer, Kind::Start, remembered.len() as u64);
        self.feed(peer, Input::Start { bootstrap });
        if remembered.is_empty() {
            // Nobody is there to try: its owner says at which address it can be dialled.
            self.on_reachability(peer);
        }
    }

    /// Lets time pass up to this instant.
    pub fn run_until(&mut self, until: Instant) {
        while let Some((at, event)) = self.queue.pop(until) {
            if self.queue.has_turned() {
                self.look_ahead();
            }
            self.now = at;
            self.happen(event);
        }
        self.now = self.now.max(until);
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, span: std::time::Duration) {
        self.run_until(self.now + span);
    }

    /// Gives a command to a peer; nothing happens when it is dead or asleep.
    pub fn command(&mut self, peer: PeerId, command: Command) {
        if self.peers[peer.index()].is_awake() {
            self.note(peer, Kind::Command, 0);
            self.feed(peer, Input::Command(command));
        }
    }

    /// Lets a peer publish the first record of a name.
    pub fn publish(&mut self, peer: PeerId, name: u32) {
        let key = names::key(name);
        let record = names::record(&key, Epoch(1), self.wall_clock());
        self.command(peer, Command::Publish { key, record });
    }

    /// Lets a peer look a key up; its answer bears the id.
    pub fn lookup(&mut self, peer: PeerId, key: Key) -> LookupId {
        let id = self.lookup_id();
        self.command(peer, Command::Lookup { id, key });
        id
    }

    /// An id for a question.
    pub fn lookup_id(&mut self) -> LookupId {
        self.next_lookup += 1;
        LookupId(self.next_lookup)
    }

    /// Puts a message on the wire as if the peer had sent it, on each of its links.
    pub fn shout(&mut self, peer: PeerId, message: &Message) {
        let others: Vec<PeerId> =
            self.peers[peer.index()].links.iter().map(|half| half.peer).collect();
        for other in others {
            self.send(peer, other, message.clone());
        }
    }

    /// What peers said to their owners since the last call: answers to lookups, pings, traces.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The present, for certificates.
    pub fn wall_clock(&self) -> UnixTime {
        UnixTime(WALL_CLOCK_START + self.now.as_micros() / 1_000_000)
    }

    /// What it was made of.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Randomness for the scenario.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The log.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Messages that were lost with their links or their receivers.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All peers that ever were, by number.
    pub fn ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        (0..u32::try_from(self.peers.len()).unwrap_or(u32::MAX)).map(PeerId)
    }

    /// One peer.
    pub fn peer(&self, peer: PeerId) -> &Peer {
        &self.peers[peer.index()]
    }

    /// Its device.
    pub fn device(&self, peer: PeerId) -> DeviceId {
        self.directory.device(peer)
    }

    /// Whose device this is.
    pub fn find(&self, device: &DeviceId) -> Option<PeerId> {
        self.directory.find(device)
    }

    /// What a live peer shows of itself.
    pub fn snapshot(&self, peer: PeerId) -> Option<Snapshot> {
        self.peers[peer.index()].overlay.as_ref().map(|overlay| overlay.snapshot())
    }

    fn add_device(&mut self, nature: Nature, rank: Rank, like: Option<Standing>) -> PeerId {
        let number = u32::try_from(self.peers.len()).expect("invariant: fewer peers than 2^32");
        let keys = self.setup.signatures.draw(number, rank, &mut self.rng);
        let peer = self.directory.add(keys.device);
        let locator = std::net::Ipv6Addr::from(0xfd00 << 112 | u128::from(number));
        let contact = Contact::new(keys.device, &[(locator, 7140).into()]);
        let entity = cloak_base::EntityId::from_bytes(*keys.device.as_bytes());
        let standing = like.unwrap_or(Standing { entity, positions: 4 });
        let at = self.geography.place(&mut self.rng);
        let rng = self.rng.split();
        self.peers.push(Peer::new(keys, contact, standing, nature, at, rng));
        peer
    }

    fn contact(&self, peer: PeerId) -> Contact {
        self.peers[peer.index()].rest.contact.clone()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Timer { peer } => self.on_timer(peer),
            Event::Message { to, from, link, bytes, message } => {
                self.on_message(to, from, link, bytes, message);
            }
            Event::Accept { dialler, listener, begun } => self.on_accept(dialler, listener, begun),
            Event::LinkUp { peer, with, link } => self.on_link_up(peer, with, link),
            Event::LinkDown { peer, with, link } => self.on_link_down(peer, with, link),
            Event::DialFailed { peer, device } => {
                if self.peers[peer.index()].is_awake() {
                    self.note(peer, Kind::DialFailed, 0);
                    self.feed(peer, Input::DialFailed { device });
                }
            }
            Event::Reachability { peer } => self.on_reachability(peer),
        }
    }

    /// A timer event is only a reason to look: the state machine may have put it off since.
    fn on_timer(&mut self, peer: PeerId) {
        let one = &mut self.peers[peer.index()];
        if one.armed != Some(self.now) {
            return;
        }
        one.armed = None;
        let Some(overlay) = one.overlay.as_ref().filter(|_| !one.asleep) else { return };
        match overlay.poll_timeout() {
            Some(due) if due <= self.now => {
                self.note(peer, Kind::Timer, 0);
                self.feed(peer, Input::Timeout);
            }
            due => self.arm(peer, due),
        }
    }

    fn arm(&mut self, peer: PeerId, due: Option<Instant>) {
        let Some(due) = due.map(|due| due.max(self.now)) else { return };
        let armed = &mut self.peers[peer.index()].armed;
        if armed.is_none_or(|armed| due < armed) {
            *armed = Some(due);
            self.queue.push(due, Event::Timer { peer });
        }
    }

    fn on_reachability(&mut self, peer: PeerId) {
        let one = &mut self.peers[peer.index()];
        one.told_reachability = one.is_awake(); // a sleeper hears it after its next link
        if one.is_awake() {
            let confirmed = one.nature.reachable;
            self.note(peer, Kind::Reachability, u64::from(confirmed));
            self.feed(peer, Input::Reachability { confirmed });
        }
    }

    fn note(&mut self, peer: PeerId, kind: Kind, detail: u64) {
        self.journal.write(Line { at: self.now, peer, kind, detail });
    }
}
