//! Signs for the overlay with the device's key, and says what peers are in it.
//!
//! A registrar founds trees to which those of others yield; the authority's delegation is the
//! proof. Every chain carries that of its tree's founder, so no peer has to be told of anybody's
//! rank beforehand.

use std::sync::Arc;

use cloak_base::{DeviceId, UnixTime};
use cloak_identity::{Credentials, Delegation, PublicKey, Realm, SecretKey, Signed};
use cloak_overlay::{Domain, RANK_PROOF_MAX, Rank, Signature, Standing};
use cloak_transport::Clock;

use crate::home::Home;
use crate::trust::Trust;

/// The rank of every registrar. Among them the older tree goes first.
const REGISTRAR: Rank = Rank(0);

const _: () = assert!(Signed::<Delegation>::MAX <= RANK_PROOF_MAX);

/// See the module.
pub(crate) struct Certifier {
    home: Arc<Home>,
    key: SecretKey,
    clock: Arc<dyn Clock>,
}

impl Certifier {
    pub(crate) fn new(home: Arc<Home>, clock: Arc<dyn Clock>) -> Self {
        let key = home.keys().device.clone();
        Self { home, key, clock }
    }
}

impl cloak_overlay::Certifier for Certifier {
    fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(domain.prefix(), bytes))
    }

    fn verify(
        &self,
        device: &DeviceId,
        domain: Domain,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool {
        PublicKey::from(*device).verify(domain.prefix(), bytes, &signature.0).is_ok()
    }

    fn verify_rank(&self, device: &DeviceId, rank: Rank, proof: &[u8]) -> bool {
        // The signature in it is verified before the lock is taken.
        rank == REGISTRAR
            && Signed::<Delegation>::decode(proof)
                .is_ok_and(|delegation| is_proof(&delegation, *device, &self.home.trust().realm))
    }

    fn rank(&self) -> (Rank, Vec<u8>) {
        own_rank(&self.home.trust(), self.key.device_id(), self.clock.wall())
    }
}

/// What a device with these credentials is to the overlay.
pub(super) fn standing_of(credentials: &Credentials) -> Standing {
    let membership = &credentials.membership().membership;
    Standing { entity: membership.entity, positions: membership.positions }
}

/// The rank with which this device founds a tree now, and its proof.
fn own_rank(trust: &Trust, own: DeviceId, now: UnixTime) -> (Rank, Vec<u8>) {
    let counts = |delegation: &&Signed<Delegation>| {
        is_proof(delegation, own, &trust.realm)
            && delegation.validity.check(now).is_ok()
            && !trust.revocations.is_registrar_revoked(own)
    };
    let delegation = trust.delegation.as_ref().filter(counts);
    delegation.map_or((Rank::NONE, Vec::new()), |delegation| (REGISTRAR, delegation.encode()))
}

