//! Names of a small realm: every device's record is passed on to every linked peer.
//!
//! The records are signed and fenced by their epochs, so that a peer can withhold but not forge or
//! roll back. [`Resolver`] is what the rest of the node sees of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::RwLock;

use cloak_base::{DeviceId, EntityId, Epoch, UnixTime};
use cloak_identity::{
    Announcement, Binding, BindingError, Bindings, CredentialError, Credentials, DeviceRecord,
    EntityName, Inserted, Name, Peer as Shown, Signed,
};
use cloak_transport::{Policy, dialable};
use cloak_wire::{Code, LOCATORS_MAX};

use crate::api::BoxFuture;
use crate::home::Home;
use crate::sync::{read, write};
use crate::trust::Trust;
use crate::view::NameView;

/// The store's epoch is this far ahead of the last published one, so that a crash between two saves
/// never publishes an epoch twice.
const EPOCHS_AHEAD: u64 = 1024;
/// Devices found by other means than a record, at most.
const HINTS_MAX: usize = 64;
/// Hinted addresses per device.
const HINTED_MAX: usize = 4;

/// A device that a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The device.
    pub device: DeviceId,
    /// Its name, `laptop.alice.cloak`.
    pub name: String,
    /// Its entity.
    pub entity: EntityId,
    /// Ports it exposes.
    pub ports: Vec<u16>,
    /// Where it may be reached, as it says.
    pub locators: Vec<SocketAddr>,
    /// Through which devices it may be reached otherwise.
    pub relays: Vec<DeviceId>,
    /// Epoch of its record.
    pub epoch: Epoch,
    /// Whether the record has not expired.
    pub fresh: bool,
}

/// Maps names to devices.
pub trait Resolver: Send + Sync {
    /// The devices that `name` stands for, in the order in which to try them.
    ///
    /// # Errors
    /// [`Code::UnknownName`]; [`Code::Timeout`] where an answer may exist but did not come.
    fn resolve<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Vec<Candidate>, Code>>;
}

/// A record that was news.
pub(crate) struct Learned {
    pub(crate) device: DeviceId,
    pub(crate) entity: EntityId,
    pub(crate) device_name: String,
    pub(crate) entity_name: String,
    /// Its locators are others than before.
    pub(crate) moved: bool,
}

/// What became of a record that arrived.
pub(crate) enum Learning {
    News(Learned),
    Known,
    /// It is our own, from a later run than this one: publish above this epoch.
    Conflict(Epoch),
}

/// See the module.
pub(crate) struct Directory {
    state: RwLock<State>,
}

struct State {
    own: DeviceId,
    epoch: Epoch,
    bindings: Bindings,
    /// Addresses found on the LAN or in the settings.
    hints: BTreeMap<DeviceId, Vec<SocketAddr>>,
}

impl Directory {
    /// The records that the home kept.
    pub(crate) fn load(home: &Home, now: UnixTime) -> Self {
        let own = home.keys().device.device_id();
        let mut bindings = Bindings::new(own);
        let stored = |key| home.store().get(key).ok().flatten();
        let records = stored("bindings").unwrap_or_default();
        let records: Vec<minicbor::bytes::ByteVec> = minicbor::decode(&records).unwrap_or_default();
        let trust = home.trust();
        let now = plausible(&trust, now);
        for record in records {
            // One that no longer counts is simply not known any more.
            let _ = bindings.restore(&record, &trust.realm, &trust.revocations, now);
        }
        let epoch = stored("epoch").and_then(|bytes| bytes.try_into().ok());
        // Those between the stored one and the last published are skipped.
        let epoch = Epoch(epoch.map_or(0, u64::from_be_bytes));
        let state = State { own, epoch, bindings, hints: BTreeMap::new() };
        Self { state: RwLock::new(state) }
    }

    /// Writes what [`Directory::load`] reads.
    pub(crate) fn save(&self, home: &Home) -> Result<(), crate::store::StoreError> {
        let (records, epoch) = {
            let state = read(&self.state);
            (
                state.bindings.iter().map(|binding| binding.bytes().to_vec().into()).collect(),
                state.epoch,
            )
        };
        let records: Vec<minicbor::bytes::ByteVec> = records;
        let records =
            minicbor::to_vec(&records).expect("invariant: encoding into memory cannot fail");
        let epoch = epoch.0.saturating_add(EPOCHS_AHEAD);
        home.store().put(&[("bindings", &records), ("epoch", &epoch.to_be_bytes())])
    }

