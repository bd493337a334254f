//! Many peers die at once, without a word.

use std::time::Duration;

use super::{Options, Report, Scenario, grown, lookups, routes};
use crate::check;
use crate::measure::{Measure, Samples, Target, Unit, ratio};
use crate::peer::PeerId;
use crate::realm::Realm;
use crate::setup::Share;
use crate::view::{Graph, Views};

/// Above this share, the healing may take longer.
const MANY: Share = Share::percent(20);
/// Names at most.
const NAMES_MAX: usize = 10_000;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Fail, options);
    let mut realm = grown(options, &mut report);
    realm.publish(options.names.min(NAMES_MAX), Duration::from_secs(60));
    realm.run_for(Duration::from_secs(20));
    let graph = Views::of(&realm).graph();
    kill(&mut realm, options.fail);
    let many = options.fail > MANY;
    let (wait, least) = if many { (30, 0.99) } else { (10, 0.999) };
    realm.run_for(Duration::from_secs(wait));
    let success = route_success(&mut realm, &graph);
    let name = format!("{} dead, routes after {wait} s", percent(options.fail));
    report.add(Measure::new(name, success, Unit::Part).with_target(Target::AtLeast(least)));
    add_bindings(&mut report, &mut realm, options.fail, if many { 0.001 } else { 0.0 });
    realm.run_for(Duration::from_secs(120));
    let views = Views::of(&realm);
    report.faults = check::quiescent(&views, &options.setup.overlay);
    report.add(Measure::new("faults two minutes later", report.faults.len() as f64, Unit::Number));
    report.close(&realm)
}

fn percent(share: Share) -> String {
    format!("{:.0} %", share.get() * 100.0)
}

/// Random peers die, honest or not, inner or not.
pub(super) fn kill(realm: &mut Realm, share: Share) {
    let all: Vec<PeerId> = realm.awake().collect();
    for peer in realm.sample(&all, share.of(all.len())) {
        realm.world.kill(peer);
    }
}

/// Pings between live peers that the links of before still connect.
fn route_success(realm: &mut Realm, before: &Graph) -> f64 {
    let left = before.without(&|peer| !realm.world.peer(peer).is_alive());
    let pairs = routes::random_pairs(realm, 200, 20);
    let mut connected = Vec::new();
    for of_one in pairs.chunk_by(|a, b| a.0 == b.0) {
        let distances = left.distances(of_one[0].0);
        connected.extend(of_one.iter().filter(|(_, to)| distances.to(*to).is_some()).copied());
    }
    let pings = realm.ping(&connected, Duration::from_millis(500));
    ratio(pings.iter().filter(|ping| ping.hops.is_some()).count(), pings.len())
}

/// Bindings of live publishers that are nowhere, and whether those that are somewhere are found.
fn add_bindings(report: &mut Report, realm: &mut Realm, fail: Share, most: f64) {
    let expected = lookups::expected(realm);
    let lost = check::lost(&Views::of(realm), &expected).len();
    let name = format!("{} dead, bindings lost", percent(fail));
    let lost = Measure::new(name, ratio(lost, expected.len()), Unit::Part);
    report.add(lost.with_target(Target::AtMost(most)));
    let questions = lookups::cold_questions(realm, 2000);
    let found = realm.look_up(&questions, Duration::from_secs(10));
    let name = format!("{} dead, lookups", percent(fail));
    report.add(Measure::new(name, lookups::success(&found), Unit::Part));
    let latencies = found.iter().filter(|one| one.is_found()).map(|one| crate::millis(one.latency));
    let latencies: Samples = latencies.collect();
    report.add(Measure::new("lookup, latency then, mean", latencies.mean(), Unit::Milliseconds));
}
