//! Invitations: redeemed once, by whoever holds the secret, at the device that made them.

use std::time::Duration;

use cloak_base::{Rng, UnixTime};
use cloak_identity::{
    CredentialError, GRANT_BINDINGS_MAX, GRANT_MAX, Grant, GrantError, INVITATION_LOCATORS_MAX,
    INVITATIONS_MAX, Invitation, InvitationError, InvitationKind, Invitations, Joined, Label,
    NameLimits, Offer, Redemption, RedemptionError, Registrar, Rights, RosterError, SecretKey,
    TextError, TooManyInvitations, Transcript, TransportEnd,
};

use crate::world::{DAY, NOW, World, label};

const HOUR: Duration = Duration::from_secs(3600);

/// Alice's device with its invitations.
struct Maker {
    world: World,
    invitations: Invitations,
}

/// Somebody with an invitation and keys.
struct Newcomer {
    entity: SecretKey,
    device: SecretKey,
    nonce: [u8; 32],
}

impl Maker {
    fn new() -> Self {
        Self { world: World::new(), invitations: Invitations::new() }
    }

    fn invite(&mut self, kind: InvitationKind, name: Option<&str>) -> Invitation {
        let offer = Offer { kind, name: name.map(label), expires: NOW + HOUR };
        let World { rng, founding, .. } = &mut self.world;
        let device = founding.device.device_id();
        let issued = self.invitations.issue(rng, NOW, &founding.realm, device, offer);
        issued.expect("there is room").to_text().parse().expect("its own text")
    }

    fn newcomer(&mut self) -> Newcomer {
        let rng = &mut self.world.rng;
        let [entity, device] = std::array::from_fn(|_| SecretKey::generate(rng));
        Newcomer { entity, device, nonce: rng.bytes() }
    }

    fn transcript(&self, newcomer: &Newcomer) -> Transcript {
        Transcript {
            dialler: TransportEnd { device: newcomer.device.device_id(), nonce: newcomer.nonce },
            acceptor: TransportEnd {
                device: self.world.founding.device.device_id(),
                nonce: [0xa; 32],
            },
        }
    }

    fn ask(
        &self,
        newcomer: &Newcomer,
        invitation: &Invitation,
        name: Option<&str>,
    ) -> Result<Redemption, RedemptionError> {
        let (transcript, entity) = (self.transcript(newcomer), newcomer.entity.clone());
        let name: Option<Label> = name.map(label);
        Redemption::new(invitation.clone(), &transcript, entity, name, label("laptop"), NOW)
    }

    fn answer_at(
        &mut self,
        now: UnixTime,
        newcomer: &Newcomer,
        redemption: &Redemption,
    ) -> Result<Grant, InvitationError> {
        let transcript = self.transcript(newcomer);
        let bytes = redemption.request().encode();
        let request = cloak_identity::RedeemRequest::decode(&bytes)?;
        let mut issuer = self.world.issuer();
        self.invitations.redeem(now, &request, &transcript, &mut issuer)
    }

    fn answer(
        &mut self,
        newcomer: &Newcomer,
        redemption: &Redemption,
    ) -> Result<Grant, InvitationError> {
        self.answer_at(NOW, newcomer, redemption)
    }

    /// Asks for a member invitation to be redeemed by a newcomer, under `name`.
    fn redeem(
        &mut self,
        invitation: &Invitation,
        name: Option<&str>,
    ) -> Result<Joined, InvitationError> {
        let newcomer = self.newcomer();
        let redemption = self.ask(&newcomer, invitation, name).expect("a valid wish");
        let grant = self.answer(&newcomer, &redemption)?;
        Ok(redemption.finish(&grant.encode(), NOW).expect("a valid grant"))
    }
}

