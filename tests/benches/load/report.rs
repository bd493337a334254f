//! The tables and pictures of a run.

use std::fmt::Write;
use std::path::Path as Directory;

use crate::chart;
use crate::results::{self, Measure, Results};
use crate::target;

/// What is drawn: one picture for each.
const PICTURES: [(&str, Measure); 8] = [
    ("down", results::DOWN),
    ("up", results::UP),
    ("eight", results::EIGHT),
    ("cost", results::DOWN_COST),
    ("fresh", results::FRESH),
    ("kept", results::KEPT),
    ("rate", results::RATE),
    ("idle", results::IDLE),
];

/// A table of one group of measures, paths below one another.
pub(crate) fn table(results: &Results, paths: &[&str], orders: std::ops::Range<u8>) -> String {
    let measures: Vec<Measure> =
        results.measures().filter(|measure| orders.contains(&measure.order)).collect();
    let mut table = String::from("| path |");
    for measure in &measures {
        let _ = write!(table, " {}, {} |", measure.name, measure.unit);
    }
    table.push_str("\n|---|");
    measures.iter().for_each(|_| table.push_str("---|"));
    table.push('\n');
    for path in paths {
        if measures.iter().all(|measure| results.get(*measure, path).is_none()) {
            continue;
        }
        let _ = write!(table, "| {path} |");
        for measure in &measures {
            let figure = results.get(*measure, path).map_or("-".to_owned(), |sample| {
                format!("{:.*}", usize::from(measure.digits), sample.median())
            });
            let _ = write!(table, " {figure} |");
        }
        table.push('\n');
    }
    table
}

/// All tables, in Markdown.
pub(crate) fn text(
    machine: &str,
    versions: &[String],
    results: &Results,
    paths: &[&'static str],
) -> String {
    let mut text = format!("# Results\n\n{machine}\n\n");
    for version in versions {
        let _ = writeln!(text, "- {version}");
    }
    let groups = [
        ("Throughput", 0..10),
        ("Latency", 10..20),
        ("Open connections", 20..25),
        ("Sessions of Cloak, direct lane", 25..30),
        ("Under faults", 30..40),
    ];
    for (title, orders) in groups {
        let measured = results.measures().find(|measure| orders.contains(&measure.order));
        let Some(measure) = measured else { continue };
        let numbers: Vec<&str> = results.paths(measure).collect();
        let rows = if measure == results::SCALE_MEMORY { &numbers } else { paths };
        let _ = write!(text, "\n## {title}\n\n{}", table(results, rows, orders));
    }
    let _ = write!(text, "\n## Targets\n\n{}", target::table(results));
    text
}

/// Writes `results.md` and a picture of each measure that was made.
///
/// # Panics
/// When the directory cannot be written.
pub(crate) fn write(directory: &Directory, text: &str, results: &Results, paths: &[&'static str]) {
    let put = |name: &str, text: &str| {
        std::fs::write(directory.join(name), text).expect("the directory is writable");
    };
    put("results.md", text);
    for (name, measure) in PICTURES {
        let bars: Vec<(&str, f64)> = paths
            .iter()
            .filter_map(|path| Some((*path, results.get(measure, path)?.median())))
            .collect();
        if !bars.is_empty() {
            put(&format!("{name}.svg"), &chart::bars(measure, &bars));
        }
    }
}
