//! What was measured: a sample for each measure and path.

use std::collections::BTreeMap;

use crate::sample::Sample;

/// A kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Measure {
    /// Place in the tables.
    pub(crate) order: u8,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Digits after the point.
    pub(crate) digits: u8,
}

/// Declares measures in the order of the tables.
macro_rules! measures {
    ($($constant:ident = $order:literal, $name:literal, $unit:literal, $digits:literal;)*) => {
        $(pub(crate) const $constant: Measure =
            Measure { order: $order, name: $name, unit: $unit, digits: $digits };)*
    };
}

measures! {
    DOWN = 0, "1 stream down", "MiB/s", 0;
    DOWN_COST = 1, "1 stream down", "CPU s/GiB", 2;
    UP = 2, "1 stream up", "MiB/s", 0;
    UP_COST = 3, "1 stream up", "CPU s/GiB", 2;
    EIGHT = 4, "8 streams down", "MiB/s", 0;
    EIGHT_COST = 5, "8 streams down", "CPU s/GiB", 2;
    RELAY_COST = 6, "1 stream down, the host alone", "CPU s/GiB", 2;
    FRESH = 10, "fresh connection, p50", "µs", 0;
    FRESH_TAIL = 11, "fresh connection, p99", "µs", 0;
    KEPT = 12, "kept-alive request, p50", "µs", 0;
    KEPT_TAIL = 13, "kept-alive request, p99", "µs", 0;
    KEPT_CALLS = 14, "kept-alive request", "system calls", 1;
    RATE = 15, "64 workers", "connections/s", 0;
    RATE_COST = 16, "64 workers", "CPU µs/connection", 0;
    IDLE = 20, "idle connection", "KiB", 1;
    ACTIVE_COST = 21, "64 KiB/s each way on 1,000 connections", "% of a core", 0;
    MANY_IDLE = 22, "idle sessions, as many as descriptors allow", "% of a core", 2;
    SCALE_MEMORY = 25, "each, idle", "KiB", 1;
    SCALE_IDLE = 26, "all of them idle", "% of a core", 2;
    SCALE_ACTIVE = 27, "64 KiB/s each way, for each", "% of a core", 3;
    CUT = 30, "1 stream down, cut every 200 ms", "MiB/s", 0;
    WHOLE = 31, "the same undisturbed", "MiB/s", 0;
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<Measure, BTreeMap<String, Sample>>);

impl Results {
    pub(crate) fn push(&mut self, measure: Measure, path: &str, figure: f64) {
        self.0.entry(measure).or_default().entry(path.to_owned()).or_default().push(figure);
    }

    pub(crate) fn get(&self, measure: Measure, path: &str) -> Option<&Sample> {
        self.0.get(&measure)?.get(path)
    }

    /// Whatever was measured, in order of the names.
    pub(crate) fn paths(&self, measure: Measure) -> impl Iterator<Item = &str> {
        self.0.get(&measure).into_iter().flat_map(|samples| samples.keys().map(String::as_str))
    }

    /// The measures that were made, in order.
    pub(crate) fn measures(&self) -> impl Iterator<Item = Measure> {
        self.0.keys().copied()
    }
}
