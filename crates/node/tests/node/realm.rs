//! A realm of nodes on loopback, and a service to talk to.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloak_node::{
    Application, Backend, BoxFuture, Code, Early, Home, Incoming, InitNames, InviteKind,
    InviteRequest, Node, NodeConfig, OpenRequest, Opener, ServiceTable, Target,
};
use cloak_transport::{Clock, SystemClock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Port of the service that returns what it gets.
pub const ECHO: u16 = 7;
/// Port of a service that admits nobody.
pub const FORBIDDEN: u16 = 13;
/// What has not happened by then does not.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Echoes on [`ECHO`], refuses everything else.
pub struct Echo;

impl ServiceTable for Echo {
    fn authorise(&self, incoming: &Incoming) -> Result<(), Code> {
        match incoming.target {
            cloak_node::Target::Service(ECHO) => Ok(()),
            cloak_node::Target::Service(FORBIDDEN) => Err(Code::NotAllowed),
            _ => Err(Code::NoService),
        }
    }

    fn connect(&self, _: Incoming) -> BoxFuture<'_, Result<Backend, Code>> {
        let (here, there) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn(async move {
            let (mut read, mut write) = tokio::io::split(there);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
        Box::pin(async move { Ok((Box::new(here) as Box<dyn Application>, "echo".to_owned())) })
    }

    fn ports(&self) -> Vec<u16> {
        vec![ECHO, FORBIDDEN]
    }
}

/// A node and its home.
pub struct Member {
    pub node: Node,
    pub dir: TempDir,
}

pub fn config() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.overlay.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config
}

pub async fn start(dir: TempDir, home: Home, clock: Arc<dyn Clock>) -> Member {
    start_with(dir, home, clock, config()).await
}

pub async fn start_with(
    dir: TempDir,
    home: Home,
    clock: Arc<dyn Clock>,
    config: NodeConfig,
) -> Member {
    let node = Node::start(home, config, Arc::new(Echo), clock).await.unwrap();
    Member { node, dir }
}

pub async fn found(name: &str, clock: Arc<dyn Clock>) -> Member {
    found_with(name, clock, config()).await
}

pub async fn found_with(name: &str, clock: Arc<dyn Clock>, config: NodeConfig) -> Member {
    log();
    let dir = tempfile::tempdir().unwrap();
    let names =
        InitNames { name: name.to_owned(), realm: "test".to_owned(), device: "first".to_owned() };
    let home = Home::init(&dir.path().join("home"), names, &SystemClock).unwrap();
    start_with(dir, home, clock, config).await
}

pub async fn join(inviter: &Node, name: &str, clock: Arc<dyn Clock>) -> Member {
    join_with(inviter, name, clock, config()).await
}

pub async fn join_with(
    inviter: &Node,
    name: &str,
    clock: Arc<dyn Clock>,
    config: NodeConfig,
) -> Member {
    let request = InviteRequest {
        kind: InviteKind::Member,
        name: Some(name.to_owned()),
        ttl: Duration::from_secs(60),
    };
    let invitation = inviter.invite(request).await.unwrap().invitation;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let home = Home::join(&home, &invitation, None, "device", &SystemClock).await.unwrap();
    start_with(dir, home, clock, config).await
}

/// A further device of the inviter's entity.
pub async fn join_device(inviter: &Node, label: &str, clock: Arc<dyn Clock>) -> Member {
    let ttl = Duration::from_secs(60);
    let request = InviteRequest { kind: InviteKind::Device, name: None, ttl };
    let invitation = inviter.invite(request).await.unwrap().invitation;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let home = Home::join(&home, &invitation, None, label, &SystemClock).await.unwrap();
    start(dir, home, clock).await
}

/// Waits until `condition` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Opens a session to the echo service of `name`, once the name is known.
pub async fn open(node: &Node, name: &str) -> DuplexStream {
    open_saying(node, name, b"").await
}

/// Opens one that begins with `early`, which the application does not write again.
pub async fn open_saying(node: &Node, name: &str, early: &[u8]) -> DuplexStream {
    let request = || OpenRequest {
        name: name.to_owned(),
        target: Target::Service(ECHO),
        application: "test".to_owned(),
        early: Early::of(early),
    };
    let opened = eventually("the session opens", || async {
        match node.open(request()).await {
            Ok(opened) => Some(opened),
            Err(Code::UnknownName | Code::PeerUnreachable) => None,
            Err(code) => panic!("{code}"),
        }
    })
    .await;
    let (here, there) = tokio::io::duplex(64 * 1024);
    opened.attach(Box::new(there));
    here
}

/// Sends `bytes` and reads them back.
pub async fn echo(stream: &mut DuplexStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, bytes);
}

/// Shows what the nodes log, with `RUST_LOG`.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
