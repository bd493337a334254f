//! A node: starts everything, stops everything, and shows what there is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::{ByteSize, Rng};
use cloak_transport::{Clock, Cookies, Listener, ListenerLimits, SocketOptions, Tls};
use cloak_wire::Code;

use crate::api::ServiceTable;
use crate::config::NodeConfig;
use crate::directory::Directory;
use crate::home::{Home, HomeError};
use crate::locators::OwnLocators;
use crate::peer::PeerCommand;
use crate::reach::role;
use crate::registry::Command;
use crate::shared::{Parts, Shared};
use crate::sync::{lock, read, write};
use crate::view::{NameView, PeerView, SessionState, SessionView, Status};

/// Time in which the peers of sessions are told that we stop.
const FAREWELL_SESSIONS: Duration = Duration::from_secs(2);
/// Time for every task to end after that.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The overlay listener could not be bound.
    #[error("cannot listen on {address}: {source}; is another gateway using it?")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The operating system gave no randomness, or refused the device's key.
    #[error("the cryptographic library does not work: {0}")]
    Crypto(&'static str),
}

/// What could not be done, in a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such session, name or device.
    #[error("{0}")]
    NotFound(String),
    /// It was tried and failed, or may not be done here.
    #[error("{0}")]
    Failed(String),
}

/// A running node. Clones are the same node.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Shared>);

impl Node {
    /// Binds the overlay listener and starts. Joining the overlay goes on in the background.
    ///
    /// # Errors
    /// What is wrong with the home, or with an address.
    pub async fn start(
        home: Home,
        config: NodeConfig,
        services: Arc<dyn ServiceTable>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let tls = Tls::new(home.keys().device.seed())
            .map_err(|_| StartError::Crypto("the device's key was refused"))?;
        let mut rng = system_rng()?;
        let incarnation = home.next_incarnation(rng.next_u64())?;
        let cookies = Cookies::new(Arc::clone(&clock));
        let listener = bind(&config.overlay.listen, &tls, cookies.clone())?;
        let locators = OwnLocators::new(
            listener.local_addrs(),
            config.overlay.advertise.clone(),
            config.overlay.private_locators,
        );
        let directory = Directory::load(&home, clock.wall());
        let rng = rng.split();
        let parts = Parts {
            clock,
            tls,
            config,
            home: Arc::new(home),
            incarnation,
            directory,
            locators,
            cookies,
            services,
            rng,
        };
        let shared = Arc::new(Shared::new(parts));
        shared.publish();
        // Before anyone hears of our record: a crash must not publish its epoch twice.
        shared.save_directory();
        crate::spill::clean(shared.home.dir());
        let tasks = &shared.tasks;
        tasks.spawn(crate::accept::run(Arc::clone(&shared), listener));
        tasks.spawn(crate::watch::network(Arc::clone(&shared)));
        tasks.spawn(crate::watch::wake(Arc::clone(&shared)));
        tasks.spawn(crate::upkeep::run(Arc::clone(&shared)));
        tasks.spawn(crate::upkeep::memory(Arc::clone(&shared)));
        tasks.spawn(crate::upkeep::save(Arc::clone(&shared)));
        tasks.spawn(crate::handover::balance(Arc::clone(&shared)));
        crate::overlay::start(&shared);
        crate::discovery::start(&shared);
        Ok(Self(shared))
    }

    /// What the overlay listener is bound to.
    pub fn overlay_addresses(&self) -> Vec<SocketAddr> {
        self.0.locators.bound().to_vec()
    }

    /// Ends every session with a word to its peer, then stops every task. Returns within a few
    /// seconds.
    pub async fn shutdown(&self) {
        for session in self.0.sessions.all() {
            session.close(Code::ShuttingDown);
        }
        // A session whose peer cannot be reached cannot be told.
        let _ = tokio::time::timeout(FAREWELL_SESSIONS, self.0.sessions.emptied()).await;
        self.0.save_held().await;
        self.0.overlay.leave().await;
        self.0.cancel.cancel();
        self.0.save_directory();
        self.0.tasks.close();
        if tokio::time::timeout(FAREWELL, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not stop in time");
        }
    }

    /// Takes over settings that may change while running. No session is touched.
    pub fn reload(&self, config: NodeConfig) {
        self.0.locators.advertise(config.overlay.advertise.clone());
        *write(&self.0.config) = config;
        self.0.publish();
        self.0.reauthorise_all();
        for session in self.0.sessions.all() {
            let _ = session.tell(Command::Settings);
        }
    }

