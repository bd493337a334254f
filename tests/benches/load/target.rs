//! What Cloak is to reach, beside what it reached in this run.

use std::fmt::Write;

use crate::path::{DIRECT_LANE, RELAYED_LANE, RELAYS, SEALED, SHADOWSOCKS};
use crate::results::{self, Measure, Results};
use crate::sample::Sample;

/// Which way a figure is good.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
struct Target {
    what: &'static str,
    measure: Measure,
    path: &'static str,
    /// With what it is compared; nothing for an absolute figure.
    with: Option<(Measure, &'static str)>,
    bound: Bound,
}

const fn ratio(
    what: &'static str,
    measure: Measure,
    path: &'static str,
    with: &'static str,
    bound: Bound,
) -> Target {
    Target { what, measure, path, with: Some((measure, with)), bound }
}

const fn absolute(
    what: &'static str,
    measure: Measure,
    path: &'static str,
    bound: Bound,
) -> Target {
    Target { what, measure, path, with: None, bound }
}

use Bound::{AtLeast, AtMost};
use results::{
    CUT, DOWN, DOWN_COST, EIGHT, EIGHT_COST, FRESH, IDLE, KEPT, MANY_IDLE, RATE, RATE_COST,
    RELAY_COST, UP, UP_COST, WHOLE,
};

const TARGETS: [Target; 20] = [
    ratio("1 stream down / shadowsocks", DOWN, DIRECT_LANE, SHADOWSOCKS, AtLeast(1.10)),
    ratio("its CPU per GiB", DOWN_COST, DIRECT_LANE, SHADOWSOCKS, AtMost(0.95)),
    ratio("1 stream up / shadowsocks", UP, DIRECT_LANE, SHADOWSOCKS, AtLeast(1.10)),
    ratio("its CPU per GiB", UP_COST, DIRECT_LANE, SHADOWSOCKS, AtMost(0.95)),
    ratio("8 streams / shadowsocks", EIGHT, DIRECT_LANE, SHADOWSOCKS, AtLeast(1.10)),
    absolute("8 streams, CPU s/GiB", EIGHT_COST, DIRECT_LANE, AtMost(0.90)),
    ratio("1 stream down / plain relays", DOWN, DIRECT_LANE, RELAYS, AtLeast(0.75)),
    ratio("1 stream up / plain relays", UP, DIRECT_LANE, RELAYS, AtLeast(0.75)),
    ratio("fresh connection, p50 / shadowsocks", FRESH, DIRECT_LANE, SHADOWSOCKS, AtMost(0.85)),
    ratio("connections/s / shadowsocks", RATE, DIRECT_LANE, SHADOWSOCKS, AtLeast(1.10)),
    ratio("CPU per connection / shadowsocks", RATE_COST, DIRECT_LANE, SHADOWSOCKS, AtMost(0.90)),
    ratio("kept-alive request, p50 / shadowsocks", KEPT, DIRECT_LANE, SHADOWSOCKS, AtMost(1.0)),
    absolute("idle session at both gateways, KiB", IDLE, DIRECT_LANE, AtMost(32.0)),
    absolute("10,000 idle sessions, % of a core", MANY_IDLE, DIRECT_LANE, AtMost(2.0)),
    ratio("relayed lane down / direct lane", DOWN, RELAYED_LANE, DIRECT_LANE, AtLeast(0.80)),
    ratio("relayed lane up / direct lane", UP, RELAYED_LANE, DIRECT_LANE, AtLeast(0.80)),
    absolute("CPU s/GiB of the host", RELAY_COST, RELAYED_LANE, AtMost(0.20)),
    ratio(
        "resumable / the same transport without sessions",
        DOWN,
        DIRECT_LANE,
        SEALED,
        AtLeast(0.95),
    ),
    ratio("the same, up", UP, DIRECT_LANE, SEALED, AtLeast(0.95)),
    Target {
        what: "a cut every 200 ms / undisturbed",
        measure: CUT,
        path: DIRECT_LANE,
        with: Some((WHOLE, DIRECT_LANE)),
        bound: AtLeast(0.70),
    },
];

impl Target {
    /// What came of it, where it was measured.
    fn reached(&self, results: &Results) -> Option<Sample> {
        let sample = results.get(self.measure, self.path)?;
        let Some((measure, path)) = self.with else { return Some(sample.clone()) };
        Some(sample.over(results.get(measure, path)?))
    }
}

/// The table of targets, in Markdown: those that were measured.
pub(crate) fn table(results: &Results) -> String {
    let mut table = String::from(
        "| Cloak, direct lane unless said | target | median | 95 % interval | rounds | |\n\
         |---|---|---|---|---|---|\n",
    );
    for target in TARGETS {
        let Some(reached) = target.reached(results) else { continue };
        let (sign, bound, is_met) = match target.bound {
            AtLeast(bound) => ("≥", bound, reached.median() >= bound),
            AtMost(bound) => ("≤", bound, reached.median() <= bound),
        };
        let (from, to) = reached.interval();
        let verdict = if is_met { "met" } else { "missed" };
        let _ = writeln!(
            table,
            "| {} | {sign} {bound:.2} | {:.2} | {from:.2} to {to:.2} | {} | {verdict} |",
            target.what,
            reached.median(),
            reached.len(),
        );
    }
    table
}
