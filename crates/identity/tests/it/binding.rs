//! Bindings: names to entities to devices to locators, the newest record only.

use std::net::SocketAddr;

use cloak_base::{DeviceId, Epoch, UnixTime};
use cloak_identity::{
    Announcement, BINDINGS_MAX, BindingError, Bindings, Certifier, CredentialError, Credentials,
    DEVICE_RECORD_LIFE, DEVICES_MAX, DecodeError, DeviceRecord, EntityName, Inserted, LOCATORS_MAX,
    Name, PORTS_MAX, RELAYS_MAX, Rights, Signed, TimeError,
};

use crate::world::{DAY, Household, NOW, World, label};

fn announcement(epoch: u64) -> Announcement {
    Announcement {
        locators: vec!["192.0.2.1:7140".parse().expect("an address")],
        ports: vec![80, 22, 80],
        preference: 0,
        epoch: Epoch(epoch),
        relays: Vec::new(),
        is_relay: true,
        address: None,
    }
}

fn record(of: &Household, epoch: u64) -> Vec<u8> {
    record_at(of, announcement(epoch), NOW)
}

fn record_at(of: &Household, announcement: Announcement, now: UnixTime) -> Vec<u8> {
    DeviceRecord::sign(&of.device, &of.credentials, announcement, now).encode()
}

/// Alice's bindings; her own device is `desk`.
struct Shelf {
    world: World,
    bindings: Bindings,
}

impl Shelf {
    fn new() -> Self {
        let world = World::new();
        let bindings = Bindings::new(world.founding.device.device_id());
        Self { world, bindings }
    }

    fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, BindingError> {
        self.insert_at(bytes, NOW)
    }

    fn insert_at(&mut self, bytes: &[u8], now: UnixTime) -> Result<Inserted, BindingError> {
        self.bindings.insert(bytes, self.world.realm(), &self.world.revocations, now)
    }

    fn lookup(&self, name: &str) -> Vec<DeviceId> {
        let name: Name = name.parse().expect("a name");
        self.bindings.lookup(&name, NOW).iter().map(|binding| binding.device()).collect()
    }
}

#[test]
fn a_device_record_alone_resolves_names() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    let own = Certifier::entity(shelf.world.realm().id(), &bob.entity);
    let phone = bob.further(&mut shelf.world, &own, "phone");
    assert_eq!(shelf.insert(&record(&bob, 1)), Ok(Inserted::New));
    let mut later = announcement(1);
    later.preference = 1;
    assert_eq!(shelf.insert(&record_at(&phone, later, NOW)), Ok(Inserted::New));

    let (laptop, phone) = (bob.device.device_id(), phone.device.device_id());
    let by_key = Name::entity(EntityName::Key(bob.entity.entity_id())).to_string();
    for (name, devices) in [
        ("bob.cloak", vec![laptop, phone]),
        (&by_key, vec![laptop, phone]),
        ("phone.bob.cloak", vec![phone]),
        (&format!("laptop.{by_key}"), vec![laptop]),
        ("tablet.bob.cloak", vec![]),
        ("carol.cloak", vec![]),
    ] {
        assert_eq!(shelf.lookup(name), devices, "{name}");
    }
    let found = shelf.bindings.device(laptop).unwrap();
    assert_eq!(found.record().ports(), [22, 80]);
    assert_eq!(found.record().locators(), ["192.0.2.1:7140".parse::<SocketAddr>().unwrap()]);
    assert_eq!(found.peer().device_name().to_string(), "laptop.bob.cloak");
}

#[test]
fn the_highest_epoch_is_kept() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    let [first, second] = [1, 2].map(|epoch| record(&bob, epoch));
    assert_eq!(shelf.insert(&first), Ok(Inserted::New));
    assert_eq!(shelf.insert(&first), Ok(Inserted::Same));
    assert_eq!(shelf.insert(&second), Ok(Inserted::New));
    assert_eq!(shelf.insert(&first), Ok(Inserted::Stale));
    assert_eq!(shelf.bindings.device(bob.device.device_id()).unwrap().bytes(), second);
}

#[test]
fn copies_of_one_home_settle_on_one_record_everywhere() {
    let mut world = World::new();
    let bob = world.member("bob");
    let mut other = announcement(1);
    other.ports = vec![443];
    let records = [record(&bob, 1), record_at(&bob, other, NOW)];
    let kept = [[0, 1], [1, 0]].map(|order| {
        let mut shelf = Shelf::new();
        shelf.world.member("bob");
        for index in order {
            shelf.insert(&records[index]).unwrap();
        }
        shelf.bindings.device(bob.device.device_id()).unwrap().bytes().to_vec()
    });
    assert_eq!(kept[0], kept[1]);
}