#[test]
fn a_member_joins() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, None);
    let newcomer = maker.newcomer();
    let redemption = maker.ask(&newcomer, &invitation, Some("bob")).unwrap();
    let mut grant = maker.answer(&newcomer, &redemption).unwrap();
    assert!(grant.add_binding(b"a binding"));
    let joined = redemption.finish(&grant.encode(), NOW).unwrap();
    assert_eq!(joined.realm, maker.world.founding.realm);
    assert_eq!(joined.bindings, [b"a binding"]);
    assert_eq!(joined.entity.unwrap().public(), newcomer.entity.public());
    let (device, lists) = (newcomer.device.device_id(), &maker.world.revocations);
    let peer = joined.credentials.verify(maker.world.realm(), device, lists, NOW).unwrap();
    assert_eq!(peer.device_name().to_string(), "laptop.bob.cloak");
    let member = maker.world.roster.member(&label("bob")).unwrap();
    assert_eq!(member.entity, newcomer.entity.entity_id());
}

#[test]
fn a_further_device_joins_its_entity() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Device, None);
    let newcomer = maker.newcomer();
    let redemption = maker.ask(&newcomer, &invitation, None).unwrap();
    let grant = maker.answer(&newcomer, &redemption).unwrap();
    let joined = redemption.finish(&grant.encode(), NOW).unwrap();
    assert!(joined.entity.is_none());
    let (device, lists) = (newcomer.device.device_id(), &maker.world.revocations);
    let peer = joined.credentials.verify(maker.world.realm(), device, lists, NOW).unwrap();
    assert_eq!(peer.device_name().to_string(), "laptop.alice.cloak");
    assert_eq!(maker.world.roster.device(&label("laptop")).unwrap().device, device);

    let another = maker.invite(InvitationKind::Device, None);
    assert_eq!(
        maker.redeem(&another, None).unwrap_err(),
        InvitationError::Roster(RosterError::LabelTaken)
    );
}

#[test]
fn invitation_is_redeemed_atomically_once() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, None);
    assert!(maker.redeem(&invitation, Some("bob")).is_ok());
    let marked = maker.invitations.clone();
    assert_eq!(maker.redeem(&invitation, Some("carol")).unwrap_err(), InvitationError::Used);
    assert_eq!(maker.redeem(&invitation, Some("bob")).unwrap_err(), InvitationError::Used);
    assert!(maker.world.roster.member(&label("carol")).is_none());

    // What is persisted before the grant is sent says so too.
    maker.invitations = Invitations::decode(&marked.encode()).unwrap();
    assert_eq!(maker.redeem(&invitation, Some("dave")).unwrap_err(), InvitationError::Used);
}

#[test]
fn a_lost_grant_is_given_again_to_the_same_keys_only() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, None);
    let mut newcomer = maker.newcomer();
    let lost = maker.ask(&newcomer, &invitation, Some("bob")).unwrap();
    assert!(maker.answer(&newcomer, &lost).is_ok());
    newcomer.nonce = [9; 32];
    let again = maker.ask(&newcomer, &invitation, Some("bob")).unwrap();
    assert!(maker.answer(&newcomer, &again).is_ok());
    let other_name = maker.ask(&newcomer, &invitation, Some("rob")).unwrap();
    assert_eq!(maker.answer(&newcomer, &other_name), Err(InvitationError::Used));
    newcomer.device = SecretKey::from_seed([1; 32]);
    let other_device = maker.ask(&newcomer, &invitation, Some("bob")).unwrap();
    assert_eq!(maker.answer(&newcomer, &other_device), Err(InvitationError::Used));
}

#[test]
fn a_refused_redemption_leaves_the_invitation_open() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, None);
    let before = maker.invitations.clone();
    let taken = InvitationError::Roster(RosterError::NameTaken);
    assert_eq!(maker.redeem(&invitation, Some("alice")).unwrap_err(), taken);
    assert_eq!(maker.invitations, before);
    assert!(maker.redeem(&invitation, Some("bob")).is_ok());
}

