//! Messages as bytes, and certificates that are not what they say.

use std::sync::Arc;

use cloak_base::{DeviceId, Epoch, UnixTime};
use proptest::prelude::*;

use super::world::{World, record};
use crate::cert::{RootCert, Succession, Term, TreeId};
use crate::message::{Body, Found, Held, HeldRecord, Holder, Origin, Purpose, Routed, Stand};
use crate::tree::PLACE_DEPTH_MAX;
use crate::will::{Ballot, ELECTORATE_MAX, Elector, Testament, VOTES_MAX, WillTerms};
use crate::{Chain, Contact, Key, MESSAGE_MAX, Malformed, Message, RECORD_MAX, Record};

fn device(byte: u8) -> DeviceId {
    DeviceId::from_bytes([byte; 32])
}

fn elector(byte: u8) -> Elector {
    Elector { device: device(byte), index: byte, term: Term(40) }
}

fn contact(byte: u8) -> Contact {
    let locators = ["192.0.2.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()];
    Contact::new(device(byte), &locators)
}

#[test]
fn the_largest_record_fits_every_message() {
    let key = Key::new(&[7; crate::KEY_MAX]).unwrap();
    let bytes: Arc<[u8]> = vec![7; RECORD_MAX].into();
    let record = Record { epoch: Epoch(u64::MAX), expires: UnixTime(u64::MAX), bytes };
    let degree = crate::Degree::new(16).unwrap();
    let point = crate::Address::from_bytes(&[3; 22], degree).unwrap();
    let origin = Origin { device: device(1), address: point.clone() };
    let found = Found {
        id: u32::MAX,
        key: key.clone(),
        record: record.clone(),
        binder: device(2),
        age: u32::MAX,
        hops: u8::MAX,
        cached: false,
    };
    for body in
        [Body::Store { key: key.clone(), record: record.clone() }, Body::Found(Box::new(found))]
    {
        let routed = Routed::new(point.clone(), Some(device(3)), origin.clone(), body);
        assert!(Message::Routed(Box::new(routed)).encoded_len() <= MESSAGE_MAX);
    }
    let records = vec![HeldRecord { point, key, record, age: u32::MAX }];
    let held = Message::Held(Box::new(Held { purpose: Purpose::Keep, last: true, records }));
    assert!(held.encoded_len() <= MESSAGE_MAX);
    assert_eq!(Message::decode(&held.encode()), Ok(held));
}

#[test]
fn trailing_bytes_and_long_ones_are_malformed() {
    let mut bytes = Message::Probe.encode();
    assert_eq!(Message::decode(&bytes), Ok(Message::Probe));
    bytes.push(0);
    assert_eq!(Message::decode(&bytes), Err(Malformed));
    assert_eq!(Message::decode(&vec![0; MESSAGE_MAX + 1]), Err(Malformed));
    assert_eq!(Message::decode(&[]), Err(Malformed));
}

#[test]
fn a_chain_counts_only_as_it_was_signed() {
    let world = World::realm(51, 20);
    let degree = world.config.degree;
    let certifier = world.peers[0].overlay.certifier.clone();
    let deep = world.alive().into_iter().max_by_key(|at| world.address(*at).map(|a| a.depth()));
    let chain = world.peers[deep.unwrap()].overlay.tree.chain.clone().unwrap();
    assert!(chain.verify(degree, &*certifier, &[]));
    let bytes = minicbor::to_vec(&chain).unwrap();
    let mut counted = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let mut decoder = minicbor::Decoder::new(&changed);
        let Ok(other) = decoder.decode::<Chain>() else { continue };
        if decoder.position() < changed.len() {
            // A part of it, such as the parent's chain; a message with something behind it is none.
            continue;
        }
        counted += usize::from(other.verify(degree, &*certifier, &[]) && other != chain);
    }
    assert_eq!(counted, 0, "changes that still count");
}

