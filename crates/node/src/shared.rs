//! What the tasks of a node share. Nothing here is held across an `.await`.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use cloak_base::{DeviceId, Incarnation, Instant, Rng, SessionId};
use cloak_session::{LaneId, Ledger, Tombstone, Tombstones};
use cloak_transport::{
    Clock, Connection, Cookies, Dialler, RACE_STAGGER, RaceError, SocketOptions, Tls, race,
    source_for,
};
use cloak_wire::{Code, Hello, SessionFrame};
use dashmap::DashMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Incoming, ServiceTable};
use crate::circuit::Circuits;
use crate::config::NodeConfig;
use crate::directory::Directory;
use crate::handover::{Adopted, Couriers, Keeping, Offers};
use crate::home::Home;
use crate::lane::{Lane, Opener};
use crate::locators::OwnLocators;
use crate::overlay::{OverlayPeer, Siblings};
use crate::peer::{Peer, PeerCommand};
use crate::registry::{Command, Moment, Registry};
use crate::resolve::Entities;
use crate::sync::lock;
use crate::view::SessionView;

/// Peers that may be known by more than a record: linked, or heard of.
const PEERS_MAX: usize = 256;

/// Sessions to which a lane is offered before it goes to the pool.
const HAND_OUT_TRIES: usize = 64;

/// See the module.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tls: Tls,
    pub(crate) dialler: Dialler,
    pub(crate) config: RwLock<NodeConfig>,
    pub(crate) home: Arc<Home>,
    pub(crate) incarnation: Incarnation,
    pub(crate) directory: Directory,
    pub(crate) locators: OwnLocators,
    pub(crate) circuits: Circuits,
    pub(crate) overlay: OverlayPeer,
    pub(crate) siblings: Siblings,
    pub(crate) entities: Entities,
    pub(crate) sessions: Registry,
    pub(crate) couriers: Couriers,
    pub(crate) adopted: Adopted,
    pub(crate) offers: Offers,
    pub(crate) keeping: Keeping,
    /// How many times over new sessions go elsewhere.
    pub(crate) draining: AtomicUsize,
    pub(crate) peers: DashMap<DeviceId, Arc<Peer>>,
    pub(crate) ledger: Ledger,
    pub(crate) services: Arc<dyn ServiceTable>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) started_at: Instant,
    /// The directory has records that the store has not.
    pub(crate) unsaved: Notify,
    /// A record came that was not known.
    pub(crate) news: Notify,
    pub(crate) spilled: AtomicU64,
    /// What an operator should know, at most one sentence per kind.
    pub(crate) warnings: Mutex<std::collections::BTreeMap<&'static str, String>>,
    pub(crate) outbidding: Mutex<crate::publish::Outbidding>,
    tombstones: Mutex<Tombstones<DeviceId>>,
    lanes: AtomicU64,
    rng: Mutex<Rng>,
}

