//! The proxy port: listeners, their connections, and settings that change while they run.

mod accept;
mod listener;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cloak_node::Opener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::accept::Acceptor;
use self::listener::Bound;
use crate::config::{ListenAddress, OutboundConfig, ProxyConfig};
use crate::destination::{Aliases, BadAlias};
use crate::ingress::{Counter, Settings, Shared};
use crate::users::{Users, UsersError};

/// The application side, its listeners bound.
#[derive(Debug)]
pub struct Proxy {
    bound: Vec<Bound>,
    handle: ProxyHandle,
    changes: mpsc::Receiver<Change>,
}

/// Shows and changes a proxy while it runs.
#[derive(Debug, Clone)]
pub struct ProxyHandle {
    settings: Arc<ArcSwap<Settings>>,
    listening: Arc<Mutex<Vec<Listening>>>,
    changes: mpsc::Sender<Change>,
    /// One reload at a time.
    reloading: Arc<tokio::sync::Mutex<()>>,
}

/// A listener: what the configuration says, and where it is.
#[derive(Debug, Clone)]
struct Listening {
    configured: ListenAddress,
    actual: ListenAddress,
}

#[derive(Debug)]
struct Change {
    added: Vec<Bound>,
    removed: Vec<ListenAddress>,
}

/// Why the proxy port could not be opened. Nothing is left open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Other machines could use the proxy without a password.
    #[error(
        "the proxy would listen at {0}, where other machines can reach it, without users: add \
         [proxy] users to config.toml, or listen at 127.0.0.1 or a unix socket"
    )]
    OpenToStrangers(ListenAddress),
    /// A user cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// An alias cannot be used.
    #[error(transparent)]
    Alias(#[from] BadAlias),
    /// The system refused the address.
    #[error("cannot listen at {address}: {reason}")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// What the system said.
        reason: io::ErrorKind,
    },
    /// Something else than a socket is at a unix socket's path.
    #[error("{0} exists and is no socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// Another program listens at a unix socket's path.
    #[error("another program listens at {0}")]
    InUse(PathBuf),
}

/// Why a reload changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The new configuration cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The proxy is stopping.
    #[error("the proxy is stopping")]
    Stopped,
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose values differ, as in `proxy.users`.
    pub changed: Vec<&'static str>,
}

impl Proxy {
    /// Reads the users' passwords and binds all listeners.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(
        proxy: &ProxyConfig,
        outbound: &OutboundConfig,
        aliases: &BTreeMap<String, String>,
    ) -> Result<Self, BindError> {
        let settings = settings(proxy, outbound, aliases)?;
        let bound = proxy.listen.iter().map(Bound::new).collect::<Result<Vec<_>, _>>()?;
        let (sender, changes) = mpsc::channel(1);
        let handle = ProxyHandle {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            listening: Arc::new(Mutex::new(bound.iter().map(Bound::listening).collect())),
            changes: sender,
            reloading: Arc::default(),
        };
        Ok(Self { bound, handle, changes })
    }

    /// Where the proxy listens, ports resolved, in the order of the configuration.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.handle.addresses()
    }

    /// Shows and changes the proxy while it runs.
    pub fn handle(&self) -> ProxyHandle {
        self.handle.clone()
    }

    /// Serves applications until `cancel`, then ends in order: listeners close at once, requests
    /// on their way get a moment. Sessions are the node's and go on.
    ///
    /// # Cancel safety
    /// Dropping the future leaves connections running; cancel `cancel` instead.
    pub async fn run(mut self, opener: Arc<dyn Opener>, cancel: CancellationToken) {
        let shared = Arc::new(Shared {
            settings: Arc::clone(&self.handle.settings),
            opener,
            connections: Counter::default(),
            turned_away: Counter::default(),
            stopping: cancel.child_token(),
        });
        let mut running = Running {
            shared,
            tasks: TaskTracker::new(),
            listeners: Vec::new(),
            over: CancellationToken::new(),
        };
        running.add(std::mem::take(&mut self.bound));
        // The receiver must see the end of all handles, so ours goes.
        drop(self.handle);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(change) = self.changes.recv() => {
                    running.remove(&change.removed);
                    running.add(change.added);
                }
            }
        }
        running.stop().await;
    }
}

