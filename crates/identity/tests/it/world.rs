//! A realm with people in it.

use std::time::Duration;

use cloak_base::{Rng, UnixTime};
use cloak_identity::{
    Authority, Certifier, Credentials, Founding, FoundingLabels, Issuer, Label, MembershipChain,
    Realm, Registrar, RegistrarError, RevocationLists, Roster, SecretKey,
};

/// 2026-11-22T00:00:00Z.
pub(crate) const NOW: UnixTime = UnixTime(1_795_305_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A founded realm, whose founder is `alice` on `desk`.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) founding: Founding,
    pub(crate) roster: Roster,
    pub(crate) revocations: RevocationLists,
}

/// An entity and its first device.
pub(crate) struct Household {
    pub(crate) entity: SecretKey,
    pub(crate) device: SecretKey,
    pub(crate) credentials: Credentials,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::seeded(7)
    }

    /// A realm of its own for every seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        let mut rng = Rng::from_u64(seed);
        let labels =
            FoundingLabels { realm: label("home"), name: label("alice"), device: label("desk") };
        let founding = Founding::new(&mut rng, NOW, labels);
        let (mut roster, revocations) = (Roster::default(), RevocationLists::new());
        roster.note_member(NOW, founding.credentials.membership(), &revocations);
        Self { rng, founding, roster, revocations }
    }

    pub(crate) fn realm(&self) -> &Realm {
        &self.founding.realm
    }

    pub(crate) fn authority(&self) -> Authority<'_> {
        Authority::new(&self.founding.realm, &self.founding.authority).expect("it is the authority")
    }

    pub(crate) fn admit(
        &mut self,
        key: &SecretKey,
        name: &str,
    ) -> Result<MembershipChain, RegistrarError> {
        let Founding { realm, device, delegation, .. } = &self.founding;
        let registrar = Registrar::new(realm, device, delegation, NOW)?;
        registrar.admit(NOW, key.entity_id(), label(name), &mut self.roster, &self.revocations)
    }

    /// A new member on its device `laptop`.
    pub(crate) fn member(&mut self, name: &str) -> Household {
        let [entity, device] = std::array::from_fn(|_| SecretKey::generate(&mut self.rng));
        let membership = self.admit(&entity, name).expect("the name is free");
        let certifier = Certifier::entity(self.realm().id(), &entity);
        let chain = certifier.certify(NOW, device.device_id(), label("laptop"));
        let credentials = Credentials::new(self.realm(), membership, chain);
        Household { entity, device, credentials }
    }

    /// What alice's device needs to grant invitations.
    pub(crate) fn issuer(&mut self) -> Issuer<'_> {
        let Founding { realm, device, delegation, entity, credentials, .. } = &self.founding;
        Issuer {
            realm,
            registrar: Some(Registrar::new(realm, device, delegation, NOW).expect("it is one")),
            certifier: Some(Certifier::entity(realm.id(), entity)),
            membership: credentials.membership(),
            roster: &mut self.roster,
            revocations: &self.revocations,
        }
    }

    /// The founder's household.
    pub(crate) fn founder(&self) -> Household {
        let Founding { entity, device, credentials, .. } = &self.founding;
        Household {
            entity: entity.clone(),
            device: device.clone(),
            credentials: credentials.clone(),
        }
    }
}

impl Household {
    /// A further device, certified by `certifier`.
    pub(crate) fn further(
        &self,
        world: &mut World,
        certifier: &Certifier<'_>,
        device_label: &str,
    ) -> Self {
        let device = SecretKey::generate(&mut world.rng);
        let chain = certifier.certify(NOW, device.device_id(), label(device_label));
        let membership = self.credentials.membership().clone();
        let credentials = Credentials::new(world.realm(), membership, chain);
        Self { entity: self.entity.clone(), device, credentials }
    }
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}
