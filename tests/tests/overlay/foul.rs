//! A member that plays foul is dropped with a code, and the others notice nothing.
//!
//! Each mallory has a true membership and dials one gateway. A session of that gateway and one of others
//! run meanwhile.

use std::time::Duration;

use cloak_overlay::{Greet, Message};
use cloak_tests::clock::{now, wait_until};
use cloak_tests::hostile::{Channel, Mallory, OVERLAY, frame, overlay_frame};
use cloak_tests::paced::Load;
use cloak_tests::pair::open_sessions;
use cloak_tests::realm::Realm;
use cloak_tests::town::Town;
use cloak_wire::{CONTROL_MAX, Code, Purpose};

use super::{RATE, SOON, drawn, row};

const GATEWAYS: usize = 6;
const SEED: u64 = 5;
/// Whom mallory dials.
const VICTIM: usize = 4;
/// Loads run for so long beside what mallory does.
const SPAN: Duration = Duration::from_secs(8);
/// Codes of the overlay: more messages than anybody needs, a place that is another's.
const FLOOD: u16 = 42;
const FALSE_ADDRESS: u16 = 43;
/// Sent before the gateway has taken the last, at most: it reads a thousand at once.
const BATCH: usize = 400;
/// Far more than a neighbour may send.
const BATCHES: u64 = 200;

struct Scene {
    town: Town,
    loads: [Load; 2],
    /// Members so far that played foul.
    foul: u64,
}

impl Scene {
    fn set() -> Self {
        let town = Town::on_loopback(Realm::new(), GATEWAYS);
        let loads =
            [(VICTIM, 1), (3, 5)].map(|(from, to)| town.load(from, &town.name(to), RATE, SPAN));
        for load in &loads {
            wait_until("bytes flow", SOON, || load.received() > RATE / 10);
        }
        Self { town, loads, foul: 0 }
    }

    /// A peer channel of one more mallory: who was dropped may not be let in again.
    fn link(&mut self) -> Channel {
        self.foul += 1;
        let invitation = self.town.gateway(0).invite(&format!("mallory{}", self.foul));
        Mallory::join(&invitation, SEED + self.foul).open(self.town.overlay(VICTIM), Purpose::Peer)
    }

    /// Nobody noticed anything.
    fn assert_calm(self) {
        let Self { town, loads, .. } = self;
        let mut questions = drawn(&town, 2, SEED);
        questions.extend(row(&town, VICTIM));
        town.assert_resolve(&questions, now(), SOON);
        assert!(town.is_one_overlay());
        for gateway in town.gateways() {
            let rows = open_sessions(gateway);
            assert!(rows.iter().all(|row| row["resumes"] == 0), "no lane was lost: {rows:?}");
            let status = gateway.json(&["status"]);
            assert!(status["warnings"].as_array().unwrap().is_empty(), "{status}");
            wait_until("mallory is not linked", SOON, || {
                let peers = gateway.json(&["peers"]);
                let is_foul = |row: &serde_json::Value| {
                    let name = row["name"].as_str().unwrap_or_default();
                    row["state"] == "linked" && name.contains("mallory")
                };
                !peers.as_array().unwrap().iter().any(is_foul)
            });
        }
        for load in loads {
            load.finish(SPAN + SOON);
        }
    }
}

#[test]
fn garbage_is_dropped_with_a_code() {
    let mut scene = Scene::set();
    let binding = |record: &[u8]| frame(0x30, &overlay_frame(record)[4..]);
    let garbage: [(&str, Vec<u8>); 7] = [
        ("a type that does not exist", frame(0x7f, &[0x80])),
        ("a body that is no CBOR", frame(0x32, &[0xff; 100])),
        ("more than a body", frame(0x3b, &[0x81, 7, 7])),
        ("a body over the limit", frame(0x30, &[7; CONTROL_MAX + 1])),
        ("a length over any limit", vec![0x30, 0xff, 0xff, 0xff]),
        ("a record that is none", binding(&[7; 100])),
        ("a second Hello that is none", frame(0x01, &[0x80])),
    ];
    for (what, bytes) in garbage {
        let mut channel = scene.link();
        // It may be cut before everything is written.
        let _ = channel.send(&bytes);
        let told = channel.end().unwrap_or_else(|| panic!("{what}: no code"));
        assert!([Code::Malformed, Code::Violation].contains(&told), "{what}: {told}");
    }
    scene.assert_calm();
}

#[test]
fn garbage_in_the_overlay_is_dropped_with_a_code() {
    let mut scene = Scene::set();
    let whole = Message::Probe.encode();
    let garbage: [(&str, Vec<u8>); 4] = [
        ("no message", vec![0xff; 100]),
        ("no bytes", Vec::new()),
        ("half a message", whole[..whole.len() - 1].to_vec()),
        ("more than a message", [&whole[..], &whole[..]].concat()),
    ];
    for (what, message) in garbage {
        let mut channel = scene.link();
        let _ = channel.overlay_message(Some);
        let _ = channel.send(&overlay_frame(&message));
        assert_eq!(channel.end(), Some(Code::Malformed), "{what}");
    }
    scene.assert_calm();
}

#[test]
fn a_flood_of_the_channel_is_dropped_with_a_code() {
    let mut scene = Scene::set();
    let before = scene.town.gateway(VICTIM).resident_kib();
    for _ in 0..3 {
        let mut channel = scene.link();
        // Ten thousand questions at once, none of whose answers is read.
        let _ = channel.send(&frame(0x3b, &[0x81, 7]).repeat(10_000));
        let told = channel.end();
        assert!(told.is_none_or(|code| code == Code::Violation), "{told:?}");
    }
    let after = scene.town.gateway(VICTIM).resident_kib();
    println!("resident KiB before and after: {before} {after}");
    scene.assert_calm();
}

#[test]
fn a_flood_of_the_overlay_is_dropped_with_a_code() {
    let mut scene = Scene::set();
    let mut channel = scene.link();
    let _ = channel.overlay_message(Some);
    let told = channel.flood(&overlay_frame(&Message::Probe.encode()), BATCH, BATCHES);
    assert_eq!(told.map(Code::number), Some(FLOOD));
    scene.assert_calm();
}

/// Mallory shows the victim the victim's own certificates, and says that this is where she is.
#[test]
fn a_claim_to_a_foreign_address_is_dropped_with_a_code() {
    let mut scene = Scene::set();
    let mut channel = scene.link();
    let chain = channel.overlay_message(|message| match message {
        Message::Greet(greet) => greet.chain,
        _ => None,
    });
    let claim = Message::Greet(Box::new(Greet { chain: Some(chain), rooted: true }));
    let _ = channel.send(&overlay_frame(&claim.encode()));
    assert_eq!(channel.end().map(Code::number), Some(FALSE_ADDRESS));
    scene.assert_calm();
}

/// The number is the realm's, not only ours.
#[test]
fn a_frame_of_the_overlay_is_one_byte_string() {
    assert_eq!(overlay_frame(&[1, 2]), [OVERLAY, 0, 0, 4, 0x81, 0x42, 1, 2]);
}