/// What [`Shared::new`] is made of.
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tls: Tls,
    pub(crate) config: NodeConfig,
    pub(crate) home: Arc<Home>,
    pub(crate) incarnation: Incarnation,
    pub(crate) directory: Directory,
    pub(crate) locators: OwnLocators,
    pub(crate) cookies: Cookies,
    pub(crate) services: Arc<dyn ServiceTable>,
    pub(crate) rng: Rng,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let linger = parts.config.session.linger;
        let clock = Arc::clone(&parts.clock);
        let circuits = Circuits::new(parts.cookies, &parts.config.overlay, clock);
        Self {
            started_at: parts.clock.now(),
            ledger: Ledger::new(parts.config.memory.max.0),
            dialler: Dialler::new(
                parts.tls.clone(),
                SocketOptions::default(),
                Arc::clone(&parts.clock),
            ),
            clock: parts.clock,
            tls: parts.tls,
            config: RwLock::new(parts.config),
            home: parts.home,
            incarnation: parts.incarnation,
            directory: parts.directory,
            locators: parts.locators,
            circuits,
            overlay: OverlayPeer::new(),
            siblings: Siblings::default(),
            entities: Entities::default(),
            sessions: Registry::default(),
            couriers: Couriers::default(),
            adopted: Adopted::default(),
            offers: Offers::default(),
            keeping: Keeping::default(),
            draining: AtomicUsize::new(0),
            peers: DashMap::new(),
            services: parts.services,
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            unsaved: Notify::new(),
            news: Notify::new(),
            spilled: AtomicU64::new(0),
            warnings: Mutex::default(),
            outbidding: Mutex::default(),
            tombstones: Mutex::new(Tombstones::new(linger)),
            lanes: AtomicU64::new(0),
            rng: Mutex::new(parts.rng),
        }
    }

    pub(crate) fn next_lane_id(&self) -> LaneId {
        LaneId(self.lanes.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn random_u64(&self) -> u64 {
        lock(&self.rng).next_u64()
    }

    pub(crate) fn random_bytes<const N: usize>(&self) -> [u8; N] {
        lock(&self.rng).bytes()
    }

    pub(crate) fn split_rng(&self) -> Rng {
        lock(&self.rng).split()
    }

    /// Says or takes back what an operator should know.
    pub(crate) fn warn(&self, kind: &'static str, sentence: Option<String>) {
        let mut warnings = lock(&self.warnings);
        match sentence {
            None => {
                warnings.remove(kind);
            }
            Some(sentence) => {
                if warnings.insert(kind, sentence.clone()).is_none() {
                    tracing::warn!(kind, "{sentence}");
                }
            }
        }
    }

    /// The peer with this device, made when there is none.
    pub(crate) fn peer(self: &Arc<Self>, device: DeviceId) -> Arc<Peer> {
        let entry = self.peers.entry(device);
        let peer = entry.or_insert_with(|| {
            let peer = Peer::start(self, device);
            if let Some(known) = self.directory.device(device) {
                peer.identify(known.device_name, known.entity_name, known.entity);
            }
            peer
        });
        Arc::clone(&peer)
    }

    /// The peer with this device, if there is one.
    pub(crate) fn known_peer(&self, device: DeviceId) -> Option<Arc<Peer>> {
        self.peers.get(&device).map(|peer| Arc::clone(&peer))
    }

    /// What to call a device: its name where that is known, else its id.
    pub(crate) fn name_of(&self, device: DeviceId) -> String {
        let known = self.directory.device(device);
        known.map_or_else(|| device.to_string(), |known| known.device_name)
    }

    /// Rows of `cloak sessions`, oldest first.
    pub(crate) fn session_views(&self) -> Vec<SessionView> {
        self.sessions.views(self.moment(&|device| self.name_of(device)))
    }

    /// Now, for sessions that are shown.
    pub(crate) fn moment<'a>(&self, name: &'a dyn Fn(DeviceId) -> String) -> Moment<'a> {
        Moment { now: self.clock.now(), wall: self.clock.wall(), name }
    }

    /// The peer with this device, for one that came to us or was heard of: of these there is a
    /// maximum.
    ///
    /// # Errors
    /// [`Code::Busy`] when there is no room, and nobody without whom we could do.
    pub(crate) fn admit_peer(self: &Arc<Self>, device: DeviceId) -> Result<Arc<Peer>, Code> {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(&device) {
            return Ok(self.peer(device));
        }
        let idle = self
            .all_peers()
            .into_iter()
            .find(|peer| peer.is_idle() && self.sessions.count(peer.device()) == 0);
        let idle = idle.ok_or(Code::Busy)?;
        self.peers.remove(&idle.device());
        idle.tell(PeerCommand::Retire);
        Ok(self.peer(device))
    }

    /// Every peer.
    pub(crate) fn all_peers(&self) -> Vec<Arc<Peer>> {
        self.peers.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// Tells every peer's task.
    pub(crate) fn tell_peers(&self, command: impl Fn() -> PeerCommand) {
        for peer in self.all_peers() {
            peer.tell(command());
        }
    }

    /// Gives a lane that is free of its session back to whoever opens sessions on it.
    pub(crate) fn release(self: &Arc<Self>, lane: Lane) {
        match lane.opener {
            Opener::Local => drop(self.hand_out(lane)),
            Opener::Peer => {
                self.tasks.spawn(crate::accept::serve_lane(Arc::clone(self), lane));
            }
        }
    }

    /// Gives a lane to the session whose turn it is to have one, which is returned, or to the
    /// pool; a lane without the peer's `Hello` is of use to a session only.
    pub(crate) fn hand_out(&self, lane: Lane) -> Option<SessionId> {
        let peer = Arc::clone(&lane.peer);
        let mut command = Box::new(Command::Lane(lane, None));
        for _ in 0..HAND_OUT_TRIES {
            let Some(session) = peer.next_waiting() else { break };
            let Some(handle) = self.sessions.get(peer.device(), session) else {
                let Command::Lane(lane, first) = *command else { break };
                match self.couriers.give(session, lane) {
                    Ok(()) => return Some(session),
                    Err(lane) => command = Box::new(Command::Lane(*lane, first)),
                }
                continue;
            };
            match handle.tell(command) {
                Ok(()) => return Some(session),
                // Its queue is full: it goes on waiting, behind the others.
                Err(refused) => command = refused,
            }
            peer.wait_on(session);
        }
        if let Command::Lane(lane, _) = *command
            && lane.peer_nonce.is_some()
        {
            peer.keep(lane, self.clock.now());
        }
        None
    }

    /// Where a device may be dialled, best first.
    pub(crate) fn locators_of(&self, device: DeviceId) -> Vec<SocketAddr> {
        self.directory.locators(device, &self.locators.policy())
    }

    /// Dials a device at all its locators, staggered.
    pub(crate) async fn race(&self, device: DeviceId) -> Result<Connection, RaceError> {
        let locators = self.locators_of(device);
        race(&locators, &self.dialler, Some(device), RACE_STAGGER).await
    }

    /// Whether the kernel would still send from the address that a connection is bound to.
    pub(crate) fn is_route_unchanged(&self, connection: &Connection) -> bool {
        let source: Option<IpAddr> = source_for(connection.peer_addr());
        source == Some(connection.local_addr().ip().to_canonical())
    }

    /// Remembers how a session ended, for peers that ask later.
    pub(crate) fn bury(&self, now: Instant, peer: DeviceId, id: SessionId, end: Tombstone) {
        lock(&self.tombstones).insert(now, peer, id, end);
    }

    /// Forgets how a session ended: it is here again, with this device.
    pub(crate) fn unbury(&self, peer: DeviceId, id: SessionId) {
        lock(&self.tombstones).forget(&peer, id);
    }

    /// The answer to a `Resume` of a session that is not here.
    pub(crate) fn epitaph(&self, now: Instant, peer: DeviceId, id: SessionId) -> SessionFrame {
        lock(&self.tombstones).answer(now, &peer, id)
    }

    /// Asks the services whether the peer may have this session, now.
    pub(crate) fn authorise(&self, incoming: &Incoming) -> Result<(), Code> {
        self.services.authorise(incoming)
    }

    /// A peer's channel is up: it is asked whether it can reach us.
    pub(crate) fn linked(self: &Arc<Self>, peer: &Arc<Peer>, hello: &Hello) {
        self.confirm_locators(peer, hello.observed);
        self.check_relays();
        self.send_appointment(peer);
    }

    /// Tells a peer's sessions when its gateway is another run than the one they know.
    pub(crate) fn note_incarnation(&self, peer: &Peer, incarnation: Incarnation) {
        if !peer.incarnated(incarnation) {
            return;
        }
        for session in self.sessions.of(peer.device()) {
            let _ = session.tell(Command::PeerIncarnation(peer.device(), incarnation));
        }
    }
}
