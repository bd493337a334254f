//! Who is believed to be whom, and exactly why not.

use cloak_base::{EntityId, UnixTime};
use cloak_identity::{
    CREDENTIALS_MAX, Certificate, Certifier, CredentialError, Credentials, DELEGATION_LIFE,
    Delegation, DeviceCertificate, DeviceChain, Founding, LISTED_NAMES_MAX, MEMBERSHIP_LIFE,
    Membership, MembershipChain, NameLimits, Peer, Registrar, RegistrarError, RevocationLists,
    Rights, Roster, RosterError, SecretKey, Signed, Validity,
};

use crate::world::{DAY, Household, NOW, World, label};

fn verify_at(world: &World, of: &Household, now: UnixTime) -> Result<Peer, CredentialError> {
    let received = Credentials::decode(&of.credentials.encode()).expect("its own bytes");
    received.verify(world.realm(), of.device.device_id(), &world.revocations, now)
}

fn verify(world: &World, of: &Household) -> Result<Peer, CredentialError> {
    verify_at(world, of, NOW)
}

/// The same household with another membership.
fn under(world: &World, of: &Household, membership: MembershipChain) -> Household {
    let credentials = Credentials::new(world.realm(), membership, of.credentials.device().clone());
    Household { entity: of.entity.clone(), device: of.device.clone(), credentials }
}

#[test]
fn a_chain_from_the_authority_to_the_device_is_believed() {
    let mut world = World::new();
    let bob = world.member("bob");
    let peer = verify(&world, &bob).unwrap();
    assert_eq!(peer.entity, bob.entity.entity_id());
    assert_eq!(peer.entity_name.to_string(), "bob.cloak");
    assert_eq!(peer.device_name().to_string(), "laptop.bob.cloak");
    assert_eq!((peer.device, peer.positions), (bob.device.device_id(), 4));
    assert_eq!((peer.rights, peer.expires), (Rights::ORDINARY, NOW + MEMBERSHIP_LIFE));
    let founder = verify(&world, &world.founder()).unwrap();
    assert_eq!(founder.device_name().to_string(), "desk.alice.cloak");
    assert!(founder.rights.include(Rights::FOUND_TREE));
}

#[test]
fn another_device_cannot_show_them() {
    let mut world = World::new();
    let (bob, eve) = (world.member("bob"), world.member("eve"));
    let stolen = Household { credentials: bob.credentials, ..eve };
    assert_eq!(verify(&world, &stolen), Err(CredentialError::OtherDevice));
}

#[test]
fn certificates_of_different_entities_do_not_mix() {
    let mut world = World::new();
    let (bob, eve) = (world.member("bob"), world.member("eve"));
    let mixed = under(&world, &eve, bob.credentials.membership().clone());
    assert_eq!(verify(&world, &mixed), Err(CredentialError::OtherEntity));
}

#[test]
fn another_realm_is_told_apart() {
    let mut world = World::new();
    let bob = world.member("bob");
    let other = World::seeded(8);
    let theirs = world.realm().id();
    assert_eq!(verify(&other, &bob), Err(CredentialError::WrongRealm { theirs }));
}

#[test]
fn a_registrar_without_delegation_is_refused() {
    let mut world = World::new();
    let bob = world.member("bob");
    let eve = world.member("eve");
    let membership = Membership::clone(&bob.credentials.membership().membership);
    let self_made = Signed::sign(membership, &eve.device);

    let bare = MembershipChain { membership: self_made.clone(), delegation: None };
    assert_eq!(verify(&world, &under(&world, &bob, bare)), Err(CredentialError::NotARegistrar));

    let borrowed = Some(world.founding.delegation.clone());
    let borrowed = MembershipChain { membership: self_made.clone(), delegation: borrowed };
    let household = under(&world, &bob, borrowed);
    assert_eq!(verify(&world, &household), Err(CredentialError::NotARegistrar));

    let delegation = Delegation {
        device: eve.device.device_id(),
        ..Delegation::clone(&world.founding.delegation)
    };
    let delegation = Some(Signed::sign(delegation, &eve.entity));
    let forged = MembershipChain { membership: self_made, delegation };
    assert_eq!(verify(&world, &under(&world, &bob, forged)), Err(CredentialError::NotTheAuthority));
}

