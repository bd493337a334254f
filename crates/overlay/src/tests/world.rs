//! The world: peers, links, latencies, and faults that the tests choose.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use cloak_base::{DeviceId, EntityId, Epoch, Instant, Rng, UnixTime};
use cloak_geometry::Address;

use crate::cert::{Certifier, Domain, Signature};
use crate::message::Body;
use crate::{
    Command, Config, Contact, Event, Input, Key, LookupId, Message, Outlet, Overlay, Own, Place,
    Rank, Record, RecordVerifier, Snapshot, Standing, drain,
};

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) peers: Vec<Peer>,
    queue: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    waiting: BTreeMap<u64, (usize, usize, Message)>,
    numbers: u64,
    pub(super) config: Arc<Config>,
    links: BTreeSet<(usize, usize)>,
    /// Last arrival for each direction of a link: links keep the order.
    arrivals: BTreeMap<(usize, usize), Instant>,
    pub(super) events: Vec<(usize, Event)>,
    pub(super) bytes: u64,
    /// Every message is encoded and decoded on its way.
    pub(super) on_the_wire: bool,
    /// Half of all answers to lookups carry this record instead.
    pub(super) forge: Option<Record>,
    /// This peer acknowledges what it should pass on, and drops it.
    pub(super) swallows: Option<usize>,
}

pub(super) struct Peer {
    pub(super) overlay: Overlay,
    pub(super) own: Own,
    pub(super) alive: bool,
    pub(super) dialable: bool,
    /// Peers of different sides do not reach each other.
    pub(super) side: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Message(u64),
    Wake(usize),
    DialEnds { from: usize, to: usize },
}

/// Tags instead of signatures: nobody in these tests knows the key but this.
struct Tagger(DeviceId, Rank);

impl Tagger {
    fn tag(device: &DeviceId, domain: Domain, bytes: &[u8]) -> Signature {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        let parts = [&device.as_bytes()[..], domain.prefix().as_bytes(), bytes];
        for byte in parts.into_iter().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(7);
        }
        let mut signature = [0; 64];
        signature[..8].copy_from_slice(&hash.to_be_bytes());
        Signature(signature)
    }
}

impl Certifier for Tagger {
    fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Self::tag(&self.0, domain, bytes)
    }

    fn verify(
        &self,
        device: &DeviceId,
        domain: Domain,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool {
        Self::tag(device, domain, bytes) == *signature
    }

    fn verify_rank(&self, _: &DeviceId, _: Rank, proof: &[u8]) -> bool {
        proof == b"ranked"
    }

    fn rank(&self) -> (Rank, Vec<u8>) {
        (self.1, if self.1 == Rank::NONE { Vec::new() } else { b"ranked".to_vec() })
    }
}

/// Records count when they begin with their key.
struct Prefix;

impl RecordVerifier for Prefix {
    fn verify(&self, key: &Key, record: &Record, _: UnixTime) -> bool {
        !self.is_forged(key, record)
    }

    fn is_forged(&self, key: &Key, record: &Record) -> bool {
        !record.bytes.starts_with(key.as_bytes())
    }
}

pub(super) fn certifier(device: DeviceId) -> Arc<dyn Certifier> {
    Arc::new(Tagger(device, Rank::NONE))
}

pub(super) fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).unwrap()
}