    /// Makes and takes in our own record, above every epoch seen of it, whatever epoch is said; gives
    /// its bytes.
    ///
    /// # Errors
    /// Our own credentials do not count: expired, revoked, or a wrong clock.
    pub(crate) fn publish(
        &self,
        home: &Home,
        said: Announcement,
        now: UnixTime,
    ) -> Result<Vec<u8>, BindingError> {
        let trust = home.trust();
        let mut state = write(&self.state);
        let epoch = state.epoch.next();
        let announcement = Announcement { epoch, ..said };
        let record = DeviceRecord::sign(&home.keys().device, &trust.credentials, announcement, now);
        let bytes = record.encode();
        state.bindings.publish(record, &trust.realm, &trust.revocations, now)?;
        state.epoch = epoch;
        Ok(bytes)
    }

    /// Takes in a record that arrived.
    ///
    /// # Errors
    /// A record that does not count.
    pub(crate) fn learn(
        &self,
        home: &Home,
        record: &[u8],
        now: UnixTime,
    ) -> Result<Learning, BindingError> {
        let trust = home.trust();
        let mut state = write(&self.state);
        let before = locators_by_record(&state.bindings, record);
        match state.bindings.insert(record, &trust.realm, &trust.revocations, now)? {
            Inserted::Same | Inserted::Stale => Ok(Learning::Known),
            Inserted::Conflict { epoch } => {
                state.epoch = state.epoch.max(epoch);
                Ok(Learning::Conflict(epoch))
            }
            Inserted::New => {
                let news = state.bindings.iter().find(|binding| binding.bytes() == record);
                Ok(news.map_or(Learning::Known, |binding| {
                    let moved = before.as_deref() != Some(binding.record().locators());
                    Learning::News(Learned { moved, ..learned(binding.peer()) })
                }))
            }
        }
    }

    /// Drops what no longer counts.
    pub(crate) fn sweep(&self, home: &Home, now: UnixTime) -> Vec<DeviceId> {
        let trust = home.trust();
        let now = plausible(&trust, now);
        write(&self.state).bindings.sweep(&trust.realm, &trust.revocations, now)
    }

    /// Every device with a record, but us.
    pub(crate) fn devices(&self) -> Vec<Learned> {
        let state = read(&self.state);
        let others = state.bindings.iter().filter(|binding| binding.device() != state.own);
        others.map(|binding| learned(binding.peer())).collect()
    }

    /// Every record, ours included, as they travel.
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        read(&self.state).bindings.iter().map(|binding| binding.bytes().to_vec()).collect()
    }

    /// The locators that a device published.
    pub(crate) fn published(&self, device: DeviceId) -> Vec<SocketAddr> {
        let state = read(&self.state);
        state
            .bindings
            .device(device)
            .map_or_else(Vec::new, |binding| binding.record().locators().to_vec())
    }

    /// The hosts that a device published, and whether it relays itself.
    pub(crate) fn relays(&self, device: DeviceId) -> (Vec<DeviceId>, bool) {
        let state = read(&self.state);
        let known = state.bindings.device(device).map(Binding::record);
        known.map_or_else(Default::default, |record| (record.relays().to_vec(), record.is_relay()))
    }

    /// Where a device may be dialled: hints first, since we saw or were told them, then what it
    /// published, as far as the policy allows.
    pub(crate) fn locators(&self, device: DeviceId, policy: &Policy) -> Vec<SocketAddr> {
        let hinted = read(&self.state).hints.get(&device).cloned().unwrap_or_default();
        let mut all = self.published(device);
        all.retain(|locator| !hinted.contains(locator) && dialable(*locator, policy).is_ok());
        let mut locators = hinted;
        locators.extend(all);
        locators.truncate(LOCATORS_MAX);
        locators
    }

    /// Notes where a device may be; true when that is news.
    pub(crate) fn hint(&self, device: DeviceId, locator: SocketAddr) -> bool {
        let mut state = write(&self.state);
        if state.hints.len() >= HINTS_MAX && !state.hints.contains_key(&device) {
            return false;
        }
        let hinted = state.hints.entry(device).or_default();
        if hinted.contains(&locator) {
            return false;
        }
        hinted.insert(0, locator);
        hinted.truncate(HINTED_MAX);
        true
    }

    /// The device that was found at an address.
    pub(crate) fn hinted(&self, locator: SocketAddr) -> Option<DeviceId> {
        let state = read(&self.state);
        let found = state.hints.iter().find(|(_, locators)| locators.contains(&locator));
        found.map(|(device, _)| *device)
    }

    /// Rows of `cloak names`: entities, then their devices.
    pub(crate) fn names(&self) -> Vec<NameView> {
        let state = read(&self.state);
        let mut rows = Vec::new();
        for binding in state.bindings.iter() {
            let (peer, record) = (binding.peer(), binding.record());
            let expires = Some(record.validity().expires.to_string());
            let row = |name: String, kind: &str, target: String, epoch| NameView {
                name,
                kind: kind.to_owned(),
                target,
                epoch,
                expires: expires.clone(),
            };
            let entity = peer.entity_name.to_string();
            if !rows.iter().any(|row: &NameView| row.name == entity) {
                rows.push(row(entity, "entity", peer.entity.to_string(), None));
            }
            let device = peer.device_name().to_string();
            rows.push(row(device, "device", peer.device.to_string(), Some(record.epoch().0)));
        }
        rows.sort_by(|a, b| (a.kind != "entity", &a.name).cmp(&(b.kind != "entity", &b.name)));
        rows
    }
}