#[test]
fn name_limits_are_enforced_at_both_ends() {
    let mut world = World::new();
    let bob = world.member("bob");
    let carol = SecretKey::generate(&mut world.rng);
    let prefix = NameLimits::Prefix(label("lab"));
    for (limits, name, allowed) in [
        (NameLimits::Any, "carol", true),
        (prefix.clone(), "lab", true),
        (prefix.clone(), "lab-7", true),
        (prefix.clone(), "labour", false),
        (prefix, "carol", false),
        (NameLimits::Listed(vec![label("dave"), label("carol")]), "carol", true),
        (NameLimits::Listed(vec![label("dave")]), "carol", false),
    ] {
        let device = bob.device.device_id();
        let delegation = world.authority().delegate(NOW, device, limits, Rights::ORDINARY);
        let registrar =
            Registrar::new(&world.founding.realm, &bob.device, &delegation, NOW).unwrap();
        let roster = &mut world.roster.clone();
        let entity = carol.entity_id();
        let admitted = registrar.admit(NOW, entity, label(name), roster, &world.revocations);
        assert_eq!(admitted.is_ok(), allowed, "{name}");
        if !allowed {
            assert_eq!(admitted.unwrap_err(), RegistrarError::NameNotDelegated);
        }

        // A registrar that ignores its limits is not believed either.
        let present = Membership::clone(&bob.credentials.membership().membership);
        let membership = Membership { entity, name: label(name), ..present };
        let membership = Signed::sign(membership, &bob.device);
        let chain = MembershipChain { membership, delegation: Some(delegation) };
        let verified = chain.verify(world.realm(), &world.revocations, NOW);
        assert_eq!(verified, if allowed { Ok(()) } else { Err(CredentialError::NameNotDelegated) });
    }
}

#[test]
fn a_registrar_gives_no_rights_that_it_was_not_given() {
    let mut world = World::new();
    let bob = world.member("bob");
    let (device, rights) = (bob.device.device_id(), Rights::ORDINARY);
    let delegation = world.authority().delegate(NOW, device, NameLimits::Any, rights);
    let present = Membership::clone(&bob.credentials.membership().membership);
    let membership = Membership { rights: Rights::FOUND_TREE, ..present };
    let membership = Signed::sign(membership, &bob.device);
    let chain = MembershipChain { membership, delegation: Some(delegation) };
    let verified = chain.verify(world.realm(), &world.revocations, NOW);
    assert_eq!(verified, Err(CredentialError::RightsNotDelegated));
}

#[test]
fn only_its_entity_or_a_steward_certifies_a_device() {
    let mut world = World::new();
    let (bob, eve) = (world.member("bob"), world.member("eve"));
    let realm = world.realm().id();
    let own = Certifier::entity(realm, &bob.entity);
    let steward = own.appoint(NOW, bob.device.device_id());

    let phone = bob.further(&mut world, &Certifier::steward(&bob.device, &steward), "phone");
    assert_eq!(verify(&world, &phone).unwrap().device_name().to_string(), "phone.bob.cloak");

    let certificate = DeviceCertificate::clone(&phone.credentials.device().certificate);
    let by = |key: &SecretKey, steward| DeviceChain {
        certificate: Signed::sign(certificate.clone(), key),
        steward,
    };
    let self_appointed = Certifier::entity(realm, &eve.entity).appoint(NOW, eve.device.device_id());
    for chain in [
        by(&eve.entity, None),
        by(&bob.device, None),
        by(&eve.device, Some(steward.clone())),
        by(&eve.device, Some(self_appointed)),
    ] {
        let membership = bob.credentials.membership().clone();
        let credentials = Credentials::new(world.realm(), membership, chain);
        let (entity, device) = (bob.entity.clone(), phone.device.clone());
        let forged = Household { entity, device, credentials };
        assert_eq!(verify(&world, &forged), Err(CredentialError::NotCertified));
    }
}

#[test]
fn a_wrong_clock_gives_an_error_of_its_own() {
    let mut world = World::new();
    let bob = world.member("bob");
    assert_eq!(
        verify_at(&world, &bob, UnixTime(0)),
        Err(CredentialError::NotYetValid {
            certificate: Certificate::Delegation,
            issued: NOW,
            now: UnixTime(0),
        })
    );
    let late = NOW + MEMBERSHIP_LIFE + DAY;
    let expired = CredentialError::Expired {
        certificate: Certificate::Membership,
        expires: NOW + MEMBERSHIP_LIFE,
        now: late,
    };
    assert_eq!(verify_at(&world, &bob, late), Err(expired));
    assert_eq!(
        expired.to_string(),
        "its membership expired at 2027-02-20T00:00:00Z (here it is 2027-02-21T00:00:00Z)"
    );
    let off_by_minutes = UnixTime(NOW.0 - 299);
    assert!(verify_at(&world, &bob, off_by_minutes).is_ok());
}

