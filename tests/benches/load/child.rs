//! Processes of the load program itself, started again with a hidden argument: the server, and the
//! relays that serve as yardsticks. Each is a process of its own, as a gateway is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use cloak_tests::process::Owned;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::origin;
use crate::path::{relays, sealed};

/// The hidden argument; the role and its target follow.
pub(crate) const ARGUMENT: &str = "--child";
/// Connections that may wait to be accepted: as many as a gateway allows.
const BACKLOG: u32 = 1024;

/// What a child does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Answers requests.
    Origin,
    /// Copies bytes.
    Relay,
    /// Copies bytes into a transport of Cloak's, and from it.
    SealedNear,
    /// The other end of that transport.
    SealedFar,
}

impl Role {
    const ALL: [Self; 4] = [Self::Origin, Self::Relay, Self::SealedNear, Self::SealedFar];

    fn word(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Relay => "relay",
            Self::SealedNear => "sealed-near",
            Self::SealedFar => "sealed-far",
        }
    }
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Child {
    process: Owned,
    address: SocketAddr,
}

impl Child {
    /// Starts one; `target` is where it connects to.
    pub(crate) fn start(role: Role, target: Option<SocketAddr>) -> Self {
        let own = std::env::current_exe().expect("a program knows its own path");
        let mut command = Command::new(own);
        let target = target.map_or("-".to_owned(), |target| target.to_string());
        command.args([ARGUMENT, role.word(), &target]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("we can start ourselves");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped above");
        BufReader::new(stdout).read_line(&mut line).expect("a child says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { process: Owned::new(child), address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// The child's side: says where it listens, serves until it is killed or its parent is gone.
pub(crate) fn run(role: &str, target: &str) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let role = Role::ALL.into_iter().find(|known| known.word() == role).expect("a known role");
    let target = target.parse().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("threads can be started").block_on(async move {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free loopback port");
        let listener: TcpListener = socket.listen(BACKLOG).expect("a bound socket listens");
        println!("{}", listener.local_addr().expect("a bound listener has an address"));
        std::io::stdout().flush().expect("the parent reads");
        let served = TaskTracker::new();
        while let Ok((stream, _)) = listener.accept().await {
            served.spawn(serve(role, stream, target));
        }
    });
}

async fn serve(role: Role, stream: TcpStream, target: Option<SocketAddr>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let target = || target.ok_or(std::io::ErrorKind::AddrNotAvailable);
    match role {
        Role::Origin => origin::serve(stream).await,
        Role::Relay => relays::serve(stream, target()?).await,
        Role::SealedNear => sealed::near(stream, target()?).await,
        Role::SealedFar => sealed::far(stream, target()?).await,
    }
}
