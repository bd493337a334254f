//! The authority, and its replacement by the recovery key.

use cloak_base::UnixTime;
use cloak_identity::{
    Authority, CredentialError, Credentials, NameLimits, NotTheAuthority, Realm, RealmError,
    Registrar, Rights, SecretKey,
};

use crate::world::{DAY, NOW, World, label};

#[test]
fn the_recovery_key_replaces_the_authority() {
    let mut world = World::new();
    let bob = world.member("bob");
    let next = SecretKey::generate(&mut world.rng);
    let mut realm = world.realm().clone();
    let stolen_long_ago = UnixTime(0);
    realm.replace_authority(&world.founding.recovery, next.public_key(), stolen_long_ago).unwrap();
    assert_eq!(realm.id(), world.realm().id());
    assert_eq!(realm.authority(), next.public_key());
    assert_eq!(Authority::new(&realm, &world.founding.authority).err(), Some(NotTheAuthority));

    let device = bob.device.device_id();
    let lists = &world.revocations;
    let refused = bob.credentials.verify(&realm, device, lists, NOW);
    assert_eq!(refused, Err(CredentialError::NotTheAuthority));

    let authority = Authority::new(&realm, &next).unwrap();
    let registrar = world.founding.device.device_id();
    let delegation = authority.delegate(NOW, registrar, NameLimits::Any, Rights::ORDINARY);
    let registrar = Registrar::new(&realm, &world.founding.device, &delegation, NOW).unwrap();
    let entity = bob.entity.entity_id();
    let chain = registrar.admit(NOW, entity, label("bob"), &mut world.roster, lists).unwrap();
    let credentials = Credentials::new(&realm, chain, bob.credentials.device().clone());
    assert!(credentials.verify(&realm, device, lists, NOW).is_ok());

    // A peer that has not heard of the change learns of it from the credentials.
    let mut behind = world.realm().clone();
    assert!(credentials.verify(&behind, device, lists, NOW).is_ok());
    assert_eq!(behind.adopt(credentials.change().unwrap().clone()), Ok(true));
    assert_eq!(behind, realm);
    assert_eq!(behind.adopt(credentials.change().unwrap().clone()), Ok(false));
}

#[test]
fn after_a_lost_key_members_have_time_to_renew() {
    let mut world = World::new();
    let bob = world.member("bob");
    let next = SecretKey::generate(&mut world.rng).public_key();
    let mut realm = world.realm().clone();
    realm.replace_authority(&world.founding.recovery, next, NOW + DAY * 7).unwrap();
    let device = bob.device.device_id();
    let at = |days| bob.credentials.verify(&realm, device, &world.revocations, NOW + DAY * days);
    assert!(at(7).is_ok());
    assert_eq!(at(8), Err(CredentialError::NotTheAuthority));
}

#[test]
fn nobody_else_replaces_the_authority() {
    let mut world = World::new();
    let eve = SecretKey::generate(&mut world.rng);
    let mut realm = world.realm().clone();
    for key in [&eve, &world.founding.authority] {
        let replaced = realm.replace_authority(key, eve.public_key(), NOW);
        assert_eq!(replaced, Err(RealmError::NotTheRecoveryKey));
    }
    assert_eq!(&realm, world.realm());

    let mut other = World::seeded(8).founding;
    other.realm.replace_authority(&other.recovery, eve.public_key(), NOW).unwrap();
    let foreign = other.realm.change().unwrap().clone();
    assert_eq!(realm.adopt(foreign), Err(RealmError::WrongRealm));
}

#[test]
fn the_last_change_counts_whatever_the_order() {
    let mut world = World::new();
    let keys: [SecretKey; 2] = std::array::from_fn(|_| SecretKey::generate(&mut world.rng));
    let mut realm = world.realm().clone();
    let changes = keys.each_ref().map(|key| {
        realm.replace_authority(&world.founding.recovery, key.public_key(), NOW).unwrap();
        realm.change().unwrap().clone()
    });
    let mut other = world.realm().clone();
    assert_eq!(other.adopt(changes[1].clone()), Ok(true));
    assert_eq!(other.adopt(changes[0].clone()), Ok(false));
    assert_eq!(other, realm);
    assert_eq!(Realm::decode(&realm.encode()), Ok(realm));
}