#[test]
fn unknown_expired_and_foreign_invitations_are_told_apart() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, Some("bob"));
    let newcomer = maker.newcomer();
    let redemption = maker.ask(&newcomer, &invitation, None).unwrap();
    let late = NOW + HOUR * 2;
    let expires = invitation.expires;
    assert_eq!(
        maker.answer_at(late, &newcomer, &redemption),
        Err(InvitationError::Expired { expires })
    );
    let too_late = Redemption::new(
        invitation.clone(),
        &maker.transcript(&newcomer),
        newcomer.entity.clone(),
        None,
        label("laptop"),
        late,
    );
    assert_eq!(too_late.unwrap_err(), RedemptionError::Expired { expires, now: late });

    maker.invitations = Invitations::new();
    assert_eq!(maker.answer(&newcomer, &redemption), Err(InvitationError::Unknown));

    let foreign = Invitation { registrar: newcomer.device.device_id(), ..invitation };
    let refused = maker.ask(&newcomer, &foreign, None);
    assert_eq!(refused.unwrap_err(), RedemptionError::WrongRegistrar);
}

#[test]
fn a_wrong_secret_or_another_transport_proves_nothing() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, Some("bob"));
    let newcomer = maker.newcomer();
    let redemption = maker.ask(&newcomer, &invitation, None).unwrap();

    let mut overheard = redemption.request().clone();
    overheard.wish = cloak_identity::Wish::Member {
        entity: maker.newcomer().entity.entity_id(),
        name: label("bob"),
        label: label("laptop"),
    };
    let transcript = maker.transcript(&newcomer);
    let mut issuer = maker.world.issuer();
    let refused = maker.invitations.redeem(NOW, &overheard, &transcript, &mut issuer);
    assert_eq!(refused, Err(InvitationError::WrongProof));

    let replayed_by = maker.newcomer();
    assert_eq!(maker.answer(&replayed_by, &redemption), Err(InvitationError::WrongProof));
    let later = Newcomer { nonce: [1; 32], ..newcomer };
    assert_eq!(maker.answer(&later, &redemption), Err(InvitationError::WrongProof));

    let mut guessed = maker.ask(&later, &invitation, None).unwrap().request().clone();
    guessed.id = maker.invite(InvitationKind::Member, None).id();
    let transcript = maker.transcript(&later);
    let mut issuer = maker.world.issuer();
    let refused = maker.invitations.redeem(NOW, &guessed, &transcript, &mut issuer);
    assert_eq!(refused, Err(InvitationError::WrongProof));
}

#[test]
fn the_name_is_fixed_by_the_inviter_or_chosen_by_the_newcomer() {
    let mut maker = Maker::new();
    let fixed = maker.invite(InvitationKind::Member, Some("bob"));
    let open = maker.invite(InvitationKind::Member, None);
    let device = maker.invite(InvitationKind::Device, None);
    let newcomer = maker.newcomer();
    let refusal = |invitation, name| maker.ask(&newcomer, invitation, name).err();
    assert_eq!(refusal(&fixed, Some("rob")), Some(RedemptionError::NameFixed));
    assert_eq!(refusal(&open, None), Some(RedemptionError::NameMissing));
    assert_eq!(refusal(&device, Some("bob")), Some(RedemptionError::DeviceHasNoName));

    // A client that does not care is refused by the maker.
    let tampered = Invitation { name: None, ..fixed.clone() };
    assert_eq!(maker.redeem(&tampered, Some("rob")).unwrap_err(), InvitationError::NameFixed);
    let tampered = Invitation { kind: InvitationKind::Device, ..fixed.clone() };
    assert_eq!(maker.redeem(&tampered, None).unwrap_err(), InvitationError::WrongKind);
    assert!(maker.redeem(&fixed, None).is_ok());
}

