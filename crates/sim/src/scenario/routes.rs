//! Routes between random peers: how long, and how much longer than the shortest.

use std::time::Duration;

use super::{Options, Report, Scenario, grown};
use crate::measure::{Measure, Samples, Target, Unit, ratio};
use crate::peer::PeerId;
use crate::realm::Realm;
use crate::view::Views;

/// Peers that ping, and peers that each of them pings.
const SOURCES: usize = 200;
const DESTINATIONS: usize = 20;

/// Figures of routes.
pub(super) struct Routes {
    pub(super) hops: Samples,
    pub(super) stretch: Samples,
    pub(super) success: f64,
}

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Routes, options);
    let mut realm = grown(options, &mut report);
    let routes = measure(&mut realm);
    let closed = !options.setup.unreachable.get().eq(&0.0);
    let (mean, most) = if closed { (7.0, 10.0) } else { (6.5, 9.0) };
    report.add(route("mean", routes.hops.mean(), Unit::Hops).with_target(Target::AtMost(mean)));
    let p95 = routes.hops.percentile(95);
    report.add(route("95th percentile", p95, Unit::Hops).with_target(Target::AtMost(most)));
    let stretch = route("stretch", routes.stretch.mean(), Unit::Times);
    report.add(stretch.with_target(Target::AtMost(1.4)));
    let success = route("success", routes.success, Unit::Part);
    report.add(success.with_target(Target::AtLeast(1.0)));
    report.close(&realm)
}

fn route(what: &str, value: f64, unit: Unit) -> Measure {
    Measure::new(format!("route, {what}"), value, unit)
}

/// Pings between random live peers, and shortest paths between them on the same links.
pub(super) fn measure(realm: &mut Realm) -> Routes {
    let pairs = random_pairs(realm, SOURCES, DESTINATIONS);
    let graph = Views::of(realm).graph();
    let pings = realm.ping(&pairs, Duration::from_secs(20));
    let mut stretch = Vec::new();
    for of_one in pings.chunk_by(|a, b| a.from == b.from) {
        let distances = graph.distances(of_one[0].from);
        stretch.extend(of_one.iter().filter_map(|ping| {
            let shortest = distances.to(ping.to).filter(|hops| *hops > 0)?;
            Some(f64::from(ping.hops?) / f64::from(shortest))
        }));
    }
    let arrived = pings.iter().filter(|ping| ping.hops.is_some()).count();
    Routes {
        hops: pings.iter().filter_map(|ping| ping.hops.map(f64::from)).collect(),
        stretch: stretch.into_iter().collect(),
        success: ratio(arrived, pings.len()),
    }
}

/// So many sources, each with so many destinations, the pairs of one source in a row.
pub(super) fn random_pairs(realm: &mut Realm, from: usize, to: usize) -> Vec<(PeerId, PeerId)> {
    let all = realm.honest();
    let mut pairs = Vec::new();
    for source in realm.sample(&all, from) {
        let others = realm.sample(&all, to + 1);
        pairs.extend(
            others
                .into_iter()
                .filter(|other| *other != source)
                .take(to)
                .map(|other| (source, other)),
        );
    }
    pairs
}