#[test]
fn a_membership_renews_and_never_outlives_its_registrar() {
    let mut world = World::new();
    let bob = world.member("bob");
    let present = bob.credentials.membership();
    let later = NOW + DAY * 45;
    assert!(!present.membership.validity.is_renewal_due(NOW + DAY * 44));
    assert!(present.membership.validity.is_renewal_due(later));

    let (realm, key) = (&world.founding.realm, &world.founding.device);
    let registrar = Registrar::new(realm, key, &world.founding.delegation, later).unwrap();
    let renewed = registrar.renew(later, present, &mut world.roster, &world.revocations).unwrap();
    assert_eq!(renewed.expires(), later + MEMBERSHIP_LIFE);
    let at_end = NOW + DAY * 120;
    let renewed = bob.credentials.renewed(realm, renewed, &world.revocations, later).unwrap();
    let bob = Household { credentials: renewed, ..bob };
    assert!(verify_at(&world, &bob, at_end).is_ok());

    let last_days = NOW + DELEGATION_LIFE;
    let late = MembershipChain::clone(bob.credentials.membership());
    let registrar = Registrar::new(realm, key, &world.founding.delegation, last_days).unwrap();
    let refused = registrar.renew(last_days, &late, &mut world.roster, &world.revocations);
    assert!(matches!(
        refused,
        Err(RegistrarError::Credential(CredentialError::Expired {
            certificate: Certificate::Membership,
            ..
        }))
    ));
    let fresh = SecretKey::generate(&mut world.rng).entity_id();
    let name = label("carol");
    let chain =
        registrar.admit(last_days, fresh, name, &mut world.roster, &world.revocations).unwrap();
    assert_eq!(chain.membership.validity.expires, last_days);
}

#[test]
fn a_membership_of_another_is_no_renewal() {
    let mut world = World::new();
    let (bob, eve) = (world.member("bob"), world.member("eve"));
    let theirs = eve.credentials.membership().clone();
    let renewed = bob.credentials.renewed(world.realm(), theirs, &world.revocations, NOW);
    assert_eq!(renewed, Err(CredentialError::OtherEntity));
}

#[test]
fn a_live_name_goes_to_another_key_only_by_the_authority() {
    let mut world = World::new();
    let bob = world.member("bob");
    let thief = SecretKey::generate(&mut world.rng);
    let taken = RegistrarError::Roster(RosterError::NameTaken);
    assert_eq!(world.admit(&thief, "bob"), Err(taken));
    assert!(world.admit(&bob.entity, "bob").is_ok());

    let rival = World::new().admit(&thief, "bob").unwrap();
    assert!(!world.roster.note_member(NOW, &rival, &world.revocations));
    assert_eq!(world.roster.member(&label("bob")).unwrap().entity, bob.entity.entity_id());

    let heir = thief.entity_id();
    let given = world.authority().admit(NOW, heir, label("bob"), Rights::ORDINARY);
    assert!(world.roster.note_member(NOW, &given, &world.revocations));
    assert_eq!(world.roster.member(&label("bob")).unwrap().entity, heir);
    assert_eq!(world.admit(&bob.entity, "bob"), Err(taken));
    assert!(world.admit(&thief, "bob").is_ok());
}

#[test]
fn a_name_is_free_again_when_its_holder_was_revoked_or_is_over() {
    let mut world = World::new();
    let bob = world.member("bob").entity.entity_id();
    let next = SecretKey::generate(&mut world.rng).entity_id();
    let check = |world: &World, now, entity: EntityId| {
        world.roster.check_member(now, &label("bob"), entity, &world.revocations)
    };
    assert_eq!(check(&world, NOW, next), Err(RosterError::NameTaken));
    assert_eq!(check(&world, NOW + MEMBERSHIP_LIFE + DAY, next), Ok(()));
    let mut lists = world.revocations.clone();
    world.authority().revoke_member(&mut lists, bob).unwrap();
    world.revocations = lists;
    assert_eq!(check(&world, NOW, next), Ok(()));
}

