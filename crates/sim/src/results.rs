//! Results of the table's runs, kept in a file, so that a table of hours can be resumed.
//!
//! One line for each run that ended, a JSON object; nothing is ever changed in it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cloak_sim::{Measure, Report, Target, Unit};
use serde_json::{Value, json};

use crate::output::{Problem, measure_json};

/// What came of a run.
pub(crate) struct Outcome {
    run: String,
    peers: u64,
    seed: u64,
    /// Faults that checkers found.
    pub(crate) faults: usize,
    /// Figures.
    pub(crate) measures: Vec<Measure>,
}

/// All that is known, and where it is kept.
pub(crate) struct Results {
    all: Vec<Outcome>,
    file: Option<(PathBuf, File)>,
}

impl Results {
    /// What is in the file, which need not be there yet.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Problem> {
        let Some(path) = path else { return Ok(Self { all: Vec::new(), file: None }) };
        let problem = |source| Problem::File { path: path.to_owned(), source };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(problem)?;
        let text = fs::read_to_string(path).map_err(problem)?;
        let line = |(at, line)| parse(line).ok_or(Problem::NotAResult { number: at + 1 });
        let all = text.lines().enumerate().map(line).collect::<Result<_, _>>()?;
        Ok(Self { all, file: Some((path.to_owned(), file)) })
    }

    /// Whether a run ended before.
    pub(crate) fn has(&self, run: &str, peers: usize, seed: u64) -> bool {
        self.of(run, peers).any(|one| one.seed == seed)
    }

    /// What came of a run, one for each seed.
    pub(crate) fn of(&self, run: &str, peers: usize) -> impl Iterator<Item = &Outcome> {
        self.all.iter().filter(move |one| one.run == run && one.peers == peers as u64)
    }

    /// Notes a run that ended.
    pub(crate) fn add(&mut self, run: &str, peers: usize, report: &Report) -> Result<(), Problem> {
        let one = Outcome {
            run: run.to_owned(),
            peers: peers as u64,
            seed: report.seed,
            faults: report.faults.len(),
            measures: report.measures.clone(),
        };
        if let Some((path, file)) = &mut self.file {
            let line = format!("{}\n", one.to_json());
            let problem = |source| Problem::File { path: path.clone(), source };
            file.write_all(line.as_bytes()).map_err(problem)?;
        }
        self.all.push(one);
        Ok(())
    }
}

impl Outcome {
    fn to_json(&self) -> Value {
        let Self { run, peers, seed, faults, measures } = self;
        let measures: Vec<Value> = measures.iter().map(measure_json).collect();
        json!({ "run": run, "peers": peers, "seed": seed, "faults": faults, "measures": measures })
    }
}

fn parse(line: &str) -> Option<Outcome> {
    let value: Value = serde_json::from_str(line).ok()?;
    let measures = value["measures"].as_array()?.iter().map(parse_measure);
    Some(Outcome {
        run: value["run"].as_str()?.to_owned(),
        peers: value["peers"].as_u64()?,
        seed: value["seed"].as_u64()?,
        faults: usize::try_from(value["faults"].as_u64()?).ok()?,
        measures: measures.collect::<Option<_>>()?,
    })
}

fn parse_measure(value: &Value) -> Option<Measure> {
    let figure = if value["value"].is_null() { f64::NAN } else { value["value"].as_f64()? };
    let measure =
        Measure::new(value["name"].as_str()?, figure, Unit::named(value["unit"].as_str()?)?);
    let target = &value["target"];
    if target.is_null() {
        return Some(measure);
    }
    let target = Target::of_parts(target["sign"].as_str()?, target["value"].as_f64()?)?;
    Some(measure.with_target(target))
}
