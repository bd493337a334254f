//! Network namespaces: hosts with their own addresses, routes and packet filters on one switch.
//!
//! The switch is a bridge in a namespace of its own, so nothing of the machine's network is touched.
//! Names carry the process id; dropping a [`Net`] deletes what it made. Needs the superuser: tests
//! say `need!(Need::NetworkNamespaces)` first.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;
use crate::skip::program;

/// A configuration command that takes longer hangs.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// Hosts on one switch.
const HOSTS_MAX: usize = 8;
/// All hosts' addresses are in `10.77.0.0/16`.
const PREFIX: u8 = 16;
/// A host behind an address translator, and the translator as it sees it.
const INNER: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 2);
const INNER_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 1);

/// A switch and its hosts.
#[derive(Debug)]
pub struct Net {
    switch: Namespace,
    hosts: Vec<Host>,
}

/// A host on the switch. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: Arc<Namespace>,
    address: Arc<Mutex<Ipv4Addr>>,
}

impl Net {
    /// A switch with `count` hosts: `10.77.0.10`, `10.77.0.11` and so on.
    ///
    /// # Panics
    /// When the kernel refuses, or for more than [`HOSTS_MAX`] hosts.
    #[must_use]
    pub fn new(count: u8) -> Self {
        assert!(usize::from(count) <= HOSTS_MAX, "at most {HOSTS_MAX} hosts");
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let switch = Namespace::new(format!("ck{id}s"));
        switch.ip("link add br0 type bridge forward_delay 0");
        switch.ip("link set br0 up");
        let mut net = Self { switch, hosts: Vec::new() };
        for index in 0..count {
            let host = net.plug(&format!("ck{id}h{index}"), index);
            net.hosts.push(host);
        }
        net
    }

    /// A host by its number.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    fn plug(&self, name: &str, index: u8) -> Host {
        let namespace = Namespace::new(name.to_owned());
        let port = format!("port{index}");
        let switch = &self.switch.name;
        namespace.ip(&format!("link add eth0 type veth peer name {port} netns {switch}"));
        self.switch.ip(&format!("link set {port} master br0"));
        self.switch.ip(&format!("link set {port} up"));
        let address = Ipv4Addr::new(10, 77, 0, 10 + index);
        let host = Host { namespace: Arc::new(namespace), address: Arc::new(Mutex::new(address)) };
        host.namespace.ip("link set lo up");
        host.namespace.ip("link set eth0 up");
        host.namespace.ip(&format!("addr add {address}/{PREFIX} dev eth0"));
        host
    }
}

