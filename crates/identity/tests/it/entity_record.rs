//! Entity records: which devices an entity has, as one of them says.

use std::collections::BTreeSet;
use std::time::Duration;

use cloak_base::{DeviceId, Epoch, UnixTime};
use cloak_identity::{
    BindingError, CLOCK_TOLERANCE, Certifier, CredentialError, Credentials, DecodeError,
    ENTITY_RECORD_LIFE, EntityBinding, EntityRecord, LISTED_DEVICES_MAX, RecordKey, Rights, Signed,
    TimeError,
};

use crate::world::{DAY, Household, NOW, World, label};

fn epoch_of(of: &Household) -> Epoch {
    EntityRecord::epoch_above(Epoch(0), of.device.device_id(), NOW)
}

fn signed(of: &Household, devices: &[DeviceId]) -> Signed<EntityRecord> {
    let devices = devices.iter().copied();
    EntityRecord::sign(&of.device, &of.credentials, devices, epoch_of(of), NOW)
}

fn verify_at(
    world: &World,
    record: Signed<EntityRecord>,
    now: UnixTime,
) -> Result<EntityBinding, BindingError> {
    EntityBinding::verify(record, world.realm(), &world.revocations, now)
}

fn verify(world: &World, record: Signed<EntityRecord>) -> Result<EntityBinding, BindingError> {
    verify_at(world, record, NOW)
}

fn ids(devices: impl IntoIterator<Item = DeviceId>) -> BTreeSet<DeviceId> {
    devices.into_iter().collect()
}

fn strangers(count: u8) -> Vec<DeviceId> {
    (0..count).map(|number| DeviceId::from_bytes([number; 32])).collect()
}

/// Bob on his laptop and his phone.
fn bob() -> (World, Household, Household) {
    let mut world = World::new();
    let laptop = world.member("bob");
    let certifier = Certifier::entity(world.realm().id(), &laptop.entity);
    let phone = laptop.further(&mut world, &certifier, "phone");
    (world, laptop, phone)
}

#[test]
fn a_record_names_the_entity_and_its_devices_under_both_keys() {
    let (world, laptop, phone) = bob();
    let (one, other) = (laptop.device.device_id(), phone.device.device_id());
    let record = signed(&phone, &[one]);
    let binding = verify(&world, record.clone()).expect("it counts");
    assert_eq!(binding.entity(), laptop.entity.entity_id());
    assert_eq!(binding.entity_name().to_string(), "bob.cloak");
    assert_eq!(binding.devices(), &ids([one, other]));
    assert_eq!(binding.signer().device, other);
    assert_eq!((binding.epoch(), binding.bytes()), (epoch_of(&phone), &record.encode()[..]));
    assert_eq!(binding.validity().expires, NOW + ENTITY_RECORD_LIFE);
    assert!(binding.is_under(&RecordKey::Entity(laptop.entity.entity_id())));
    assert!(binding.is_under(&RecordKey::Name(label("bob"))));
    assert!(!binding.is_under(&RecordKey::Name(label("alice"))));
    assert!(!binding.is_under(&RecordKey::Entity(world.founding.entity.entity_id())));
    assert!(!binding.is_under(&RecordKey::Device(other)));
}

#[test]
fn only_a_device_of_the_entity_signs() {
    let (mut world, laptop, _) = bob();
    let eve = world.member("eve");
    let forged = Household { credentials: laptop.credentials.clone(), ..eve };
    let error = verify(&world, signed(&forged, &[laptop.device.device_id()]));
    assert_eq!(error, Err(CredentialError::OtherDevice.into()));
    let mut bytes = signed(&laptop, &[]).encode();
    *bytes.last_mut().expect("not empty") ^= 1;
    assert_eq!(Signed::<EntityRecord>::decode(&bytes), Err(DecodeError::BadSignature));
}

#[test]
fn a_record_counts_for_a_day() {
    let (world, laptop, _) = bob();
    let record = signed(&laptop, &[]);
    let end = NOW + DAY + CLOCK_TOLERANCE;
    assert!(verify_at(&world, record.clone(), end).is_ok());
    let now = end + Duration::from_secs(1);
    let expired = TimeError::Expired { expires: NOW + DAY, now };
    assert_eq!(verify_at(&world, record, now), Err(expired.into()));
    let early = EntityRecord::sign(
        &laptop.device,
        &laptop.credentials,
        [],
        epoch_of(&laptop),
        NOW + 2 * CLOCK_TOLERANCE,
    );
    let error = TimeError::NotYetValid { issued: NOW + 2 * CLOCK_TOLERANCE, now: NOW };
    assert_eq!(verify(&world, early), Err(error.into()));
}

#[test]
fn a_revoked_signer_and_another_realm_s_do_not_count() {
    let (mut world, laptop, phone) = bob();
    let record = signed(&phone, &[]);
    let certifier = Certifier::entity(world.founding.realm.id(), &laptop.entity);
    let (realm, lists) = (world.founding.realm.clone(), &mut world.revocations);
    lists.revoke_device(&certifier, &realm, NOW, phone.device.device_id()).expect("room");
    assert_eq!(verify(&world, record), Err(CredentialError::DeviceRevoked.into()));
    assert!(verify(&world, signed(&laptop, &[])).is_ok());
    let foreign = World::seeded(8);
    let theirs = foreign.realm().id();
    let error = CredentialError::WrongRealm { theirs };
    assert_eq!(verify(&world, signed(&foreign.founder(), &[])), Err(error.into()));
}

