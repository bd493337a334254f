//! The service side: which peer may reach which local service, and the connection to it.
//!
//! A peer names a port, never an address: the only places connected to are those of the
//! configuration; but for the exit, where one is configured. The table can be replaced while
//! sessions run; they are checked again at their next resume.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cloak_node::{
    Application, Balance, BoxFuture, Code, EXIT_PORT, Incoming, Movable, ServiceTable, Target,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Allow, ExitConfig, ServiceConfig, ServiceTarget, balance_word, movable_word};
use crate::exit::Openings;
use crate::outbound::io_code;

/// What peers may reach from this gateway: its services, and what lies behind its exit.
#[derive(Debug)]
pub struct Services {
    offered: ArcSwap<Offered>,
    openings: Arc<Openings>,
}

#[derive(Debug)]
struct Offered {
    table: BTreeMap<u16, Arc<Service>>,
    exit: ExitConfig,
}

#[derive(Debug, PartialEq, Eq)]
struct Service {
    target: ServiceTarget,
    allow: Vec<Allow>,
    movable: Movable,
    balance: Balance,
}

/// A list of services that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServicesError {
    /// A service at port zero.
    #[error("a service's port must be 1 to 65535")]
    PortZero,
    /// Two services at one port.
    #[error("two services have the port {0}")]
    Twice(u16),
}

/// One row of `cloak services`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServiceRow {
    /// The port peers ask for.
    pub port: u16,
    /// Where it is connected to.
    pub target: String,
    /// Who may reach it.
    pub allow: Vec<String>,
    /// When running sessions may move to another device: `no`, `idle` or `always`.
    #[serde(default)]
    pub movable: String,
    /// By what they do so by themselves: `none`, `preference` or `load`.
    #[serde(default)]
    pub balance: String,
}

impl Services {
    /// A table with these services, and an exit.
    ///
    /// # Errors
    /// Two of them contradict each other.
    pub fn new(configs: &[ServiceConfig], exit: &ExitConfig) -> Result<Self, ServicesError> {
        let offered = ArcSwap::from_pointee(offered(configs, exit)?);
        Ok(Self { offered, openings: Arc::default() })
    }

    /// Replaces them. Sessions that are open stay open; those no longer allowed end at their next
    /// resume.
    ///
    /// # Errors
    /// As [`Services::new`]; nothing was changed.
    pub fn reload(
        &self,
        configs: &[ServiceConfig],
        exit: &ExitConfig,
    ) -> Result<(), ServicesError> {
        self.offered.store(Arc::new(offered(configs, exit)?));
        Ok(())
    }

    /// The table, by port.
    pub fn rows(&self) -> Vec<ServiceRow> {
        let row = |(port, service): (&u16, &Arc<Service>)| ServiceRow {
            port: *port,
            target: service.target.to_string(),
            allow: service.allow.iter().map(Allow::to_string).collect(),
            movable: movable_word(service.movable).to_owned(),
            balance: balance_word(service.balance).to_owned(),
        };
        self.offered.load().table.iter().map(row).collect()
    }

    fn find(&self, port: u16) -> Result<Arc<Service>, Code> {
        self.offered.load().table.get(&port).map(Arc::clone).ok_or(Code::NoService)
    }
}

impl ServiceTable for Services {
    fn authorise(&self, incoming: &Incoming) -> Result<(), Code> {
        match &incoming.target {
            Target::Service(port) => {
                let service = self.find(*port)?;
                let admitted = service.allow.iter().any(|rule| rule.admits(incoming));
                admitted.then_some(()).ok_or(Code::NotAllowed)
            }
            Target::Host(host, _) => self.offered.load().exit.admit(incoming, host),
        }
    }

    fn connect(
        &self,
        incoming: Incoming,
    ) -> BoxFuture<'_, Result<(Box<dyn Application>, String), Code>> {
        Box::pin(async move {
            self.authorise(&incoming)?;
            match &incoming.target {
                Target::Service(port) => {
                    let service = self.find(*port)?;
                    let connected = timeout(CONNECT_TIMEOUT, connect(&service.target)).await;
                    let application =
                        connected.map_err(|_| Code::Timeout)?.map_err(|e| backend_code(&e))?;
                    Ok((application, service.target.to_string()))
                }
                Target::Host(host, port) => {
                    let (exit, entity) = (self.offered.load().exit.clone(), incoming.entity);
                    let stream = exit.connect(&self.openings, entity, host, *port).await?;
                    let address = stream.peer_addr().map_err(|_| Code::ConnectionRefused)?;
                    Ok((Box::new(stream) as Box<dyn Application>, address.to_string()))
                }
            }
        })
    }

    fn movable(&self, target: &Target) -> Movable {
        match target {
            Target::Service(port) => self.find(*port).map_or(Movable::No, |found| found.movable),
            // A connection to a host of the Internet cannot be taken over from elsewhere.
            Target::Host(..) => Movable::No,
        }
    }

    fn balance(&self, target: &Target) -> Balance {
        match target {
            Target::Service(port) => self.find(*port).map_or(Balance::None, |found| found.balance),
            Target::Host(..) => Balance::None,
        }
    }

    fn ports(&self) -> Vec<u16> {
        let offered = self.offered.load();
        let exit = offered.exit.is_offered().then_some(EXIT_PORT);
        exit.into_iter().chain(offered.table.keys().copied()).collect()
    }
}

impl Allow {
    pub(crate) fn admits(&self, incoming: &Incoming) -> bool {
        match self {
            // The node lets nobody in who is not a member; an open realm's node lets others in.
            Self::Realm | Self::Anyone => true,
            Self::Name(name) => incoming.peer.eq_ignore_ascii_case(name),
            Self::Entity(entity) => incoming.entity == *entity,
        }
    }
}

fn offered(configs: &[ServiceConfig], exit: &ExitConfig) -> Result<Offered, ServicesError> {
    let mut table = BTreeMap::new();
    for config in configs {
        let service = Service {
            target: config.target.clone(),
            allow: config.allow.clone(),
            movable: config.movable,
            balance: config.balance,
        };
        if config.port == 0 {
            return Err(ServicesError::PortZero);
        }
        if table.insert(config.port, Arc::new(service)).is_some() {
            return Err(ServicesError::Twice(config.port));
        }
    }
    Ok(Offered { table, exit: exit.clone() })
}

async fn connect(target: &ServiceTarget) -> io::Result<Box<dyn Application>> {
    match target {
        ServiceTarget::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        ServiceTarget::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

/// Whatever keeps a backend from being reached, but our own lack of descriptors and a deadline,
/// is its owner's to mend.
fn backend_code(error: &io::Error) -> Code {
    match io_code(error) {
        code @ (Code::Busy | Code::Timeout) => code,
        _ => Code::BackendRefused,
    }
}

/// Longest wait for a backend to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
