//! Revocations: what ends a membership or a device before its certificate does.
//!
//! The authority keeps one list of revoked entities and registrars. An entity keeps a list of its
//! revoked devices, and so does each of its stewards: these lists add up, so that a stolen steward
//! cannot take back what others revoked. A steward's list no longer counts once the entity's own
//! revokes it. Each list carries a serial; of one issuer's lists the highest is kept.
//!
//! With the lists goes what is known of names that went on to others, see [`NameHolders`].
//!
//! Lists of other entities are merged as peers pass them on. Give [`RevocationLists::merge`] only
//! what came from an authenticated peer: the number of entities is bounded, but the certificates
//! of these are not checked.

use std::collections::{BTreeMap, BTreeSet};

use cloak_base::{DeviceId, EntityId, RealmId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::device::{Certifier, STEWARDS_MAX, StewardCertificate};
use crate::holders::NameHolders;
use crate::key::{PublicKey, SecretKey};
use crate::realm::Realm;
use crate::signed::{Record, Signed};

/// Most revoked entities in the realm's list. It has to fit one control frame (8 KiB).
pub const REVOKED_ENTITIES_MAX: usize = 192;
/// Most revoked registrars in the realm's list.
pub const REVOKED_REGISTRARS_MAX: usize = 16;
/// Most revoked devices in one list of an entity.
pub const REVOKED_DEVICES_MAX: usize = 64;
/// What a control frame (8 KiB) leaves for the one byte string in it.
const FRAME_BODY_MAX: usize = 8 * 1024 - 8;
/// Most entities whose lists are kept.
const ENTITIES_MAX: usize = 1024;
/// Most issuers per entity whose lists are kept: the entity and its stewards.
const ISSUERS_MAX: usize = 1 + STEWARDS_MAX;
/// Highest serial. Far more than anyone issues, and the sum over all issuers cannot overflow.
const SERIAL_MAX: u64 = 1 << 48;
/// CBOR bytes of one 32-byte id.
const ID_LEN: usize = 34;

/// The realm's list. Signed by the authority.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RealmRevocations {
    /// Of this realm.
    #[n(0)]
    pub realm: RealmId,
    /// Rises with every change.
    #[n(1)]
    pub serial: u64,
    /// Revoked members.
    #[n(2)]
    pub entities: BTreeSet<EntityId>,
    /// Revoked registrars.
    #[n(3)]
    pub registrars: BTreeSet<DeviceId>,
}

/// A list of an entity's revoked devices. Signed by the entity or a steward.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EntityRevocations {
    /// Of this realm.
    #[n(0)]
    pub realm: RealmId,
    /// Whose devices.
    #[n(1)]
    pub entity: EntityId,
    /// Rises with every change.
    #[n(2)]
    pub serial: u64,
    /// When it was made; a steward had to be one at that time.
    #[n(3)]
    pub issued: UnixTime,
    /// Revoked devices.
    #[n(4)]
    pub devices: BTreeSet<DeviceId>,
}

/// An entity's list with what shows that its signer was allowed to sign it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RevocationChain {
    /// The list.
    #[n(0)]
    pub revocations: Signed<EntityRevocations>,
    /// Of the steward that signed it; none where the entity did.
    #[n(1)]
    pub steward: Option<Signed<StewardCertificate>>,
}

/// A list as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RevocationList {
    /// Of the realm.
    #[n(0)]
    Realm(#[n(0)] Signed<RealmRevocations>),
    /// Of an entity.
    #[n(1)]
    Entity(#[n(0)] Box<RevocationChain>),
}

/// The lists that are known here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevocationLists {
    realm: Option<Signed<RealmRevocations>>,
    entities: BTreeMap<EntityId, BTreeMap<PublicKey, RevocationChain>>,
    /// No list says it, but it ends memberships as well.
    holders: NameHolders,
}

/// A list that does not count, or cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Not a list at all, or a wrong signature.
    #[error("the revocation list is unreadable: {0}")]
    Decode(#[from] DecodeError),
    /// Of another realm.
    #[error("the revocation list belongs to another realm")]
    WrongRealm,
    /// The signer of the realm's list is not the authority; of an entity's, neither the entity nor
    /// a steward of it.
    #[error("the revocation list was signed by somebody who may not")]
    NotTheIssuer,
    /// A serial that no honest issuer reaches.
    #[error("the revocation list has an impossible serial")]
    Serial,
    /// A limit here: nothing was changed.
    #[error("too many revocations")]
    Full,
}