#[test]
fn who_may_not_grant_does_not() {
    let mut maker = Maker::new();
    let [member, device] =
        [InvitationKind::Member, InvitationKind::Device].map(|kind| maker.invite(kind, None));
    for (invitation, name) in [(member, Some("bob")), (device, None)] {
        let newcomer = maker.newcomer();
        let redemption = maker.ask(&newcomer, &invitation, name).unwrap();
        let transcript = maker.transcript(&newcomer);
        let mut issuer = maker.world.issuer();
        issuer.registrar = None;
        issuer.certifier = None;
        let refused = maker.invitations.redeem(NOW, redemption.request(), &transcript, &mut issuer);
        assert_eq!(refused, Err(InvitationError::CannotGrant));
    }

    let listed = NameLimits::Listed(vec![label("dave")]);
    let founding = &maker.world.founding;
    let device = founding.device.device_id();
    let limited = maker.world.authority().delegate(NOW, device, listed, Rights::ORDINARY);
    let registrar = Registrar::new(&founding.realm, &founding.device, &limited, NOW);
    assert!(registrar.is_ok());
}

#[test]
fn a_grant_that_is_not_what_was_asked_for_is_refused() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, None);
    let newcomer = maker.newcomer();
    let redemption = |maker: &Maker| maker.ask(&newcomer, &invitation, Some("bob")).unwrap();
    let asked = redemption(&maker);
    let grant = maker.answer(&newcomer, &asked).unwrap();

    let late = NOW + DAY * 91;
    let error = asked.finish(&grant.encode(), late).unwrap_err();
    assert!(matches!(error, GrantError::Credential(CredentialError::Expired { .. })), "{error}");

    let mut elsewhere = Maker { world: World::seeded(8), invitations: Invitations::new() };
    let theirs = elsewhere.invite(InvitationKind::Member, None);
    let other = elsewhere.ask(&newcomer, &theirs, Some("bob")).unwrap();
    let foreign = elsewhere.answer(&newcomer, &other).unwrap();
    let error = redemption(&maker).finish(&foreign.encode(), NOW).unwrap_err();
    assert_eq!(error, GrantError::WrongRealm);

    let second = maker.invite(InvitationKind::Member, None);
    let another = maker.newcomer();
    let for_carol = maker.ask(&another, &second, Some("carol")).unwrap();
    let for_carol = maker.answer(&another, &for_carol).unwrap();
    let error = redemption(&maker).finish(&for_carol.encode(), NOW).unwrap_err();
    assert_eq!(error, GrantError::NotAsAsked);

    let device = maker.invite(InvitationKind::Device, None);
    let asked = maker.ask(&newcomer, &device, None).unwrap();
    let error = asked.finish(&grant.encode(), NOW).unwrap_err();
    assert_eq!(error, GrantError::NotAsAsked);
}

#[test]
fn a_grant_fits_a_frame() {
    let mut maker = Maker::new();
    let invitation = maker.invite(InvitationKind::Member, Some("bob"));
    let newcomer = maker.newcomer();
    let redemption = maker.ask(&newcomer, &invitation, None).unwrap();
    let mut grant = maker.answer(&newcomer, &redemption).unwrap();
    let added = (0..100).filter(|_| grant.add_binding(&[7; 1500])).count();
    assert!((3..6).contains(&added), "{added}");
    assert!(grant.encode().len() <= GRANT_MAX);
    let small = (0..100).filter(|_| grant.add_binding(&[7])).count();
    assert_eq!(added + small, GRANT_BINDINGS_MAX);
    assert!(redemption.finish(&grant.encode(), NOW).is_ok());
}

#[test]
fn a_newcomer_hears_of_revocations_and_may_be_among_them() {
    let mut maker = Maker::new();
    let bob = maker.world.member("bob").entity.entity_id();
    let mut lists = maker.world.revocations.clone();
    maker.world.authority().revoke_member(&mut lists, bob).unwrap();
    maker.world.revocations = lists.clone();
    let invitation = maker.invite(InvitationKind::Member, None);
    let joined = maker.redeem(&invitation, Some("carol")).unwrap();
    assert_eq!(joined.revocations, lists);
}

