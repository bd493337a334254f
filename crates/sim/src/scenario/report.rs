//! What a scenario found.

use std::fmt;

use crate::check::Fault;
use crate::journal::Line;
use crate::measure::Measure;
use crate::realm::Realm;
use crate::scenario::{Options, Scenario};

/// Figures and faults of one run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Which scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// Peers.
    pub peers: usize,
    /// Figures.
    pub measures: Vec<Measure>,
    /// What checkers found.
    pub faults: Vec<Fault>,
    /// Rows for plots.
    pub series: Vec<Series>,
    /// Hash of the event log.
    pub hash: u64,
    /// The lines of the log, if they were kept.
    pub log: Vec<Line>,
    /// Events.
    pub events: u64,
    /// Simulated time.
    pub virtual_seconds: f64,
}

/// Points of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Which plot, by its file's name.
    pub plot: &'static str,
    /// Which line in it.
    pub line: String,
    /// Points.
    pub points: Vec<(f64, f64)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(scenario: Scenario, options: &Options) -> Self {
        let (seed, peers) = (options.setup.seed, options.setup.peers);
        Self { scenario: scenario.name().to_owned(), seed, peers, ..Self::default() }
    }

    /// Adds a figure.
    pub fn add(&mut self, measure: Measure) {
        self.measures.push(measure);
    }

    /// Adds a point to a line of a plot.
    pub fn point(&mut self, plot: &'static str, line: &str, x: f64, y: f64) {
        let known = self.series.iter_mut().find(|one| one.plot == plot && one.line == line);
        match known {
            Some(series) => series.points.push((x, y)),
            None => self.series.push(Series { plot, line: line.to_owned(), points: vec![(x, y)] }),
        }
    }

    /// Notes how the run ended.
    pub fn close(mut self, realm: &Realm) -> Self {
        self.hash = realm.world.journal().hash();
        self.log.extend_from_slice(realm.world.journal().lines());
        self.events += realm.world.journal().events();
        self.virtual_seconds += realm.world.now().as_micros() as f64 / 1e6;
        self
    }

    /// The figure of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.measures.iter().find(|measure| measure.name == name).map(|measure| measure.value)
    }
}

/// Faults that are shown one by one.
const FAULTS_SHOWN: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: seed {}, {} peers", self.scenario, self.seed, self.peers)?;
        for measure in &self.measures {
            writeln!(f, "  {measure}")?;
        }
        for fault in self.faults.iter().take(FAULTS_SHOWN) {
            writeln!(f, "  FAULT: {fault}")?;
        }
        if self.faults.len() > FAULTS_SHOWN {
            writeln!(f, "  and {} faults more", self.faults.len() - FAULTS_SHOWN)?;
        }
        let Self { events, hash, virtual_seconds, .. } = self;
        write!(f, "  {events} events in {virtual_seconds:.0} virtual seconds, log {hash:016x}")
    }
}
