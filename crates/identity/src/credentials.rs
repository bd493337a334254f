//! What a device shows of itself in `Hello`, and publishes in its record: it belongs to an entity,
//! and the entity is a member of the realm.

use cloak_base::{DeviceId, EntityId, RealmId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::device::DeviceChain;
use crate::membership::{MembershipChain, Rights};
use crate::name::{EntityName, Label, Name};
use crate::realm::{AuthorityChange, Realm};
use crate::revocation::RevocationLists;
use crate::signed::Signed;
use crate::validity::{TimeError, Validity};

/// Most bytes of encoded credentials: they travel in `Hello` and in every device record.
pub const CREDENTIALS_MAX: usize = 3 * 1024;

const _: () = assert!(
    8 + MembershipChain::MAX + DeviceChain::MAX + Signed::<AuthorityChange>::MAX <= CREDENTIALS_MAX
);

/// A device's certificates, with all that is needed to verify them but the realm's genesis.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Credentials {
    #[n(0)]
    membership: MembershipChain,
    #[n(1)]
    device: DeviceChain,
    #[n(2)]
    change: Option<Signed<AuthorityChange>>,
}

/// Who a device proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Whose device it is.
    pub entity: EntityId,
    /// `alice.cloak`.
    pub entity_name: Name,
    /// The device: its key was shown by the transport.
    pub device: DeviceId,
    /// `laptop` of `laptop.alice.cloak`.
    pub device_label: Label,
    /// What the entity may do beyond the ordinary.
    pub rights: Rights,
    /// Positions of the overlay's tree that the entity's devices may hold.
    pub positions: u8,
    /// The last second in which all of this counts.
    pub expires: UnixTime,
}

/// A certificate of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// The entity's membership.
    Membership,
    /// The registrar's delegation.
    Delegation,
    /// The device's certificate.
    Device,
    /// The certificate of the steward that certified the device.
    Steward,
}

/// Why credentials do not count. The peer is to blame, except where it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not credentials at all, or a wrong signature.
    #[error("the certificates are unreadable: {0}")]
    Decode(#[from] DecodeError),
    /// A certificate of another realm.
    #[error("belongs to another realm, {}", .theirs.fmt_short())]
    WrongRealm {
        /// The realm it is of.
        theirs: RealmId,
    },
    /// Certificates of another device than the one whose key the transport saw.
    #[error("shows the certificates of another device")]
    OtherDevice,
    /// The certificates are of different entities.
    #[error("shows certificates of different entities")]
    OtherEntity,
    /// The membership's signer is no registrar.
    #[error("its membership was not signed by a registrar of the realm")]
    NotARegistrar,
    /// The delegation's signer is not the authority.
    #[error("its registrar was not delegated by the realm's authority")]
    NotTheAuthority,
    /// The registrar gave a name that it may not give.
    #[error("its registrar may not give that name")]
    NameNotDelegated,
    /// The registrar gave rights that it may not give.
    #[error("its registrar may not give those rights")]
    RightsNotDelegated,
    /// Neither the entity nor a steward of it signed the device's certificate.
    #[error("its entity did not certify the device")]
    NotCertified,
    /// A certificate counts only from some time on: one of the two clocks is wrong.
    #[error("its {} is not valid yet (from {issued} on; here it is {now}): check both clocks", .certificate.as_str())]
    NotYetValid {
        /// Which certificate.
        certificate: Certificate,
        /// From when on it counts.
        issued: UnixTime,
        /// The time here.
        now: UnixTime,
    },
    /// A certificate is over, or the clock here is ahead.
    #[error("its {} expired at {expires} (here it is {now})", .certificate.as_str())]
    Expired {
        /// Which certificate.
        certificate: Certificate,
        /// When it ceased to count.
        expires: UnixTime,
        /// The time here.
        now: UnixTime,
    },
    /// The realm revoked the entity.
    #[error("its entity was revoked")]
    EntityRevoked,
    /// Another entity has a newer membership of the name.
    #[error("its name has since gone on to another key")]
    NameReassigned,
    /// The entity revoked the device, or the steward that certified it.
    #[error("the device was revoked")]
    DeviceRevoked,
    /// The realm revoked the registrar that signed the membership.
    #[error("the registrar of its membership was revoked")]
    RegistrarRevoked,
}

