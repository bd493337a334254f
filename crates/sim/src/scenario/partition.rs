//! The network falls into two halves for a minute, and heals.

use std::time::Duration;

use super::{Options, Report, Scenario, grown, lookups};
use crate::check;
use crate::measure::{Measure, Target, Unit};
use crate::realm::Realm;
use crate::view::Views;

/// How long the network is in two.
const CUT: Duration = Duration::from_secs(60);
/// Names at most.
const NAMES_MAX: usize = 2000;
/// How long it is waited for one tree, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Partition, options);
    let mut realm = grown(options, &mut report);
    realm.publish(options.names.min(NAMES_MAX), Duration::from_secs(60));
    realm.run_for(Duration::from_secs(20));
    realm.world.partition(|peer| u8::from(peer.0.count_ones() % 2 == 1));
    realm.run_for(CUT);
    realm.world.heal();
    let took = until_one_tree(&mut realm).map_or(f64::NAN, |took| took.as_secs_f64());
    let one = Measure::new("partition healed, one tree after", took, Unit::Seconds);
    report.add(one.with_target(Target::AtMost(60.0)));
    let questions = lookups::cold_questions(&mut realm, NAMES_MAX);
    let found = realm.look_up(&questions, Duration::from_secs(10));
    let found = Measure::new("partition healed, names found", lookups::success(&found), Unit::Part);
    report.add(found.with_target(Target::AtLeast(1.0)));
    realm.run_for(Duration::from_secs(60));
    report.faults = check::quiescent(&Views::of(&realm), &options.setup.overlay);
    report.close(&realm)
}

/// Time until the tree checker has nothing to say.
pub(super) fn until_one_tree(realm: &mut Realm) -> Option<Duration> {
    let begin = realm.world.now();
    while realm.world.now().since(begin) <= PATIENCE {
        if check::tree(&Views::of(realm)).is_empty() {
            return Some(realm.world.now().since(begin));
        }
        realm.run_for(LOOK_EVERY);
    }
    None
}
