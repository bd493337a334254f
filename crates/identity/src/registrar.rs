//! A registrar at work: a device that certifies members in the authority's stead.

use cloak_base::{EntityId, UnixTime};

use crate::credentials::CredentialError;
use crate::delegation::Delegation;
use crate::key::SecretKey;
use crate::membership::{
    MEMBERSHIP_LIFE, Membership, MembershipChain, POSITIONS_DEFAULT, Rights, verify_delegation,
};
use crate::name::Label;
use crate::realm::Realm;
use crate::revocation::RevocationLists;
use crate::roster::{Roster, RosterError};
use crate::signed::Signed;
use crate::validity::Validity;

/// Certifies members of a realm.
#[derive(Debug, Clone, Copy)]
pub struct Registrar<'a> {
    realm: &'a Realm,
    device: &'a SecretKey,
    delegation: &'a Signed<Delegation>,
}

/// Why a registrar does not certify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistrarError {
    /// The delegation is of another device: a mistake here.
    #[error("the delegation is of another device")]
    OtherDevice,
    /// The delegation does not count, or, at a renewal, the present membership does not.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The delegation does not cover the name.
    #[error("this device may not give that name")]
    NameNotDelegated,
    /// The name is in use, or there is no room.
    #[error(transparent)]
    Roster(#[from] RosterError),
}

impl<'a> Registrar<'a> {
    /// The registrar that `delegation` makes of the device with this key.
    ///
    /// # Errors
    /// When it makes none at `now`.
    pub fn new(
        realm: &'a Realm,
        device: &'a SecretKey,
        delegation: &'a Signed<Delegation>,
        now: UnixTime,
    ) -> Result<Self, RegistrarError> {
        verify_delegation(delegation, realm, now)?;
        if delegation.device != device.device_id() {
            return Err(RegistrarError::OtherDevice);
        }
        Ok(Self { realm, device, delegation })
    }

    /// Makes `entity` a member and notes it in the roster.
    ///
    /// # Errors
    /// When the name is in use by another key, or not covered by the delegation.
    pub fn admit(
        &self,
        now: UnixTime,
        entity: EntityId,
        name: Label,
        roster: &mut Roster,
        revocations: &RevocationLists,
    ) -> Result<MembershipChain, RegistrarError> {
        let membership = Membership {
            realm: self.realm.id(),
            entity,
            name,
            rights: Rights::ORDINARY,
            positions: POSITIONS_DEFAULT,
            validity: self.life(now),
        };
        self.certify(now, membership, roster, revocations)
    }

    /// Gives a member another term under the same name. Rights beyond the ordinary continue as far
    /// as the delegation covers them.
    ///
    /// # Errors
    /// When the present membership does not count, or this registrar could not have given it.
    pub fn renew(
        &self,
        now: UnixTime,
        present: &MembershipChain,
        roster: &mut Roster,
        revocations: &RevocationLists,
    ) -> Result<MembershipChain, RegistrarError> {
        present.verify(self.realm, revocations, now)?;
        let present = Membership::clone(&present.membership);
        let rights = present.rights.intersection(self.delegation.rights);
        let membership = Membership { rights, validity: self.life(now), ..present };
        self.certify(now, membership, roster, revocations)
    }

    fn certify(
        &self,
        now: UnixTime,
        membership: Membership,
        roster: &mut Roster,
        revocations: &RevocationLists,
    ) -> Result<MembershipChain, RegistrarError> {
        if revocations.is_revoked(membership.entity) {
            return Err(CredentialError::EntityRevoked.into());
        }
        if !self.delegation.names.admit(&membership.name) {
            return Err(RegistrarError::NameNotDelegated);
        }
        roster.check_member(now, &membership.name, membership.entity, revocations)?;
        let membership = Signed::sign(membership, self.device);
        let chain = MembershipChain { membership, delegation: Some(self.delegation.clone()) };
        roster.note_member(now, &chain, revocations);
        Ok(chain)
    }

    fn life(&self, now: UnixTime) -> Validity {
        Validity::starting(now, MEMBERSHIP_LIFE).until(self.delegation.validity.expires)
    }
}