impl Credentials {
    /// Puts a device's certificates together. The realm's last change of authority goes with them,
    /// so that peers learn of it.
    pub fn new(realm: &Realm, membership: MembershipChain, device: DeviceChain) -> Self {
        Self { membership, device, change: realm.change().cloned() }
    }

    /// The same device under a renewed membership, as a registrar answered it.
    ///
    /// # Errors
    /// When the membership is not this entity's, or does not count.
    pub fn renewed(
        &self,
        realm: &Realm,
        membership: MembershipChain,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Self, CredentialError> {
        let renewed = Self::new(realm, membership, self.device.clone());
        renewed.verify(realm, self.device.certificate.device, revocations, now)?;
        Ok(renewed)
    }

    /// The same membership with a renewed certificate of the device, as a certifier answered it.
    ///
    /// # Errors
    /// When the certificate is not this device's, or does not count.
    pub fn recertified(
        &self,
        realm: &Realm,
        device: DeviceChain,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Self, CredentialError> {
        let renewed = Self::new(realm, self.membership.clone(), device);
        renewed.verify(realm, self.device.certificate.device, revocations, now)?;
        Ok(renewed)
    }

    /// The entity's membership.
    pub fn membership(&self) -> &MembershipChain {
        &self.membership
    }

    /// The device's certificate.
    pub fn device(&self) -> &DeviceChain {
        &self.device
    }

    /// A change of the realm's authority that the device knows of. After
    /// [`Credentials::verify`] succeeded, give it to [`Realm::adopt`].
    pub fn change(&self) -> Option<&Signed<AuthorityChange>> {
        self.change.as_ref()
    }

    /// The credentials as `Hello` carries them; at most [`CREDENTIALS_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads credentials. Their signatures hold; whether they count is for
    /// [`Credentials::verify`].
    ///
    /// # Errors
    /// Anything but the one encoding of validly signed certificates.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, CREDENTIALS_MAX)
    }

    /// Who `device` is, at `now`. `device` is the key that the transport saw.
    ///
    /// # Errors
    /// The first reason why the credentials do not count.
    pub fn verify(
        &self,
        realm: &Realm,
        device: DeviceId,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Peer, CredentialError> {
        let membership = &self.membership.membership;
        let certificate = &self.device.certificate;
        self.membership.verify(&self.newest(realm), revocations, now)?;
        if certificate.device != device {
            return Err(CredentialError::OtherDevice);
        }
        self.device.verify(membership.realm, membership.entity, revocations, now)?;
        Ok(Peer {
            entity: membership.entity,
            entity_name: Name::entity(EntityName::Label(membership.name.clone())),
            device,
            device_label: certificate.label.clone(),
            rights: membership.rights,
            positions: membership.positions,
            expires: self.expires(),
        })
    }

    /// The last second in which the credentials count.
    pub fn expires(&self) -> UnixTime {
        self.membership.expires().min(self.device.expires())
    }

    /// The realm with the authority that these credentials know of, where that is news. A change
    /// that is not the realm's is passed over: the membership then fails on its own.
    fn newest(&self, realm: &Realm) -> Realm {
        let mut realm = realm.clone();
        if let Some(change) = &self.change {
            let _ = realm.adopt(change.clone());
        }
        realm
    }
}

impl Peer {
    /// `laptop.alice.cloak`.
    pub fn device_name(&self) -> Name {
        Name::device(self.device_label.clone(), self.entity_name.entity_name().clone())
    }
}

impl Certificate {
    /// The certificate, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Delegation => "registrar's delegation",
            Self::Device => "device certificate",
            Self::Steward => "steward certificate",
        }
    }

    pub(crate) fn check(self, validity: &Validity, now: UnixTime) -> Result<(), CredentialError> {
        let certificate = self;
        validity.check(now).map_err(|error| match error {
            TimeError::NotYetValid { issued, now } => {
                CredentialError::NotYetValid { certificate, issued, now }
            }
            TimeError::Expired { expires, now } => {
                CredentialError::Expired { certificate, expires, now }
            }
        })
    }
}