impl Record for RealmRevocations {
    const DOMAIN: &'static str = "realm-revocations";
    const PAYLOAD_MAX: usize = 64 + (REVOKED_ENTITIES_MAX + REVOKED_REGISTRARS_MAX) * ID_LEN;
}

impl Record for EntityRevocations {
    const DOMAIN: &'static str = "entity-revocations";
    const PAYLOAD_MAX: usize = 112 + REVOKED_DEVICES_MAX * ID_LEN;
}

const _: () = assert!(RevocationList::MAX <= FRAME_BODY_MAX);
const _: () = assert!(RevocationChain::MAX <= RevocationList::MAX);

impl RevocationList {
    /// Most bytes of the encoding.
    pub const MAX: usize = 8 + Signed::<RealmRevocations>::MAX;

    /// The list as it travels.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a list; its signatures hold, whether it counts is for [`RevocationLists::merge`].
    ///
    /// # Errors
    /// Anything but the one encoding of a validly signed list.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }
}

impl RevocationLists {
    /// No lists.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns of a list; true when it is news, and so to be kept and passed on.
    ///
    /// # Errors
    /// When it does not count, or cannot be kept.
    pub fn merge(
        &mut self,
        list: RevocationList,
        realm: &Realm,
        now: UnixTime,
    ) -> Result<bool, RevocationError> {
        match list {
            RevocationList::Realm(list) => self.merge_realm(list, realm, now),
            RevocationList::Entity(chain) => self.merge_entity(*chain, realm),
        }
    }

    /// Whether the realm revoked the entity.
    pub fn is_revoked(&self, entity: EntityId) -> bool {
        self.realm.as_ref().is_some_and(|list| list.entities.contains(&entity))
    }

    /// Whether the realm revoked the registrar.
    pub fn is_registrar_revoked(&self, device: DeviceId) -> bool {
        self.realm.as_ref().is_some_and(|list| list.registrars.contains(&device))
    }

    /// Whether the entity, or a steward of it, revoked the device.
    pub fn is_device_revoked(&self, entity: EntityId, device: DeviceId) -> bool {
        self.counting(entity).any(|list| list.devices.contains(&device))
    }

    /// Who holds which name: a membership can be ended by a newer one of its name.
    pub fn holders(&self) -> &NameHolders {
        &self.holders
    }

    /// As [`RevocationLists::holders`], to note what was verified, or what the store kept.
    pub fn holders_mut(&mut self) -> &mut NameHolders {
        &mut self.holders
    }

    /// Serial of the realm's list, for `Hello`. Peers whose serials differ, either way, exchange
    /// lists.
    pub fn realm_serial(&self) -> u64 {
        self.realm.as_ref().map_or(0, |list| list.serial)
    }

    /// Sum of the serials of an entity's lists, for `Hello`. Peers whose sums differ, either way,
    /// exchange lists.
    pub fn entity_serial(&self, entity: EntityId) -> u64 {
        self.counting(entity).map(|list| list.serial).sum()
    }

    /// The realm's list, as it travels.
    pub fn realm_list(&self) -> Option<RevocationList> {
        self.realm.clone().map(RevocationList::Realm)
    }

    /// The lists of an entity, as they travel.
    pub fn entity_lists(&self, entity: EntityId) -> impl Iterator<Item = RevocationList> {
        self.entities
            .get(&entity)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(RevocationChain::to_list)
    }

    /// Every list, as it travels, in a fixed order: for the store and for whoever joins.
    pub fn iter(&self) -> impl Iterator<Item = RevocationList> {
        let entities =
            self.entities.values().flat_map(BTreeMap::values).map(RevocationChain::to_list);
        self.realm_list().into_iter().chain(entities)
    }

    /// Revokes a device of the certifier's entity. The list, already merged, is to be passed on.
    ///
    /// # Errors
    /// [`RevocationError::Full`].
    pub fn revoke_device(
        &mut self,
        certifier: &Certifier<'_>,
        realm: &Realm,
        now: UnixTime,
        device: DeviceId,
    ) -> Result<RevocationList, RevocationError> {
        let entity = certifier.entity_id();
        let held = self.entities.get(&entity);
        let own = held.and_then(|lists| lists.get(&certifier.key().public_key()));
        let mut devices = own.map(|own| own.revocations.devices.clone()).unwrap_or_default();
        devices.insert(device);
        if devices.len() > REVOKED_DEVICES_MAX {
            return Err(RevocationError::Full);
        }
        let highest =
            held.into_iter().flat_map(BTreeMap::values).map(|held| held.revocations.serial).max();
        let serial = highest.unwrap_or(0) + 1;
        let next = EntityRevocations { realm: realm.id(), entity, serial, issued: now, devices };
        let steward = certifier.steward_certificate().cloned();
        let revocations = Signed::sign(next, certifier.key());
        let list = RevocationChain { revocations, steward }.to_list();
        self.merge(list.clone(), realm, now)?;
        Ok(list)
    }

