//! Nothing happens: what does the overlay send all the same?

use std::time::Duration;

use super::{Options, Report, Scenario, grown};
use crate::measure::{Measure, Samples, Target, Unit};

/// How long it is measured: as long as two refreshes of a record are apart.
const SPAN: Duration = Duration::from_secs(300);

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Idle, options);
    let mut realm = grown(options, &mut report);
    let owners = realm.honest();
    for owner in owners {
        realm.publish_one(owner); // every device publishes its record
    }
    realm.run_for(Duration::from_secs(60));
    let sent = |realm: &crate::Realm| -> Vec<u64> {
        realm.world.ids().map(|peer| realm.world.peer(peer).sent().bytes).collect()
    };
    let before = sent(&realm);
    realm.run_for(SPAN);
    let rates: Samples = before
        .iter()
        .zip(sent(&realm))
        .map(|(before, after)| (after - before) as f64 / SPAN.as_secs_f64())
        .collect();
    let mean = Measure::new("idle traffic per peer, mean", rates.mean(), Unit::BytesPerSecond);
    report.add(mean.with_target(Target::AtMost(200.0)));
    let most = rates.percentile(99);
    report.add(Measure::new("idle traffic, 99th percentile", most, Unit::BytesPerSecond));
    report.close(&realm)
}
