//! The table of all promised figures, each the worst of several seeds.

use crate::measure::{Measure, Unit};
use crate::scenario::{Options, Scenario};
use crate::setup::Share;

/// Figures of several seeds.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Row>,
    faults: usize,
}

#[derive(Debug, Clone)]
struct Row {
    name: String,
    worst: Measure,
    all: Vec<f64>,
}

/// One run that the table needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Names it; no two of a table have one name.
    pub name: &'static str,
    /// Put before its figures' names.
    pub label: &'static str,
    /// What.
    pub scenario: Scenario,
    /// With what.
    pub options: Options,
}

/// Routes in a realm most of whose peers cannot be dialled.
const CLOSED: &str = "routes-closed";
/// Names that the load is measured with.
const LOAD_NAMES: usize = 100_000;

impl Run {
    /// What the table needs of one seed. `growth` is the size up to which growth is measured.
    pub fn all(seed: u64, peers: usize, growth: Option<usize>) -> Vec<Self> {
        let options = Options::new(seed, peers);
        let run = |name, scenario, options: &Options| {
            let label = if name == CLOSED { "70 % unreachable: " } else { "" };
            Self { name, label, scenario, options: options.clone() }
        };
        let mut closed = options.clone();
        closed.setup.unreachable = Share::percent(70);
        let mut load = options.clone();
        load.names = LOAD_NAMES;
        let fail = |share| Options { fail: Share::percent(share), ..options.clone() };
        let mut runs = vec![
            run("routes", Scenario::Routes, &options),
            run(CLOSED, Scenario::Routes, &closed),
            run("lookups", Scenario::Lookups, &options),
            run("load", Scenario::Load, &load),
            run("fail-10", Scenario::Fail, &fail(10)),
            run("fail-30", Scenario::Fail, &fail(30)),
            run("root", Scenario::Root, &options),
            run("churn", Scenario::Churn, &options),
            run("adversaries", Scenario::Adversaries, &options),
            run("partition", Scenario::Partition, &options),
            run("idle", Scenario::Idle, &options),
        ];
        let grow = |peers| run("growth", Scenario::Growth, &options.with_peers(peers));
        runs.extend(growth.map(grow));
        runs
    }
}

impl Table {
    /// Adds the figures of a run that have a target.
    pub fn add(&mut self, label: &str, measures: &[Measure], faults: usize) {
        self.faults += faults;
        for measure in measures.iter().filter(|measure| measure.target.is_some()) {
            self.add_measure(format!("{label}{}", measure.name), measure);
        }
    }

    /// Faults that checkers found in all the runs.
    pub fn faults(&self) -> usize {
        self.faults
    }

    /// Whether every target is met in every run.
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(|row| row.worst.is_met())
    }

    /// The table in Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text =
            String::from("| measure | target | worst | all seeds | |\n|---|---|---|---|---|\n");
        for Row { name, worst, all } in &self.rows {
            let Some((sign, target)) = worst.target.map(crate::measure::Target::parts) else {
                continue;
            };
            let (unit, verdict) = (worst.unit, if worst.is_met() { "met" } else { "**missed**" });
            let each: Vec<String> = all.iter().map(|value| plain(unit, *value)).collect();
            let (target, shown) = (unit.show(target), unit.show(worst.value));
            text += &format!(
                "| {name} | {sign} {target} | {shown} | {} | {verdict} |\n",
                each.join(", ")
            );
        }
        text
    }

    fn add_measure(&mut self, name: String, measure: &Measure) {
        let Some(row) = self.rows.iter_mut().find(|row| row.name == name) else {
            return self.rows.push(Row { name, worst: measure.clone(), all: vec![measure.value] });
        };
        row.all.push(measure.value);
        if let Some(target) = measure.target {
            row.worst.value = target.worse(row.worst.value, measure.value);
        }
    }
}

fn plain(unit: Unit, value: f64) -> String {
    if unit == Unit::Part { format!("{:.3}", value * 100.0) } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Target;

    fn measures(value: f64) -> [Measure; 2] {
        let measure = Measure::new("routes", value, Unit::Hops).with_target(Target::AtMost(6.0));
        [measure, Measure::new("y", 1.0, Unit::Hops)]
    }

    #[test]
    fn no_two_runs_have_one_name() {
        let runs = Run::all(1, 100, Some(300));
        let names: std::collections::BTreeSet<_> = runs.iter().map(|run| run.name).collect();
        assert_eq!(names.len(), runs.len());
    }

    #[test]
    fn the_worst_seed_counts() {
        let mut table = Table::default();
        [5.0, 7.0, 6.0].into_iter().for_each(|value| table.add("a: ", &measures(value), 0));
        assert!(!table.is_met());
        let row = "| a: routes | <= 6.00 hops | 7.00 hops | 5.00, 7.00, 6.00 | **missed** |\n";
        assert!(table.to_markdown().ends_with(row), "{}", table.to_markdown());
    }
}