impl ProxyHandle {
    /// Where the proxy listens now.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.iter().map(|listener| listener.actual.clone()).collect()
    }

    /// Applies a new configuration. Listeners that stay in it are not touched, nor is any
    /// connection; new requests follow the new settings.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing was changed.
    ///
    /// # Cancel safety
    /// Safe before the first await; afterwards new listeners may be lost. Do not cancel.
    pub async fn reload(
        &self,
        proxy: &ProxyConfig,
        outbound: &OutboundConfig,
        aliases: &BTreeMap<String, String>,
    ) -> Result<Reloaded, ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let settings = settings(proxy, outbound, aliases)?;
        let before = self.configured();
        let added: Vec<_> = proxy.listen.iter().filter(|one| !before.contains(one)).collect();
        let removed: Vec<_> =
            before.iter().filter(|one| !proxy.listen.contains(one)).cloned().collect();
        let mut changed = differences(&self.settings.load(), &settings);
        if !added.is_empty() || !removed.is_empty() {
            changed.push("proxy.listen");
            let added = added.into_iter().map(Bound::new).collect::<Result<Vec<_>, _>>()?;
            self.change(Change { added, removed }).await?;
        }
        if self.settings.load().as_ref() != &settings {
            self.settings.store(Arc::new(settings));
        }
        Ok(Reloaded { changed })
    }

    async fn change(&self, change: Change) -> Result<(), ReloadError> {
        let added: Vec<_> = change.added.iter().map(Bound::listening).collect();
        let removed = change.removed.clone();
        self.changes.send(change).await.map_err(|_| ReloadError::Stopped)?;
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|listener| !removed.contains(&listener.configured));
        listening.extend(added);
        Ok(())
    }

    fn configured(&self) -> Vec<ListenAddress> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.iter().map(|listener| listener.configured.clone()).collect()
    }
}

/// The listeners' tasks and those of their connections.
struct Running {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    listeners: Vec<(ListenAddress, CancellationToken)>,
    /// Cancelled when the moment for requests on their way is over.
    over: CancellationToken,
}

impl Running {
    fn add(&mut self, bound: Vec<Bound>) {
        for one in bound {
            let cancel = self.shared.stopping.child_token();
            self.listeners.push((one.configured().clone(), cancel.clone()));
            let acceptor = Acceptor {
                shared: Arc::clone(&self.shared),
                tasks: self.tasks.clone(),
                over: self.over.clone(),
            };
            self.tasks.spawn(acceptor.run(one, cancel));
        }
    }

    fn remove(&mut self, removed: &[ListenAddress]) {
        for (_, cancel) in self.listeners.extract_if(.., |(address, _)| removed.contains(address)) {
            cancel.cancel();
        }
    }

    async fn stop(self) {
        self.tasks.close();
        if timeout(GRACE, self.tasks.wait()).await.is_err() {
            self.over.cancel();
            self.tasks.wait().await;
        }
    }
}

fn settings(
    proxy: &ProxyConfig,
    outbound: &OutboundConfig,
    aliases: &BTreeMap<String, String>,
) -> Result<Settings, BindError> {
    if let Some(address) = proxy.open_to_strangers() {
        return Err(BindError::OpenToStrangers(address.clone()));
    }
    Ok(Settings {
        users: Users::load(&proxy.users)?,
        route: outbound.default.clone(),
        aliases: Aliases::new(aliases)?,
        local_view: proxy.local_view,
        same_user: proxy.same_user,
        handshake_timeout: proxy.handshake_timeout.as_duration(),
        open_timeout: proxy.open_timeout.as_duration(),
        connections_max: proxy.connections_max,
    })
}

fn differences(old: &Settings, new: &Settings) -> Vec<&'static str> {
    [
        ("proxy.users", old.users != new.users),
        ("proxy.local_view", old.local_view != new.local_view),
        ("proxy.same_user", old.same_user != new.same_user),
        ("proxy.handshake_timeout", old.handshake_timeout != new.handshake_timeout),
        ("proxy.open_timeout", old.open_timeout != new.open_timeout),
        ("proxy.connections_max", old.connections_max != new.connections_max),
        ("outbound.default", old.route != new.route),
        ("aliases", old.aliases != new.aliases),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

/// How long requests on their way may take when the proxy stops; `cloak stop` has 5 s in all.
const GRACE: Duration = Duration::from_secs(2);
