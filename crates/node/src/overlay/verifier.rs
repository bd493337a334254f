//! Says which records of the overlay count: signed, for the key that they are found under, and with
//! the epoch and the expiry that stand beside them.

use std::sync::Arc;

use cloak_base::{DeviceId, Epoch, UnixTime};
use cloak_identity::{Binding, DeviceRecord, EntityBinding, EntityRecord, RecordKey, Signed};
use cloak_overlay::{KEY_MAX, Key, RECORD_MAX, Record, RecordVerifier};

use crate::home::Home;

const _: () = assert!(RecordKey::MAX <= KEY_MAX);
const _: () = assert!(Signed::<DeviceRecord>::MAX <= RECORD_MAX);
const _: () = assert!(Signed::<EntityRecord>::MAX <= RECORD_MAX);

/// See the module. Signatures are verified before the home's lock is taken, and it is held only to
/// compare what was read.
pub(crate) struct Verifier {
    home: Arc<Home>,
}

/// The fence and the end that are signed in a record.
#[derive(PartialEq)]
struct Fence {
    epoch: Epoch,
    expires: UnixTime,
}

impl Verifier {
    pub(crate) fn new(home: Arc<Home>) -> Self {
        Self { home }
    }

    fn device(&self, device: DeviceId, bytes: &[u8], now: UnixTime) -> Option<Fence> {
        let record = Signed::<DeviceRecord>::decode(bytes).ok()?;
        let trust = self.home.trust();
        let binding = Binding::verify(record, &trust.realm, &trust.revocations, now).ok()?;
        let (epoch, expires) = (binding.record().epoch(), binding.record().validity().expires);
        (binding.device() == device).then_some(Fence { epoch, expires })
    }

    fn entity(&self, key: &RecordKey, bytes: &[u8], now: UnixTime) -> Option<Fence> {
        let record = Signed::<EntityRecord>::decode(bytes).ok()?;
        let trust = self.home.trust();
        let binding = EntityBinding::verify(record, &trust.realm, &trust.revocations, now).ok()?;
        let (epoch, expires) = (binding.epoch(), binding.validity().expires);
        binding.is_under(key).then_some(Fence { epoch, expires })
    }
}

impl RecordVerifier for Verifier {
    fn verify(&self, key: &Key, record: &Record, now: UnixTime) -> bool {
        let Ok(key) = RecordKey::from_bytes(key.as_bytes()) else { return false };
        let signed = match &key {
            RecordKey::Device(device) => self.device(*device, &record.bytes, now),
            RecordKey::Name(_) | RecordKey::Entity(_) => self.entity(&key, &record.bytes, now),
        };
        signed == Some(Fence { epoch: record.epoch, expires: record.expires })
    }

    /// Whether its credentials count, and now, is not asked: others may know less than we do, or
    /// more, and clocks differ.
    fn is_forged(&self, key: &Key, record: &Record) -> bool {
        let Ok(key) = RecordKey::from_bytes(key.as_bytes()) else { return true };
        let signed = match &key {
            RecordKey::Device(device) => Signed::<DeviceRecord>::decode(&record.bytes)
                .ok()
                .filter(|record| DeviceId::from(record.signer()) == *device)
                .map(|record| (record.epoch(), record.validity().expires)),
            RecordKey::Name(_) | RecordKey::Entity(_) => {
                let record = Signed::<EntityRecord>::decode(&record.bytes).ok();
                record.map(|record| (record.epoch(), record.validity().expires))
            }
        };
        signed != Some((record.epoch, record.expires))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloak_base::Rng;
    use cloak_identity::{
        Announcement, Authority, CLOCK_TOLERANCE, Certifier, Credentials, DEVICE_RECORD_LIFE,
        Label, Rights, SecretKey,
    };
    use cloak_transport::SystemClock;

    use super::*;
    use crate::home::InitNames;
    use crate::store::StoreError;

    /// The time at which everything is made. Alice's realm is founded by the clock, before it.
    const LATER: Duration = Duration::from_secs(60);

    struct Realm {
        _dir: tempfile::TempDir,
        home: Arc<Home>,
        now: UnixTime,
    }

    /// A device of bob, who is a member.
    struct Bob {
        entity: SecretKey,
        device: SecretKey,
        credentials: Credentials,
    }

    impl Realm {
        fn found() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let names =
                InitNames { name: "alice".into(), realm: "home".into(), device: "desk".into() };
            let home = Home::init(&dir.path().join("home"), names, &SystemClock).unwrap();
            let now = home.trust().credentials.membership().membership.validity.issued + LATER;
            Self { _dir: dir, home: Arc::new(home), now }
        }

        fn member(&self, seed: u64, name: &str) -> Bob {
            let mut rng = Rng::from_u64(seed);
            let [entity, device] = std::array::from_fn(|_| SecretKey::generate(&mut rng));
            let (keys, trust) = (self.home.keys(), self.home.trust());
            let authority = Authority::new(&trust.realm, keys.authority.as_ref().unwrap()).unwrap();
            let rights = Rights::ORDINARY;
            let membership = authority.admit(self.now, entity.entity_id(), label(name), rights);
            let certifier = Certifier::entity(trust.realm.id(), &entity);
            let chain = certifier.certify(self.now, device.device_id(), label("laptop"));
            let credentials = Credentials::new(&trust.realm, membership, chain);
            Bob { entity, device, credentials }
        }

        /// What the node says of a record under a key.
        fn verify(&self, key: &RecordKey, record: &Record) -> bool {
            self.verify_at(key, record, self.now)
        }

        fn verify_at(&self, key: &RecordKey, record: &Record, now: UnixTime) -> bool {
            let key = Key::new(&key.to_bytes()).unwrap();
            Verifier::new(self.home.clone()).verify(&key, record, now)
        }

        fn revoke(&self, bob: &Bob) {
            let now = self.now;
            let revoked = self.home.change(|trust, _| {
                let certifier = Certifier::entity(trust.realm.id(), &bob.entity);
                let device = bob.device.device_id();
                trust.revocations.revoke_device(&certifier, &trust.realm, now, device).unwrap();
                Ok::<_, StoreError>(())
            });
            revoked.unwrap();
        }
    }

