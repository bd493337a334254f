//! Entity records: signed, fenced records that say which devices an entity has.
//!
//! An [`EntityRecord`] is found under the entity's name and under its id. Any device of the entity
//! signs it: it carries that device's credentials, and of the others the ids alone, for each of
//! them publishes its own certificates in its [`DeviceRecord`](crate::DeviceRecord). A device that
//! is listed and is not the entity's therefore gains nothing: its own record names another entity.
//!
//! Several devices may sign at the same time. Their epochs differ ([`EntityRecord::epoch_above`]),
//! the highest counts everywhere, and who finds itself missing signs again
//! ([`EntityRecord::devices_to_list`]).

use std::collections::BTreeSet;
use std::time::Duration;

use cloak_base::{DeviceId, EntityId, Epoch, UnixTime};
use minicbor::{Decode, Encode};

use crate::binding::BindingError;
use crate::codec;
use crate::credentials::{CREDENTIALS_MAX, Credentials, Peer};
use crate::device::DEVICES_MAX;
use crate::key::SecretKey;
use crate::name::Name;
use crate::realm::Realm;
use crate::record_key::RecordKey;
use crate::revocation::RevocationLists;
use crate::signed::{Record, Signed};
use crate::validity::{CLOCK_TOLERANCE, Validity};

/// Most devices that a record lists: all that an entity has, and as many that were replaced and not
/// revoked.
pub const LISTED_DEVICES_MAX: usize = 2 * DEVICES_MAX;
/// How long an entity record counts. The entity's devices sign it anew from half of that on.
pub const ENTITY_RECORD_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Bits of an epoch that tell the signers apart; above them are seconds.
const SIGNER_BITS: u32 = 16;
/// Highest second of an epoch.
const SECOND_MAX: u64 = u64::MAX >> SIGNER_BITS;
/// How far an epoch may be ahead of the time at which its record was made: of two signers the one
/// clock may be as far ahead as the other is behind, and signing again in one second adds a second
/// each time. An epoch beyond that would keep every later record out.
const EPOCH_LEAD_MAX: Duration = Duration::from_secs(3 * CLOCK_TOLERANCE.as_secs());

/// Which devices an entity has. Signed by one of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EntityRecord {
    #[n(0)]
    credentials: Credentials,
    #[n(1)]
    #[cbor(decode_with = "codec::set_at_most::<_, _, LISTED_DEVICES_MAX>")]
    devices: BTreeSet<DeviceId>,
    #[n(2)]
    epoch: Epoch,
    #[n(3)]
    validity: Validity,
}

/// An entity record that was verified, with the bytes in which it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityBinding {
    record: Signed<EntityRecord>,
    bytes: Vec<u8>,
    signer: Peer,
}

const _: () = assert!(Signed::<EntityRecord>::MAX <= 7 * 1024, "fits a record of the overlay");

impl Record for EntityRecord {
    const DOMAIN: &'static str = "entity-record";
    /// Credentials, 32 ids of 34 bytes, and the rest.
    const PAYLOAD_MAX: usize = CREDENTIALS_MAX + LISTED_DEVICES_MAX * 34 + 64;
}

impl EntityRecord {
    /// Makes and signs the record of the entity whose device has this key. The signer is listed
    /// whether or not `devices` has it; of more than [`LISTED_DEVICES_MAX`] the last are left out.
    /// `epoch` is to be one of [`EntityRecord::epoch_above`].
    pub fn sign(
        device: &SecretKey,
        credentials: &Credentials,
        devices: impl IntoIterator<Item = DeviceId>,
        epoch: Epoch,
        now: UnixTime,
    ) -> Signed<Self> {
        let devices = first_of(std::iter::once(device.device_id()).chain(devices));
        let validity = Validity::starting(now, ENTITY_RECORD_LIFE);
        Signed::sign(Self { credentials: credentials.clone(), devices, epoch, validity }, device)
    }

