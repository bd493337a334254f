//! Memberships: an entity belongs to the realm, under a name.

use std::time::Duration;

use cloak_base::{DeviceId, EntityId, RealmId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::credentials::{Certificate, CredentialError};
use crate::delegation::Delegation;
use crate::name::Label;
use crate::realm::Realm;
use crate::revocation::RevocationLists;
use crate::signed::{Record, Signed};
use crate::validity::Validity;

/// How long a membership counts. It renews by itself from half of that on, so a member may be away
/// for 45 days, and a revocation that never arrives is outlived after at most 90.
pub const MEMBERSHIP_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Positions in the overlay's tree that an entity may hold, unless its registrar says otherwise.
pub const POSITIONS_DEFAULT: u8 = 4;

/// Makes an entity a member. Signed by a registrar, or by the authority itself, which alone may
/// give a name that is in use to another key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Membership {
    /// Of this realm.
    #[n(0)]
    pub realm: RealmId,
    /// The member.
    #[n(1)]
    pub entity: EntityId,
    /// `alice` of `alice.cloak`.
    #[n(2)]
    pub name: Label,
    /// What the member may do beyond the ordinary.
    #[n(3)]
    pub rights: Rights,
    /// How many positions of the overlay's tree the entity's devices may hold together.
    #[n(4)]
    pub positions: u8,
    /// When it counts.
    #[n(5)]
    pub validity: Validity,
}

/// A set of rights. Bits without a meaning here are kept, for versions that know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Rights(#[n(0)] u32);

/// A membership with what shows that its signer was allowed to sign it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MembershipChain {
    /// The membership.
    #[n(0)]
    pub membership: Signed<Membership>,
    /// Of the registrar that signed it; none where the authority did.
    #[n(1)]
    pub delegation: Option<Signed<Delegation>>,
}

impl Rights {
    /// What every member may do.
    pub const ORDINARY: Self = Self(0);
    /// May found a tree of the overlay to which others yield.
    pub const FOUND_TREE: Self = Self(1);

    /// The rights that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `rights` are among these.
    pub fn include(self, rights: Self) -> bool {
        self.0 & rights.0 == rights.0
    }
}

impl Record for Membership {
    const DOMAIN: &'static str = "membership";
    const PAYLOAD_MAX: usize = 192;
}

impl MembershipChain {
    /// Most bytes of the encoding.
    pub const MAX: usize = 8 + Signed::<Membership>::MAX + Signed::<Delegation>::MAX;

    /// The chain as `Renew` and `Renewed` carry it.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a chain; its signatures hold, but whether it counts is for [`MembershipChain::verify`].
    ///
    /// # Errors
    /// Anything but the one encoding of validly signed certificates.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }

    /// Whether the entity is a member of `realm` under this name at `now`.
    ///
    /// # Errors
    /// The first reason why it is not.
    pub fn verify(
        &self,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<(), CredentialError> {
        if self.membership.realm != realm.id() {
            return Err(CredentialError::WrongRealm { theirs: self.membership.realm });
        }
        self.verify_signer(realm, now)?;
        Certificate::Membership.check(&self.membership.validity, now)?;
        if revocations.is_revoked(self.membership.entity) {
            return Err(CredentialError::EntityRevoked);
        }
        let registrar = self.delegation.as_ref().map(|delegation| delegation.device);
        if registrar.is_some_and(|device| revocations.is_registrar_revoked(device)) {
            return Err(CredentialError::RegistrarRevoked);
        }
        if revocations.holders().supersede(self, now) {
            return Err(CredentialError::NameReassigned);
        }
        Ok(())
    }

    /// Whether the realm's authority signed the membership itself.
    pub fn is_by_authority(&self) -> bool {
        self.delegation.is_none()
    }

    /// The last second in which the whole chain counts.
    pub fn expires(&self) -> UnixTime {
        let delegation = self.delegation.as_ref().map(|delegation| delegation.validity.expires);
        delegation.unwrap_or(UnixTime(u64::MAX)).min(self.membership.validity.expires)
    }

    fn verify_signer(&self, realm: &Realm, now: UnixTime) -> Result<(), CredentialError> {
        match &self.delegation {
            None if realm.is_authority(self.membership.signer(), now) => Ok(()),
            None => Err(CredentialError::NotARegistrar),
            Some(delegation) => {
                verify_delegation(delegation, realm, now)?;
                if DeviceId::from(self.membership.signer()) != delegation.device {
                    return Err(CredentialError::NotARegistrar);
                }
                if !delegation.names.admit(&self.membership.name) {
                    return Err(CredentialError::NameNotDelegated);
                }
                if !delegation.rights.include(self.membership.rights) {
                    return Err(CredentialError::RightsNotDelegated);
                }
                Ok(())
            }
        }
    }
}

/// Whether a delegation makes its device a registrar of `realm` at `now`.
pub(crate) fn verify_delegation(
    delegation: &Signed<Delegation>,
    realm: &Realm,
    now: UnixTime,
) -> Result<(), CredentialError> {
    if delegation.realm != realm.id() {
        return Err(CredentialError::WrongRealm { theirs: delegation.realm });
    }
    if !realm.is_authority(delegation.signer(), now) {
        return Err(CredentialError::NotTheAuthority);
    }
    Certificate::Delegation.check(&delegation.validity, now)
}
