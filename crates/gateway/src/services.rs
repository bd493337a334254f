//! The service side: which peer may reach which local service, and the connection to it.
//!
//! A peer names a port, never an address: the only places connected to are those of the
//! configuration. The table can be replaced while sessions run; they are checked again at their
//! next resume.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cloak_node::{Application, BoxFuture, Code, Incoming, ServiceTable, Target};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Allow, ServiceConfig, ServiceTarget};
use crate::outbound::io_code;

/// The services of this gateway.
#[derive(Debug)]
pub struct Services {
    table: ArcSwap<BTreeMap<u16, Arc<Service>>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Service {
    target: ServiceTarget,
    allow: Vec<Allow>,
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
}

impl Services {
    /// A table with these services.
    ///
    /// # Errors
    /// Two of them contradict each other.
    pub fn new(configs: &[ServiceConfig]) -> Result<Self, ServicesError> {
        Ok(Self { table: ArcSwap::from_pointee(table(configs)?) })
    }

    /// Replaces the table. Sessions that are open stay open; those no longer allowed end at their
    /// next resume.
    ///
    /// # Errors
    /// As [`Services::new`]; nothing was changed.
    pub fn reload(&self, configs: &[ServiceConfig]) -> Result<(), ServicesError> {
        self.table.store(Arc::new(table(configs)?));
        Ok(())
    }

    /// The table, by port.
    pub fn rows(&self) -> Vec<ServiceRow> {
        let row = |(port, service): (&u16, &Arc<Service>)| ServiceRow {
            port: *port,
            target: service.target.to_string(),
            allow: service.allow.iter().map(Allow::to_string).collect(),
        };
        self.table.load().iter().map(row).collect()
    }

    fn find(&self, target: &Target) -> Result<Arc<Service>, Code> {
        match target {
            Target::Service(port) => {
                self.table.load().get(port).map(Arc::clone).ok_or(Code::NoService)
            }
            // Only an exit would connect to a host that a peer names.
            Target::Host(..) => Err(Code::NotAllowed),
        }
    }
}

impl ServiceTable for Services {
    fn authorise(&self, incoming: &Incoming) -> Result<(), Code> {
        let service = self.find(&incoming.target)?;
        let admitted = service.allow.iter().any(|rule| rule.admits(incoming));
        admitted.then_some(()).ok_or(Code::NotAllowed)
    }

    fn connect(
        &self,
        incoming: Incoming,
    ) -> BoxFuture<'_, Result<(Box<dyn Application>, String), Code>> {
        Box::pin(async move {
            self.authorise(&incoming)?;
            let service = self.find(&incoming.target)?;
            let connected = timeout(CONNECT_TIMEOUT, connect(&service.target)).await;
            let application =
                connected.map_err(|_| Code::Timeout)?.map_err(|e| backend_code(&e))?;
            Ok((application, service.target.to_string()))
        })
    }

    fn ports(&self) -> Vec<u16> {
        self.table.load().keys().copied().collect()
    }
}

impl Allow {
    fn admits(&self, incoming: &Incoming) -> bool {
        match self {
            // The node lets nobody in who is not a member; an open realm's node lets others in.
            Self::Realm | Self::Anyone => true,
            Self::Name(name) => incoming.peer.eq_ignore_ascii_case(name),
            Self::Entity(entity) => incoming.entity == *entity,
        }
    }
}

fn table(configs: &[ServiceConfig]) -> Result<BTreeMap<u16, Arc<Service>>, ServicesError> {
    let mut table = BTreeMap::new();
    for config in configs {
        let service = Service { target: config.target.clone(), allow: config.allow.clone() };
        if config.port == 0 {
            return Err(ServicesError::PortZero);
        }
        if table.insert(config.port, Arc::new(service)).is_some() {
            return Err(ServicesError::Twice(config.port));
        }
    }
    Ok(table)
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
