//! The two ways to the server: through two plain relays, and through two gateways.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cloak_tests::client;
use cloak_tests::clock::wait_until;
use cloak_tests::gateway::{Gateway, Up};
use cloak_tests::pair::linked;
use cloak_tests::realm::Realm;

use crate::relay::Relays;

/// Where the server is exposed.
pub(crate) const PORT: u16 = 80;
/// From `ready` to a link between the two.
const LINKED_WITHIN: Duration = Duration::from_secs(15);

/// A way from an application to the server, of two processes.
pub(crate) trait Path: Sync {
    /// A fresh connection to the server.
    fn dial(&self) -> TcpStream;
    /// The processes on the way: the application's, the server's.
    fn ids(&self) -> [u32; 2];
}

impl Path for Relays {
    fn dial(&self) -> TcpStream {
        client::dial(self.address()).expect("the relay listens")
    }

    fn ids(&self) -> [u32; 2] {
        self.ids()
    }
}

/// Two gateways with nothing between them.
#[derive(Debug)]
pub(crate) struct Gateways {
    alice: Gateway,
    bob: Gateway,
    _realm: Realm,
}

impl Gateways {
    pub(crate) fn before(target: SocketAddr) -> Self {
        let realm = Realm::alone();
        let alice = realm.found("alice").up(&Up::default());
        let bob = realm.join(&alice, "bob").up(&Up::default().expose(PORT, target));
        wait_until("the gateways are linked", LINKED_WITHIN, || {
            linked(&alice) && linked(&bob) && alice.resolves(&bob.name())
        });
        Self { alice, bob, _realm: realm }
    }
}

impl Path for Gateways {
    fn dial(&self) -> TcpStream {
        through(&self.alice)
    }

    fn ids(&self) -> [u32; 2] {
        [self.alice.id(), self.bob.id()]
    }
}

/// A connection to bob's server through alice.
pub(crate) fn through(alice: &Gateway) -> TcpStream {
    client::socks5(alice.proxy(), "bob.cloak", PORT).expect("bob has the service")
}
