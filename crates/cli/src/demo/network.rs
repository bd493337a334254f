//! The demo's peers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use cloak_gateway::{Allow, ExitConfig, ListenAddress, ServiceConfig, ServiceTarget, Services};
use cloak_node::{Home, InitNames, InviteKind, InviteRequest, Node, NodeConfig};
use cloak_transport::SystemClock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::scratch::Scratch;
use super::site;
use crate::args::Up;
use crate::exit::Failure;
use crate::running::Running;
use crate::settings::Settings;

/// The port of the sample service.
const PORT: u16 = 80;

/// Longest time until the sample service answers through the network, and the pause between looks.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const READY_PAUSE: Duration = Duration::from_millis(50);

/// How long an invitation of the demo lives.
const INVITATION_TTL: Duration = Duration::from_secs(600);

/// The realm: a gateway, the peer with the sample service, and others.
pub(super) struct Network {
    gateway: Running,
    gateway_home: PathBuf,
    others: Vec<Node>,
    site: TaskTracker,
    site_end: CancellationToken,
    /// Last, so that homes are removed when nothing uses them any more.
    scratch: Scratch,
}

impl Network {
    /// Starts `peers` of them, and returns once the sample service was reached by its name.
    ///
    /// # Errors
    /// What could not be started.
    pub(super) async fn start(peers: u16, proxy: SocketAddr) -> Result<Self, Failure> {
        let scratch = Scratch::new().context("cannot make a temporary directory")?;
        let gateway_home = scratch.path().join("you");
        let names = InitNames {
            name: "you".to_owned(),
            realm: "demo".to_owned(),
            device: "gateway".to_owned(),
        };
        let home = Home::init(&gateway_home, names, &SystemClock)?;
        let gateway = start_gateway(home, proxy).await?;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let target = listener.local_addr()?;
        let (site, site_end) = (TaskTracker::new(), CancellationToken::new());
        site.spawn(site::run(listener, site_end.clone()));
        site.close();

        let mut network =
            Self { gateway, gateway_home, others: Vec::new(), site, site_end, scratch };
        match network.fill(peers, target).await {
            Ok(()) => Ok(network),
            Err(failure) => {
                network.shutdown().await;
                Err(failure)
            }
        }
    }

    /// The peer that applications use.
    pub(super) fn gateway(&self) -> &Running {
        &self.gateway
    }

    /// Its home.
    pub(super) fn gateway_home(&self) -> &Path {
        &self.gateway_home
    }

    /// As `cloak up` prints it.
    pub(super) fn ready_line(&self) -> String {
        self.gateway.ready_line()
    }

    /// Ends every peer at the same time, then the service.
    pub(super) async fn shutdown(self) {
        let others: TaskTracker = TaskTracker::new();
        for node in self.others {
            others.spawn(async move { node.shutdown().await });
        }
        others.close();
        tokio::join!(self.gateway.shutdown(), others.wait());
        self.site_end.cancel();
        self.site.wait().await;
    }

    async fn fill(&mut self, peers: u16, target: SocketAddr) -> Result<(), Failure> {
        self.others.push(self.add("demo", vec![sample_service(target)]).await?);
        for number in 3..=peers {
            self.others.push(self.add(&format!("peer-{number}"), Vec::new()).await?);
        }
        tokio::time::timeout(READY_TIMEOUT, self.reachable())
            .await
            .map_err(|_| anyhow!("demo.cloak was not reached within {READY_TIMEOUT:?}"))?;
        Ok(())
    }

    /// One more peer, by an invitation of the gateway.
    async fn add(&self, name: &str, services: Vec<ServiceConfig>) -> Result<Node, Failure> {
        let request = InviteRequest {
            kind: InviteKind::Member,
            name: Some(name.to_owned()),
            ttl: INVITATION_TTL,
        };
        let reply = self.gateway.node().invite(request).await.map_err(anyhow::Error::from)?;
        let dir = self.scratch.path().join(name);
        let home = Home::join(&dir, &reply.invitation, None, "device", &SystemClock).await?;
        let services = Services::new(&services, &ExitConfig::default());
        let services = Arc::new(services.map_err(anyhow::Error::from)?);
        Ok(Node::start(home, on_loopback(), services, Arc::new(SystemClock)).await?)
    }

    /// Returns once every step on the way to the sample service succeeds.
    async fn reachable(&self) {
        while !self.gateway.node().why("demo.cloak", Some(PORT)).await.iter().all(|step| step.ok) {
            tokio::time::sleep(READY_PAUSE).await;
        }
    }
}

async fn start_gateway(home: Home, proxy: SocketAddr) -> Result<Running, Failure> {
    let file = Home::config_path(home.dir());
    let flags = Up {
        proxy: vec![ListenAddress::Tcp(proxy)],
        listen: on_loopback().overlay.listen,
        ..Up::default()
    };
    let settings = Settings::load(&file, &flags)?;
    Running::start(home, settings, file, flags).await
}

fn on_loopback() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.overlay.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    config.overlay.lan = false;
    config
}

fn sample_service(target: SocketAddr) -> ServiceConfig {
    ServiceConfig {
        port: PORT,
        target: ServiceTarget::Tcp { host: target.ip().to_string(), port: target.port() },
        allow: vec![Allow::Realm],
        movable: cloak_node::Movable::No,
        balance: cloak_node::Balance::None,
    }
}
