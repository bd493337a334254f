//! Peers of our realm on the same local network find each other by multicast DNS.
//!
//! What is announced is a tag of the realm, the device and its port: enough for a member to dial,
//! useless to others, for a dial proves keys both ways. What is heard is a hint and nothing more.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use cloak_base::{DeviceId, RealmId};
use data_encoding::HEXLOWER;
use mdns_sd::{Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};

use crate::watch::is_routable;

/// Service type (RFC 6763).
const SERVICE: &str = "_cloak._tcp.local.";
/// Names in the TXT record.
const REALM: &str = "realm";
const DEVICE: &str = "device";
/// Bytes of a hash that stand for the whole of it.
const TAG_LEN: usize = 8;
/// Found locators that wait to be taken; more than that, the oldest is dropped. It will be heard
/// again.
const FOUND_MAX: usize = 64;
/// Pause before listening again after the library dropped us for being slow.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Multicast DNS does not work here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("multicast DNS is not available")]
pub struct LanError;

/// Announces this device on the local networks, and hears of others of the realm.
pub struct Lan {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    fullname: String,
    realm_tag: String,
    device: DeviceId,
    found: VecDeque<(DeviceId, SocketAddr)>,
}

impl Lan {
    /// Announces that `device` of `realm` accepts transports at `port` of all its addresses, and
    /// starts to listen. Runs a thread of its own until dropped.
    ///
    /// # Errors
    /// Multicast DNS is not available.
    pub fn start(realm: RealmId, device: DeviceId, port: u16) -> Result<Self, LanError> {
        let info = announcement(realm, device, port)?;
        let fullname = info.get_fullname().to_owned();
        let daemon = ServiceDaemon::new().map_err(refused)?;
        let events = daemon.browse(SERVICE).map_err(refused)?;
        daemon.register(info).map_err(refused)?;
        let found = VecDeque::new();
        Ok(Self { daemon, events, fullname, realm_tag: tag(realm.as_bytes()), device, found })
    }

    /// The next device that was heard, with a locator. The same may come again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn found(&mut self) -> (DeviceId, SocketAddr) {
        loop {
            if let Some(found) = self.found.pop_front() {
                return found;
            }
            match self.events.recv_async().await {
                Ok(ServiceEvent::ServiceResolved(service)) => self.handle_service(&service),
                Ok(_) => {}
                Err(_) => self.restart().await,
            }
        }
    }

    fn handle_service(&mut self, service: &ResolvedService) {
        let Some(device) = device_of(service, &self.realm_tag) else { return };
        if device == self.device {
            return;
        }
        let mut ips: Vec<_> = service.addresses.iter().map(|ip| ip.to_ip_addr()).collect();
        ips.sort();
        for ip in ips.into_iter().filter(|ip| is_routable(*ip)) {
            if self.found.len() == FOUND_MAX {
                self.found.pop_front();
            }
            self.found.push_back((device, SocketAddr::new(ip, service.port)));
        }
    }

    async fn restart(&mut self) {
        tokio::time::sleep(RESTART_PAUSE).await;
        match self.daemon.browse(SERVICE) {
            Ok(events) => self.events = events,
            Err(error) => tracing::debug!(%error, "multicast DNS"),
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // Best effort: others forget us by themselves a little later.
        let _ = self.daemon.unregister(&self.fullname);
        let _ = self.daemon.shutdown();
    }
}

impl std::fmt::Debug for Lan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lan").field("realm_tag", &self.realm_tag).finish_non_exhaustive()
    }
}

fn announcement(realm: RealmId, device: DeviceId, port: u16) -> Result<ServiceInfo, LanError> {
    let instance = tag(device.as_bytes());
    let host = format!("{instance}.local.");
    let properties = [(REALM, tag(realm.as_bytes())), (DEVICE, device.to_string())];
    ServiceInfo::new(SERVICE, &instance, &host, "", port, &properties[..])
        .map(ServiceInfo::enable_addr_auto)
        .map_err(refused)
}

/// The device that announces itself, if it is of the realm with this tag.
fn device_of(service: &ResolvedService, realm_tag: &str) -> Option<DeviceId> {
    let is_ours = service.get_property_val_str(REALM)? == realm_tag && service.port != 0;
    is_ours.then(|| service.get_property_val_str(DEVICE)?.parse().ok()).flatten()
}

fn tag(id: &[u8]) -> String {
    HEXLOWER.encode(&digest(&SHA256, id).as_ref()[..TAG_LEN])
}

fn refused(error: mdns_sd::Error) -> LanError {
    tracing::debug!(%error, "multicast DNS");
    LanError
}

#[cfg(test)]
mod tests {
    use super::*;

    const REALM_ID: RealmId = RealmId::from_bytes([1; 32]);
    const OWN: DeviceId = DeviceId::from_bytes([2; 32]);
    const OTHER: DeviceId = DeviceId::from_bytes([3; 32]);

    fn heard(realm: RealmId, port: u16) -> ResolvedService {
        announcement(realm, OTHER, port).unwrap().as_resolved_service()
    }

    #[test]
    fn an_announcement_is_understood_by_the_realm_only() {
        let service = heard(REALM_ID, 7140);
        assert_eq!(device_of(&service, &tag(REALM_ID.as_bytes())), Some(OTHER));
        assert_eq!(device_of(&service, &tag(&[9; 32])), None);
        assert_eq!(device_of(&heard(REALM_ID, 0), &tag(REALM_ID.as_bytes())), None);
        assert!(!service.fullname.contains(&OTHER.to_string()[..8]), "the name tells nothing");
    }

    #[test]
    fn foreign_properties_are_ignored() {
        for properties in [
            &[("realm", tag(REALM_ID.as_bytes()))][..],
            &[("realm", tag(REALM_ID.as_bytes())), ("device", "nonsense".to_owned())],
            &[("device", OTHER.to_string())],
        ] {
            let info = ServiceInfo::new(SERVICE, "x", "x.local.", "", 1, properties).unwrap();
            let service = info.as_resolved_service();
            assert_eq!(device_of(&service, &tag(REALM_ID.as_bytes())), None);
        }
    }

    #[test]
    fn what_waits_is_bounded_and_dialable() {
        let Ok(mut lan) = Lan::start(REALM_ID, OWN, 7140) else {
            eprintln!("skipped: this machine has no multicast");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "a skip is a failure in CI");
            return;
        };
        let mut service = heard(REALM_ID, 7140);
        for ip in ["192.0.2.9", "169.254.1.1", "fe80::1", "2001:db8::9"] {
            let ip: std::net::IpAddr = ip.parse().unwrap();
            service.addresses.insert(ip.into());
        }
        for _ in 0..FOUND_MAX {
            lan.handle_service(&service);
        }
        assert_eq!(lan.found.len(), FOUND_MAX);
        let routable = ["192.0.2.9:7140".parse().unwrap(), "[2001:db8::9]:7140".parse().unwrap()];
        assert!(
            lan.found.iter().all(|(device, addr)| { *device == OTHER && routable.contains(addr) })
        );
    }
}