#[test]
fn a_minority_elects_nobody() {
    let world = World::realm(52, 6);
    let certifier = &*world.peers[0].overlay.certifier;
    let degree = world.config.degree;
    let root = world.peers[0].overlay.tree.chain.clone().unwrap();
    let tree = root.tree();
    let terms = WillTerms {
        tree,
        root: root.holder(),
        term: root.term(),
        version: 7,
        nominees: vec![contact(9)],
        before: (1..=4).map(elector).collect(),
        electorate: (2..=5).map(elector).collect(),
        before_by: root.holder(),
    };
    let will = terms.sign(certifier);
    let elect = |voters: &[u8], nominee: u8, term: u64| {
        let ballot = Ballot::of(&will.terms, Term(term), device(nominee));
        let votes = voters.iter().map(|voter| {
            let certifier = super::world::certifier(device(*voter));
            ballot.vote(elector(*voter), &*certifier)
        });
        let succession = Succession::Elected { will: will.clone(), votes: votes.collect() };
        let founding = root.root_cert().founding.clone();
        Chain::root(RootCert { founding, term: Term(term), holder: device(nominee), succession })
    };
    let term = root.term().0 + 1;
    assert!(elect(&[2, 3, 4], 9, term).verify(degree, certifier, &[]));
    for (voters, nominee, term) in [
        (&[2, 3][..], 9, term),    // with the root that is half
        (&[2, 3, 3], 9, term),     // one of them twice
        (&[2, 3, 6], 9, term),     // one who has no vote
        (&[1, 2, 3], 9, term),     // too few of the new electorate
        (&[3, 4, 5], 9, term),     // too few of the one before
        (&[2, 3, 4], 8, term),     // somebody whom the will does not name
        (&[2, 3, 4], 9, term - 1), // the term of the dead root
    ] {
        let chain = elect(voters, nominee, term);
        assert!(!chain.verify(degree, certifier, &[]), "{voters:?} for {nominee} in {term}");
    }
}

/// A root that was elected by two electorates without a common child, in a tree whose founder has the
/// longest certificate: its place goes with every place in the tree, and with its own will.
#[test]
fn the_longest_election_fits_a_message() {
    let world = World::realm(53, 2);
    let certifier = &*world.peers[0].overlay.certifier;
    let degree = world.config.degree;
    let most = u8::try_from(ELECTORATE_MAX).unwrap();
    let locators = ["[2001:db8::1]:65535".parse().unwrap(); crate::LOCATORS_MAX];
    let nominees: Vec<_> = (1..).map(|at| Contact::new(device(at), &locators)).take(3).collect();
    let late = |at| Elector { term: Term(u64::MAX), ..elector(at) };
    let root = world.peers[0].overlay.tree.chain.clone().unwrap();
    let mut founding = root.root_cert().founding.clone();
    founding.proof = vec![1; crate::RANK_PROOF_MAX].into();
    let terms = WillTerms {
        tree: founding.tree,
        root: device(90),
        term: Term(u64::MAX - 1),
        version: u32::MAX,
        nominees: nominees.clone(),
        before: (1..=most).map(late).collect(),
        electorate: (1..=most).map(|at| late(100 + at)).collect(),
        before_by: device(90),
    };
    let ballot = Ballot::of(&terms, Term(u64::MAX), device(1));
    let electors = terms.before.iter().chain(&terms.electorate);
    let mut votes: Vec<_> = electors.map(|one| ballot.vote(*one, certifier)).collect();
    terms.prune(&mut votes);
    assert_eq!(votes.len(), VOTES_MAX);
    assert!(terms.decides(|elector| votes.iter().any(|vote| vote.elector == *elector)));
    let will = terms.clone().sign(certifier);
    let succession = Succession::Elected { will: will.clone(), votes };
    let (term, holder) = (Term(u64::MAX), device(1));
    let root = Chain::root(RootCert { founding, term, holder, succession });
    let testament = Testament { root: root.clone(), will };
    let stand = Message::Stand(Box::new(Stand { testament, ballot }));
    assert!(stand.encoded_len() <= MESSAGE_MAX, "{}", stand.encoded_len());
    let deepest = (0..PLACE_DEPTH_MAX)
        .try_fold(root, |chain, _| chain.certify(2, Term(u64::MAX), device(2), degree, certifier));
    let contact = nominees[0].clone();
    let holder = Message::Holder(Box::new(Holder { chain: deepest.unwrap(), contact }));
    assert!(holder.encoded_len() <= MESSAGE_MAX, "{}", holder.encoded_len());
    assert_eq!(Message::decode(&holder.encode()), Ok(holder));
}

#[test]
fn trees_are_ordered_by_rank_age_and_founder() {
    let tree = |rank, founded, founder| TreeId {
        rank: crate::Rank(rank),
        founded: UnixTime(founded),
        founder: device(founder),
    };
    let island = TreeId { rank: crate::Rank::NONE, ..tree(0, 1, 1) };
    let sorted = [tree(0, 9, 9), tree(1, 2, 9), tree(1, 3, 1), tree(1, 3, 2), island];
    assert!(sorted.is_sorted());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn perturbed_messages_never_panic(at in 0_usize..200, bit in 0_u8..8) {
        let key = Key::new(b"alice").unwrap();
        let origin = Origin { device: device(1), address: crate::Address::ROOT };
        let body = Body::Store { key, record: record("alice", 3) };
        let routed = Routed::new(crate::Address::ROOT, Some(device(3)), origin, body);
        let mut bytes = Message::Routed(Box::new(routed)).encode();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode().len(), message.encoded_len());
        }
    }
}