#[test]
fn the_number_of_invitations_is_bounded_and_old_ones_make_room() {
    let mut maker = Maker::new();
    let first = maker.invite(InvitationKind::Member, Some("bob"));
    let second = maker.invite(InvitationKind::Member, Some("carol"));
    for _ in 2..INVITATIONS_MAX {
        maker.invite(InvitationKind::Member, None);
    }
    let bytes = maker.invitations.encode();
    assert!(bytes.len() <= Invitations::MAX);
    assert_eq!(Invitations::decode(&bytes), Ok(maker.invitations.clone()));

    let offer = Offer { kind: InvitationKind::Member, name: None, expires: NOW + HOUR };
    let World { founding, .. } = &maker.world;
    let (realm, device) = (&founding.realm, founding.device.device_id());
    let refused = maker.invitations.issue(&mut Rng::from_u64(1), NOW, realm, device, offer.clone());
    assert_eq!(refused, Err(TooManyInvitations));
    let late = NOW + HOUR * 2;
    assert!(maker.invitations.issue(&mut Rng::from_u64(1), late, realm, device, offer).is_ok());
    assert_ne!(first.id(), second.id());
}

#[test]
fn an_invitation_is_one_line_that_tells_typos() {
    let mut maker = Maker::new();
    let mut invitation = maker.invite(InvitationKind::Member, Some("bob"));
    let locators = ["192.0.2.1:7140", "[2001:db8::1]:7140"].map(|text| text.parse().unwrap());
    invitation = invitation.with_locators(locators.into_iter().cycle());
    assert_eq!(invitation.locators.len(), INVITATION_LOCATORS_MAX);
    let text = invitation.to_text();
    assert!(text.starts_with("cloak-invite-1") && !text.contains(char::is_whitespace));
    for form in [text.to_string(), text.to_uppercase(), format!("\n{}\r\n", *text)] {
        assert_eq!(form.parse(), Ok(invitation.clone()));
    }
    let error = |text: &str| text.parse::<Invitation>().unwrap_err();
    assert_eq!(error("hello"), TextError::Prefix { expected: "cloak-invite-1" });
    for at in "cloak-invite-1".len()..text.len() {
        let other = if &text[at..=at] == "a" { "b" } else { "a" };
        let typo = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert!(matches!(error(&typo), TextError::Checksum | TextError::Alphabet), "{typo}");
        let cut = error(&text[..at]);
        assert!(matches!(cut, TextError::Checksum | TextError::Alphabet), "{cut}");
    }
    invitation.locators = vec!["192.0.2.1:7140".parse().unwrap(); 5];
    assert_eq!(error(&invitation.to_text()), TextError::Content);
}

#[test]
fn secrets_are_never_printed() {
    let mut maker = Maker::new();
    let secret: [u8; 16] = maker.world.rng.clone().bytes();
    let invitation = maker.invite(InvitationKind::Member, Some("bob"));
    let newcomer = maker.newcomer();
    let redemption = maker.ask(&newcomer, &invitation, None).unwrap();
    let grant = maker.answer(&newcomer, &redemption).unwrap();
    let holds = |bytes: &[u8]| bytes.windows(16).any(|window| window == secret);
    assert!(holds(&maker.invitations.encode()), "the secret is the one looked for");

    let shown = [
        format!("{invitation:?} {invitation:#?} {:?}", maker.invitations),
        format!("{redemption:?} {grant:?} {:?}", maker.world.founding),
    ];
    let founding = &maker.world.founding;
    for bytes in [&secret[..], &founding.entity.seed()[..], &founding.authority.seed()[..]] {
        let list = format!("{bytes:?}");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for shown in &shown {
            assert!(!shown.contains(list.trim_matches(['[', ']'])), "{shown}");
            assert!(!shown.to_lowercase().contains(&hex), "{shown}");
        }
    }
    assert!(!holds(&redemption.request().encode()));
    assert!(!holds(&grant.encode()));
}
