//! Arguments.

use std::path::PathBuf;

use clap::Parser;
use cloak_overlay::Degree;
use cloak_sim::swarm::Company;
use cloak_sim::{Lifetimes, Log, Options, Run, Scenario, Share};

/// Runs the overlay's own state machine in a simulated network.
#[derive(Debug, Clone, Parser)]
#[command(name = "cloak-sim", version)]
pub(crate) struct Args {
    /// What to run: join, routes, lookups, load, fail, root, churn, adversaries, partition, islands,
    /// idle, growth, big; `table` for the figures of all, `swarm` for random realms and mishaps,
    /// `replay` to run a log again.
    #[arg(default_value = "join", value_parser = what)]
    pub(crate) what: What,
    /// The log that `replay` runs again.
    pub(crate) file: Option<PathBuf>,
    /// Peers that join.
    #[arg(long, default_value_t = 1000)]
    pub(crate) peers: usize,
    /// The seed that everything random is drawn from; of several runs the first.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seeds that `table` and `swarm` run.
    #[arg(long, default_value_t = 5)]
    pub(crate) seeds: u64,
    /// The tree's degree, from 3 to 64.
    #[arg(long, value_parser = degree)]
    degree: Option<Degree>,
    /// Extra links of a peer at most; it asks for half of them itself.
    #[arg(long)]
    extra_links: Option<usize>,
    /// Share of peers that are replaced each hour, from 0 to 1.
    #[arg(long, default_value = "0.5")]
    churn: Share,
    /// Most peers live shortly, some for long.
    #[arg(long)]
    heavy_tailed: bool,
    /// In a swarm some peers lie, and mishaps may all be of one kind.
    #[arg(long)]
    hostile: bool,
    /// Share of peers that die at once.
    #[arg(long, default_value = "0.1")]
    fail: Share,
    /// Share of peers that nobody can dial.
    #[arg(long, default_value = "0")]
    unreachable: Share,
    /// Share of peers that sleep half of the time; nobody can dial them either.
    #[arg(long, default_value = "0")]
    sleeping: Share,
    /// Share of peers that lie.
    #[arg(long, default_value = "0")]
    adversaries: Share,
    /// Names that are published; as many as peers without this.
    #[arg(long)]
    names: Option<usize>,
    /// A file to which `table` appends each run that ends; what is there already is not run again.
    #[arg(long)]
    pub(crate) results: Option<PathBuf>,
    /// Rows that `table` runs, with commas between them: routes, routes-closed, lookups, load,
    /// fail-10, fail-30, root, churn, adversaries, partition, idle, growth; all without this.
    #[arg(long, value_delimiter = ',', value_parser = row)]
    pub(crate) only: Vec<String>,
    /// Size up to which `table` measures growth; it does not without this.
    #[arg(long)]
    pub(crate) growth: Option<usize>,
    /// One JSON object for each run.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write SVG plots into this directory.
    #[arg(long)]
    pub(crate) plots: Option<PathBuf>,
    /// Write the event log into this file.
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
    /// Show only this peer's events of a replayed log.
    #[arg(long)]
    pub(crate) peer: Option<u32>,
}

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// One scenario.
    Scenario(Scenario),
    /// All that have targets, for several seeds.
    Table,
    /// Random realms and mishaps.
    Swarm,
    /// A log again.
    Replay,
}

impl Args {
    /// Among whom a swarm lives.
    pub(crate) fn company(&self) -> Company {
        if self.hostile { Company::Hostile } else { Company::Honest }
    }

    /// What the scenario is run with.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(self.seed, self.peers);
        options.names = self.names.unwrap_or(self.peers);
        options.fail = self.fail;
        options.churn = self.churn;
        options.log = if self.log.is_some() { Log::Lines } else { Log::Hash };
        if self.heavy_tailed {
            options.lifetimes = Lifetimes::HeavyTailed;
        }
        let setup = &mut options.setup;
        setup.unreachable = self.unreachable;
        setup.sleeping = self.sleeping;
        setup.adversaries = self.adversaries;
        if let Some(extra) = self.extra_links {
            setup.overlay.extra_max = extra;
            setup.overlay.extra_own = extra.div_ceil(2);
        }
        if let Some(degree) = self.degree {
            setup.overlay.degree = degree;
        }
        options
    }
}

fn what(name: &str) -> Result<What, String> {
    match name {
        "table" => Ok(What::Table),
        "swarm" => Ok(What::Swarm),
        "replay" => Ok(What::Replay),
        name => {
            let found = Scenario::ALL.iter().find(|(_, known)| *known == name);
            let found = found.map(|(scenario, _)| What::Scenario(*scenario));
            found.ok_or_else(|| format!("no scenario `{name}`"))
        }
    }
}

/// The name of one of the table's runs.
fn row(name: &str) -> Result<String, String> {
    let runs = Run::all(0, 1, Some(1));
    let known = runs.iter().any(|run| run.name == name);
    if known { Ok(name.to_owned()) } else { Err(format!("the table has no `{name}`")) }
}

fn degree(text: &str) -> Result<Degree, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is no degree"))?;
    Degree::new(number).map_err(|error| error.to_string())
}