/// The [`Resolver`] of a small realm: everything is known here already.
pub(crate) struct SmallRealm {
    pub(crate) shared: std::sync::Weak<crate::shared::Shared>,
}

impl Resolver for SmallRealm {
    fn resolve<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Vec<Candidate>, Code>> {
        let found = self
            .shared
            .upgrade()
            .map_or_else(Vec::new, |shared| shared.directory.lookup(name, shared.clock.wall()));
        Box::pin(async move { if found.is_empty() { Err(Code::UnknownName) } else { Ok(found) } })
    }
}

fn learned(peer: &Shown) -> Learned {
    Learned {
        device: peer.device,
        entity: peer.entity,
        device_name: peer.device_name().to_string(),
        entity_name: peer.entity_name.to_string(),
        moved: true,
    }
}

/// The locators that are known of a record's device.
fn locators_by_record(bindings: &Bindings, record: &[u8]) -> Option<Vec<SocketAddr>> {
    let signer = Signed::<DeviceRecord>::decode(record).ok()?.signer();
    let known = bindings.device(DeviceId::from(signer))?;
    Some(known.record().locators().to_vec())
}

/// The code to tell a peer whose credentials do not count.
pub(crate) fn code(error: &CredentialError) -> Code {
    match error {
        CredentialError::WrongRealm { .. } => Code::WrongRealm,
        CredentialError::NotYetValid { .. } | CredentialError::Expired { .. } => Code::Expired,
        CredentialError::EntityRevoked
        | CredentialError::NameReassigned
        | CredentialError::DeviceRevoked
        | CredentialError::RegistrarRevoked => Code::Revoked,
        _ => Code::Unauthenticated,
    }
}

impl Directory {
    /// The devices that a name stands for, in the order in which to try them.
    pub(crate) fn lookup(&self, name: &Name, now: UnixTime) -> Vec<Candidate> {
        let state = read(&self.state);
        let found = state.bindings.lookup(name, now);
        found.into_iter().map(|binding| candidate(binding, now)).collect()
    }

    /// Whether the name is one that the realm has certified, or spells a key.
    pub(crate) fn entity_of(&self, name: &EntityName) -> Option<EntityId> {
        read(&self.state).bindings.entity_of(name)
    }
}

fn candidate(binding: &Binding, now: UnixTime) -> Candidate {
    let record = binding.record();
    Candidate {
        device: binding.device(),
        name: binding.peer().device_name().to_string(),
        entity: binding.peer().entity,
        ports: record.ports().to_vec(),
        locators: record.locators().to_vec(),
        relays: record.relays().to_vec(),
        epoch: record.epoch(),
        fresh: binding.is_fresh(now),
    }
}

/// When to judge what is kept of others. A clock by which our own certificates are over may be wrong:
/// what counted in their last second is not forgotten for it.
fn plausible(trust: &Trust, now: UnixTime) -> UnixTime {
    now.min(trust.credentials.expires())
}

/// Whether a device's credentials count now.
pub(crate) fn verify(
    home: &Home,
    credentials: &Credentials,
    device: DeviceId,
    now: UnixTime,
) -> Result<Shown, CredentialError> {
    let trust = home.trust();
    credentials.verify(&trust.realm, device, &trust.revocations, now)
}
