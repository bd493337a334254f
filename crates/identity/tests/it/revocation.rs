//! Revocations end validity, whoever tries to take them back.

use cloak_identity::{
    Certifier, CredentialError, Credentials, NameLimits, REVOKED_DEVICES_MAX, REVOKED_ENTITIES_MAX,
    Registrar, RevocationError, RevocationList, RevocationLists, Rights, SecretKey,
};

use crate::world::{DAY, Household, NOW, World};

fn refusal(world: &World, of: &Household, lists: &RevocationLists) -> Option<CredentialError> {
    of.credentials.verify(world.realm(), of.device.device_id(), lists, NOW).err()
}

fn revoke_device(
    world: &World,
    lists: &mut RevocationLists,
    by: &Certifier<'_>,
    device: &SecretKey,
) -> RevocationList {
    lists.revoke_device(by, world.realm(), NOW, device.device_id()).expect("there is room")
}

#[test]
fn revocations_end_validity() {
    let mut world = World::new();
    let (bob, carol) = (world.member("bob"), world.member("carol"));
    let own = Certifier::entity(world.realm().id(), &bob.entity);
    let phone = bob.further(&mut world, &own, "phone");

    let mut lists = RevocationLists::new();
    assert_eq!((lists.realm_serial(), lists.entity_serial(bob.entity.entity_id())), (0, 0));
    revoke_device(&world, &mut lists, &own, &phone.device);
    assert_eq!(refusal(&world, &phone, &lists), Some(CredentialError::DeviceRevoked));
    assert_eq!(refusal(&world, &bob, &lists), None);
    assert_eq!(lists.entity_serial(bob.entity.entity_id()), 1);

    world.authority().revoke_member(&mut lists, bob.entity.entity_id()).unwrap();
    assert_eq!(refusal(&world, &bob, &lists), Some(CredentialError::EntityRevoked));
    assert_eq!(refusal(&world, &carol, &lists), None);
    assert_eq!(lists.realm_serial(), 1);
}

#[test]
fn a_revoked_registrar_takes_its_memberships_along() {
    let mut world = World::new();
    let (bob, registrar) = (world.member("bob"), world.founding.device.device_id());
    let mut lists = RevocationLists::new();
    world.authority().revoke_registrar(&mut lists, registrar).unwrap();
    assert_eq!(refusal(&world, &bob, &lists), Some(CredentialError::RegistrarRevoked));
    assert_eq!(refusal(&world, &world.founder(), &lists), None);
}

#[test]
fn lists_travel_and_the_highest_serial_is_kept() {
    let mut world = World::new();
    let bob = world.member("bob");
    let own = Certifier::entity(world.realm().id(), &bob.entity);
    let mut lists = RevocationLists::new();
    let first = revoke_device(&world, &mut lists, &own, &bob.device);
    let second = revoke_device(&world, &mut lists, &own, &world.founding.device);
    world.authority().revoke_member(&mut lists, bob.entity.entity_id()).unwrap();

    let mut others = RevocationLists::new();
    for list in lists.iter().collect::<Vec<_>>().iter().rev() {
        let received = RevocationList::decode(&list.encode()).unwrap();
        assert_eq!(others.merge(received, world.realm(), NOW), Ok(true));
    }
    assert_eq!(others, lists);
    for known in [second, first] {
        assert_eq!(others.merge(known, world.realm(), NOW), Ok(false));
    }
    assert_eq!(others, lists);
}

#[test]
fn only_the_issuers_are_heard() {
    let mut world = World::new();
    let (bob, eve) = (world.member("bob"), world.member("eve"));
    let realm = world.realm().id();
    let mut lists = RevocationLists::new();

    let not_appointed = Certifier::entity(realm, &eve.entity).appoint(NOW, eve.device.device_id());
    let as_steward = Certifier::steward(&eve.device, &not_appointed);
    revoke_device(&world, &mut lists, &as_steward, &bob.device);
    assert!(!lists.is_device_revoked(bob.entity.entity_id(), bob.device.device_id()));

    let mut forged = not_appointed.into_record();
    forged.entity = bob.entity.entity_id();
    let forged = cloak_identity::Signed::sign(forged, &eve.entity);
    let as_steward = Certifier::steward(&eve.device, &forged);
    let refused = lists.revoke_device(&as_steward, world.realm(), NOW, bob.device.device_id());
    assert_eq!(refused.unwrap_err(), RevocationError::NotTheIssuer);

    let other = World::seeded(8);
    let foreign =
        other.authority().revoke_member(&mut RevocationLists::new(), bob.entity.entity_id());
    let merged = lists.merge(foreign.unwrap(), world.realm(), NOW);
    assert_eq!(merged, Err(RevocationError::WrongRealm));
}

