//! Names are looked up, each once, from random peers: nothing is cached on the way.

use std::time::Duration;

use super::{Options, Report, Scenario, grown};
use crate::ask::{Lookup, LookupOutcome};
use crate::check;
use crate::measure::{Measure, Samples, Target, Unit, millis, ratio};
use crate::names;
use crate::peer::PeerId;
use crate::realm::{Name, Realm};
use crate::view::Views;

/// Lookups at most.
const LOOKUPS_MAX: usize = 4000;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Lookups, options);
    let mut realm = grown(options, &mut report);
    realm.publish(options.names.min(LOOKUPS_MAX), Duration::from_secs(60));
    realm.run_for(Duration::from_secs(10));
    let questions = cold_questions(&mut realm, LOOKUPS_MAX);
    let lookups = realm.look_up(&questions, Duration::from_secs(60));
    let hops = hops(&lookups);
    report.add(
        Measure::new("lookup, mean hops, cold", hops.mean(), Unit::Hops)
            .with_target(Target::AtMost(6.0)),
    );
    report.add(Measure::new("lookup, hops, 95th percentile", hops.percentile(95), Unit::Hops));
    let latency: Samples =
        lookups.iter().filter(|one| one.is_found()).map(|one| millis(one.latency)).collect();
    report.add(Measure::new("lookup, mean latency", latency.mean(), Unit::Milliseconds));
    report.add(Measure::new(
        "lookup, latency, 95th percentile",
        latency.percentile(95),
        Unit::Milliseconds,
    ));
    report.add(Measure::new("lookup, mean questions", steps(&lookups).mean(), Unit::Number));
    report.add(
        Measure::new("lookup, success", success(&lookups), Unit::Part)
            .with_target(Target::AtLeast(1.0)),
    );
    let expected = expected(&realm);
    let views = Views::of(&realm);
    report.faults = check::lost(&views, &expected);
    report.faults.extend(check::unbound(&views, &expected, options.setup.degree()));
    report.close(&realm)
}

/// Live names in random order, each asked for once by a random peer that is not its owner.
pub(super) fn cold_questions(realm: &mut Realm, count: usize) -> Vec<(PeerId, Name)> {
    let (names, askers) = (realm.live_names(), realm.honest());
    let names = realm.sample(&names, count);
    let mut questions = Vec::new();
    for name in names {
        let asker = askers[realm.pick(askers.len())];
        if asker != name.owner {
            questions.push((asker, name));
        }
    }
    questions
}

/// Hops of those that were found.
pub(super) fn hops(lookups: &[Lookup]) -> Samples {
    let hops = |lookup: &Lookup| match lookup.outcome {
        LookupOutcome::Found { hops, .. } => Some(f64::from(hops)),
        _ => None,
    };
    lookups.iter().filter_map(hops).collect()
}

fn steps(lookups: &[Lookup]) -> Samples {
    let steps = |lookup: &Lookup| match lookup.outcome {
        LookupOutcome::Found { steps, .. } => Some(f64::from(steps)),
        _ => None,
    };
    lookups.iter().filter_map(steps).collect()
}

/// The part of them that was found.
pub(super) fn success(lookups: &[Lookup]) -> f64 {
    ratio(lookups.iter().filter(|lookup| lookup.is_found()).count(), lookups.len())
}

/// Bindings that must be somewhere.
pub(super) fn expected(realm: &Realm) -> Vec<(cloak_overlay::Key, cloak_base::Epoch)> {
    realm.live_names().iter().map(|name| (names::key(name.number), cloak_base::Epoch(1))).collect()
}