#[test]
fn the_largest_credentials_fit() {
    let world = World::new();
    let long = label(&"x".repeat(63));
    let [entity, device, steward] =
        std::array::from_fn(|i| SecretKey::from_seed([u8::try_from(i).unwrap(); 32]));
    let names = NameLimits::Listed(vec![long.clone(); LISTED_NAMES_MAX]);
    let end = Validity { issued: UnixTime(u64::MAX), expires: UnixTime(u64::MAX) };
    let registrar = &world.founding.device;
    let all = Rights::FOUND_TREE;
    let delegation = world.authority().delegate(NOW, registrar.device_id(), names, all);
    let membership = Membership {
        realm: world.realm().id(),
        entity: entity.entity_id(),
        name: long.clone(),
        rights: all,
        positions: u8::MAX,
        validity: end,
    };
    let membership = Signed::sign(membership, registrar);
    let chain = MembershipChain { membership, delegation: Some(delegation) };
    let own = Certifier::entity(world.realm().id(), &entity);
    let steward_certificate = own.appoint(NOW, steward.device_id());
    let certifier = Certifier::steward(&steward, &steward_certificate);
    let mut realm = world.realm().clone();
    let far = UnixTime(u64::MAX);
    realm.replace_authority(&world.founding.recovery, entity.public_key(), far).unwrap();
    let certificate = certifier.certify(NOW, device.device_id(), long);
    let bytes = Credentials::new(&realm, chain, certificate).encode();
    assert!(bytes.len() < CREDENTIALS_MAX, "{}", bytes.len());
    assert!(Credentials::decode(&bytes).is_ok());
}

/// Gives bob's name to another key, and shows both to a device that heard of no revocation.
#[test]
fn a_former_holder_of_a_name_no_longer_counts_where_the_new_one_was_seen() {
    let mut world = World::new();
    let (bob, heir) = (world.member("bob"), world.member("heir"));
    world.revocations.holders_mut().note(bob.credentials.membership(), NOW);
    assert!(verify(&world, &bob).is_ok());

    let entity = heir.entity.entity_id();
    let given = world.authority().admit(NOW + DAY, entity, label("bob"), Rights::ORDINARY);
    let heir = under(&world, &heir, given);
    let later = NOW + 2 * DAY;
    assert!(verify_at(&world, &bob, later).is_ok(), "nobody has heard of it");
    assert!(world.revocations.holders_mut().note(heir.credentials.membership(), later));
    assert_eq!(verify_at(&world, &bob, later), Err(CredentialError::NameReassigned));
    assert!(verify_at(&world, &heir, later).is_ok());

    // A registrar that has not heard renews the former membership: what the authority gave stays.
    let unaware = RevocationLists::new();
    let Founding { realm, device, delegation, .. } = &world.founding;
    let registrar = Registrar::new(realm, device, delegation, later).unwrap();
    let present = bob.credentials.membership();
    let renewed = registrar.renew(later, present, &mut world.roster, &unaware).unwrap();
    let again = under(&world, &bob, renewed.clone());
    assert_eq!(verify_at(&world, &again, later), Err(CredentialError::NameReassigned));
    assert!(!world.revocations.holders_mut().note(&renewed, later));
    let refused = registrar.renew(later, present, &mut world.roster, &world.revocations);
    assert_eq!(refused, Err(RegistrarError::Credential(CredentialError::NameReassigned)));
}

/// Where registrars gave the name, one after the other, the later one knew that it was free.
#[test]
fn of_two_memberships_of_a_name_by_registrars_the_newer_counts() {
    let mut world = World::new();
    let (bob, heir) = (world.member("bob"), world.member("heir"));
    let Founding { realm, device, delegation, .. } = &world.founding;
    let later = NOW + DAY;
    let registrar = Registrar::new(realm, device, delegation, later).unwrap();
    let (entity, mut elsewhere) = (heir.entity.entity_id(), Roster::default());
    let none = RevocationLists::new();
    let given = registrar.admit(later, entity, label("bob"), &mut elsewhere, &none).unwrap();
    let heir = under(&world, &heir, given);
    world.revocations.holders_mut().note(heir.credentials.membership(), later);
    assert!(!world.revocations.holders_mut().note(bob.credentials.membership(), later));
    assert_eq!(verify_at(&world, &bob, later), Err(CredentialError::NameReassigned));
    assert!(verify_at(&world, &heir, later).is_ok());
}