#[test]
fn an_epoch_that_nobody_could_go_above_does_not_count() {
    let (world, laptop, _) = bob();
    let at = |epoch| {
        let record = EntityRecord::sign(&laptop.device, &laptop.credentials, [], epoch, NOW);
        verify(&world, record).map(|binding| binding.epoch())
    };
    let last = Epoch((NOW + 3 * CLOCK_TOLERANCE).0 << 16 | 0xffff);
    assert_eq!(at(last), Ok(last));
    assert_eq!(at(last.next()), Err(BindingError::EpochAhead));
    assert_eq!(at(Epoch(u64::MAX)), Err(BindingError::EpochAhead));
}

#[test]
fn a_record_lists_its_signer_and_at_most_so_many() {
    let (world, laptop, _) = bob();
    let own = laptop.device.device_id();
    let binding = verify(&world, signed(&laptop, &strangers(200))).expect("it counts");
    assert_eq!(binding.devices().len(), LISTED_DEVICES_MAX);
    assert!(binding.devices().contains(&own));
    assert!(binding.bytes().len() <= 7 * 1024);
}

#[test]
fn a_complete_record_is_left_alone_until_half_of_its_life_is_over() {
    let (world, laptop, phone) = bob();
    let (one, other) = (laptop.device.device_id(), phone.device.device_id());
    let found = verify(&world, signed(&laptop, &[other])).expect("it counts");
    let at = |known: &[DeviceId], now| {
        let known = known.iter().copied();
        EntityRecord::devices_to_list(
            &phone.credentials,
            known,
            Some(&found),
            &world.revocations,
            now,
        )
    };
    let half = NOW + DAY / 2;
    assert_eq!(at(&[one], UnixTime(half.0 - 1)), None);
    assert_eq!(at(&[], NOW), None, "it may list more than we know");
    assert_eq!(at(&[one], half), Some(ids([one, other])));
    let stranger = strangers(1)[0];
    assert_eq!(at(&[one, stranger], NOW), Some(ids([one, other, stranger])));
    let none =
        EntityRecord::devices_to_list(&phone.credentials, [one], None, &world.revocations, NOW);
    assert_eq!(none, Some(ids([one, other])));
}

#[test]
fn who_is_missing_signs_with_those_that_were_found() {
    let (world, laptop, phone) = bob();
    let (one, other) = (laptop.device.device_id(), phone.device.device_id());
    let found = verify(&world, signed(&laptop, &strangers(2))).expect("it counts");
    let listed = EntityRecord::devices_to_list(
        &phone.credentials,
        [],
        Some(&found),
        &world.revocations,
        NOW,
    );
    assert_eq!(listed, Some(ids(strangers(2).into_iter().chain([one, other]))));
}

#[test]
fn revoked_devices_are_left_out_but_are_no_reason_to_sign() {
    let (mut world, laptop, phone) = bob();
    let (one, other) = (laptop.device.device_id(), phone.device.device_id());
    let lost = strangers(1)[0];
    let found = verify(&world, signed(&laptop, &[other, lost])).expect("it counts");
    let certifier = Certifier::entity(world.founding.realm.id(), &laptop.entity);
    let (realm, lists) = (world.founding.realm.clone(), &mut world.revocations);
    lists.revoke_device(&certifier, &realm, NOW, lost).expect("room");
    let listed = |now| {
        EntityRecord::devices_to_list(
            &phone.credentials,
            [one, lost],
            Some(&found),
            &world.revocations,
            now,
        )
    };
    assert_eq!(listed(NOW), None);
    assert_eq!(listed(NOW + DAY / 2), Some(ids([one, other])));
}

#[test]
fn what_we_know_goes_before_what_was_found_and_too_much_of_it_ends() {
    let (world, laptop, phone) = bob();
    let own = phone.device.device_id();
    let many = strangers(60);
    let (known, others) = many.split_at(20);
    let found = verify(&world, signed(&laptop, others)).expect("it counts");
    let list = |known: &[DeviceId], found: &EntityBinding| {
        let known = known.iter().copied();
        EntityRecord::devices_to_list(
            &phone.credentials,
            known,
            Some(found),
            &world.revocations,
            NOW,
        )
    };
    let listed = list(known, &found).expect("we are missing");
    assert_eq!(listed.len(), LISTED_DEVICES_MAX);
    assert!(ids(known.iter().copied().chain([own])).is_subset(&listed));
    // More than fits is known: what was signed of it is complete, or it would be signed for ever.
    let listed: Vec<_> = list(&many, &found).expect("we are missing").into_iter().collect();
    let ours = verify(&world, signed(&phone, &listed)).expect("it counts");
    assert_eq!(list(&many, &ours), None);
}

#[test]
fn another_name_or_another_entity_is_not_our_record() {
    let (mut world, laptop, phone) = bob();
    let (one, other) = (laptop.device.device_id(), phone.device.device_id());
    let found = verify(&world, signed(&laptop, &[other])).expect("it counts");
    let entity = laptop.entity.entity_id();
    let renamed = world.authority().admit(NOW, entity, label("robert"), Rights::ORDINARY);
    let renamed = Credentials::new(world.realm(), renamed, phone.credentials.device().clone());
    let listed = EntityRecord::devices_to_list(&renamed, [], Some(&found), &world.revocations, NOW);
    assert_eq!(listed, Some(ids([one, other])), "of our name before");
    let eve = world.member("eve");
    let foreign = verify(&world, signed(&eve, &strangers(1))).expect("it counts");
    let listed = EntityRecord::devices_to_list(
        &phone.credentials,
        [],
        Some(&foreign),
        &world.revocations,
        NOW,
    );
    assert_eq!(listed, Some(ids([other])), "of another entity");
}