pub(super) fn record(name: &str, epoch: u64) -> Record {
    let bytes = format!("{name} at {epoch}").into_bytes().into();
    Record { epoch: Epoch(epoch), expires: UnixTime(2_000_000_000), bytes }
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let degree = crate::Degree::new(6).unwrap();
        let config = Config { degree, found_after: seconds(3), ..Config::default() };
        Self {
            now: Instant::ZERO,
            rng: Rng::from_u64(seed),
            peers: Vec::new(),
            queue: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            numbers: 0,
            config: Arc::new(config),
            links: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            events: Vec::new(),
            bytes: 0,
            on_the_wire: false,
            forge: None,
            swallows: None,
        }
    }

    /// Adds a peer that knows `bootstrap`, and starts it.
    pub(super) fn add(&mut self, bootstrap: &[usize], rank: Rank, dialable: bool) -> usize {
        let entity = EntityId::from_bytes(self.rng.bytes());
        self.add_device(entity, bootstrap, rank, dialable)
    }

    /// The same, a device of an entity.
    pub(super) fn add_device(
        &mut self,
        entity: EntityId,
        bootstrap: &[usize],
        rank: Rank,
        dialable: bool,
    ) -> usize {
        let index = self.peers.len();
        let device = self.device_of(index);
        let own = Own {
            contact: Contact::new(device, &[]),
            standing: Standing { entity, positions: 4 },
            started: UnixTime(1_800_000_000) + self.now.since(Instant::ZERO),
        };
        let overlay = Overlay::new(
            self.now,
            own.clone(),
            self.config.clone(),
            Arc::new(Tagger(device, rank)),
            Arc::new(Prefix),
            self.rng.split(),
        );
        self.peers.push(Peer { overlay, own, alive: true, dialable, side: 0 });
        if dialable {
            self.input(index, Input::Reachability { confirmed: true });
        }
        let bootstrap = bootstrap.iter().map(|at| self.peers[*at].own.contact.clone()).collect();
        self.input(index, Input::Start { bootstrap });
        index
    }

    /// A new device whose messages go to a peer.
    pub(super) fn device_of(&mut self, index: usize) -> DeviceId {
        let mut bytes: [u8; 32] = self.rng.bytes();
        bytes[30..].copy_from_slice(&u16::try_from(index).unwrap().to_be_bytes());
        DeviceId::from_bytes(bytes)
    }

    /// A realm of `count` peers, the first of which is ranked and founds the tree.
    pub(super) fn realm(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed);
        world.add(&[], Rank(0), true);
        world.run(seconds(4));
        for index in 1..count {
            let known = world.rng.below(u64::try_from(index).unwrap());
            world.add(&[usize::try_from(known).unwrap()], Rank::NONE, true);
            world.run(Duration::from_millis(300));
        }
        world.run(seconds(30));
        world
    }

    pub(super) fn input(&mut self, peer: usize, input: Input) {
        if self.peers[peer].alive {
            self.peers[peer].overlay.handle(self.now, input);
            self.settle(peer);
        }
    }

    pub(super) fn command(&mut self, peer: usize, command: Command) {
        self.input(peer, Input::Command(command));
    }

    /// Dies without a word.
    pub(super) fn kill(&mut self, peer: usize) {
        self.peers[peer].alive = false;
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, _, _))) = self.queue.peek()
            && *at <= end
        {
            let Reverse((at, _, happening)) = self.queue.pop().unwrap();
            self.now = self.now.max(at);
            self.happen(happening);
        }
        self.now = end;
    }

    pub(super) fn snapshot(&self, peer: usize) -> Snapshot {
        self.peers[peer].overlay.snapshot()
    }

    pub(super) fn address(&self, peer: usize) -> Option<Address> {
        match self.peers[peer].overlay.place() {
            Place::Inner { address, .. } => Some(address),
            _ => None,
        }
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.peers.len()).filter(|at| self.peers[*at].alive).collect()
    }

    pub(super) fn root(&self) -> usize {
        let root = |at: &usize| self.address(*at).is_some_and(|address| address.is_root());
        self.alive().into_iter().find(root).expect("a root")
    }

    /// Runs a lookup to its end.
    pub(super) fn lookup(&mut self, peer: usize, name: &str) -> Event {
        self.numbers += 1;
        let id = LookupId(self.numbers);
        let seen = self.events.len();
        self.command(peer, Command::Lookup { id, key: key(name) });
        for _ in 0..60 {
            let ours = |event: &Event| match event {
                Event::Found { id: other, .. }
                | Event::NotFound { id: other, .. }
                | Event::LookupFailed { id: other, .. } => *other == id,
                _ => false,
            };
            let mut ended = self.events[seen..].iter();
            if let Some((_, event)) = ended.find(|(at, event)| *at == peer && ours(event)) {
                return event.clone();
            }
            self.run(Duration::from_millis(500));
        }
        panic!("a lookup without an end");
    }

    pub(super) fn finds(&mut self, peer: usize, name: &str) -> bool {
        matches!(self.lookup(peer, name), Event::Found { .. })
    }

    /// Hops of a ping to another peer's address; `None` when it is lost.
    pub(super) fn ping(&mut self, from: usize, to: usize) -> Option<u8> {
        self.numbers += 1;
        let id = LookupId(self.numbers);
        let device = Some(self.peers[to].own.contact.device);
        let address = match self.peers[to].overlay.place() {
            Place::Inner { address, .. } => address,
            Place::Attached { hosts } => hosts[0].1.clone(),
            Place::Seeking => return None,
        };
        let seen = self.events.len();
        self.command(from, Command::Ping { id, to: crate::Destination { address, device } });
        for _ in 0..40 {
            let mut ended = self.events[seen..].iter();
            let pong = ended.find_map(|(_, event)| match event {
                Event::Pong { id: other, hops } if *other == id => Some(*hops),
                _ => None,
            });
            if let Some(hops) = pong {
                return hops;
            }
            self.run(Duration::from_millis(300));
        }
        panic!("a ping without an end");
    }

    /// One tree of all living inner peers: one root, each address once, parents where they belong.
    pub(super) fn check_tree(&self) {
        let mut seen = BTreeMap::new();
        let mut trees = BTreeSet::new();
        for at in self.alive() {
            let Place::Inner { address, tree, .. } = self.peers[at].overlay.place() else {
                assert!(!self.peers[at].dialable, "peer {at} has no place");
                continue;
            };
            trees.insert(tree);
            let before = seen.insert(address.clone(), at);
            assert_eq!(before, None, "{address} is held twice, by {at} too");
        }
        assert_eq!(trees.len(), 1, "one tree");
        for (address, at) in &seen {
            let snapshot = self.snapshot(*at);
            assert!(
                snapshot.rooted && !snapshot.warming,
                "{at} at {address} is cut off: {snapshot:?}"
            );
            let parent = address.parent().map(|above| {
                let above = seen.get(&above).unwrap_or_else(|| panic!("{address} has no parent"));
                self.peers[*above].own.contact.device
            });
            assert_eq!(snapshot.parent, parent, "parent of {address}");
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(peer) => {
                let due = self.peers[peer].overlay.poll_timeout();
                if due.is_some_and(|at| at <= self.now) {
                    self.input(peer, Input::Timeout);
                }
            }
            Happening::Message(number) => {
                let Some((from, to, message)) = self.waiting.remove(&number) else { return };
                if self.reaches(from, to) && self.links.contains(&pair(from, to)) {
                    let from = self.peers[from].own.contact.device;
                    self.input(to, Input::Message { from, message });
                }
            }
            Happening::DialEnds { from, to } => self.dial_ends(from, to),
        }
    }

    fn dial_ends(&mut self, from: usize, to: usize) {
        let (dialler, dialled) = (self.peers[from].own.clone(), self.peers[to].own.clone());
        let device = dialled.contact.device;
        if !self.reaches(from, to) {
            return; // silence
        }
        if !self.peers[to].dialable {
            return self.input(from, Input::DialFailed { device });
        }
        self.links.insert(pair(from, to));
        let up = |own: Own| Input::LinkUp { contact: own.contact, standing: own.standing };
        self.input(from, up(dialled));
        self.input(to, up(dialler));
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.peers[a], &self.peers[b]);
        a.alive && b.alive && a.side == b.side
    }

    fn settle(&mut self, peer: usize) {
        let mut outlet = Drained::default();
        drain(&mut self.peers[peer].overlay, &mut outlet);
        for (to, message) in outlet.messages {
            self.transmit(peer, to, message);
        }
        for event in outlet.events {
            self.on_event(peer, event);
        }
        if let Some(at) = self.peers[peer].overlay.poll_timeout() {
            self.schedule(at.max(self.now), Happening::Wake(peer));
        }
    }

    fn transmit(&mut self, from: usize, to: DeviceId, mut message: Message) {
        let to = index_of(&to);
        if let Message::Routed(routed) = &message
            && self.swallows == Some(from)
            && routed.origin.device != self.peers[from].own.contact.device
        {
            return;
        }
        self.lie(&mut message);
        assert!(message.encoded_len() <= crate::MESSAGE_MAX, "too long: {message:?}");
        self.bytes += u64::try_from(message.encoded_len()).unwrap();
        let message = if self.on_the_wire {
            let bytes = message.encode();
            assert_eq!(bytes.len(), message.encoded_len());
            Message::decode(&bytes).unwrap()
        } else {
            message
        };
        let latency = Duration::from_millis(10 + self.rng.below(70));
        let last = self.arrivals.get(&(from, to)).copied().unwrap_or_default();
        let at = (self.now + latency).max(last + Duration::from_micros(1));
        self.arrivals.insert((from, to), at);
        self.numbers += 1;
        self.waiting.insert(self.numbers, (from, to, message));
        self.schedule(at, Happening::Message(self.numbers));
    }

    fn lie(&mut self, message: &mut Message) {
        let Some(forged) = self.forge.clone() else { return };
        if let Message::Routed(routed) = message
            && let Body::Found(found) = &mut routed.body
            && self.rng.chance(1, 2)
        {
            found.record = forged;
        }
    }

    fn on_event(&mut self, peer: usize, event: Event) {
        match &event {
            Event::Dial { contact } => {
                let to = index_of(&contact.device);
                let at = self.now + Duration::from_millis(40 + self.rng.below(100));
                self.schedule(at, Happening::DialEnds { from: peer, to });
            }
            Event::Hangup { device, .. } | Event::Misbehaved { device, .. } => {
                let other = index_of(device);
                if self.links.remove(&pair(peer, other)) && self.reaches(peer, other) {
                    let device = self.peers[peer].own.contact.device;
                    self.input(other, Input::LinkDown { device });
                }
            }
            _ => {}
        }
        self.events.push((peer, event));
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.numbers += 1;
        self.queue.push(Reverse((at, self.numbers, happening)));
    }
}

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

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn index_of(device: &DeviceId) -> usize {
    usize::from(u16::from_be_bytes(device.as_bytes()[30..].try_into().unwrap()))
}