    impl Bob {
        fn device_key(&self) -> RecordKey {
            RecordKey::Device(self.device.device_id())
        }

        fn entity_keys(&self) -> [RecordKey; 2] {
            let name = self.credentials.membership().membership.name.clone();
            [RecordKey::Name(name), RecordKey::Entity(self.entity.entity_id())]
        }

        fn device_record(&self, now: UnixTime) -> Record {
            let said = Announcement {
                locators: Vec::new(),
                ports: Vec::new(),
                preference: 0,
                epoch: Epoch(7),
                relays: Vec::new(),
                is_relay: false,
                address: None,
            };
            let signed = DeviceRecord::sign(&self.device, &self.credentials, said, now);
            let (epoch, expires) = (signed.epoch(), signed.validity().expires);
            Record { epoch, expires, bytes: signed.encode().into() }
        }

        fn entity_record(&self, now: UnixTime) -> Record {
            let epoch = EntityRecord::epoch_above(Epoch(0), self.device.device_id(), now);
            let signed = EntityRecord::sign(&self.device, &self.credentials, [], epoch, now);
            Record { epoch, expires: signed.validity().expires, bytes: signed.encode().into() }
        }
    }

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    #[test]
    fn a_device_record_counts_for_its_signer_alone() {
        let realm = Realm::found();
        let (bob, eve) = (realm.member(1, "bob"), realm.member(2, "eve"));
        let record = bob.device_record(realm.now);
        assert!(realm.verify(&bob.device_key(), &record));
        assert!(!realm.verify(&eve.device_key(), &record), "another device's");
        for key in bob.entity_keys() {
            assert!(!realm.verify(&key, &record), "no entity record");
        }
        let forged = Bob { credentials: bob.credentials.clone(), ..realm.member(2, "eve") };
        assert!(!realm.verify(&bob.device_key(), &forged.device_record(realm.now)));
        assert!(!realm.verify(&forged.device_key(), &forged.device_record(realm.now)));
    }

    #[test]
    fn an_entity_record_counts_for_its_name_and_its_entity_alone() {
        let realm = Realm::found();
        let (bob, eve) = (realm.member(1, "bob"), realm.member(2, "eve"));
        let record = bob.entity_record(realm.now);
        for (ours, theirs) in bob.entity_keys().iter().zip(&eve.entity_keys()) {
            assert!(realm.verify(ours, &record), "{ours:?}");
            assert!(!realm.verify(theirs, &record), "{theirs:?}");
        }
        assert!(!realm.verify(&bob.device_key(), &record), "no device record");
        let forged = Bob { credentials: bob.credentials.clone(), ..eve };
        for key in bob.entity_keys() {
            assert!(!realm.verify(&key, &forged.entity_record(realm.now)), "{key:?}");
        }
    }

    #[test]
    fn what_stands_beside_a_record_is_what_was_signed() {
        let realm = Realm::found();
        let bob = realm.member(1, "bob");
        let [name, _] = bob.entity_keys();
        let rows = [
            (bob.device_key(), bob.device_record(realm.now)),
            (name, bob.entity_record(realm.now)),
        ];
        for (key, record) in rows {
            assert!(realm.verify(&key, &record));
            let epoch = record.epoch.next();
            assert!(!realm.verify(&key, &Record { epoch, ..record.clone() }));
            let expires = record.expires + Duration::from_secs(1);
            assert!(!realm.verify(&key, &Record { expires, ..record.clone() }));
            let bytes = record.bytes[1..].into();
            assert!(!realm.verify(&key, &Record { bytes, ..record }));
        }
    }

    #[test]
    fn a_record_counts_for_its_time_give_or_take_the_tolerance() {
        let realm = Realm::found();
        let bob = realm.member(1, "bob");
        let (key, record) = (bob.device_key(), bob.device_record(realm.now));
        let end = realm.now + DEVICE_RECORD_LIFE + CLOCK_TOLERANCE;
        assert!(realm.verify_at(&key, &record, end));
        assert!(!realm.verify_at(&key, &record, end + Duration::from_secs(1)));
        let early = UnixTime(realm.now.0 - CLOCK_TOLERANCE.as_secs() - 1);
        assert!(!realm.verify_at(&key, &record, early), "not made yet");
    }

    #[test]
    fn nothing_of_a_revoked_device_counts() {
        let realm = Realm::found();
        let bob = realm.member(1, "bob");
        realm.revoke(&bob);
        assert!(!realm.verify(&bob.device_key(), &bob.device_record(realm.now)));
        for key in bob.entity_keys() {
            assert!(!realm.verify(&key, &bob.entity_record(realm.now)), "{key:?}");
        }
    }

    #[test]
    fn a_key_of_another_kind_has_no_records() {
        let realm = Realm::found();
        let bob = realm.member(1, "bob");
        let verifier = Verifier::new(realm.home.clone());
        for bytes in [&b""[..], b"xbob", b"nBob", bob.device.device_id().as_bytes()] {
            let key = Key::new(bytes).unwrap();
            assert!(!verifier.verify(&key, &bob.device_record(realm.now), realm.now));
            assert!(!verifier.verify(&key, &bob.entity_record(realm.now), realm.now));
        }
    }
}