    /// The devices that our entity's record is to list, where it is to be signed anew; `None` while
    /// `found` is complete: it has our present name, lists us and all that we know, and has more
    /// than half of its life left.
    ///
    /// `own` are our credentials, `known` the devices of our entity that we know, the most
    /// important first, `found` the verified record that is published. Its devices are taken over:
    /// others may know what we do not. What our revocation lists name is left out, but is no reason
    /// to sign: a device that lacks the revocation would add it again.
    pub fn devices_to_list(
        own: &Credentials,
        known: impl IntoIterator<Item = DeviceId>,
        found: Option<&EntityBinding>,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Option<BTreeSet<DeviceId>> {
        let entity = own.membership().membership.entity;
        let counts = |device: &DeviceId| !revocations.is_device_revoked(entity, *device);
        let found = found.filter(|found| found.entity() == entity);
        let known = std::iter::once(own.device().certificate.device).chain(known);
        let wanted = first_of(known.filter(counts));
        let is_complete = found.is_some_and(|found| {
            let is_fresh = !found.validity().is_renewal_due(now);
            is_fresh && found.is_of(own) && wanted.is_subset(found.devices())
        });
        let listed = found.into_iter().flat_map(|found| found.devices().iter().copied());
        (!is_complete).then(|| first_of(wanted.into_iter().chain(listed.filter(counts))))
    }

    /// An epoch for a record that `signer` makes `now`: above `seen`, the highest that was seen,
    /// its own included, and not that of another device. The seconds stand above bits of the
    /// signer's id, so that of two devices that sign in one second everybody takes the same. Two
    /// whose ids begin alike, one pair in 65,536, can meet: binders then keep the greater bytes
    /// and tell the other one.
    pub fn epoch_above(seen: Epoch, signer: DeviceId, now: UnixTime) -> Epoch {
        let [high, low, ..] = *signer.as_bytes();
        let epoch = |second: u64| {
            let second = second.min(SECOND_MAX) << SIGNER_BITS;
            Epoch(second | u64::from(u16::from_be_bytes([high, low])))
        };
        let first = epoch(now.0.max(second_of(seen)));
        if first > seen { first } else { epoch(second_of(seen) + 1) }
    }

    /// The entity's devices, the signer among them.
    pub fn devices(&self) -> &BTreeSet<DeviceId> {
        &self.devices
    }

    /// The signer's certificates.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The highest counts.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When it was made, and until when it counts.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl EntityBinding {
    /// Verifies a record that arrived.
    ///
    /// # Errors
    /// The first reason why it does not count.
    pub fn verify(
        record: Signed<EntityRecord>,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Self, BindingError> {
        let (signer, validity) = (DeviceId::from(record.signer()), record.validity);
        validity.check(now)?;
        if validity.expires.since(validity.issued) > ENTITY_RECORD_LIFE {
            return Err(BindingError::TooLong);
        }
        if second_of(record.epoch) > (validity.issued + EPOCH_LEAD_MAX).0 {
            return Err(BindingError::EpochAhead);
        }
        if !record.devices.contains(&signer) {
            return Err(BindingError::SignerNotListed);
        }
        let signer = record.credentials.verify(realm, signer, revocations, now)?;
        Ok(Self { bytes: record.encode(), record, signer })
    }

    /// The entity.
    pub fn entity(&self) -> EntityId {
        self.signer.entity
    }

    /// The entity's name, `alice.cloak`.
    pub fn entity_name(&self) -> &Name {
        &self.signer.entity_name
    }

    /// The entity's devices. A word of the signer: what each of them is, its own record shows.
    pub fn devices(&self) -> &BTreeSet<DeviceId> {
        &self.record.devices
    }

    /// The highest counts.
    pub fn epoch(&self) -> Epoch {
        self.record.epoch
    }

    /// When it was made, and until when it counts.
    pub fn validity(&self) -> Validity {
        self.record.validity
    }

    /// Who signed it.
    pub fn signer(&self) -> &Peer {
        &self.signer
    }

    /// The record as it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it may be found under the key: its entity's name, or its entity.
    pub fn is_under(&self, key: &RecordKey) -> bool {
        let name = RecordKey::from(self.entity_name().entity_name());
        *key == name || *key == RecordKey::Entity(self.entity())
    }

    /// Whether it is about the entity and the name that `own` certifies.
    fn is_of(&self, own: &Credentials) -> bool {
        let (ours, theirs) =
            (&own.membership().membership, &self.record.credentials.membership().membership);
        (ours.entity, &ours.name) == (theirs.entity, &theirs.name)
    }
}

/// The second in which an epoch was made.
fn second_of(epoch: Epoch) -> u64 {
    epoch.0 >> SIGNER_BITS
}

/// The first [`LISTED_DEVICES_MAX`] different devices.
fn first_of(devices: impl Iterator<Item = DeviceId>) -> BTreeSet<DeviceId> {
    let mut first = BTreeSet::new();
    for device in devices {
        if first.len() >= LISTED_DEVICES_MAX {
            break;
        }
        first.insert(device);
    }
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(high: u8, low: u8) -> DeviceId {
        let mut bytes = [0; 32];
        (bytes[0], bytes[1]) = (high, low);
        DeviceId::from_bytes(bytes)
    }

    #[test]
    fn two_devices_that_sign_in_one_second_have_different_epochs_in_the_order_of_their_ids() {
        let (now, seen) = (UnixTime(1_795_305_600), Epoch(1_795_305_599 << 16));
        let (a, b) = (
            EntityRecord::epoch_above(seen, device(1, 0), now),
            EntityRecord::epoch_above(seen, device(0, 255), now),
        );
        assert_eq!((a, b), (Epoch(now.0 << 16 | 0x100), Epoch(now.0 << 16 | 0xff)));
        // Both go on above the higher one, in the same second still, and differ again.
        let (a, b) = (
            EntityRecord::epoch_above(a, device(1, 0), now),
            EntityRecord::epoch_above(a, device(0, 255), now),
        );
        assert_eq!((a.0, b.0), ((now.0 + 1) << 16 | 0x100, (now.0 + 1) << 16 | 0xff));
    }

    #[test]
    fn the_last_epoch_is_not_left() {
        let last = Epoch(u64::MAX);
        assert_eq!(EntityRecord::epoch_above(last, device(255, 255), UnixTime(u64::MAX)), last);
        assert_eq!(
            second_of(EntityRecord::epoch_above(last, device(0, 1), UnixTime(0))),
            SECOND_MAX
        );
    }

    proptest! {
        #[test]
        fn an_epoch_is_above_the_seen_one_and_shows_its_signer(
            seen in 0..(SECOND_MAX << SIGNER_BITS), now in 0..SECOND_MAX, high: u8, low: u8,
        ) {
            let epoch = EntityRecord::epoch_above(Epoch(seen), device(high, low), UnixTime(now));
            prop_assert!(epoch > Epoch(seen));
            prop_assert!(second_of(epoch) >= now && second_of(epoch) <= now.max((seen >> 16) + 1));
            prop_assert_eq!(epoch.0 & 0xffff, u64::from(u16::from_be_bytes([high, low])));
        }
    }
}