#[test]
fn cloned_home_is_fenced_and_told() {
    let mut shelf = Shelf::new();
    let alice = shelf.world.founder();
    let own = DeviceRecord::sign(&alice.device, &alice.credentials, announcement(5), NOW);
    let (realm, lists) = (&shelf.world.founding.realm, &shelf.world.revocations);
    shelf.bindings.publish(own.clone(), realm, lists, NOW).unwrap();
    assert_eq!(shelf.insert(&own.encode()), Ok(Inserted::Same));
    assert_eq!(shelf.insert(&record(&alice, 4)), Ok(Inserted::Stale));
    assert_eq!(shelf.insert(&record(&alice, 9)), Ok(Inserted::Conflict { epoch: Epoch(9) }));
    let mut copy = announcement(5);
    copy.ports = vec![];
    let copy = record_at(&alice, copy, NOW);
    assert_eq!(shelf.insert(&copy), Ok(Inserted::Conflict { epoch: Epoch(5) }));
    let kept = shelf.bindings.device(alice.device.device_id()).unwrap();
    assert_eq!(kept.bytes(), own.encode());
}

#[test]
fn a_record_of_another_s_device_is_refused() {
    let mut shelf = Shelf::new();
    let (bob, eve) = (shelf.world.member("bob"), shelf.world.member("eve"));
    let forged = Household { credentials: bob.credentials, ..eve };
    assert_eq!(shelf.insert(&record(&forged, 1)), Err(CredentialError::OtherDevice.into()));
    assert_eq!(shelf.insert(b"\x83\x40\x40\x40"), Err(DecodeError::Malformed.into()));
    assert!(shelf.bindings.is_empty());
}

#[test]
fn records_count_for_their_time() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    let bytes = record(&bob, 1);
    let expires = NOW + DEVICE_RECORD_LIFE;
    let late = expires + DAY;
    assert_eq!(
        shelf.insert_at(&bytes, late),
        Err(TimeError::Expired { expires, now: late }.into())
    );
    let early = UnixTime(NOW.0 - 3600);
    assert_eq!(
        shelf.insert_at(&bytes, early),
        Err(TimeError::NotYetValid { issued: NOW, now: early }.into())
    );
    assert_eq!(shelf.insert(&bytes), Ok(Inserted::New));

    // It stays as the last known place, after those that count.
    let own = Certifier::entity(shelf.world.realm().id(), &bob.entity);
    let phone = bob.further(&mut shelf.world, &own, "phone");
    let mut last = announcement(1);
    last.preference = 9;
    shelf.insert_at(&record_at(&phone, last, late), late).unwrap();
    let order: Vec<_> = shelf.bindings.entity(bob.entity.entity_id(), late);
    let order: Vec<_> = order.iter().map(|found| (found.device(), found.is_fresh(late))).collect();
    assert_eq!(order, [(phone.device.device_id(), true), (bob.device.device_id(), false)]);
}

#[test]
fn the_store_restores_last_known_places() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    let bytes = record(&bob, 1);
    let (realm, lists) = (&shelf.world.founding.realm, &shelf.world.revocations);
    shelf.bindings.restore(&bytes, realm, lists, NOW + DAY).unwrap();
    assert_eq!(shelf.bindings.len(), 1);
    let behind = UnixTime(NOW.0 - 86_400);
    shelf.bindings.restore(&bytes, realm, lists, behind).unwrap();
    assert_eq!(shelf.bindings.sweep(realm, lists, behind), []);
    let after = shelf.bindings.restore(&bytes, realm, lists, NOW + DAY * 91);
    assert!(matches!(after, Err(BindingError::Credential(CredentialError::Expired { .. }))));
}

#[test]
fn a_revocation_sweeps_bindings_out() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    let bytes = record(&bob, 1);
    shelf.insert(&bytes).unwrap();
    let realm = &shelf.world.founding.realm;
    assert_eq!(shelf.bindings.sweep(realm, &shelf.world.revocations, NOW), []);
    let mut lists = shelf.world.revocations.clone();
    shelf.world.authority().revoke_member(&mut lists, bob.entity.entity_id()).unwrap();
    assert_eq!(shelf.bindings.sweep(realm, &lists, NOW), [bob.device.device_id()]);
    shelf.world.revocations = lists;
    assert_eq!(shelf.insert(&bytes), Err(CredentialError::EntityRevoked.into()));
}

