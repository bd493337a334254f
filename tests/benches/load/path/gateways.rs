//! Cloak: two gateways with nothing between them, or with a third one as the host of a relayed lane.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::wait_until;
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::pair::{linked, open_sessions};
use cloak_tests::realm::Realm;

use super::{DIRECT_LANE, Path, RELAYED_LANE};
use crate::plan::Load;

/// Where the server is exposed.
const PORT: u16 = 80;
/// From `ready` to a link between all.
const LINKED_WITHIN: Duration = Duration::from_secs(60);
/// Where the two ends of the relayed lane listen in vain.
const CLOSED: [u16; 2] = [7151, 7152];

#[derive(Debug)]
pub(crate) struct Gateways {
    name: &'static str,
    alice: Gateway,
    bob: Gateway,
    host: Option<Gateway>,
}

impl Gateways {
    /// Two that reach each other, in a realm of this number.
    pub(crate) fn direct(realm: &Realm, server: SocketAddr, number: usize) -> Self {
        let alice = realm.found(&format!("alice{number}")).up(&Up::default());
        let up = Up::default().expose(PORT, server);
        let bob = realm.join(&alice, &format!("bob{number}")).up(&up);
        Self { name: DIRECT_LANE, alice, bob, host: None }.linked()
    }

    /// Two that nobody can dial, and a host that both can.
    ///
    /// # Errors
    /// Why the kernel cannot be told to refuse connections.
    pub(crate) fn relayed(realm: &Realm, server: SocketAddr) -> Result<Self, String> {
        refuse(CLOSED)?;
        let up = |port| Up::default().listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let carol = realm.found("carol");
        // A host that is there for these two alone.
        carol.configure("[overlay]\nrelay_rate = \"64GiB\"\n");
        let host = carol.up(&Up::default());
        let alice = realm.join(&host, "dave").up(&up(CLOSED[0]));
        let bob = realm.join(&host, "erin").up(&up(CLOSED[1]).expose(PORT, server));
        let gateways = Self { name: RELAYED_LANE, alice, bob, host: Some(host) }.linked();
        wait_until("a session is relayed", LINKED_WITHIN, || {
            let _stream = gateways.dial();
            open_sessions(&gateways.alice).iter().any(|row| row["lane"] == "relay")
        });
        Ok(gateways)
    }

    fn linked(self) -> Self {
        wait_until("the gateways are linked", LINKED_WITHIN, || {
            linked(&self.alice) && linked(&self.bob) && self.alice.resolves(&self.bob.name())
        });
        self
    }

    /// Destroys every connection between the two, as a path that is gone for a moment does.
    ///
    /// # Errors
    /// Why that cannot be done here.
    pub(crate) fn cut(&self) -> Result<(), String> {
        let ports = [self.alice.overlay().port(), self.bob.overlay().port()];
        let mut command = Command::new("ss");
        command.args(["--no-header", "--tcp", "--kill", "state", "established"]);
        command.arg(format!("( dport = :{} or dport = :{} )", ports[0], ports[1]));
        let output = command.output().map_err(|error| format!("ss: {error}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("not supported") || error.contains("not permitted") {
            return Err(format!("ss --kill: {}", error.trim()));
        }
        Ok(())
    }
}

impl Path for Gateways {
    fn name(&self) -> &'static str {
        self.name
    }

    fn dial(&self) -> TcpStream {
        client::socks5(self.alice.proxy(), &self.bob.name(), PORT).expect("the service is there")
    }

    fn ends(&self) -> Vec<u32> {
        vec![self.alice.id(), self.bob.id()]
    }

    /// A host gives a device 64 circuits, each of which carries one session.
    fn carries(&self, load: Load) -> bool {
        self.host.is_none() || !matches!(load, Load::Rate | Load::Idle | Load::Active)
    }

    fn host(&self) -> Option<u32> {
        self.host.as_ref().map(Gateway::id)
    }

    fn gateways(&self) -> Option<&Gateways> {
        self.host.is_none().then_some(self)
    }
}

/// Refuses connections to these ports; only in a network namespace of our own.
fn refuse(ports: [u16; 2]) -> Result<(), String> {
    let rules = format!(
        "add table inet load\n\
         add chain inet load input {{ type filter hook input priority 0; }}\n\
         add rule inet load input tcp dport {{ {}, {} }} reject with tcp reset\n",
        ports[0], ports[1]
    );
    let mut command = Command::new("nft");
    command.arg(rules);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("nft: {error}")),
    }
}
