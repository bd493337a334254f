//! The device records that this gateway has met: those that linked peers showed, and those that it
//! looked up.
//!
//! The records are signed and fenced by their epochs, so that a peer can withhold but not forge or
//! roll back. They outlive restarts, and are what a gateway knows of the realm when it starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use cloak_base::{DeviceId, EntityId, Epoch, Instant, UnixTime};
use cloak_identity::{
    Announcement, Binding, BindingError, Bindings, CredentialError, Credentials, DeviceRecord,
    EntityName, Inserted, Name, Peer as Shown, Signed,
};
use cloak_overlay::Address;
use cloak_transport::{Policy, dialable};
use cloak_wire::{Code, LOCATORS_MAX};

use crate::home::Home;
use crate::overlay::degree;
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
/// Devices whose locators the overlay told us, at most.
const CONTACTS_MAX: usize = 256;
/// A record that came within this time counts as news.
const CURRENT_FOR: Duration = Duration::from_secs(60);

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
    /// Where it is in the overlay, or a host of it.
    pub address: Option<Address>,
    /// Epoch of its record.
    pub epoch: Epoch,
    /// Whether the record has not expired.
    pub fresh: bool,
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
    /// It is the one that we have of this device.
    Known(DeviceId),
    /// We have a newer one.
    Stale,
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
    /// Addresses that overlay peers told of others.
    contacts: BTreeMap<DeviceId, Arc<[SocketAddr]>>,
    /// When a record last came, from its device or from a binder.
    met: BTreeMap<DeviceId, Instant>,
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
        let (hints, contacts, met) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let state = State { own, epoch, bindings, hints, contacts, met };
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

    /// Makes and takes in our own record, above every epoch seen of it, whatever epoch is said.
    ///
    /// # Errors
    /// Our own credentials do not count: expired, revoked, or a wrong clock.
    pub(crate) fn publish(
        &self,
        home: &Home,
        said: Announcement,
        now: UnixTime,
    ) -> Result<Signed<DeviceRecord>, BindingError> {
        let trust = home.trust();
        let mut state = write(&self.state);
        let epoch = state.epoch.next();
        let announcement = Announcement { epoch, ..said };
        let record = DeviceRecord::sign(&home.keys().device, &trust.credentials, announcement, now);
        state.bindings.publish(record.clone(), &trust.realm, &trust.revocations, now)?;
        state.epoch = epoch;
        Ok(record)
    }

    /// Somebody published a record of ours with this epoch: ours go above it.
    pub(crate) fn raise_epoch(&self, epoch: Epoch) {
        let mut state = write(&self.state);
        state.epoch = state.epoch.max(epoch);
    }

    /// A record came just now, whether or not it was news.
    pub(crate) fn note_met(&self, device: DeviceId, now: Instant) {
        let mut state = write(&self.state);
        state.met.insert(device, now);
        if state.met.len() > cloak_identity::BINDINGS_MAX {
            let State { met, bindings, .. } = &mut *state;
            met.retain(|device, _| bindings.device(*device).is_some());
        }
    }

    /// Whether a device's record came lately enough not to be looked up again.
    pub(crate) fn is_current(&self, device: DeviceId, now: Instant) -> bool {
        let state = read(&self.state);
        let met = state.met.get(&device).is_some_and(|met| now.since(*met) < CURRENT_FOR);
        met && state.bindings.device(device).is_some()
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
            Inserted::Same => Ok(signer_of(record).map_or(Learning::Stale, Learning::Known)),
            Inserted::Stale => Ok(Learning::Stale),
            Inserted::Conflict { epoch } => {
                state.epoch = state.epoch.max(epoch);
                Ok(Learning::Conflict(epoch))
            }
            Inserted::New => {
                let news = state.bindings.iter().find(|binding| binding.bytes() == record);
                Ok(news.map_or(Learning::Stale, |binding| {
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

    /// What is known of a device.
    pub(crate) fn device(&self, device: DeviceId) -> Option<Learned> {
        read(&self.state).bindings.device(device).map(|binding| learned(binding.peer()))
    }

    /// Where a device is in the overlay, as its record says.
    pub(crate) fn address_of(&self, device: DeviceId) -> Option<Address> {
        read(&self.state).bindings.device(device).and_then(|binding| address(binding.record()))
    }

    /// The known devices of an entity.
    pub(crate) fn devices_of(&self, entity: EntityId, now: UnixTime) -> Vec<DeviceId> {
        let state = read(&self.state);
        state.bindings.entity(entity, now).into_iter().map(Binding::device).collect()
    }

    /// Every other device that may be dialled, and where it was last.
    pub(crate) fn contacts(&self) -> Vec<(DeviceId, Vec<SocketAddr>)> {
        let state = read(&self.state);
        let others = state.bindings.iter().filter(|binding| binding.device() != state.own);
        let known = others.map(|binding| (binding.device(), binding.record().locators().to_vec()));
        known.filter(|(_, locators)| !locators.is_empty()).collect()
    }

    /// Where a device says it may be dialled, and whether it said anything at all.
    pub(crate) fn contact(&self, device: DeviceId) -> (Vec<SocketAddr>, bool) {
        let state = read(&self.state);
        let known = state.bindings.device(device).map(|binding| binding.record().locators());
        (known.unwrap_or_default().to_vec(), known.is_some())
    }

    /// Notes where a device is, as an overlay peer says.
    pub(crate) fn note_contact(&self, device: DeviceId, locators: &Arc<[SocketAddr]>) {
        let mut state = write(&self.state);
        if state.contacts.len() >= CONTACTS_MAX && !state.contacts.contains_key(&device) {
            state.contacts.pop_first();
        }
        state.contacts.insert(device, Arc::clone(locators));
    }

    /// Our own record, as it travels.
    pub(crate) fn own_record(&self) -> Option<Vec<u8>> {
        let own = read(&self.state).own;
        self.record_of(own)
    }

    /// The record of a device, as it travels.
    pub(crate) fn record_of(&self, device: DeviceId) -> Option<Vec<u8>> {
        read(&self.state).bindings.device(device).map(|binding| binding.bytes().to_vec())
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
        let (hinted, mut all) = {
            let state = read(&self.state);
            let told = state.contacts.get(&device).map(|told| told.to_vec());
            (state.hints.get(&device).cloned().unwrap_or_default(), told.unwrap_or_default())
        };
        let published = self.published(device);
        all.retain(|locator| !published.contains(locator));
        all.splice(0..0, published);
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

fn learned(peer: &Shown) -> Learned {
    Learned {
        device: peer.device,
        entity: peer.entity,
        device_name: peer.device_name().to_string(),
        entity_name: peer.entity_name.to_string(),
        moved: true,
    }
}

/// Whose record it is.
pub(crate) fn signer_of(record: &[u8]) -> Option<DeviceId> {
    Signed::<DeviceRecord>::decode(record).ok().map(|record| DeviceId::from(record.signer()))
}

/// The locators that are known of a record's device.
fn locators_by_record(bindings: &Bindings, record: &[u8]) -> Option<Vec<SocketAddr>> {
    let known = bindings.device(signer_of(record)?)?;
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

fn address(record: &DeviceRecord) -> Option<Address> {
    record.address().and_then(|path| Address::from_bytes(path, degree()).ok())
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
        address: address(record),
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
