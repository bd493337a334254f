//! How names spread over binders.

use std::time::Duration;

use super::{Options, Report, Scenario, grown};
use crate::measure::{Measure, Samples, Target, Unit};
use crate::realm::Realm;
use crate::view::{View, Views};

/// Records that one peer may be asked to hold; the scenario is not about that limit.
pub(super) const RECORDS_MAX: usize = 1_000_000;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Load, options);
    let mut options = options.clone();
    options.setup.overlay.records_max = RECORDS_MAX;
    let mut realm = grown(&options, &mut report);
    realm.publish(options.names, Duration::from_secs(200));
    realm.run_for(Duration::from_secs(30));
    let Held { primaries, all } = Held::by(&realm);
    report.add(Measure::new("records per binder, mean", primaries.mean(), Unit::Number));
    let most = Measure::new("busiest binder, primaries", busiest(&primaries), Unit::Times);
    report.add(most.with_target(Target::AtMost(8.0)));
    let copies = Measure::new("busiest binder, with copies", busiest(&all), Unit::Times);
    report.add(copies.with_target(Target::AtMost(16.0)));
    for percent in [1, 5, 10, 25, 50, 75, 90, 95, 99, 100] {
        let x = percent as f64;
        report.point("load", "primaries", x, primaries.percentile(percent) / primaries.mean());
        report.point("load", "with copies", x, all.percentile(percent) / all.mean());
    }
    report.close(&realm)
}

/// Records that each peer with a place holds.
pub(super) struct Held {
    /// As their binder.
    pub(super) primaries: Samples,
    /// Copies included.
    pub(super) all: Samples,
}

impl Held {
    pub(super) fn by(realm: &Realm) -> Self {
        let views = Views::of(realm);
        let held = |view: &View, copies: bool| {
            view.snapshot.held.iter().filter(|held| copies || !held.copy).count() as f64
        };
        let inner = || views.all.iter().filter(|view| view.address().is_some());
        Self {
            primaries: inner().map(|view| held(view, false)).collect(),
            all: inner().map(|view| held(view, true)).collect(),
        }
    }
}

/// How many times the mean the busiest holds.
pub(super) fn busiest(samples: &Samples) -> f64 {
    samples.max() / samples.mean()
}
