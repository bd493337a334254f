//! Which hosts a device uses, and through which ones another device is tried. Nothing else decides.

use cloak_base::DeviceId;
use cloak_identity::RELAYS_MAX;

use crate::shared::Shared;
use crate::sync::read;

impl Shared {
    /// What we publish of relays: the hosts through which we may be reached, and whether we are one.
    /// Whom somebody reached directly needs no host, and may be one.
    pub(crate) fn relay_record(&self) -> (Vec<DeviceId>, bool) {
        let is_reachable = self.locators.is_confirmed();
        let is_relay = is_reachable && read(&self.config).overlay.relay;
        if is_reachable {
            return (Vec::new(), is_relay);
        }
        let (present, _) = self.directory.relays(self.tls.device());
        let mut hosts = self.linked_relays();
        // Those that others know already stay.
        hosts.sort_by_key(|host| (!present.contains(host), *host));
        hosts.truncate(RELAYS_MAX);
        (hosts, is_relay)
    }

    /// Hosts to ask for a circuit to `device`, best first: those that it publishes, then any that we
    /// are linked with, for it may be linked with one of these as well.
    pub(crate) fn hosts_to(&self, device: DeviceId) -> Vec<DeviceId> {
        let linked = self.linked_relays();
        let (mut hosts, _) = self.directory.relays(device);
        hosts.retain(|host| linked.contains(host));
        let others = linked.into_iter().filter(|host| *host != device && !hosts.contains(host));
        let others: Vec<_> = others.collect();
        hosts.extend(others);
        hosts.truncate(RELAYS_MAX);
        hosts
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
