//! A realm for an example: its devices are nodes of this one process, with homes that go when it ends.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cloak_node::{
    Code, Home, InitNames, InviteKind, InviteRequest, Listeners, Node, NodeConfig, Stream,
};
use cloak_transport::SystemClock;
use tempfile::TempDir;

/// What an example may fail with.
pub(crate) type Failed = Box<dyn Error + Send + Sync>;

/// One device: a node, and the services of the program on it.
pub(crate) struct Device {
    pub(crate) node: Node,
    pub(crate) listeners: Arc<Listeners>,
    _home: TempDir,
}

impl Device {
    /// The first device of an entity that founds the realm.
    pub(crate) async fn found(name: &str, label: &str) -> Result<Self, Failed> {
        let home = tempfile::tempdir()?;
        let (name, device) = (name.to_owned(), label.to_owned());
        let names = InitNames { name, realm: "example".to_owned(), device };
        let opened = Home::init(&home.path().join("home"), names, &SystemClock)?;
        Self::start(home, opened).await
    }

    /// The first device of another entity.
    pub(crate) async fn invite(&self, name: &str, label: &str) -> Result<Self, Failed> {
        self.enrol(InviteKind::Member, Some(name.to_owned()), label).await
    }

    /// A further device of the same entity.
    pub(crate) async fn further(&self, label: &str) -> Result<Self, Failed> {
        self.enrol(InviteKind::Device, None, label).await
    }

    async fn enrol(
        &self,
        kind: InviteKind,
        name: Option<String>,
        label: &str,
    ) -> Result<Self, Failed> {
        let request = InviteRequest { kind, name, ttl: Duration::from_secs(60) };
        let invitation = self.node.invite(request).await?.invitation;
        let home = tempfile::tempdir()?;
        let path = home.path().join("home");
        let opened = Home::join(&path, &invitation, None, label, &SystemClock).await?;
        Self::start(home, opened).await
    }

    async fn start(directory: TempDir, home: Home) -> Result<Self, Failed> {
        let listeners = Arc::new(Listeners::default());
        let clock = Arc::new(SystemClock);
        let node = Node::start(home, config(), listeners.clone(), clock).await?;
        Ok(Self { node, listeners, _home: directory })
    }

    /// Publishes the services that were added since the node started.
    pub(crate) fn publish(&self) {
        self.node.reload(config());
    }

    /// Connects to a service that may have started a moment ago, and is not known everywhere yet.
    pub(crate) async fn connect(&self, name: &str, port: u16) -> Result<Stream, Failed> {
        for _ in 0..100 {
            match self.node.connect(name, port).await {
                Err(Code::UnknownName | Code::NoService | Code::PeerUnreachable) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                opened => return opened.map_err(|code| format!("{name}:{port}: {code}").into()),
            }
        }
        Err(format!("{name}:{port} is not found").into())
    }
}

fn config() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.overlay.listen = vec![([127, 0, 0, 1], 0).into()];
    config
}
