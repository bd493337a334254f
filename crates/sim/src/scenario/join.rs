//! All join, and everything that must hold does.

use super::{Options, Report, Scenario, grown};
use crate::check;
use crate::measure::{Measure, Samples, Unit, ratio};
use crate::view::Views;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Join, options);
    let realm = grown(options, &mut report);
    let waits: Samples = realm
        .awake()
        .map(|peer| realm.world.peer(peer))
        .map(|one| one.placed_at().since(one.started_at()).as_secs_f64())
        .collect();
    let views = Views::of(&realm);
    let depths: Samples =
        views.all.iter().filter_map(|view| view.address()).map(|one| one.depth() as f64).collect();
    report.add(Measure::new(
        "last change of place after the start, mean",
        waits.mean(),
        Unit::Seconds,
    ));
    report.add(Measure::new("depth, mean", depths.mean(), Unit::Number));
    report.add(Measure::new("depth, most", depths.max(), Unit::Number));
    let links = views.graph().links();
    report.add(Measure::new("links per peer", ratio(2 * links, views.all.len()), Unit::Number));
    report.faults = check::quiescent(&views, &options.setup.overlay);
    report.close(&realm)
}
