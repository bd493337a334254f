//! How names spread over binders.

use std::time::Duration;

use super::{Options, Report, Scenario, grown};
use crate::measure::{Measure, Samples, Target, Unit};
use crate::view::{View, Views};

/// Records that one peer may be asked to hold; the scenario is not about that limit.
const RECORDS_MAX: usize = 1_000_000;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Load, options);
    let mut options = options.clone();
    options.setup.overlay.records_max = RECORDS_MAX;
    let mut realm = grown(&options, &mut report);
    realm.publish(options.names, Duration::from_secs(200));
    realm.run_for(Duration::from_secs(30));
    let views = Views::of(&realm);
    let held = |view: &View, copies: bool| {
        view.snapshot.held.iter().filter(|held| copies || !held.copy).count() as f64
    };
    let inner = || views.all.iter().filter(|view| view.address().is_some());
    let primaries: Samples = inner().map(|view| held(view, false)).collect();
    let all: Samples = inner().map(|view| held(view, true)).collect();
    let times = |samples: &Samples| samples.max() / samples.mean();
    report.add(Measure::new("records per binder, mean", primaries.mean(), Unit::Number));
    let busiest = Measure::new("busiest binder, primaries", times(&primaries), Unit::Times);
    report.add(busiest.with_target(Target::AtMost(8.0)));
    let copies = Measure::new("busiest binder, with copies", times(&all), Unit::Times);
    report.add(copies.with_target(Target::AtMost(16.0)));
    for percent in [1, 5, 10, 25, 50, 75, 90, 95, 99, 100] {
        let x = percent as f64;
        report.point("load", "primaries", x, primaries.percentile(percent) / primaries.mean());
        report.point("load", "with copies", x, all.percentile(percent) / all.mean());
    }
    report.close(&realm)
}
