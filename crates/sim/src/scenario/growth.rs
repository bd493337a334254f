//! Routes, lookups, churn and load in realms of several sizes, up to that of the options.

use std::time::Duration;

use super::load::{self, Held};
use super::{Options, Report, Scenario, churn, grown, lookups, routes};
use crate::measure::{Measure, Samples, Target, Unit, millis};

/// Sizes, two for each power of ten.
const SIZES: [usize; 6] = [300, 1000, 3000, 10_000, 30_000, 100_000];
/// How long peers come and go.
const CHURN_FOR: Duration = Duration::from_secs(300);
/// Names, of any number of peers.
const NAMES: usize = 100_000;
/// From where growth counts.
const SMALL: usize = 1000;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Growth, options);
    let mut small = f64::NAN;
    for peers in SIZES.into_iter().filter(|peers| *peers <= options.setup.peers) {
        let mut sized = options.with_peers(peers);
        sized.setup.overlay.records_max = load::RECORDS_MAX;
        let mean = measure(&sized, &mut report);
        small = if peers == SMALL { mean } else { small };
        report.add(Measure::new(format!("mean route of {peers} peers"), mean, Unit::Hops));
        if peers > SMALL {
            let growth = Measure::new(
                format!("growth from {SMALL} to {peers} peers"),
                mean - small,
                Unit::Hops,
            );
            report.add(growth.with_target(Target::AtMost(4.0)));
        }
    }
    report
}

fn measure(options: &Options, report: &mut Report) -> f64 {
    let mut realm = grown(options, &mut Report::default());
    realm.publish(1000, Duration::from_secs(20));
    realm.run_for(Duration::from_secs(10));
    let routes = routes::measure(&mut realm);
    let questions = lookups::cold_questions(&mut realm, 1000);
    let found = realm.look_up(&questions, Duration::from_secs(20));
    let hops = lookups::hops(&found);
    let latencies: Samples =
        found.iter().filter(|one| one.is_found()).map(|one| millis(one.latency)).collect();
    let x = options.setup.peers as f64;
    report.point("routes", "mean", x, routes.hops.mean());
    report.point("routes", "95th percentile", x, routes.hops.percentile(95));
    report.point("stretch", "mean", x, routes.stretch.mean());
    report.point("lookups", "mean hops", x, hops.mean());
    report.point("lookups", "95th percentile", x, hops.percentile(95));
    report.point("latency", "mean", x, latencies.mean());
    report.point("latency", "95th percentile", x, latencies.percentile(95));
    let (under_churn, _) = churn::live_through(&mut realm, options, CHURN_FOR, |_| {});
    report.point("success", "lookups", x, lookups::success(&under_churn));
    realm.publish(NAMES.saturating_sub(realm.names.len()), Duration::from_secs(200));
    realm.run_for(Duration::from_secs(30));
    let Held { primaries, all } = Held::by(&realm);
    report.point("busiest", "primaries", x, load::busiest(&primaries));
    report.point("busiest", "with copies", x, load::busiest(&all));
    let end = std::mem::take(report).close(&realm);
    *report = end;
    routes.hops.mean()
}
