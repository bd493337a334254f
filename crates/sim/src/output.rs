//! Reports, logs and plots on their way out, and logs on their way back in.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cloak_sim::{BadLine, Line, Measure, Report, Series, plot};
use serde_json::json;

/// What keeps a run from being shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `replay` without a file.
    #[error("replay needs the file of a log")]
    NoFile,
    /// A log that does not begin with the arguments of its run.
    #[error("the log does not begin with the arguments of a single run")]
    NotARun,
    /// A line of a file of results that is none.
    #[error("line {number} of the results is none")]
    NotAResult {
        /// Which.
        number: usize,
    },
    /// A line of a log that is none.
    #[error("line {number} of the log: {source}")]
    Line {
        /// Which.
        number: usize,
        /// Why.
        #[source]
        source: BadLine,
    },
}

/// Prints a report.
pub(crate) fn show(report: &Report, as_json: bool) {
    if as_json {
        println!("{}", to_json(report));
    } else {
        println!("{report}");
    }
}

/// A figure; one that could not be taken has no value.
pub(crate) fn measure_json(measure: &Measure) -> serde_json::Value {
    let target = measure.target.map(cloak_sim::Target::parts);
    json!({
        "name": measure.name,
        "value": measure.value,
        "unit": measure.unit.name(),
        "target": target.map(|(sign, value)| json!({ "sign": sign, "value": value })),
        "met": measure.is_met(),
    })
}

fn to_json(report: &Report) -> serde_json::Value {
    let measures = report.measures.iter().map(measure_json);
    json!({
        "scenario": report.scenario,
        "seed": report.seed,
        "peers": report.peers,
        "measures": measures.collect::<Vec<_>>(),
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "events": report.events,
        "virtual_seconds": report.virtual_seconds,
        "log_hash": format!("{:016x}", report.hash),
    })
}

/// Writes a log; its first line holds the arguments of the run.
pub(crate) fn write_log(path: &Path, name: &str, lines: &[Line]) -> Result<(), Problem> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(fs::File::create(path)?);
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let named = arguments.iter().any(|one| one == name);
        let name = if named { "" } else { name };
        writeln!(file, "# {name} {}", arguments.join(" "))?;
        lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
        file.flush()
    };
    write().map_err(|source| Problem::File { path: path.to_owned(), source })
}

/// The arguments of a logged run, and its lines.
pub(crate) fn read_log(path: &Path) -> Result<(Vec<String>, Vec<Line>), Problem> {
    let text = fs::read_to_string(path)
        .map_err(|source| Problem::File { path: path.to_owned(), source })?;
    let mut lines = text.lines();
    let first = lines.next().and_then(|first| first.strip_prefix("# ")).ok_or(Problem::NotARun)?;
    let arguments = std::iter::once("cloak-sim").chain(first.split_whitespace());
    let arguments = arguments.map(ToOwned::to_owned).collect();
    let parse = |(number, line)| {
        Line::parse(line).map_err(|source| Problem::Line { number: number + 2, source })
    };
    Ok((arguments, lines.enumerate().map(parse).collect::<Result<_, _>>()?))
}

/// Writes one picture for each plot.
pub(crate) fn write_plots(directory: &Path, series: &[Series]) -> Result<(), Problem> {
    let mut plots: BTreeMap<&str, Vec<&Series>> = BTreeMap::new();
    series.iter().for_each(|one| plots.entry(one.plot).or_default().push(one));
    let problem = |path: &Path| {
        let path = path.to_owned();
        move |source| Problem::File { path, source }
    };
    fs::create_dir_all(directory).map_err(problem(directory))?;
    for (plot, lines) in plots {
        let (title, axis) = titles(plot);
        let path = directory.join(format!("{plot}.svg"));
        fs::write(&path, plot::svg(title, axis, &lines)).map_err(problem(&path))?;
    }
    Ok(())
}

/// What a plot shows, and over what.
fn titles(plot: &str) -> (&'static str, &'static str) {
    match plot {
        "routes" => ("Hops of a route", "peers"),
        "stretch" => ("Hops of a route against the shortest path on the same links", "peers"),
        "lookups" => ("Hops of a lookup, cold", "peers"),
        "latency" => ("Milliseconds of a lookup, cold", "peers"),
        "success" => ("Part of the lookups that find the record, half replaced per hour", "peers"),
        "busiest" => ("Records of the busiest binder of 100,000 names, over the mean", "peers"),
        "churn" => ("Part of the lookups that find the record, under churn", "seconds"),
        "load" => ("Records of a binder, as multiples of the mean", "percent of all binders"),
        _ => ("", ""),
    }
}
