//! The bindings that a device knows, its own among them.
//!
//! Records are kept past their life, as the last known place of a device that sleeps, until room
//! is needed or the credentials in them are over. Those that end first make room; what is forgotten
//! can be looked up again. Iteration is in the order of device ids, so that
//! two peers with the same records pass them on in the same order.

use std::collections::BTreeMap;

use cloak_base::{DeviceId, EntityId, Epoch, UnixTime};

use crate::binding::{Binding, BindingError, DeviceRecord};
use crate::device::DEVICES_MAX;
use crate::name::{EntityName, Name};
use crate::realm::Realm;
use crate::revocation::RevocationLists;
use crate::signed::Signed;
use crate::validity::CLOCK_TOLERANCE;

/// Most records that are kept: those of all peers that a gateway has to do with, and some over.
pub const BINDINGS_MAX: usize = 320;

/// Known bindings, at most one per device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bindings {
    own: DeviceId,
    records: BTreeMap<DeviceId, Binding>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is news: pass it on.
    New,
    /// It was known.
    Same,
    /// A newer one is known; whoever sent this one lacks it.
    Stale,
    /// It is this device's own, and not from this run: the home was restored or copied. Publish
    /// above this epoch, and say so.
    Conflict {
        /// Its epoch.
        epoch: Epoch,
    },
}

impl Bindings {
    /// No bindings. `own` is this device, whose records come from [`Bindings::publish`] alone.
    pub fn new(own: DeviceId) -> Self {
        Self { own, records: BTreeMap::new() }
    }

