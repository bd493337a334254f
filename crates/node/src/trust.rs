//! What a device knows of its realm and of its own standing in it; kept in the store.

use cloak_base::UnixTime;
use cloak_identity::{
    Credentials, Delegation, Invitations, NameHolders, Realm, Record, RevocationList,
    RevocationLists, Roster, Signed, StewardCertificate,
};

use crate::store::{Store, StoreError};

/// See the module.
#[derive(Clone, PartialEq)]
pub(crate) struct Trust {
    pub(crate) realm: Realm,
    pub(crate) credentials: Credentials,
    /// Makes this device a registrar.
    pub(crate) delegation: Option<Signed<Delegation>>,
    /// Makes this device a steward of its entity.
    pub(crate) steward: Option<Signed<StewardCertificate>>,
    /// The stewards that this device appointed, at most [`STEWARDS_MAX`](cloak_identity::STEWARDS_MAX).
    pub(crate) stewards: Vec<Signed<StewardCertificate>>,
    pub(crate) revocations: RevocationLists,
    pub(crate) roster: Roster,
    pub(crate) invitations: Invitations,
}

impl Trust {
    pub(crate) fn new(realm: Realm, credentials: Credentials) -> Self {
        Self {
            realm,
            credentials,
            delegation: None,
            steward: None,
            stewards: Vec::new(),
            revocations: RevocationLists::default(),
            roster: Roster::default(),
            invitations: Invitations::default(),
        }
    }

    /// Enters ourselves into the roster.
    pub(crate) fn note_own(&mut self, now: UnixTime) {
        let (membership, device) = (self.credentials.membership(), self.credentials.device());
        self.roster.note_member(now, membership, &self.revocations);
        self.revocations.holders_mut().note(membership, now);
        self.roster.note_device(now, &device.certificate, &self.revocations);
    }

    /// `alice.cloak`.
    pub(crate) fn entity_name(&self) -> String {
        let name = &self.credentials.membership().membership.name;
        format!("{}.cloak", name.as_str())
    }

    /// `laptop.alice.cloak`.
    pub(crate) fn device_name(&self) -> String {
        let label = &self.credentials.device().certificate.label;
        format!("{}.{}", label.as_str(), self.entity_name())
    }

    /// Writes everything, in one commit.
    pub(crate) fn save(&self, store: &Store) -> Result<(), StoreError> {
        let lists: Vec<_> = self.revocations.iter().collect();
        let lists = minicbor::to_vec(&lists).expect("invariant: encoding into memory cannot fail");
        let delegation = self.delegation.as_ref().map(Signed::encode).unwrap_or_default();
        let steward = self.steward.as_ref().map(Signed::encode).unwrap_or_default();
        let stewards =
            minicbor::to_vec(&self.stewards).expect("invariant: encoding into memory cannot fail");
        store.put(&[
            ("steward", &steward),
            ("stewards", &stewards),
            ("realm", &self.realm.encode()),
            ("credentials", &self.credentials.encode()),
            ("delegation", &delegation),
            ("revocations", &lists),
            ("roster", &self.roster.encode()),
            ("names", &self.revocations.holders().encode()),
            ("invitations", &self.invitations.encode()),
        ])
    }

    /// Reads everything; `None` when the store does not hold it.
    pub(crate) fn load(store: &Store) -> Result<Option<Self>, StoreError> {
        let get = |key| store.get(key);
        let (Some(realm), Some(credentials)) = (get("realm")?, get("credentials")?) else {
            return Ok(None);
        };
        let (delegation, roster) = (get("delegation")?, get("roster")?);
        let (lists, invitations) = (get("revocations")?, get("invitations")?);
        let (names, steward, stewards) = (get("names")?, get("steward")?, get("stewards")?);
        let read = || {
            let realm = Realm::decode(&realm).ok()?;
            let mut trust = Self::new(realm, Credentials::decode(&credentials).ok()?);
            trust.delegation = certificate(delegation)?;
            trust.steward = certificate(steward)?;
            if let Some(stewards) = stewards {
                trust.stewards = minicbor::decode(&stewards).ok()?;
            }
            trust.roster = Roster::decode(&roster?).ok()?;
            trust.invitations = Invitations::decode(&invitations?).ok()?;
            for list in minicbor::decode::<Vec<RevocationList>>(&lists?).ok()? {
                // It was merged once; that it no longer counts is no reason to lose the rest.
                let _ = trust.revocations.merge(list, &trust.realm, UnixTime::default());
            }
            // A store from before names were remembered has none.
            if let Some(names) = names {
                *trust.revocations.holders_mut() = NameHolders::decode(&names).ok()?;
            }
            Some(trust)
        };
        Ok(read())
    }
}

/// A certificate of the store, where nothing and an empty value stand for none; `None` when it is
/// damaged.
fn certificate<T: Record>(stored: Option<Vec<u8>>) -> Option<Option<Signed<T>>> {
    match stored.unwrap_or_default() {
        none if none.is_empty() => Some(None),
        bytes => Some(Some(Signed::decode(&bytes).ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::Rng;
    use cloak_identity::{Founding, FoundingLabels};

    use super::*;

    #[test]
    fn what_is_known_survives_a_restart() {
        let label = |text: &str| text.parse().unwrap();
        let labels =
            FoundingLabels { realm: label("home"), name: label("alice"), device: label("desk") };
        let now = UnixTime(1_795_305_600);
        let founding = Founding::new(&mut Rng::from_u64(1), now, labels);
        let mut trust = Trust::new(founding.realm, founding.credentials);
        trust.delegation = Some(founding.delegation);
        trust.note_own(now);
        let names = trust.revocations.holders().encode();

        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        trust.save(&store).unwrap();
        let loaded = Trust::load(&store).unwrap().unwrap();
        assert_eq!(loaded.revocations.holders().encode(), names);
        assert!(loaded == trust && names.len() > 40);
    }
}
