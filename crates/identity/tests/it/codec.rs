//! Every form that comes from outside: it round-trips, any change is refused, nothing panics.

use std::sync::LazyLock;

use cloak_base::Epoch;
use cloak_identity::{
    Announcement, Certifier, Credentials, DeviceRecord, EntityRecord, Grant, Invitation,
    InvitationKind, Invitations, MembershipChain, Offer, Realm, RedeemRequest, Redemption,
    RevocationList, Roster, SecretKey, Signed, Transcript, TransportEnd,
};
use proptest::prelude::*;

use crate::world::{NOW, World, label};

/// Decodes and encodes again; none if refused.
type Recode = fn(&[u8]) -> Option<Vec<u8>>;

struct Form {
    name: &'static str,
    /// Whether every byte is covered by a signature, directly or by what a signature is over.
    signed: bool,
    bytes: Vec<u8>,
    recode: Recode,
}

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(forms);

fn forms() -> Vec<Form> {
    let mut world = World::new();
    let bob = world.member("bob");
    let realm = world.realm().clone();
    let own = Certifier::entity(realm.id(), &bob.entity);
    let steward = own.appoint(NOW, bob.device.device_id());
    let phone = bob.further(&mut world, &Certifier::steward(&bob.device, &steward), "phone");
    let mut lists = world.revocations.clone();
    let by_steward = Certifier::steward(&bob.device, &steward);
    let lost = SecretKey::generate(&mut world.rng).device_id();
    let entity_list = lists.revoke_device(&by_steward, &realm, NOW, lost).expect("room");
    let gone = SecretKey::generate(&mut world.rng).entity_id();
    let realm_list = world.authority().revoke_member(&mut lists, gone).expect("room");
    world.revocations = lists;
    let announcement = Announcement {
        locators: vec!["[2001:db8::1]:7140".parse().expect("an address")],
        ports: vec![80],
        preference: 0,
        epoch: Epoch(3),
        relays: vec![lost],
        is_relay: false,
        address: None,
    };
    let record = DeviceRecord::sign(&phone.device, &phone.credentials, announcement, NOW);
    let listed = EntityRecord::sign(&phone.device, &phone.credentials, [lost], Epoch(3), NOW);
    let mut changed = realm.clone();
    let next = SecretKey::generate(&mut world.rng).public_key();
    changed.replace_authority(&world.founding.recovery, next, NOW).expect("the recovery key");
    let roster = world.roster.clone();
    let (invitations, request, mut grant) = exchange(&mut world);
    assert!(grant.add_binding(&record.encode()));

    let form = |name, signed, bytes, recode| Form { name, signed, bytes, recode };
    vec![
        form("credentials", true, phone.credentials.encode(), |bytes| {
            Credentials::decode(bytes).ok().map(|value| value.encode())
        }),
        form("membership", true, bob.credentials.membership().encode(), |bytes| {
            MembershipChain::decode(bytes).ok().map(|value| value.encode())
        }),
        form("device record", true, record.encode(), |bytes| {
            Signed::<DeviceRecord>::decode(bytes).ok().map(|value| value.encode())
        }),
        form("entity record", true, listed.encode(), |bytes| {
            Signed::<EntityRecord>::decode(bytes).ok().map(|value| value.encode())
        }),
        form("realm list", true, realm_list.encode(), |bytes| {
            RevocationList::decode(bytes).ok().map(|value| value.encode())
        }),
        form("entity list", true, entity_list.encode(), |bytes| {
            RevocationList::decode(bytes).ok().map(|value| value.encode())
        }),
        form("realm", false, changed.encode(), |bytes| {
            Realm::decode(bytes).ok().map(|value| value.encode())
        }),
        form("grant", false, grant.encode(), |bytes| {
            Grant::decode(bytes).ok().map(|value| value.encode())
        }),
        form("request", false, request.encode(), |bytes| {
            RedeemRequest::decode(bytes).ok().map(|value| value.encode())
        }),
        form("invitations", false, invitations.encode().to_vec(), |bytes| {
            Invitations::decode(bytes).ok().map(|value| value.encode().to_vec())
        }),
        form("roster", false, roster.encode(), |bytes| {
            Roster::decode(bytes).ok().map(|value| value.encode())
        }),
    ]
}

fn exchange(world: &mut World) -> (Invitations, RedeemRequest, Grant) {
    let mut invitations = Invitations::new();
    let maker = world.founding.device.device_id();
    let offer = Offer { kind: InvitationKind::Device, name: None, expires: NOW };
    let invitation = invitations.issue(&mut world.rng, NOW, &world.founding.realm, maker, offer);
    let [entity, device] = std::array::from_fn(|_| SecretKey::generate(&mut world.rng));
    let transcript = Transcript {
        dialler: TransportEnd { device: device.device_id(), nonce: [1; 32] },
        acceptor: TransportEnd { device: maker, nonce: [2; 32] },
    };
    let invitation: Invitation = invitation.expect("room");
    let redemption = Redemption::new(invitation, &transcript, entity, None, label("tv"), NOW)
        .expect("a valid wish");
    let request = redemption.request().clone();
    let grant = invitations.redeem(NOW, &request, &transcript, &mut world.issuer());
    (invitations, request, grant.expect("a valid request"))
}

#[test]
fn every_form_round_trips_and_refuses_more_or_less() {
    for Form { name, bytes, recode, .. } in FORMS.iter() {
        assert_eq!(recode(bytes).as_ref(), Some(bytes), "{name}");
        assert_eq!(recode(&[&bytes[..], &[0]].concat()), None, "{name} and a byte");
        for end in 0..bytes.len() {
            assert_eq!(recode(&bytes[..end]), None, "{name} cut at {end}");
        }
    }
}

#[test]
fn tampering_with_any_byte_of_a_signed_form_is_refused() {
    for Form { name, bytes, recode, .. } in FORMS.iter().filter(|form| form.signed) {
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            assert_eq!(recode(&bytes), None, "{name} at {at}");
        }
    }
}

proptest! {
    #[test]
    fn perturbed_bytes_never_panic_and_have_one_form(
        index: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let form = index.get(&FORMS);
        let mut bytes = form.bytes.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(again) = (form.recode)(&bytes) {
            prop_assert_eq!(again, bytes, "{}", form.name);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        for form in FORMS.iter() {
            if let Some(again) = (form.recode)(&bytes) {
                prop_assert_eq!(again, bytes.clone(), "{}", form.name);
            }
        }
    }

    #[test]
    fn arbitrary_text_is_no_invitation_and_no_key(text: String) {
        prop_assert!(text.parse::<Invitation>().is_err());
        prop_assert!(text.parse::<SecretKey>().is_err());
    }
}