    /// Takes in a record of this device, just made. Publish before the first link is up: until
    /// then any record of this device that comes back counts as a conflict.
    ///
    /// # Errors
    /// When its own credentials do not count: its membership may be over, or a clock wrong.
    pub fn publish(
        &mut self,
        record: Signed<DeviceRecord>,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<(), BindingError> {
        let binding = Binding::verify(record, realm, revocations, now)?;
        self.records.insert(binding.device(), binding);
        Ok(())
    }

    /// Takes in a record from a peer, as it travels.
    ///
    /// # Errors
    /// When it does not count or cannot be kept; nothing was changed.
    pub fn insert(
        &mut self,
        bytes: &[u8],
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Inserted, BindingError> {
        if self.records.values().any(|held| held.bytes() == bytes) {
            return Ok(Inserted::Same); // settled without a signature being verified
        }
        let record = Signed::<DeviceRecord>::decode(bytes)?;
        let device = DeviceId::from(record.signer());
        if self.is_stale(device, &record) {
            return Ok(Inserted::Stale);
        }
        let binding = Binding::verify(record, realm, revocations, now)?;
        if device == self.own {
            return Ok(Inserted::Conflict { epoch: binding.record().epoch() });
        }
        self.keep(binding, now)?;
        Ok(Inserted::New)
    }

    /// Takes in a record from the store: one that is over is kept for its locators.
    ///
    /// # Errors
    /// When it does not count or cannot be kept; nothing was changed.
    pub fn restore(
        &mut self,
        bytes: &[u8],
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<(), BindingError> {
        let record = Signed::<DeviceRecord>::decode(bytes)?;
        self.keep(Binding::verify_kept(record, realm, revocations, now)?, now)
    }

    /// Drops what no longer counts: revoked, or its credentials are over; a clock that is behind
    /// drops nothing. Returns the devices concerned. To be called after revocations and authority changes, and now and then.
    pub fn sweep(
        &mut self,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Vec<DeviceId> {
        let counts = |device: DeviceId, binding: &Binding| {
            let (credentials, made) =
                (binding.record().credentials(), binding.record().validity().issued);
            credentials.verify(realm, device, revocations, now.max(made)).is_ok()
        };
        let dropped = self.records.extract_if(.., |device, held| !counts(*device, held));
        dropped.map(|(device, _)| device).collect()
    }

    /// The binding of a device.
    pub fn device(&self, device: DeviceId) -> Option<&Binding> {
        self.records.get(&device)
    }

    /// The bindings of an entity's devices, in the order in which to try them: fresh ones first,
    /// then by preference, then by id.
    pub fn entity(&self, entity: EntityId, now: UnixTime) -> Vec<&Binding> {
        let mut found: Vec<_> =
            self.records.values().filter(|binding| binding.peer().entity == entity).collect();
        found.sort_by_key(|binding| (!binding.is_fresh(now), binding.record().preference()));
        found
    }

    /// The bindings that a name stands for, in the order in which to try them. Empty if the name is
    /// not known.
    pub fn lookup(&self, name: &Name, now: UnixTime) -> Vec<&Binding> {
        let Some(entity) = self.entity_of(name.entity_name()) else { return Vec::new() };
        let mut found = self.entity(entity, now);
        if let Some(label) = name.device_label() {
            found.retain(|binding| binding.peer().device_label == *label);
        }
        found
    }

    /// The entity with this name.
    pub fn entity_of(&self, name: &EntityName) -> Option<EntityId> {
        match name {
            EntityName::Key(entity) => Some(*entity),
            EntityName::Label(_) => self.holder(name).map(|binding| binding.peer().entity),
        }
    }

    /// Every binding, by device id.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.records.values()
    }

    /// Number of bindings.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a newer record of the device is known. Of two records with one epoch, made by copies
    /// of one home, every peer keeps the same, and their device hears of the conflict.
    fn is_stale(&self, device: DeviceId, record: &Signed<DeviceRecord>) -> bool {
        let rank = |record: &Signed<DeviceRecord>| (record.epoch(), record.payload().to_vec());
        self.records.get(&device).map(Binding::signed).is_some_and(|held| {
            let is_copy = device == self.own && held.epoch() == record.epoch();
            !is_copy && rank(held) > rank(record)
        })
    }

    fn holder(&self, name: &EntityName) -> Option<&Binding> {
        self.records.values().find(|binding| binding.peer().entity_name.entity_name() == name)
    }

    fn keep(&mut self, binding: Binding, now: UnixTime) -> Result<(), BindingError> {
        self.settle_name(&binding, now)?;
        let (device, entity) = (binding.device(), binding.peer().entity);
        if !self.records.contains_key(&device) {
            let siblings = self.entity(entity, now).len();
            if siblings >= DEVICES_MAX {
                let stale = |held: &Binding| held.peer().entity == entity && !held.is_fresh(now);
                self.forget_first(stale).ok_or(BindingError::Full)?;
            } else if self.records.len() >= BINDINGS_MAX {
                self.forget_first(|_| true).ok_or(BindingError::Full)?;
            }
        }
        self.records.insert(device, binding);
        Ok(())
    }

    /// A name goes on to another entity only by a later membership that the authority signed, or
    /// when the present holder's membership is over.
    fn settle_name(&mut self, new: &Binding, now: UnixTime) -> Result<(), BindingError> {
        let Some(holder) = self.holder(new.peer().entity_name.entity_name()) else {
            return Ok(());
        };
        let old = holder.peer().entity;
        if old == new.peer().entity {
            return Ok(());
        }
        let claim = |binding: &Binding| {
            let chain = binding.record().credentials().membership();
            (chain.is_by_authority(), chain.membership.validity.issued)
        };
        let is_over = now > holder.peer().expires + CLOCK_TOLERANCE;
        let is_given = claim(new).0 && claim(new) > claim(holder);
        let is_own = self.device(self.own).is_some_and(|own| own.peer().entity == old);
        if is_own || !(is_over || is_given) {
            return Err(BindingError::NameTaken);
        }
        self.records.retain(|_, held| held.peer().entity != old);
        Ok(())
    }

    /// Of the records of other devices `among` which one may go, the one that ends first goes.
    fn forget_first(&mut self, among: impl Fn(&Binding) -> bool) -> Option<Binding> {
        let others = self.records.values().filter(|held| held.device() != self.own && among(held));
        let first = others.min_by_key(|held| held.record().validity().expires)?.device();
        self.records.remove(&first)
    }
}
