//! Device certificates: a device belongs to an entity. The entity's key signs them, or a steward:
//! a device that the entity entrusted with certifying and revoking its devices, so that the
//! entity's key can stay offline.

use std::time::Duration;

use cloak_base::{DeviceId, EntityId, RealmId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::credentials::{Certificate, CredentialError};
use crate::key::SecretKey;
use crate::name::Label;
use crate::revocation::RevocationLists;
use crate::signed::{Record, Signed};
use crate::validity::Validity;

/// How long a device certificate counts. The entity's membership, which is renewed far more often,
/// bounds it in practice.
pub const DEVICE_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// How long a steward certificate counts.
pub const STEWARD_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Most stewards of one entity: each keeps a list of revoked devices that all others hold.
pub const STEWARDS_MAX: usize = 8;
/// Most devices of one entity.
pub const DEVICES_MAX: usize = 16;

/// Makes a device one of an entity's. Signed by the entity, or by a steward of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeviceCertificate {
    /// In this realm.
    #[n(0)]
    pub realm: RealmId,
    /// Whose device.
    #[n(1)]
    pub entity: EntityId,
    /// The device.
    #[n(2)]
    pub device: DeviceId,
    /// `laptop` of `laptop.alice.cloak`.
    #[n(3)]
    pub label: Label,
    /// When it counts.
    #[n(4)]
    pub validity: Validity,
}

/// Makes a device a steward of its entity. Signed by the entity.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StewardCertificate {
    /// In this realm.
    #[n(0)]
    pub realm: RealmId,
    /// Whose steward.
    #[n(1)]
    pub entity: EntityId,
    /// The steward.
    #[n(2)]
    pub device: DeviceId,
    /// When it counts.
    #[n(3)]
    pub validity: Validity,
}

/// A device certificate with what shows that its signer was allowed to sign it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeviceChain {
    /// The device certificate.
    #[n(0)]
    pub certificate: Signed<DeviceCertificate>,
    /// Of the steward that signed it; none where the entity did.
    #[n(1)]
    pub steward: Option<Signed<StewardCertificate>>,
}

/// Certifies devices of one entity: holds the entity's key, or a steward's.
#[derive(Debug, Clone, Copy)]
pub struct Certifier<'a> {
    realm: RealmId,
    entity: EntityId,
    key: &'a SecretKey,
    steward: Option<&'a Signed<StewardCertificate>>,
}

impl Record for DeviceCertificate {
    const DOMAIN: &'static str = "device-certificate";
    const PAYLOAD_MAX: usize = 224;
}

impl Record for StewardCertificate {
    const DOMAIN: &'static str = "steward-certificate";
    const PAYLOAD_MAX: usize = 160;
}

impl DeviceChain {
    /// Most bytes of the encoding.
    pub const MAX: usize = 8 + Signed::<DeviceCertificate>::MAX + Signed::<StewardCertificate>::MAX;

    /// The chain as `Certify` and `Certified` carry it.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a chain; its signatures hold, but whether it counts is for [`DeviceChain::verify`].
    ///
    /// # Errors
    /// Anything but the one encoding of validly signed certificates.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }

    /// Whether the device is one of `entity`'s, in `realm`, at `now`.
    ///
    /// # Errors
    /// The first reason why it is not.
    pub fn verify(
        &self,
        realm: RealmId,
        entity: EntityId,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<(), CredentialError> {
        let certificate = &self.certificate;
        if certificate.realm != realm {
            return Err(CredentialError::WrongRealm { theirs: certificate.realm });
        }
        if certificate.entity != entity {
            return Err(CredentialError::OtherEntity);
        }
        self.verify_signer(now)?;
        Certificate::Device.check(&certificate.validity, now)?;
        let steward = self.steward.as_ref().map(|steward| steward.device);
        let devices = [Some(certificate.device), steward];
        if devices.into_iter().flatten().any(|id| revocations.is_device_revoked(entity, id)) {
            return Err(CredentialError::DeviceRevoked);
        }
        Ok(())
    }

    /// The last second in which the whole chain counts.
    pub fn expires(&self) -> UnixTime {
        let steward = self.steward.as_ref().map(|steward| steward.validity.expires);
        steward.unwrap_or(UnixTime(u64::MAX)).min(self.certificate.validity.expires)
    }

    fn verify_signer(&self, now: UnixTime) -> Result<(), CredentialError> {
        let (certificate, signer) = (&self.certificate, self.certificate.signer());
        match &self.steward {
            None if EntityId::from(signer) == certificate.entity => Ok(()),
            None => Err(CredentialError::NotCertified),
            Some(steward) => {
                if !steward.is_of(certificate.realm, certificate.entity)
                    || steward.device != DeviceId::from(signer)
                {
                    return Err(CredentialError::NotCertified);
                }
                Certificate::Steward.check(&steward.validity, now)
            }
        }
    }
}

impl Signed<StewardCertificate> {
    /// Whether it makes a steward of `entity` in `realm`, leaving aside when.
    pub fn is_of(&self, realm: RealmId, entity: EntityId) -> bool {
        self.realm == realm && self.entity == entity && EntityId::from(self.signer()) == entity
    }
}

impl<'a> Certifier<'a> {
    /// Certifies with the entity's own key.
    pub fn entity(realm: RealmId, key: &'a SecretKey) -> Self {
        Self { realm, entity: key.entity_id(), key, steward: None }
    }

    /// Certifies as a steward: `key` is the device's, `steward` what the entity signed for it.
    pub fn steward(key: &'a SecretKey, steward: &'a Signed<StewardCertificate>) -> Self {
        Self { realm: steward.realm, entity: steward.entity, key, steward: Some(steward) }
    }

    /// The entity whose devices are certified.
    pub fn entity_id(&self) -> EntityId {
        self.entity
    }

    /// Certifies a device, for [`DEVICE_LIFE`], or as long as a steward may.
    pub fn certify(&self, now: UnixTime, device: DeviceId, label: Label) -> DeviceChain {
        let (realm, entity) = (self.realm, self.entity);
        let life = Validity::starting(now, DEVICE_LIFE);
        let validity = self.steward.map_or(life, |steward| life.until(steward.validity.expires));
        let certificate = DeviceCertificate { realm, entity, device, label, validity };
        DeviceChain {
            certificate: Signed::sign(certificate, self.key),
            steward: self.steward.cloned(),
        }
    }

    /// Gives a device another term under the same label.
    ///
    /// # Errors
    /// When the present certificate is not one of this entity's, or does not count.
    pub fn renew(
        &self,
        present: &DeviceChain,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<DeviceChain, CredentialError> {
        present.verify(self.realm, self.entity, revocations, now)?;
        let certificate = &present.certificate;
        Ok(self.certify(now, certificate.device, certificate.label.clone()))
    }

    /// Makes a device a steward. What comes of it counts only if this holds the entity's own key.
    pub fn appoint(&self, now: UnixTime, device: DeviceId) -> Signed<StewardCertificate> {
        let validity = Validity::starting(now, STEWARD_LIFE);
        let (realm, entity) = (self.realm, self.entity);
        Signed::sign(StewardCertificate { realm, entity, device, validity }, self.key)
    }

    pub(crate) fn key(&self) -> &'a SecretKey {
        self.key
    }

    pub(crate) fn steward_certificate(&self) -> Option<&'a Signed<StewardCertificate>> {
        self.steward
    }

    /// The realm in which it certifies.
    pub fn realm_id(&self) -> RealmId {
        self.realm
    }
}
