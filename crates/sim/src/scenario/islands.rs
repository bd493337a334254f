//! Trees that were founded offline meet the realm's, and yield.

use std::time::Duration;

use cloak_overlay::{Place, Rank};

use super::partition::until_one_tree;
use super::{Options, Report, Scenario, grown};
use crate::check;
use crate::measure::{Measure, Target, Unit};
use crate::peer::{Nature, PeerId};
use crate::realm::Realm;
use crate::view::Views;

/// Islands, and peers on each.
const ISLANDS: u8 = 3;
const PEERS: usize = 8;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Islands, options);
    let mut realm = grown(options, &mut report);
    let mainland: Vec<PeerId> = realm.world.ids().collect();
    let tree = root_tree(&realm);
    let islands = add(&mut realm, &mainland);
    realm.run_for(Duration::from_secs(60));
    realm.world.heal();
    let took = until_one_tree(&mut realm).map_or(f64::NAN, |took| took.as_secs_f64());
    let one = Measure::new("islands merged, one tree after", took, Unit::Seconds);
    report.add(one.with_target(Target::AtMost(180.0)));
    let captured = f64::from(u8::from(root_tree(&realm) != tree));
    let captured = Measure::new("realms captured by an island", captured, Unit::Number);
    report.add(captured.with_target(Target::AtMost(0.0)));
    report.add(Measure::new("island peers", islands.len() as f64, Unit::Number));
    report.faults = check::quiescent(&Views::of(&realm), &options.setup.overlay);
    report.close(&realm)
}

/// Islanders remember one another and one of the mainland, which they cannot reach yet.
fn add(realm: &mut Realm, mainland: &[PeerId]) -> Vec<PeerId> {
    let first = mainland.len();
    realm.world.partition(|_| 0);
    let mut all = Vec::new();
    for island in 1..=ISLANDS {
        for number in 0..PEERS {
            let peer = realm.world.add(Nature::HONEST, Rank::NONE);
            realm.world.put_on_side(peer, island);
            let mut remembered = realm.sample(mainland, 1);
            remembered.extend(all.iter().rev().take(number.min(2)));
            realm.world.start(peer, &remembered);
            if number == 0 {
                realm.world.confirm_reachability(peer);
            }
            realm.run_for(Duration::from_secs(1));
            all.push(peer);
        }
    }
    debug_assert!(all.iter().all(|peer| peer.index() >= first));
    all
}

fn root_tree(realm: &Realm) -> Option<cloak_overlay::TreeId> {
    match realm.world.peer(PeerId(0)).place() {
        Place::Inner { tree, .. } => Some(*tree),
        Place::Attached { .. } | Place::Seeking => None,
    }
}
