//! The ways from an application to the server that are compared.

mod gateways;
mod microsocks;
pub(crate) mod relays;
pub(crate) mod sealed;
pub(crate) mod shadowsocks;
mod ssh;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::wait_until;
use cloak_tests::realm::Realm;
use cloak_tests::skip;

pub(crate) use gateways::Gateways;

use crate::plan::Load;

pub(crate) const DIRECT: &str = "direct";
pub(crate) const RELAYS: &str = "two plain relays";
pub(crate) const MICROSOCKS: &str = "two microsocks";
pub(crate) const SSH: &str = "ssh -D";
pub(crate) const SHADOWSOCKS: &str = "shadowsocks-rust";
pub(crate) const SEALED: &str = "sealed, no session";
pub(crate) const DIRECT_LANE: &str = "Cloak, direct lane";
pub(crate) const RELAYED_LANE: &str = "Cloak, relayed lane";

/// All of them, with the word that chooses one on the command line.
pub(crate) const NAMES: [(&str, &str); 8] = [
    ("direct", DIRECT),
    ("relays", RELAYS),
    ("microsocks", MICROSOCKS),
    ("ssh", SSH),
    ("shadowsocks", SHADOWSOCKS),
    ("sealed", SEALED),
    ("cloak", DIRECT_LANE),
    ("relayed", RELAYED_LANE),
];

/// From the start of a program to its listener.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// A way from an application to the server.
pub(crate) trait Path: Sync {
    fn name(&self) -> &'static str;

    /// A fresh connection to the server.
    fn dial(&self) -> TcpStream;

    /// The processes of the two ends: the application's, the server's.
    fn ends(&self) -> Vec<u32>;

    /// A process between the two.
    fn host(&self) -> Option<u32> {
        None
    }

    /// What it is, for the table.
    fn version(&self) -> Option<String> {
        None
    }

    /// Whether it can carry that load, and be compared by it.
    fn carries(&self, _load: Load) -> bool {
        true
    }

    /// The gateways, where they are Cloak's and nothing is between them.
    fn gateways(&self) -> Option<&Gateways> {
        None
    }
}

/// No proxy at all.
#[derive(Debug)]
struct Direct(SocketAddr);

impl Path for Direct {
    fn name(&self) -> &'static str {
        DIRECT
    }

    fn dial(&self) -> TcpStream {
        client::dial(self.0).expect("the server listens")
    }

    fn ends(&self) -> Vec<u32> {
        Vec::new()
    }
}

/// Starts those of the chosen paths that can be had here, and says loudly which cannot.
pub(crate) fn start(
    chosen: &[&'static str],
    realm: &Realm,
    server: SocketAddr,
) -> Vec<Box<dyn Path>> {
    let directory = realm.directory();
    let mut paths: Vec<Box<dyn Path>> = Vec::new();
    for name in chosen {
        let path: Result<Box<dyn Path>, String> = match *name {
            DIRECT => Ok(Box::new(Direct(server))),
            RELAYS => Ok(Box::new(relays::Relays::before(server))),
            MICROSOCKS => microsocks::Microsocks::before(directory, server).map(boxed),
            SSH => ssh::Ssh::before(directory, server).map(boxed),
            SHADOWSOCKS => shadowsocks::Shadowsocks::before(directory, server).map(boxed),
            SEALED => Ok(Box::new(sealed::Sealed::before(server))),
            DIRECT_LANE => Ok(Box::new(Gateways::direct(realm, server, 0))),
            _ => Gateways::relayed(realm, server).map(boxed),
        };
        match path {
            Ok(path) => paths.push(path),
            Err(why) => eprintln!("LEFT OUT: {name}: {why}"),
        }
    }
    paths
}

fn boxed<P: Path + 'static>(path: P) -> Box<dyn Path> {
    Box::new(path)
}

/// The program, or why there is no such path.
fn need(program: &str) -> Result<PathBuf, String> {
    skip::program(program).ok_or_else(|| format!("`{program}` is not installed"))
}

/// A port of loopback that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn await_listener(name: &str, address: SocketAddr) {
    wait_until(&format!("{name} listens"), LISTENS_WITHIN, || TcpStream::connect(address).is_ok());
}

/// The first line of what a program prints.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
