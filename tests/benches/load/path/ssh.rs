//! OpenSSH's dynamic forwarding: `ssh -D` and an sshd of its own, with aes128-gcm.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path as Directory;
use std::process::Command;

use cloak_tests::client;
use cloak_tests::process::Owned;

use super::{Path, SSH, await_listener, free_port, need};

#[derive(Debug)]
pub(crate) struct Ssh {
    client: Owned,
    daemon: Owned,
    proxy: SocketAddr,
    server: SocketAddr,
}

impl Ssh {
    /// # Errors
    /// Why it is left out.
    pub(crate) fn before(directory: &Directory, server: SocketAddr) -> Result<Self, String> {
        let [ssh, sshd, keygen] = ["ssh", "sshd", "ssh-keygen"].map(need);
        let (ssh, sshd, keygen) = (ssh?, sshd?, keygen?);
        if !rustix::process::geteuid().is_root() {
            return Err("sshd wants to be started by root".to_owned());
        }
        let path = |name: &str| directory.join(name).display().to_string();
        for key in ["host_key", "user_key"] {
            let mut command = Command::new(&keygen);
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
            command.status().map_err(|error| error.to_string())?;
        }
        let [listen, proxy] =
            [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let config = format!(
            "ListenAddress {listen}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            path("host_key"),
            path("user_key.pub")
        );
        fs::write(path("sshd_config"), config).map_err(|error| error.to_string())?;
        // Where it keeps its privileges apart; a distribution makes it at the service's start.
        let _ = fs::create_dir_all("/run/sshd");
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f", &path("sshd_config")]);
        let daemon = Owned::start_group(command, &directory.join("sshd.log"));
        await_listener(SSH, listen);
        let mut command = Command::new(ssh);
        command.args(["-N", "-F", "none", "-c", "aes128-gcm@openssh.com", "-l", "root"]);
        command.args(["-i", &path("user_key"), "-p", &listen.port().to_string()]);
        command.args(["-D", &proxy.to_string(), "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes"]);
        command.arg("127.0.0.1");
        let client = Owned::start_group(command, &directory.join("ssh.log"));
        await_listener(SSH, proxy);
        Ok(Self { client, daemon, proxy, server })
    }
}

impl Path for Ssh {
    fn name(&self) -> &'static str {
        SSH
    }

    fn version(&self) -> Option<String> {
        // It says so on standard error.
        let output = Command::new("ssh").arg("-V").output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.split([',', ' ']).next().map(|version| version.replace('_', " "))
    }

    fn dial(&self) -> TcpStream {
        client::socks5_address(self.proxy, self.server).expect("ssh connects")
    }

    /// sshd forks for each connection from a client, of which there is one.
    fn ends(&self) -> Vec<u32> {
        let mut ids = vec![self.client.id(), self.daemon.id()];
        let mut next = 1;
        while next < ids.len() {
            let tasks = format!("/proc/{0}/task/{0}/children", ids[next]);
            let children = fs::read_to_string(tasks).unwrap_or_default();
            ids.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            next += 1;
        }
        ids
    }
}