#[test]
fn a_stolen_steward_takes_nothing_back_and_is_overruled_by_its_entity() {
    let mut world = World::new();
    let bob = world.member("bob");
    let own = Certifier::entity(world.realm().id(), &bob.entity);
    let [phone, tablet] = ["phone", "tablet"].map(|label| bob.further(&mut world, &own, label));
    let steward = own.appoint(NOW, phone.device.device_id());
    let thief = Certifier::steward(&phone.device, &steward);
    let planted = bob.further(&mut world, &thief, "planted");
    let entity = bob.entity.entity_id();

    let mut lists = RevocationLists::new();
    revoke_device(&world, &mut lists, &own, &tablet.device);
    revoke_device(&world, &mut lists, &thief, &bob.device);
    assert!(lists.is_device_revoked(entity, tablet.device.device_id()));
    assert_eq!(refusal(&world, &bob, &lists), Some(CredentialError::DeviceRevoked));

    revoke_device(&world, &mut lists, &own, &phone.device);
    assert_eq!(refusal(&world, &bob, &lists), None);
    for gone in [&phone, &tablet, &planted] {
        assert_eq!(refusal(&world, gone, &lists), Some(CredentialError::DeviceRevoked));
    }
}

#[test]
fn a_steward_whose_time_is_over_revokes_nothing() {
    let mut world = World::new();
    let bob = world.member("bob");
    let own = Certifier::entity(world.realm().id(), &bob.entity);
    let steward = own.appoint(NOW, bob.device.device_id());
    let certifier = Certifier::steward(&bob.device, &steward);
    let late = NOW + DAY * 400;
    let mut lists = RevocationLists::new();
    let refused = lists.revoke_device(&certifier, world.realm(), late, bob.device.device_id());
    assert_eq!(refused.unwrap_err(), RevocationError::NotTheIssuer);
}

#[test]
fn the_new_authority_s_list_goes_first() {
    let mut world = World::new();
    let bob = world.member("bob").entity.entity_id();
    let mut stolen = RevocationLists::new();
    for _ in 0..5 {
        world.authority().revoke_member(&mut stolen, bob).unwrap();
    }
    let next = SecretKey::generate(&mut world.rng);
    let mut realm = world.realm().clone();
    realm.replace_authority(&world.founding.recovery, next.public_key(), NOW + DAY).unwrap();
    let authority = cloak_identity::Authority::new(&realm, &next).unwrap();
    let mut lists = RevocationLists::new();
    authority.revoke_member(&mut lists, world.founding.entity.entity_id()).unwrap();
    assert_eq!(lists.merge(stolen.realm_list().unwrap(), &realm, NOW), Ok(false));
    assert_eq!(stolen.merge(lists.realm_list().unwrap(), &realm, NOW), Ok(true));
    assert!(!stolen.is_revoked(bob));
}

#[test]
fn lists_are_bounded_and_the_largest_fit_a_frame() {
    let mut world = World::new();
    let bob = world.member("bob");
    let own = Certifier::entity(world.realm().id(), &bob.entity);
    let mut lists = RevocationLists::new();
    for _ in 0..REVOKED_DEVICES_MAX {
        let device = SecretKey::generate(&mut world.rng);
        revoke_device(&world, &mut lists, &own, &device);
    }
    let before = lists.clone();
    let one_more = lists.revoke_device(&own, world.realm(), NOW, bob.device.device_id());
    assert_eq!((one_more, &lists), (Err(RevocationError::Full), &before));

    for _ in 0..REVOKED_ENTITIES_MAX {
        let entity = SecretKey::generate(&mut world.rng).entity_id();
        world.authority().revoke_member(&mut lists, entity).unwrap();
    }
    let one_more = world.authority().revoke_member(&mut lists, bob.entity.entity_id());
    assert_eq!(one_more, Err(RevocationError::Full));
    for list in lists.iter() {
        assert!(list.encode().len() <= RevocationList::MAX);
    }
}

#[test]
fn a_revoked_entity_is_not_renewed() {
    let mut world = World::new();
    let bob = world.member("bob");
    let device = world.founding.device.device_id();
    let delegation = world.authority().delegate(NOW, device, NameLimits::Any, Rights::ORDINARY);
    let mut lists = RevocationLists::new();
    world.authority().revoke_member(&mut lists, bob.entity.entity_id()).unwrap();
    let (realm, key) = (&world.founding.realm, &world.founding.device);
    let registrar = Registrar::new(realm, key, &delegation, NOW).unwrap();
    let renewed = registrar.renew(NOW, bob.credentials.membership(), &mut world.roster, &lists);
    assert_eq!(renewed, Err(CredentialError::EntityRevoked.into()));
    let credentials: &Credentials = &bob.credentials;
    let verified = credentials.verify(realm, bob.device.device_id(), &lists, NOW);
    assert_eq!(verified, Err(CredentialError::EntityRevoked));
}
