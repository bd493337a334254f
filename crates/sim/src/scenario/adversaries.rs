//! Some peers lie: they drop, claim foreign addresses, withhold and forge records, flood; and one
//! entity makes devices in order to surround a name.

use std::time::Duration;

use cloak_geometry::VirtualPoint;
use cloak_overlay::Message;

use super::{Options, Report, Scenario, grown, lookups};
use crate::ask::LookupOutcome;
use crate::measure::{Measure, Target, Unit};
use crate::names;
use crate::peer::{Nature, PeerId};
use crate::realm::Realm;
use crate::setup::Share;
use crate::view::{View, Views};

/// Devices that the one entity makes.
const MINTED: usize = 64;
/// How many places they get, in all and at one level of the tree: four, as the membership says.
const PLACES: &str = "places of one entity with 64 devices";
const PLACES_AT_A_LEVEL: &str = "most of these at one level";
const PLACES_AT_A_LEVEL_MAX: f64 = 4.0;
/// Levels that are looked at: more than any realm has that can be simulated.
const LEVELS: usize = 12;
/// Messages that a flooder sends on each link at once.
const FLOOD: usize = 20_000;

pub(super) fn run(options: &Options) -> Report {
    let mut options = options.clone();
    if options.setup.adversaries == Share::NONE {
        options.setup.adversaries = Share::percent(10);
    }
    let mut report = Report::new(Scenario::Adversaries, &options);
    let mut realm = grown(&options, &mut report);
    realm.publish(options.names.min(2000), Duration::from_secs(60));
    flood(&mut realm);
    realm.run_for(Duration::from_secs(20));
    let questions = lookups::cold_questions(&mut realm, 2000);
    let lookups = realm.look_up(&questions, Duration::from_secs(60));
    let share = format!("{:.0} % liars", options.setup.adversaries.get() * 100.0);
    let success = lookups::success(&lookups);
    let success = Measure::new(format!("{share}, lookups that succeed"), success, Unit::Part);
    report.add(success.with_target(Target::AtLeast(0.99)));
    let forged = lookups.iter().filter(|one| one.outcome == LookupOutcome::Forged).count();
    let forged = Measure::new(format!("{share}, forged answers"), forged as f64, Unit::Number);
    report.add(forged.with_target(Target::AtMost(0.0)));
    eclipse(&mut realm, &options, &mut report);
    report.close(&realm)
}

/// One liar shouts at all its neighbours.
fn flood(realm: &mut Realm) {
    let liar = |peer: &PeerId| !realm.world.peer(*peer).nature().malice.is_honest();
    let Some(flooder) = realm.awake().find(liar) else { return };
    for _ in 0..FLOOD {
        realm.world.shout(flooder, &Message::Probe);
    }
}

/// One entity joins with many devices: how many places does it get, and how many points of a name?
fn eclipse(realm: &mut Realm, options: &Options, report: &mut Report) {
    let first = realm.world.add(Nature::HONEST, cloak_overlay::Rank::NONE);
    let mut minted = vec![first];
    minted.extend((1..MINTED).map(|_| realm.world.add_sibling(first, Nature::HONEST)));
    for device in &minted {
        let remembered = realm.acquaintances(3);
        realm.world.start(*device, &remembered);
        realm.run_for(Duration::from_secs(1));
    }
    realm.run_for(Duration::from_secs(60));
    let views = Views::of(realm);
    let inner = views.all.iter().filter(|view| view.address().is_some());
    let owned = inner.clone().filter(|view| minted.contains(&view.peer)).count();
    report.add(Measure::new(PLACES, owned as f64, Unit::Number));
    let level = |depth| {
        let there = |view: &&View| view.address().is_some_and(|address| address.depth() == depth);
        inner.clone().filter(there).filter(|view| minted.contains(&view.peer)).count()
    };
    let most = (0..LEVELS).map(level).max().unwrap_or(0);
    let most = Measure::new(PLACES_AT_A_LEVEL, most as f64, Unit::Number);
    report.add(most.with_target(Target::AtMost(PLACES_AT_A_LEVEL_MAX)));
    let addresses: Vec<_> =
        inner.filter_map(|view| Some((view.address()?.clone(), view.peer))).collect();
    let most = (0..200).map(|name| points_held(&addresses, name, &minted, options)).max();
    let most = Measure::new(
        "points of one name that it binds, most of 200 names",
        most.unwrap_or(0) as f64,
        Unit::Number,
    );
    report.add(most.with_target(Target::AtMost(2.0)));
}

fn points_held(
    addresses: &[(cloak_overlay::Address, PeerId)],
    name: u32,
    minted: &[PeerId],
    options: &Options,
) -> usize {
    let points = VirtualPoint::of_name(names::key(name).as_bytes(), options.setup.degree());
    let binds = |point: &&VirtualPoint| {
        let below = addresses.iter().filter(|(address, _)| point.is_below(address));
        below
            .max_by_key(|(address, _)| address.depth())
            .is_some_and(|(_, peer)| minted.contains(peer))
    };
    points.iter().filter(binds).count()
}
