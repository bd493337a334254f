//! Certificates within our own entity: renewed before they run out, and stewards appointed.
//!
//! A device asks the entity's other devices for a longer certificate from half of its life on, as a
//! member asks registrars for a longer membership. The entity's key answers, or a steward: a device
//! that the key's holder appointed, which keeps the appointment and may then invite and revoke.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{RealmId, UnixTime};
use cloak_identity::{Authority, Certifier, DeviceChain, Signed, StewardCertificate};
use cloak_wire::{Code, PeerFrame};

use crate::keys::Keys;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::store::StoreError;
use crate::trust::Trust;

/// A certificate that ends this soon is worth a warning.
pub(crate) const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// What certifies our entity's devices here: its key, or our appointment as a steward.
pub(crate) fn certifier<'a>(
    realm: RealmId,
    keys: &'a Keys,
    steward: Option<&'a Signed<StewardCertificate>>,
    now: UnixTime,
) -> Option<Certifier<'a>> {
    let by_key = keys.entity.as_ref().map(|key| Certifier::entity(realm, key));
    let steward = steward.filter(|steward| steward.validity.check(now).is_ok());
    by_key.or_else(|| Some(Certifier::steward(&keys.device, steward?)))
}

#[derive(Debug, thiserror::Error)]
enum CertifyError {
    #[error("this device does not certify devices")]
    NotACertifier,
    #[error("the present certificate does not count: {0}")]
    Credential(#[from] cloak_identity::CredentialError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CertifyError {
    fn code(&self) -> Code {
        match self {
            Self::NotACertifier => Code::NotAllowed,
            Self::Credential(error) => crate::directory::code(error),
            Self::Store(_) => Code::StorageFailed,
        }
    }
}

impl Shared {
    /// Everything that is renewed within the entity, and on the authority's own device.
    pub(crate) fn renew_certificates(self: &Arc<Self>) {
        self.renew_delegation();
        self.renew_appointments();
        self.renew_own_certificate();
        self.warn_of_expiries();
    }

    /// As a certifier of our entity, gives a device of it a longer certificate.
    pub(crate) fn certify(&self, peer: &Peer, present: &[u8]) -> Result<Vec<u8>, Code> {
        let present = DeviceChain::decode(present).map_err(|_| Code::Malformed)?;
        let certificate = &present.certificate;
        if peer.entity() != Some(self.home.entity()) || certificate.device != peer.device() {
            return Err(Code::Unauthenticated);
        }
        self.extend(&present).map(|chain| chain.encode()).map_err(|error| error.code())
    }

    /// Takes a renewed certificate of ours over, where it lasts longer.
    pub(crate) fn certified(self: &Arc<Self>, chain: &[u8]) {
        let Ok(chain) = DeviceChain::decode(chain) else { return };
        let now = self.clock.wall();
        let renewed = {
            let trust = self.home.trust();
            if chain.expires() <= trust.credentials.device().expires() {
                return;
            }
            trust.credentials.recertified(&trust.realm, chain, &trust.revocations, now)
        };
        let Ok(credentials) = renewed else { return };
        let adopted = self.home.adopt(credentials, now);
        self.storage_result(&adopted);
        self.publish();
    }

    /// Takes over that our entity made this device a steward.
    pub(crate) fn appointed(&self, certificate: &[u8]) -> Result<(), Code> {
        let steward =
            Signed::<StewardCertificate>::decode(certificate).map_err(|_| Code::Malformed)?;
        let is_ours = steward.is_of(self.home.realm_id(), self.home.entity())
            && steward.device == self.tls.device();
        let lasts = |held: &Trust| {
            held.steward
                .as_ref()
                .is_none_or(|held| held.validity.expires < steward.validity.expires)
        };
        let counts = is_ours && steward.validity.check(self.clock.wall()).is_ok();
        if !counts || !lasts(&self.home.trust()) {
            return Ok(());
        }
        let kept = self.home.change(|trust, _| {
            trust.steward = Some(steward);
            Ok::<_, StoreError>(())
        });
        self.storage_result(&kept);
        Ok(())
    }