impl Host {
    /// Its present address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(ip_program());
        command.args(["netns", "exec", &self.namespace.name]).arg(program);
        command
    }

    /// Runs `inside` on a thread of this host: sockets that it makes stay here.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or `inside` panics.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.namespace.name);
        let file = File::open(path).expect("our own namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&file),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("the superuser may enter a namespace");
                inside()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Leaves the network and comes back with another address, as a laptop that roams.
    pub fn move_to(&self, address: Ipv4Addr) {
        self.namespace.ip("addr flush dev eth0");
        self.namespace.ip(&format!("addr add {address}/{PREFIX} dev eth0"));
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Unplugs the cable, or plugs it in again.
    pub fn set_link(&self, plugged: bool) {
        self.namespace.ip(if plugged { "link set eth0 up" } else { "link set eth0 down" });
    }

    /// Adds an interface that leads nowhere, with an address of its own: a change that concerns none
    /// of the connections there are.
    pub fn add_interface(&self, name: &str, address: Ipv4Addr) {
        self.namespace.ip(&format!("link add {name} type veth peer name {name}-end"));
        for end in [name, &format!("{name}-end")] {
            // Without link-local addresses, which come some seconds later.
            self.namespace.ip(&format!("link set {end} addrgenmode none"));
            self.namespace.ip(&format!("link set {end} up"));
        }
        self.add_address(name, address);
    }

    /// Gives an interface one more address.
    pub fn add_address(&self, name: &str, address: Ipv4Addr) {
        self.namespace.ip(&format!("addr add {address}/32 dev {name}"));
    }

    /// Finds an address on the switch that is in none of its own networks.
    pub fn reach(&self, address: Ipv4Addr) {
        self.namespace.ip(&format!("route add {address}/32 dev eth0"));
    }

    /// Makes this host an address translator, and returns the host behind it: that one reaches the
    /// network under this host's address, and nobody reaches it.
    ///
    /// # Panics
    /// When the kernel refuses, or for a second host behind the same one.
    #[must_use]
    pub fn translate(&self) -> Self {
        let namespace = Namespace::new(format!("{}i", self.namespace.name));
        let outer = &self.namespace.name;
        namespace.ip(&format!("link add eth0 type veth peer name inner netns {outer}"));
        self.namespace.ip("link set inner up");
        self.namespace.ip(&format!("addr add {INNER_GATEWAY}/24 dev inner"));
        namespace.ip("link set lo up");
        namespace.ip("link set eth0 up");
        namespace.ip(&format!("addr add {INNER}/24 dev eth0"));
        namespace.ip(&format!("route add default via {INNER_GATEWAY}"));
        let forwarding = "/proc/sys/net/ipv4/ip_forward";
        self.enter(|| std::fs::write(forwarding, "1")).expect("the superuser may forward packets");
        self.namespace.nft(
            "add table ip nat\n\
             add chain ip nat in { type nat hook prerouting priority -100; }\n\
             add chain ip nat out { type nat hook postrouting priority 100; }\n\
             add rule ip nat out oifname eth0 masquerade\n",
        );
        Self { namespace: Arc::new(namespace), address: Arc::new(Mutex::new(INNER)) }
    }

    /// Forwards connections to `port` of this translator to the host behind it.
    pub fn forward_port(&self, port: u16) {
        self.namespace.nft(&format!(
            "add rule ip nat in iifname eth0 tcp dport {port} dnat to {INNER}:{port}\n"
        ));
    }

    /// Drops every packet to and from the network, without a word to anybody.
    pub fn drop_packets(&self) {
        self.namespace.nft(
            "add table inet cut\n\
             add chain inet cut in { type filter hook input priority 0; }\n\
             add chain inet cut out { type filter hook output priority 0; }\n\
             add rule inet cut in iifname eth0 drop\n\
             add rule inet cut out oifname eth0 drop\n",
        );
    }

    /// Ends [`Host::drop_packets`].
    pub fn pass_packets(&self) {
        self.namespace.nft("delete table inet cut\n");
    }

    /// Refuses every connection from the network, as a firewall does.
    pub fn refuse_incoming(&self) {
        self.namespace.nft(
            "add table inet shut\n\
             add chain inet shut in { type filter hook input priority 0; }\n\
             add rule inet shut in iifname eth0 tcp flags & (syn | ack) == syn reject with tcp reset\n",
        );
    }

    /// Ends [`Host::refuse_incoming`].
    pub fn allow_incoming(&self) {
        self.namespace.nft("delete table inet shut\n");
    }

    /// Lets connections in from one host only, and none out.
    pub fn keep_to(&self, other: Ipv4Addr) {
        self.namespace.nft(&format!(
            "add table inet kept\n\
             add chain inet kept in {{ type filter hook input priority 0; }}\n\
             add chain inet kept out {{ type filter hook output priority 0; }}\n\
             add rule inet kept in iifname eth0 ip saddr != {other} tcp flags & (syn | ack) == syn drop\n\
             add rule inet kept out oifname eth0 tcp flags & (syn | ack) == syn drop\n"
        ));
    }

    /// Swallows every segment to `port` that begins as a plain hop of a circuit does, as a middlebox
    /// that lets only TLS through.
    pub fn swallow_hops(&self, port: u16) {
        // The TCP header has 32 bytes: 12 of timestamps.
        self.namespace.nft(&format!(
            "add table inet tlsonly\n\
             add chain inet tlsonly out {{ type filter hook output priority 0; }}\n\
             add rule inet tlsonly out tcp dport {port} @th,256,32 0xc1686f70 counter drop\n"
        ));
    }

    /// How many segments [`Host::swallow_hops`] has swallowed.
    ///
    /// # Panics
    /// When it swallows none.
    #[must_use]
    pub fn swallowed(&self) -> u64 {
        let mut command = ip(&["netns", "exec", &self.namespace.name]);
        let nft = program("nft").unwrap_or_else(|| PathBuf::from("nft"));
        command.arg(nft).args(["list", "table", "inet", "tlsonly"]);
        let shown = process::run(command, b"", COMMAND_WITHIN).success().text();
        let count = shown.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.expect("a counter").parse().expect("a number")
    }

    /// Drops every packet to and from one other host.
    pub fn part_from(&self, other: Ipv4Addr) {
        self.namespace.nft(&format!(
            "add table inet apart\n\
             add chain inet apart in {{ type filter hook input priority 0; }}\n\
             add chain inet apart out {{ type filter hook output priority 0; }}\n\
             add rule inet apart in ip saddr {other} drop\n\
             add rule inet apart out ip daddr {other} drop\n"
        ));
    }

    /// Makes `resolver` the DNS server of commands that are started from now on.
    ///
    /// # Panics
    /// When `/etc/netns` is not writable.
    pub fn set_resolver(&self, resolver: Ipv4Addr) {
        let directory = self.namespace.etc();
        std::fs::create_dir_all(&directory).expect("the superuser may write there");
        let text = format!("nameserver {resolver}\noptions timeout:1 attempts:1\n");
        std::fs::write(directory.join("resolv.conf"), text).expect("made above");
    }
}

/// A namespace that is deleted when dropped.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Self {
        configure(ip(&["netns", "add", &name]), b"");
        Self { name }
    }

    fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments.split(' '));
        configure(ip(&all), b"");
    }

    fn nft(&self, script: &str) {
        let nft = program("nft").unwrap_or_else(|| PathBuf::from("nft"));
        let mut command = ip(&["netns", "exec", &self.name]);
        command.arg(nft).args(["-f", "-"]);
        configure(command, script.as_bytes());
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]).status();
        let _ = std::fs::remove_dir_all(self.etc());
        // Only if it was ours and is empty.
        let _ = std::fs::remove_dir("/etc/netns");
    }
}

