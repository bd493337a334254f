//! Two gateways with a [`FaultProxy`] before each overlay listener: every byte between them passes
//! one of the two, whichever side dials.
//!
//! `alice` founds the realm and has the applications; `bob` has the services. Each advertises its
//! fault proxy, which is what others dial instead of the listener itself.

use std::time::Duration;

use serde_json::Value;

use crate::clock::{self, wait_until};
use crate::fault::{FaultProxy, Mode};
use crate::gateway::{Gateway, Up};
use crate::realm::Realm;

/// From `ready` to a link between the two.
const LINKED_WITHIN: Duration = Duration::from_secs(15);

/// The two gateways and what lies between them.
#[derive(Debug)]
pub struct Pair {
    /// Has the applications.
    pub alice: Gateway,
    /// Has the services.
    pub bob: Gateway,
    /// What passes when bob dials alice.
    pub to_alice: FaultProxy,
    /// What passes when alice dials bob.
    pub to_bob: FaultProxy,
    /// Their homes. Last, so that the gateways end first.
    pub realm: Realm,
}

/// One of the two gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The side of the applications.
    Alice,
    /// The side of the services.
    Bob,
}

impl Pair {
    /// Two linked gateways; `bob` is the command line of the one with the services.
    ///
    /// # Panics
    /// When they do not become linked.
    #[track_caller]
    #[must_use]
    pub fn start(realm: Realm, bob: &Up) -> Self {
        Self::start_configured(realm, bob, "", "")
    }

    /// The same, with the text of a `config.toml` for each.
    ///
    /// # Panics
    /// When they do not become linked.
    #[track_caller]
    #[must_use]
    pub fn start_configured(realm: Realm, bob: &Up, alice_toml: &str, bob_toml: &str) -> Self {
        let (to_alice, to_bob) = (FaultProxy::start(), FaultProxy::start());
        let home = realm.found("alice");
        if !alice_toml.is_empty() {
            home.configure(alice_toml);
        }
        let alice = home.up(&Up::default().advertise(to_alice.address()));
        to_alice.retarget(alice.overlay());
        let home = realm.join(&alice, "bob");
        if !bob_toml.is_empty() {
            home.configure(bob_toml);
        }
        let bob = home.up(&bob.clone().advertise(to_bob.address()));
        to_bob.retarget(bob.overlay());
        let pair = Self { alice, bob, to_alice, to_bob, realm };
        pair.wait_linked();
        pair
    }

    /// Waits until each shows the other as linked and knows its name.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn wait_linked(&self) {
        for (gateway, other) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            let what = format!("{} is linked with {}", gateway.name(), other.name());
            wait_until(&what, LINKED_WITHIN, || linked(gateway) && gateway.resolves(&other.name()));
        }
    }

    /// The gateway at one end.
    #[must_use]
    pub fn gateway(&self, end: End) -> &Gateway {
        match end {
            End::Alice => &self.alice,
            End::Bob => &self.bob,
        }
    }

    /// Switches both directions of dialling.
    pub fn set_mode(&self, mode: Mode) {
        self.to_alice.set_mode(mode);
        self.to_bob.set_mode(mode);
    }

    /// Resets every connection between the two.
    pub fn cut(&self) {
        self.to_alice.reset_all();
        self.to_bob.reset_all();
    }

    /// Connections begun in either direction.
    #[must_use]
    pub fn dials(&self) -> u64 {
        self.to_alice.stats().dials + self.to_bob.stats().dials
    }

    /// Starts one end again; the other finds it at the same advertised address.
    #[track_caller]
    pub fn restart(&mut self, end: End) {
        match end {
            End::Alice => {
                self.alice.restart();
                self.to_alice.retarget(self.alice.overlay());
            }
            End::Bob => {
                self.bob.restart();
                self.to_bob.retarget(self.bob.overlay());
            }
        }
    }

    /// The only session that is not over, as one end sees it.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[track_caller]
    #[must_use]
    pub fn session(&self, end: End) -> Value {
        let mut rows = open_sessions(self.gateway(end));
        assert_eq!(rows.len(), 1, "one session at {end:?}: {rows:?}");
        rows.remove(0)
    }

    /// Waits until both ends show every open session in `state`, and returns how long that took.
    #[track_caller]
    pub fn wait_state(&self, state: &str, within: Duration) -> Duration {
        let start = clock::now();
        for end in [End::Alice, End::Bob] {
            let left = within.saturating_sub(start.elapsed());
            wait_until(&format!("{end:?} shows `{state}`"), left, || {
                let rows = open_sessions(self.gateway(end));
                !rows.is_empty() && rows.iter().all(|row| row["state"] == state)
            });
        }
        start.elapsed()
    }

    /// Waits until neither end has an open session.
    #[track_caller]
    pub fn wait_no_sessions(&self, within: Duration) {
        for end in [End::Alice, End::Bob] {
            wait_until(&format!("{end:?} has no session left"), within, || {
                open_sessions(self.gateway(end)).is_empty()
            });
        }
    }
}

/// Sessions that are neither lost nor over, and that have not gone to another device.
#[track_caller]
#[must_use]
pub fn open_sessions(gateway: &Gateway) -> Vec<Value> {
    let mut rows = gateway.sessions();
    rows.retain(|row| row["state"] != "lost" && row["state"] != "moved");
    rows
}

/// Whether a gateway has a live channel to some peer.
#[must_use]
pub fn linked(gateway: &Gateway) -> bool {
    let peers = gateway.json(&["peers"]);
    peers.as_array().is_some_and(|rows| rows.iter().any(|row| row["state"] == "linked"))
}