    /// Gives a linked device its appointment as a steward, if it has one: it may have been away.
    pub(crate) fn send_appointment(&self, peer: &Peer) {
        let trust = self.home.trust();
        let held = trust.stewards.iter().find(|steward| steward.device == peer.device());
        if let Some(steward) = held {
            let certificate = steward.encode().into();
            peer.send(PeerFrame::Appoint { certificate });
        }
    }

    fn extend(&self, present: &DeviceChain) -> Result<DeviceChain, CertifyError> {
        let now = self.clock.wall();
        self.home.change(|trust, keys| {
            let Trust { realm, steward, revocations, roster, .. } = trust;
            let certifier = certifier(realm.id(), keys, steward.as_ref(), now)
                .ok_or(CertifyError::NotACertifier)?;
            let chain = certifier.renew(present, revocations, now)?;
            roster.note_device(now, &chain.certificate, revocations);
            Ok(chain)
        })
    }

    fn renew_own_certificate(self: &Arc<Self>) {
        let present = self.home.trust().credentials.device().clone();
        if !present.certificate.validity.is_renewal_due(self.clock.wall()) {
            return;
        }
        if let Ok(chain) = self.extend(&present) {
            self.certified(&chain.encode());
        }
        let ours = Some(self.home.entity());
        for peer in self.all_peers().into_iter().filter(|peer| peer.is_linked()) {
            if peer.entity() == ours {
                let certificate = present.encode().into();
                peer.send(PeerFrame::Certify { certificate });
            }
        }
    }

    /// With the entity's key, gives its stewards another term in time.
    fn renew_appointments(&self) {
        let now = self.clock.wall();
        let is_due = |steward: &Signed<StewardCertificate>| steward.validity.is_renewal_due(now);
        if !self.home.trust().stewards.iter().any(is_due) {
            return;
        }
        let renewed = self.home.change(|trust, keys| {
            let Some(key) = &keys.entity else { return Ok(()) };
            let certifier = Certifier::entity(trust.realm.id(), key);
            for steward in trust.stewards.iter_mut().filter(|steward| is_due(steward)) {
                *steward = certifier.appoint(now, steward.device);
            }
            Ok::<_, StoreError>(())
        });
        self.storage_result(&renewed);
        for peer in self.all_peers() {
            self.send_appointment(&peer);
        }
    }

    /// With the authority's key, delegates this device anew in time.
    fn renew_delegation(&self) {
        let now = self.clock.wall();
        let due = self.home.trust().delegation.clone();
        let due = due.filter(|delegation| delegation.validity.is_renewal_due(now));
        let (Some(delegation), keys) = (due, self.home.keys()) else { return };
        let Some(key) = &keys.authority else { return };
        let renewed = self.home.change(|trust, _| {
            let realm = trust.realm.clone();
            if let Ok(authority) = Authority::new(&realm, key) {
                let names = delegation.names.clone();
                let next = authority.delegate(now, delegation.device, names, delegation.rights);
                trust.delegation = Some(next);
            }
            Ok::<_, StoreError>(())
        });
        self.storage_result(&renewed);
    }

    fn warn_of_expiries(&self) {
        let now = self.clock.wall();
        let (device, delegation, steward) = {
            let trust = self.home.trust();
            (
                trust.credentials.device().expires(),
                trust.delegation.as_ref().map(|delegation| delegation.validity.expires),
                trust.steward.as_ref().map(|steward| steward.validity.expires),
            )
        };
        let ends = |expires: Option<UnixTime>, what: &str, renew: &str| {
            let expires = expires.filter(|expires| expires.since(now) < EXPIRY_WARNING)?;
            Some(format!("{what} expires at {expires}; {renew}"))
        };
        let first = "link to the entity's first device or a steward to renew it";
        self.warn("certificate", ends(Some(device), "this device's certificate", first));
        let authority = "run `cloak realm restore` here to renew it";
        self.warn(
            "delegation",
            ends(delegation, "this device's right to admit members", authority),
        );
        let key = "link to the device that holds the entity's key to renew it";
        self.warn("steward", ends(steward, "this device's term as a steward", key));
    }
}
