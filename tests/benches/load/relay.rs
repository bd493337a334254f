//! The yardstick: a plain TCP relay with a buffer of 256 KiB per direction, and two in a row.
//!
//! Each is a process of its own, as a gateway is: this program, started with a hidden argument.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use cloak_tests::process::Owned;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// The hidden argument; the target follows.
pub(crate) const ARGUMENT: &str = "--relay-to";
const BUFFER: usize = 256 * 1024;
/// As many as a gateway has on the machine at hand.
const BACKLOG: u32 = 1024;

/// Two relays, the first leading to the second and that to the target.
#[derive(Debug)]
pub(crate) struct Relays {
    near: Relay,
    far: Relay,
}

#[derive(Debug)]
struct Relay {
    process: Owned,
    address: SocketAddr,
}

impl Relays {
    pub(crate) fn before(target: SocketAddr) -> Self {
        let far = Relay::start(target);
        Self { near: Relay::start(far.address), far }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.near.address
    }

    pub(crate) fn ids(&self) -> [u32; 2] {
        [self.near.process.id(), self.far.process.id()]
    }
}

impl Relay {
    fn start(target: SocketAddr) -> Self {
        let own = std::env::current_exe().expect("a program knows its own path");
        let mut command = Command::new(own);
        command.args([ARGUMENT, &target.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("we can start ourselves");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped above");
        BufReader::new(stdout).read_line(&mut line).expect("the relay says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { process: Owned::new(child), address }
    }
}

/// The relay process: says where it listens, relays until it is killed or its parent is gone.
pub(crate) fn run(target: SocketAddr) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("threads can be started").block_on(async move {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free loopback port");
        let listener: TcpListener = socket.listen(BACKLOG).expect("a bound socket listens");
        println!("{}", listener.local_addr().expect("a bound listener has an address"));
        std::io::stdout().flush().expect("the parent reads");
        let relays = TaskTracker::new();
        while let Ok((near, _)) = listener.accept().await {
            relays.spawn(relay(near, target));
        }
    });
}

async fn relay(mut near: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}