#[test]
fn two_publishers_of_one_name() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    shelf.insert(&record(&bob, 1)).unwrap();

    // A registrar that does not know of bob gives the name again: who was first keeps it.
    let mut unaware = World::new();
    unaware.rng = cloak_base::Rng::from_u64(99);
    let rival = unaware.member("bob");
    assert_eq!(shelf.insert(&record(&rival, 9)), Err(BindingError::NameTaken));
    assert_eq!(shelf.lookup("bob.cloak"), [bob.device.device_id()]);

    // The authority's own signature settles it, and for good.
    let later = NOW + DAY;
    let entity = rival.entity.entity_id();
    let given = shelf.world.authority().admit(later, entity, label("bob"), Rights::ORDINARY);
    let chain = rival.credentials.device().clone();
    let credentials = Credentials::new(shelf.world.realm(), given, chain);
    let heir = Household { credentials, ..rival };
    let bytes = record_at(&heir, announcement(1), later);
    assert_eq!(shelf.insert_at(&bytes, later), Ok(Inserted::New));
    assert_eq!(shelf.lookup("bob.cloak"), [heir.device.device_id()]);
    let mut again = announcement(2);
    again.ports.clear();
    let again = record_at(&bob, again, later);
    assert_eq!(shelf.insert_at(&again, later), Err(BindingError::NameTaken));
}

#[test]
fn the_number_of_bindings_is_bounded() {
    let mut shelf = Shelf::new();
    let bob = shelf.world.member("bob");
    let own = Certifier::entity(shelf.world.realm().id(), &bob.entity);
    for number in 0..DEVICES_MAX {
        let device = bob.further(&mut shelf.world, &own, &format!("d{number}"));
        assert_eq!(shelf.insert(&record(&device, 1)), Ok(Inserted::New));
    }
    assert_eq!(shelf.insert(&record(&bob, 1)), Err(BindingError::Full));
    let later = NOW + DAY;
    let fresh = record_at(&bob, announcement(1), later);
    assert_eq!(shelf.insert_at(&fresh, later), Ok(Inserted::New));
    assert_eq!(shelf.bindings.len(), DEVICES_MAX);

    for number in shelf.bindings.len()..BINDINGS_MAX {
        let member = shelf.world.member(&format!("m{number}"));
        let bytes = record_at(&member, announcement(1), later);
        assert_eq!(shelf.insert_at(&bytes, later), Ok(Inserted::New));
    }
    let member = shelf.world.member("one-more");
    let bytes = record_at(&member, announcement(1), later);
    assert_eq!(shelf.insert_at(&bytes, later), Ok(Inserted::New));
    assert_eq!(shelf.bindings.len(), BINDINGS_MAX);
}

#[test]
fn iteration_is_in_one_order_and_the_own_record_is_never_given_up() {
    let mut shelf = Shelf::new();
    let alice = shelf.world.founder();
    let own = DeviceRecord::sign(&alice.device, &alice.credentials, announcement(1), NOW);
    let (realm, lists) = (&shelf.world.founding.realm, &shelf.world.revocations);
    shelf.bindings.publish(own, realm, lists, NOW).unwrap();
    let later = NOW + DAY;
    for number in 0..BINDINGS_MAX {
        let member = shelf.world.member(&format!("m{number}"));
        let bytes = record_at(&member, announcement(1), later);
        assert_eq!(shelf.insert_at(&bytes, later), Ok(Inserted::New));
    }
    assert_eq!(shelf.bindings.len(), BINDINGS_MAX);
    assert!(shelf.bindings.device(alice.device.device_id()).is_some());
    let order: Vec<_> = shelf.bindings.iter().map(|binding| binding.device()).collect();
    assert!(order.is_sorted());
}

#[test]
fn the_largest_record_fits_and_what_is_too_much_is_left_out() {
    let mut world = World::new();
    let bob = world.member("bob");
    let most = Announcement {
        locators: vec!["[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(); 20],
        ports: (0..=u16::MAX).rev().collect(),
        preference: u16::MAX,
        epoch: Epoch(u64::MAX),
        relays: vec![DeviceId::from_bytes([0xff; 32]); 20],
        is_relay: true,
        address: None,
    };
    let record = DeviceRecord::sign(&bob.device, &bob.credentials, most, NOW);
    assert_eq!((record.locators().len(), record.ports().len()), (LOCATORS_MAX, PORTS_MAX));
    assert_eq!(record.relays().len(), RELAYS_MAX);
    assert_eq!(Signed::<DeviceRecord>::decode(&record.encode()), Ok(record));
}

#[test]
fn an_expired_key_holder_does_not_publish() {
    let shelf = &mut Shelf::new();
    let alice = shelf.world.founder();
    let late = NOW + DAY * 91;
    let own = DeviceRecord::sign(&alice.device, &alice.credentials, announcement(1), late);
    let (realm, lists) = (&shelf.world.founding.realm, &shelf.world.revocations);
    let refused = shelf.bindings.publish(own, realm, lists, late);
    assert!(matches!(refused, Err(BindingError::Credential(CredentialError::Expired { .. }))));
}
