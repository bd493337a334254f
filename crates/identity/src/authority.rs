//! What the holder of the realm's authority key does: delegate, admit in its own name, revoke.

use cloak_base::{DeviceId, EntityId, UnixTime};

use crate::delegation::{DELEGATION_LIFE, Delegation, NameLimits};
use crate::key::SecretKey;
use crate::membership::{MEMBERSHIP_LIFE, Membership, MembershipChain, POSITIONS_DEFAULT, Rights};
use crate::name::Label;
use crate::realm::Realm;
use crate::revocation::{RevocationError, RevocationList, RevocationLists};
use crate::signed::Signed;
use crate::validity::Validity;

/// The authority of a realm at work.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    realm: &'a Realm,
    key: &'a SecretKey,
}

/// The key is not that of the realm's present authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this key is not the realm's authority key")]
pub struct NotTheAuthority;

impl<'a> Authority<'a> {
    /// The authority of `realm`, if `key` is its key.
    ///
    /// # Errors
    /// [`NotTheAuthority`].
    pub fn new(realm: &'a Realm, key: &'a SecretKey) -> Result<Self, NotTheAuthority> {
        if realm.authority() == key.public_key() {
            Ok(Self { realm, key })
        } else {
            Err(NotTheAuthority)
        }
    }

    /// Makes `device` a registrar for [`DELEGATION_LIFE`].
    ///
    /// # Panics
    /// When `names` lists more than [`LISTED_NAMES_MAX`](crate::LISTED_NAMES_MAX).
    pub fn delegate(
        &self,
        now: UnixTime,
        device: DeviceId,
        names: NameLimits,
        rights: Rights,
    ) -> Signed<Delegation> {
        assert!(names.is_bounded(), "the number of listed names is checked where they are typed");
        let validity = Validity::starting(now, DELEGATION_LIFE);
        let realm = self.realm.id();
        Signed::sign(Delegation { realm, device, names, rights, validity }, self.key)
    }

    /// Makes `entity` a member by the authority's own signature. It holds even where the name is
    /// another's: from then on the name is this entity's. Revoke the other, or it goes on under
    /// that name with whoever has not heard of this.
    pub fn admit(
        &self,
        now: UnixTime,
        entity: EntityId,
        name: Label,
        rights: Rights,
    ) -> MembershipChain {
        let membership = Membership {
            realm: self.realm.id(),
            entity,
            name,
            rights,
            positions: POSITIONS_DEFAULT,
            validity: Validity::starting(now, MEMBERSHIP_LIFE),
        };
        let membership = Signed::sign(membership, self.key);
        MembershipChain { membership, delegation: None }
    }

    /// Ends an entity's membership. The list, already merged into `lists`, is to be passed on.
    ///
    /// # Errors
    /// [`RevocationError::Full`].
    pub fn revoke_member(
        &self,
        lists: &mut RevocationLists,
        entity: EntityId,
    ) -> Result<RevocationList, RevocationError> {
        lists.revise_realm(self.realm, self.key, |list| {
            list.entities.insert(entity);
        })
    }

    /// Ends a delegation, and with it every membership that the registrar signed: whoever has the
    /// registrar's key could have signed any of them.
    ///
    /// # Errors
    /// [`RevocationError::Full`].
    pub fn revoke_registrar(
        &self,
        lists: &mut RevocationLists,
        device: DeviceId,
    ) -> Result<RevocationList, RevocationError> {
        lists.revise_realm(self.realm, self.key, |list| {
            list.registrars.insert(device);
        })
    }
}