    /// Cuts every lane, as a fault would; sessions resume by themselves. For demonstrations.
    pub fn cut_lanes(&self) {
        for session in self.0.sessions.all() {
            let _ = session.tell(Command::Cut);
        }
        self.0.tell_peers(|| PeerCommand::Suspect);
    }

    /// `cloak status`.
    pub async fn status(&self) -> Status {
        let shared = &self.0;
        let place = self.place().await;
        let sessions = self.sessions();
        let count = |state| sessions.iter().filter(|row| row.state == state).count() as u64;
        let peers = shared.all_peers();
        let linked = peers.iter().filter(|peer| peer.is_linked()).count() as u64;
        let overlay = match (linked, peers.len()) {
            (_, 0) => "alone",
            (0, _) => "searching",
            _ => "linked",
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            name: shared.home.device_name(),
            device: shared.tls.device().to_string(),
            entity: shared.home.entity().to_string(),
            realm: shared.home.realm_id().to_string(),
            overlay: overlay.to_owned(),
            place,
            overlay_listen: shared.locators.bound().iter().map(ToString::to_string).collect(),
            locators: shared.locators.views(),
            peers_linked: linked,
            peers_known: peers.len() as u64,
            circuits: shared.circuits.relaying.circuits() as u64,
            sessions_live: count(SessionState::Live),
            sessions_suspended: count(SessionState::Suspended),
            memory_held: shared.ledger.held(),
            memory_max: shared.ledger.max(),
            membership_expires: shared.home.membership_expires().to_string(),
            certificate_expires: shared.home.certificate_expires().to_string(),
            uptime_ms: u64::try_from(shared.clock.now().since(shared.started_at).as_millis())
                .unwrap_or(u64::MAX),
            warnings: lock(&shared.warnings).values().cloned().collect(),
        }
    }

    /// `cloak peers`.
    pub async fn peers(&self) -> Vec<PeerView> {
        let neighbours = self.neighbours().await;
        let mut rows: Vec<_> = self
            .0
            .all_peers()
            .iter()
            .map(|peer| {
                let device = peer.device();
                let locators = self.0.directory.published(device);
                let (relays, is_relay) = self.0.directory.relays(device);
                let neighbour = neighbours.get(&device);
                PeerView {
                    locators: locators.iter().map(ToString::to_string).collect(),
                    role: neighbour.map(|neighbour| role(neighbour.role).to_owned()),
                    virtual_address: neighbour
                        .and_then(|neighbour| neighbour.address.as_ref())
                        .map(ToString::to_string),
                    relays: relays.iter().map(ToString::to_string).collect(),
                    is_relay,
                    ..peer.view(self.0.sessions.count(device))
                }
            })
            .collect();
        rows.sort_by(|a, b| (&a.name, &a.device).cmp(&(&b.name, &b.device)));
        rows
    }

    /// `cloak names`.
    pub fn names(&self) -> Vec<NameView> {
        self.0.directory.names()
    }

    /// `cloak sessions`.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.0.session_views()
    }

    /// The session whose id begins with `prefix`, when there is exactly one.
    pub fn session(&self, prefix: &str) -> Option<SessionView> {
        let mut rows = self.sessions();
        rows.retain(|row| !prefix.is_empty() && row.id.starts_with(prefix));
        (rows.len() == 1).then(|| rows.remove(0))
    }

    /// Ends the session whose id begins with `prefix`, at both ends.
    ///
    /// # Errors
    /// No such session, or several.
    pub fn close_session(&self, prefix: &str) -> Result<(), ControlError> {
        self.find_session(prefix)?.close(Code::Cancelled);
        Ok(())
    }

    /// The settings in force.
    pub fn config(&self) -> NodeConfig {
        read(&self.0.config).clone()
    }

    /// Bytes that suspended sessions keep on disk.
    pub fn spilled(&self) -> ByteSize {
        ByteSize(self.0.spilled.load(std::sync::atomic::Ordering::Relaxed))
    }
}

fn bind(addresses: &[SocketAddr], tls: &Tls, cookies: Cookies) -> Result<Listener, StartError> {
    let sockets = addresses
        .iter()
        .map(|address| {
            cloak_transport::listen(*address)
                .map_err(|source| StartError::Listen { address: *address, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (options, limits) = (SocketOptions::default(), ListenerLimits::default());
    Ok(Listener::new(sockets, tls.clone(), options, limits, cookies))
}

/// A generator seeded from the operating system.
pub(crate) fn system_rng() -> Result<Rng, StartError> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| StartError::Crypto("no randomness"))?;
    Ok(Rng::from_seed(seed))
}
