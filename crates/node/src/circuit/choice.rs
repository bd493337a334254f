//! Which hosts a device uses, and through which ones another device is tried. Nothing else decides.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_identity::RELAYS_MAX;
use cloak_overlay::Place;

use crate::shared::Shared;
use crate::sync::read;

/// Hosts that are asked for one circuit: all that a device publishes, and two that we are linked with.
const HOSTS_ASKED_MAX: usize = RELAYS_MAX + 2;
/// Time to look a device's hosts up: whoever asked for the circuit waits for three seconds.
const HOSTS_TIMEOUT: Duration = Duration::from_secs(2);

impl Shared {
    /// What we publish of relays: the hosts through which we may be reached, and whether we are one.
    /// Whom somebody reached directly needs no host, and may be one.
    pub(crate) fn relay_record(&self) -> (Vec<DeviceId>, bool) {
        let is_reachable = self.locators.is_confirmed();
        let is_relay = is_reachable && read(&self.config).overlay.relay;
        if is_reachable {
            return (Vec::new(), is_relay);
        }
        let mut hosts = match self.overlay.place() {
            Place::Attached { hosts } => {
                let hosts = hosts.into_iter().map(|(host, _)| host);
                hosts.filter(|host| self.directory.relays(*host).1).collect()
            }
            // Until the overlay has hosts for us, whoever we are linked with may do.
            Place::Seeking | Place::Inner { .. } => self.linked_relays(),
        };
        let (present, _) = self.directory.relays(self.tls.device());
        // Those that others know already stay.
        hosts.sort_by_key(|host| (!present.contains(host), *host));
        hosts.truncate(RELAYS_MAX);
        (hosts, is_relay)
    }

    /// Hosts to ask for a circuit to `device`, best first: those that it publishes, then some that we
    /// are linked with, for it may be linked with one of these as well, or they reach its hosts.
    pub(crate) fn hosts_to(&self, device: DeviceId) -> Vec<DeviceId> {
        let linked = self.linked_relays();
        let (mut hosts, _) = self.directory.relays(device);
        hosts.retain(|host| *host != self.tls.device());
        // A link that is there saves a dial.
        hosts.sort_by_key(|host| !linked.contains(host));
        let others = linked.into_iter().filter(|host| *host != device && !hosts.contains(host));
        let others: Vec<_> = others.collect();
        hosts.extend(others);
        hosts.truncate(HOSTS_ASKED_MAX);
        hosts
    }

    /// The hosts that a device publishes, looked up unless its record came lately.
    pub(super) async fn hosts_of(self: &Arc<Self>, device: DeviceId) -> Vec<DeviceId> {
        let (hosts, _) = self.directory.relays(device);
        if hosts.is_empty() || !self.directory.is_current(device, self.clock.now()) {
            // Without an answer what is known has to do.
            let _ = tokio::time::timeout(HOSTS_TIMEOUT, self.ask_for_device(device)).await;
        }
        self.directory.relays(device).0
    }

    /// The directly linked peers that say they relay, in a fixed order.
    fn linked_relays(&self) -> Vec<DeviceId> {
        let peers = self.all_peers();
        let linked = peers.iter().filter(|peer| peer.direct_link().is_some());
        let mut relays: Vec<_> = linked.map(|peer| peer.device()).collect();
        relays.retain(|device| self.directory.relays(*device).1);
        relays.sort_unstable();
        relays
    }
}
