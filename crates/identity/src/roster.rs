//! The roster: members and devices as a registrar, or an entity's own device, knows them.
//!
//! It is how a registrar tells that a name is in use, and what `member list` and `device list`
//! show. The driver persists it after every change.

use std::collections::BTreeMap;

use cloak_base::{DeviceId, EntityId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::device::{DEVICES_MAX, DeviceCertificate};
use crate::membership::MembershipChain;
use crate::name::Label;
use crate::revocation::RevocationLists;
use crate::validity::CLOCK_TOLERANCE;

/// Most members that are remembered.
pub const MEMBERS_MAX: usize = 4096;
/// Bytes of the largest entry: label, id, time.
const ENTRY_MAX: usize = 2 + 63 + 34 + 9 + 1;

/// Known members by name, and the devices of the own entity by label.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Roster {
    #[n(0)]
    members: BTreeMap<Label, Member>,
    #[n(1)]
    devices: BTreeMap<Label, EntityDevice>,
}

/// A member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// Its key.
    #[n(0)]
    pub entity: EntityId,
    /// When its membership ends, unless renewed.
    #[n(1)]
    pub expires: UnixTime,
}

/// A device of the own entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct EntityDevice {
    /// Its key.
    #[n(0)]
    pub device: DeviceId,
    /// When its certificate ends.
    #[n(1)]
    pub expires: UnixTime,
}

/// A name or label that is in use, or no room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Somebody else has the name, and neither was revoked nor has expired.
    #[error("the name is in use by another key")]
    NameTaken,
    /// Another device of the entity has the label.
    #[error("another device of the entity has that label")]
    LabelTaken,
    /// Every place is taken by a live entry.
    #[error("the realm has no room for another member, or the entity for another device")]
    Full,
}

impl Roster {
    /// Most bytes of the encoding.
    pub const MAX: usize = 16 + (MEMBERS_MAX + DEVICES_MAX) * ENTRY_MAX;

    /// Whether `entity` may have `name`: it has it already, or nobody has.
    ///
    /// # Errors
    /// [`RosterError::NameTaken`], [`RosterError::Full`].
    pub fn check_member(
        &self,
        now: UnixTime,
        name: &Label,
        entity: EntityId,
        revocations: &RevocationLists,
    ) -> Result<(), RosterError> {
        let is_live = |member: &Member| {
            is_live(member.expires, now) && !revocations.is_revoked(member.entity)
        };
        match self.members.get(name) {
            Some(member) if member.entity != entity && is_live(member) => {
                Err(RosterError::NameTaken)
            }
            Some(_) => Ok(()),
            None if self.members.len() < MEMBERS_MAX => Ok(()),
            None if self.members.values().any(|member| !is_live(member)) => Ok(()),
            None => Err(RosterError::Full),
        }
    }

    /// Whether `device` may have `label` within the own entity.
    ///
    /// # Errors
    /// [`RosterError::LabelTaken`], [`RosterError::Full`].
    pub fn check_device(
        &self,
        now: UnixTime,
        label: &Label,
        device: DeviceId,
        entity: EntityId,
        revocations: &RevocationLists,
    ) -> Result<(), RosterError> {
        let is_live = |held: &EntityDevice| {
            is_live(held.expires, now) && !revocations.is_device_revoked(entity, held.device)
        };
        match self.devices.get(label) {
            Some(held) if held.device != device && is_live(held) => Err(RosterError::LabelTaken),
            Some(_) => Ok(()),
            None if self.devices.len() < DEVICES_MAX => Ok(()),
            None if self.devices.values().any(|held| !is_live(held)) => Ok(()),
            None => Err(RosterError::Full),
        }
    }

    /// Remembers a member whose chain was verified; true when that changed anything. A membership
    /// signed by the authority takes a name over, any other does not.
    pub fn note_member(
        &mut self,
        now: UnixTime,
        chain: &MembershipChain,
        revocations: &RevocationLists,
    ) -> bool {
        let (entity, name) = (chain.membership.entity, &chain.membership.name);
        match self.check_member(now, name, entity, revocations) {
            Err(RosterError::NameTaken) if chain.is_by_authority() => {}
            Err(_) => return false,
            Ok(()) => {}
        }
        if !self.members.contains_key(name) && self.members.len() >= MEMBERS_MAX {
            self.members.retain(|_, member| {
                is_live(member.expires, now) && !revocations.is_revoked(member.entity)
            });
        }
        let member = Member { entity, expires: chain.expires() };
        let newer = self
            .members
            .get(name)
            .is_none_or(|held| held.entity != entity || held.expires < member.expires);
        if newer {
            self.members.insert(name.clone(), member);
        }
        newer
    }

    /// Remembers a device of the own entity; true when that changed anything.
    pub fn note_device(
        &mut self,
        now: UnixTime,
        certificate: &DeviceCertificate,
        revocations: &RevocationLists,
    ) -> bool {
        let (device, entity) = (certificate.device, certificate.entity);
        if self.check_device(now, &certificate.label, device, entity, revocations).is_err() {
            return false;
        }
        if !self.devices.contains_key(&certificate.label) && self.devices.len() >= DEVICES_MAX {
            self.devices.retain(|_, held| {
                is_live(held.expires, now) && !revocations.is_device_revoked(entity, held.device)
            });
        }
        let new = EntityDevice { device, expires: certificate.validity.expires };
        self.devices.insert(certificate.label.clone(), new) != Some(new)
    }

    /// The members, by name.
    pub fn members(&self) -> impl Iterator<Item = (&Label, &Member)> {
        self.members.iter()
    }

    /// The member with this name.
    pub fn member(&self, name: &Label) -> Option<&Member> {
        self.members.get(name)
    }

    /// The devices of the own entity, by label.
    pub fn devices(&self) -> impl Iterator<Item = (&Label, &EntityDevice)> {
        self.devices.iter()
    }

    /// The own entity's device with this label.
    pub fn device(&self, label: &Label) -> Option<&EntityDevice> {
        self.devices.get(label)
    }

    /// The roster, for the store.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a roster.
    ///
    /// # Errors
    /// Anything but the encoding of one.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }
}

fn is_live(expires: UnixTime, now: UnixTime) -> bool {
    now <= expires + CLOCK_TOLERANCE
}