/// Whether the realm's authority delegated the device, at some time.
///
/// Neither the delegation's end is asked for, nor the registrar's revocation, nor whether the
/// authority was replaced since. A tree outlives its founder and the authority of its day: if its
/// founding ceased to count, every peer would take every other's place for a lie, all in one second
/// or, worse, some of them and not others. Who is in the tree is decided on each link anew.
fn is_proof(delegation: &Signed<Delegation>, device: DeviceId, realm: &Realm) -> bool {
    delegation.device == device
        && delegation.realm == realm.id()
        && realm.was_authority(delegation.signer())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloak_base::Rng;
    use cloak_identity::{
        Authority, DELEGATION_LIFE, Founding, FoundingLabels, NameLimits, RevocationLists, Rights,
    };
    use cloak_overlay::Certifier as _;
    use cloak_transport::SystemClock;

    use super::*;
    use crate::home::InitNames;

    const NOW: UnixTime = UnixTime(1_795_305_600);

    fn home(dir: &tempfile::TempDir) -> Arc<Home> {
        let names = InitNames { name: "alice".into(), realm: "home".into(), device: "desk".into() };
        Arc::new(Home::init(&dir.path().join("home"), names, &SystemClock).unwrap())
    }

    fn founded(seed: u64) -> Founding {
        let label = |text: &str| text.parse().unwrap();
        let labels =
            FoundingLabels { realm: label("home"), name: label("alice"), device: label("desk") };
        Founding::new(&mut Rng::from_u64(seed), NOW, labels)
    }

    fn trust(founding: &Founding) -> Trust {
        let mut trust = Trust::new(founding.realm.clone(), founding.credentials.clone());
        trust.delegation = Some(founding.delegation.clone());
        trust
    }

    #[test]
    fn signatures_count_for_their_device_and_purpose() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let certifier = Certifier::new(home.clone(), Arc::new(SystemClock));
        let device = home.keys().device.device_id();
        let other = SecretKey::from_seed([7; 32]).device_id();
        let signature = certifier.sign(Domain::Vote, b"yes");
        assert!(certifier.verify(&device, Domain::Vote, b"yes", &signature));
        assert!(!certifier.verify(&other, Domain::Vote, b"yes", &signature));
        assert!(!certifier.verify(&device, Domain::Will, b"yes", &signature));
        assert!(!certifier.verify(&device, Domain::Vote, b"no", &signature));
    }

    #[test]
    fn a_registrar_has_a_rank_that_its_delegation_proves_for_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let certifier = Certifier::new(home.clone(), Arc::new(SystemClock));
        let device = home.keys().device.device_id();
        let (rank, proof) = certifier.rank();
        assert_eq!(rank, REGISTRAR);
        assert!(certifier.verify_rank(&device, rank, &proof));
        assert!(!certifier.verify_rank(&device, Rank(1), &proof));
        let other = SecretKey::from_seed([7; 32]).device_id();
        assert!(!certifier.verify_rank(&other, rank, &proof));
        for no_proof in [&b""[..], &proof[1..]] {
            assert!(!certifier.verify_rank(&device, rank, no_proof));
        }
        home.change(|trust, _| {
            trust.delegation = None;
            Ok::<_, crate::store::StoreError>(())
        })
        .unwrap();
        assert_eq!(certifier.rank(), (Rank::NONE, Vec::new()));
    }

    #[test]
    fn only_the_authority_gives_ranks() {
        let (founding, foreign) = (founded(1), founded(2));
        let device = founding.device.device_id();
        let by = |key: &SecretKey, realm| {
            let delegation = Delegation { realm, ..Delegation::clone(&founding.delegation) };
            Signed::sign(delegation, key)
        };
        let counts = |proof: &Signed<Delegation>| is_proof(proof, device, &founding.realm);
        assert!(counts(&by(&founding.authority, founding.realm.id())));
        assert!(!counts(&by(&founding.authority, foreign.realm.id())), "of another realm");
        for key in [&founding.device, &founding.entity, &founding.recovery, &foreign.authority] {
            assert!(!counts(&by(key, founding.realm.id())), "signed by another key");
        }
    }

    #[test]
    fn a_founder_s_rank_outlives_its_delegation_and_the_authority_of_its_day() {
        let founding = founded(1);
        let device = founding.device.device_id();
        let next = SecretKey::from_seed([8; 32]);
        let mut realm = founding.realm.clone();
        let long_ago = UnixTime(0);
        realm.replace_authority(&founding.recovery, next.public_key(), long_ago).unwrap();
        assert!(is_proof(&founding.delegation, device, &realm), "of the authority before");
        let authority = Authority::new(&realm, &next).unwrap();
        let anew = authority.delegate(NOW, device, NameLimits::Any, Rights::ORDINARY);
        assert!(is_proof(&anew, device, &realm), "of the new authority");
        assert!(!is_proof(&anew, device, &founding.realm), "of one that is not known yet");
        let third = SecretKey::from_seed([9; 32]);
        realm.replace_authority(&founding.recovery, third.public_key(), long_ago).unwrap();
        for proof in [&founding.delegation, &anew] {
            assert!(is_proof(proof, device, &realm), "the first authority, and the last but one");
        }
    }

    #[test]
    fn nobody_founds_with_a_delegation_that_is_over_or_revoked() {
        let founding = founded(1);
        let (own, mut trust) = (founding.device.device_id(), trust(&founding));
        let rank = |trust: &Trust, own, now| own_rank(trust, own, now).0;
        assert_eq!(rank(&trust, own, NOW), REGISTRAR);
        let over = NOW + DELEGATION_LIFE + Duration::from_secs(3600);
        assert_eq!(rank(&trust, own, over), Rank::NONE);
        let other = SecretKey::from_seed([7; 32]).device_id();
        assert_eq!(rank(&trust, other, NOW), Rank::NONE);
        let authority = Authority::new(&founding.realm, &founding.authority).unwrap();
        let mut lists = RevocationLists::new();
        authority.revoke_registrar(&mut lists, own).unwrap();
        trust.revocations = lists;
        assert_eq!(rank(&trust, own, NOW), Rank::NONE);
    }

    #[test]
    fn an_entity_holds_as_many_positions_as_its_membership_says() {
        let founding = founded(1);
        let standing = standing_of(&founding.credentials);
        let positions = founding.credentials.membership().membership.positions;
        assert_eq!(standing, Standing { entity: founding.entity.entity_id(), positions });
    }
}
