//! The command line.

use std::path::{Path, PathBuf};

use crate::path;

/// What `--help` says.
pub(crate) const USAGE: &str = "\
Usage: cargo bench -p cloak-tests --bench load -- [OPTIONS] [LOAD]...

  bulk    one stream down and up, eight streams: throughput and processor time
  fresh   a new connection and 1 KiB over it
  kept    1 KiB over a connection that is open, and the system calls it takes
  rate    connections per second of 64 workers
  idle    what 1,000 idle connections hold in memory
  active  what 1,000 connections with 64 KiB/s each way cost, every byte checked
  scale   sessions of Cloak: 100, 1,000, and as many as descriptors allow
  cuts    4 GiB through Cloak with a cut every 200 ms
Without a word all of them are measured, in about half an hour.

  --rounds N       rounds of bulk, rate and cuts (7)
  --many-rounds N  rounds of fresh and kept (20)
  --mib N          size of a transfer in MiB (1024)
  --requests N     requests of a round (2000)
  --paths A,B      of direct, relays, microsocks, ssh, shadowsocks, sealed, cloak, relayed (all)
  --write DIR      writes results.md and pictures there, below the top of the source tree";

/// What the paths carry, and is measured then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Bulk,
    Fresh,
    Kept,
    Rate,
    Idle,
    Active,
    Scale,
    Cuts,
}

impl Load {
    /// Idle connections first: memory that a process has had for something else would serve them
    /// unseen.
    const ALL: [Self; 8] = [
        Self::Idle,
        Self::Bulk,
        Self::Fresh,
        Self::Kept,
        Self::Rate,
        Self::Active,
        Self::Scale,
        Self::Cuts,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Fresh => "fresh",
            Self::Kept => "kept",
            Self::Rate => "rate",
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Scale => "scale",
            Self::Cuts => "cuts",
        }
    }
}

/// The top of the source tree; cargo runs benchmarks in the directory of their package.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) many_rounds: usize,
    /// Bytes of a transfer.
    pub(crate) bytes: u64,
    pub(crate) requests: usize,
    pub(crate) paths: Vec<&'static str>,
    pub(crate) write: Option<PathBuf>,
    pub(crate) loads: Vec<Load>,
}

impl Plan {
    /// Reads the command line; nothing when it asks for something else.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut plan = Self {
            rounds: 7,
            many_rounds: 20,
            bytes: 1 << 30,
            requests: 2000,
            paths: path::NAMES.iter().map(|(_, name)| *name).collect(),
            write: None,
            loads: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--rounds" => plan.rounds = number(arguments.next())?,
                "--many-rounds" => plan.many_rounds = number(arguments.next())?,
                "--mib" => plan.bytes = (number(arguments.next())? as u64).checked_mul(1 << 20)?,
                "--requests" => plan.requests = number(arguments.next())?,
                "--paths" => plan.paths = paths(&arguments.next()?)?,
                "--write" => plan.write = Some(Path::new(TOP).join(arguments.next()?)),
                word => {
                    let known = Load::ALL.into_iter().find(|known| known.word() == word)?;
                    plan.loads.push(known);
                }
            }
        }
        if plan.loads.is_empty() {
            plan.loads = Load::ALL.to_vec();
        }
        Some(plan)
    }
}

fn number(word: Option<String>) -> Option<usize> {
    word?.parse().ok().filter(|number| *number > 0)
}

fn paths(words: &str) -> Option<Vec<&'static str>> {
    let named = |word| path::NAMES.iter().find(|(known, _)| *known == word);
    words.split(',').map(|word| Some(named(word)?.1)).collect()
}
