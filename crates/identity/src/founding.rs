//! The beginning of a realm: its keys, its first member, its first registrar.

use cloak_base::{Rng, UnixTime};

use crate::authority::Authority;
use crate::credentials::Credentials;
use crate::delegation::{Delegation, NameLimits};
use crate::device::Certifier;
use crate::key::SecretKey;
use crate::membership::Rights;
use crate::name::Label;
use crate::realm::{Genesis, Realm};
use crate::signed::Signed;

/// What founding a realm yields. The keys go into the founder's home, but for `recovery`, which is
/// to be kept elsewhere.
#[derive(Debug)]
pub struct Founding {
    /// The realm.
    pub realm: Realm,
    /// The realm's authority key.
    pub authority: SecretKey,
    /// The key that can replace the authority.
    pub recovery: SecretKey,
    /// The first entity's key.
    pub entity: SecretKey,
    /// The first device's key.
    pub device: SecretKey,
    /// Makes the first device a registrar for any name.
    pub delegation: Signed<Delegation>,
    /// Of the first device.
    pub credentials: Credentials,
}

/// The labels that a founder chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundingLabels {
    /// What people call the realm.
    pub realm: Label,
    /// The first entity's name.
    pub name: Label,
    /// The first device's label.
    pub device: Label,
}

impl Founding {
    /// Founds a realm. The founder's membership is signed by the authority itself and carries the
    /// right to found trees.
    pub fn new(rng: &mut Rng, now: UnixTime, labels: FoundingLabels) -> Self {
        let [authority, recovery, entity, device] =
            std::array::from_fn(|_| SecretKey::generate(rng));
        let genesis = Genesis {
            authority: authority.public_key(),
            recovery: recovery.public_key(),
            label: labels.realm,
        };
        let realm = Realm::new(genesis);
        let by = Authority::new(&realm, &authority).expect("invariant: it is in the genesis");
        let rights = Rights::FOUND_TREE;
        let delegation = by.delegate(now, device.device_id(), NameLimits::Any, rights);
        let membership = by.admit(now, entity.entity_id(), labels.name, rights);
        let certifier = Certifier::entity(realm.id(), &entity);
        let certificate = certifier.certify(now, device.device_id(), labels.device);
        let credentials = Credentials::new(&realm, membership, certificate);
        Self { realm, authority, recovery, entity, device, delegation, credentials }
    }
}
