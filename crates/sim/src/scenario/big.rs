//! The whole protocol at full size: all join, ten minutes pass, one in ten dies silently, and a name
//! is looked up for each peer.

use std::time::Duration;

use super::{Options, Report, Scenario, empty, fail, lookups, report_settled};
use crate::measure::{Measure, Target, Unit};
use crate::setup::Share;

/// Names that are published; lookups beyond their number repeat them.
const NAMES: usize = 10_000;
/// Time in which nothing happens.
const IDLE: Duration = Duration::from_secs(600);
/// Time after the deaths.
const HEAL: Duration = Duration::from_secs(30);

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Big, options);
    let mut realm = empty(options);
    realm.join_all();
    report_settled(&mut realm, &mut report);
    realm.publish(NAMES, Duration::from_secs(60));
    realm.run_for(IDLE);
    fail::kill(&mut realm, Share::percent(10));
    realm.run_for(HEAL);
    let mut questions = Vec::new();
    while questions.len() < options.setup.peers {
        let more = lookups::cold_questions(&mut realm, NAMES);
        if more.is_empty() {
            break;
        }
        questions.extend(more);
    }
    questions.truncate(options.setup.peers);
    let found = realm.look_up(&questions, Duration::from_secs(60));
    let success = Measure::new("lookups that succeed", lookups::success(&found), Unit::Part);
    report.add(success.with_target(Target::AtLeast(0.999)));
    let hops = lookups::hops(&found).mean();
    report.add(Measure::new("lookup, mean hops, warm", hops, Unit::Hops));
    report.close(&realm)
}