fn ip_program() -> PathBuf {
    program("ip").unwrap_or_else(|| PathBuf::from("ip"))
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new(ip_program());
    command.args(arguments);
    command
}

#[track_caller]
fn configure(command: Command, input: &[u8]) {
    let _ = process::run(command, input, COMMAND_WITHIN).success();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::clock::wait_until;
    use crate::need;
    use crate::skip::Need;

    #[test]
    fn hosts_talk_lose_packets_and_roam() {
        need!(Need::NetworkNamespaces);
        let net = Net::new(2);
        let (a, b) = (net.host(0), net.host(1));
        let listener = b.enter(|| TcpListener::bind("0.0.0.0:7000").unwrap());
        let dial = |to: Ipv4Addr| {
            let timeout = Duration::from_millis(500);
            a.enter(move || TcpStream::connect_timeout(&(to, 7000).into(), timeout))
        };
        let mut near = dial(b.address()).unwrap();
        let (mut far, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), a.address());
        far.write_all(b"hi").unwrap();
        near.read_exact(&mut [0; 2]).unwrap();
        a.drop_packets();
        assert!(dial(b.address()).is_err());
        a.pass_packets();
        wait_until("packets pass again", Duration::from_secs(5), || dial(b.address()).is_ok());
        b.move_to(Ipv4Addr::new(10, 77, 9, 9));
        assert!(dial(Ipv4Addr::new(10, 77, 0, 11)).is_err());
        assert!(dial(b.address()).is_ok());
        let mut command = a.command(Path::new("ip"));
        command.args(["-br", "addr", "show", "eth0"]);
        let shown = process::run(command, b"", COMMAND_WITHIN).success().text();
        assert!(shown.contains("10.77.0.10/16"), "{shown}");
    }
}
