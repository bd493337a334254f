//! shadowsocks-rust, the encrypted proxy to beat: `sslocal` and `ssserver`.
//!
//! No distribution has it at hand, so it is built once from the registry, with the settings that its
//! authors release with, into a cache directory outside the tree.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path as Directory, PathBuf};
use std::process::Command;

use cloak_tests::client;
use cloak_tests::process::Owned;

use super::{Path, SHADOWSOCKS, await_listener, free_port, output};

const VERSION: &str = "1.25.0";
const METHOD: &str = "2022-blake3-aes-128-gcm";
/// Sixteen bytes in base64, as the method wants them. Nobody else reaches this namespace.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

/// Where it is kept: `XDG_CACHE_HOME`, else `~/.cache`.
fn directory() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join(format!("cloak-bench/shadowsocks-rust-{VERSION}")))
}

fn programs() -> Option<[PathBuf; 2]> {
    let programs = ["sslocal", "ssserver"].map(|name| Some(directory()?.join("bin").join(name)));
    let [Some(local), Some(server)] = programs else { return None };
    (local.is_file() && server.is_file()).then_some([local, server])
}

/// Builds it where it is not there yet: before the network is left.
pub(crate) fn prepare() {
    let Some(root) = directory() else { return };
    if programs().is_some() {
        return;
    }
    eprintln!("building shadowsocks-rust {VERSION} into {}, once", root.display());
    let mut command = Command::new(env!("CARGO"));
    command.args(["install", "shadowsocks-rust", "--version", VERSION, "--locked", "--quiet"]);
    command.args(["--bin", "sslocal", "--bin", "ssserver", "--root"]).arg(&root);
    command.arg("--target-dir").arg(root.join("target"));
    // What went wrong shows on standard error, and the path is left out.
    let _ = command.status();
    let _ = std::fs::remove_dir_all(root.join("target"));
}

#[derive(Debug)]
pub(crate) struct Shadowsocks {
    local: Owned,
    remote: Owned,
    proxy: SocketAddr,
    server: SocketAddr,
}

impl Shadowsocks {
    /// # Errors
    /// Why it is left out.
    pub(crate) fn before(directory: &Directory, server: SocketAddr) -> Result<Self, String> {
        let [local, remote] =
            programs().ok_or_else(|| format!("shadowsocks-rust {VERSION} could not be built"))?;
        let [proxy, listen] =
            [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let start = |program: PathBuf, name: &str, addresses: &[&str]| {
            let mut command = Command::new(program);
            command.args(addresses).args(["-m", METHOD, "-k", KEY, "--tcp-no-delay"]);
            Owned::start_group(command, &directory.join(format!("{name}.log")))
        };
        let remote = start(remote, "ssserver", &["-s", &listen.to_string()]);
        await_listener(SHADOWSOCKS, listen);
        let addresses = ["-b", &proxy.to_string(), "-s", &listen.to_string()];
        let local = start(local, "sslocal", &addresses);
        await_listener(SHADOWSOCKS, proxy);
        Ok(Self { local, remote, proxy, server })
    }
}

impl Path for Shadowsocks {
    fn name(&self) -> &'static str {
        SHADOWSOCKS
    }

    fn version(&self) -> Option<String> {
        output(programs()?[0].to_str()?, &["--version"])
            .map(|line| format!("shadowsocks-rust: {line}"))
    }

    fn dial(&self) -> TcpStream {
        client::socks5_address(self.proxy, self.server).expect("shadowsocks connects")
    }

    fn ends(&self) -> Vec<u32> {
        vec![self.local.id(), self.remote.id()]
    }
}