    /// Issues the realm's next list.
    pub(crate) fn revise_realm(
        &mut self,
        realm: &Realm,
        authority: &SecretKey,
        change: impl FnOnce(&mut RealmRevocations),
    ) -> Result<RevocationList, RevocationError> {
        let empty = || RealmRevocations {
            realm: realm.id(),
            serial: 0,
            entities: BTreeSet::new(),
            registrars: BTreeSet::new(),
        };
        let mut next = self.realm.clone().map_or_else(empty, Signed::into_record);
        change(&mut next);
        if next.entities.len() > REVOKED_ENTITIES_MAX
            || next.registrars.len() > REVOKED_REGISTRARS_MAX
        {
            return Err(RevocationError::Full);
        }
        next.serial = (next.serial + 1).min(SERIAL_MAX);
        let list = Signed::sign(next, authority);
        self.realm = Some(list.clone());
        Ok(RevocationList::Realm(list))
    }

    /// The present authority's list goes before that of the one it replaced, whatever the serials.
    fn merge_realm(
        &mut self,
        list: Signed<RealmRevocations>,
        realm: &Realm,
        now: UnixTime,
    ) -> Result<bool, RevocationError> {
        if list.realm != realm.id() {
            return Err(RevocationError::WrongRealm);
        }
        if !realm.is_authority(list.signer(), now) {
            return Err(RevocationError::NotTheIssuer);
        }
        if list.serial > SERIAL_MAX {
            return Err(RevocationError::Serial);
        }
        let rank =
            |list: &Signed<RealmRevocations>| (list.signer() == realm.authority(), list.serial);
        let newer = self.realm.as_ref().is_none_or(|held| rank(held) < rank(&list));
        if newer {
            self.realm = Some(list);
        }
        Ok(newer)
    }

    fn merge_entity(
        &mut self,
        new: RevocationChain,
        realm: &Realm,
    ) -> Result<bool, RevocationError> {
        new.verify(realm.id())?;
        let (entity, issuer) = (new.revocations.entity, new.revocations.signer());
        if !self.entities.contains_key(&entity) && self.entities.len() >= ENTITIES_MAX {
            return Err(RevocationError::Full);
        }
        let lists = self.entities.entry(entity).or_default();
        let held = lists.get(&issuer);
        if held.is_some_and(|held| held.revocations.serial >= new.revocations.serial) {
            return Ok(false);
        }
        let is_own = EntityId::from(issuer) == entity;
        if held.is_none() && !is_own && lists.len() >= ISSUERS_MAX {
            return Err(RevocationError::Full);
        }
        lists.insert(issuer, new);
        Ok(true)
    }

    /// The lists of an entity that count: its own, and those of stewards that its own leaves be.
    fn counting(&self, entity: EntityId) -> impl Iterator<Item = &EntityRevocations> {
        let lists = self.entities.get(&entity);
        let own = lists.and_then(|lists| lists.get(&PublicKey::from(entity)));
        lists
            .into_iter()
            .flatten()
            .filter(move |(issuer, _)| {
                own.is_none_or(|own| !own.revocations.devices.contains(&DeviceId::from(**issuer)))
            })
            .map(|(_, held)| &*held.revocations)
    }
}

impl RevocationChain {
    const MAX: usize = 8 + Signed::<EntityRevocations>::MAX + Signed::<StewardCertificate>::MAX;

    fn to_list(&self) -> RevocationList {
        RevocationList::Entity(Box::new(self.clone()))
    }

    fn verify(&self, realm: RealmId) -> Result<(), RevocationError> {
        let list = &self.revocations;
        if list.realm != realm {
            return Err(RevocationError::WrongRealm);
        }
        let allowed = match &self.steward {
            None => EntityId::from(list.signer()) == list.entity,
            Some(steward) => {
                steward.is_of(realm, list.entity)
                    && steward.device == DeviceId::from(list.signer())
                    && steward.validity.check(list.issued).is_ok()
            }
        };
        if !allowed {
            return Err(RevocationError::NotTheIssuer);
        }
        if list.serial > SERIAL_MAX { Err(RevocationError::Serial) } else { Ok(()) }
    }
}
