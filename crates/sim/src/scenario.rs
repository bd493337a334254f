//! What is measured: each scenario grows a realm, does something to it, and takes figures.
//!
//! A scenario is a function from [`Options`] to a [`Report`]; nothing else goes in or comes out.

mod adversaries;
mod big;
mod churn;
mod fail;
mod growth;
mod idle;
mod islands;
mod join;
mod load;
mod lookups;
mod partition;
mod report;
mod root;
mod routes;

use std::time::Duration;

use crate::journal::Journal;
use crate::measure::{Measure, Unit};
use crate::realm::Realm;
use crate::setup::{Setup, Share};

pub use churn::Lifetimes;
pub use report::{Report, Series};

/// How long peers may take until all have their places, after the last one started.
const SETTLE_WITHIN: Duration = Duration::from_secs(240);
/// Time after that for extra links to be found.
const RIPEN: Duration = Duration::from_secs(180);

/// What a scenario is run with.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The realm.
    pub setup: Setup,
    /// Peers that die at once.
    pub fail: Share,
    /// Peers that are replaced each hour.
    pub churn: Share,
    /// How long peers live under churn.
    pub lifetimes: Lifetimes,
    /// Names that are published.
    pub names: usize,
    /// Whether the log is kept.
    pub log: Log,
}

/// What is kept of a run's event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Its hash.
    Hash,
    /// All lines.
    Lines,
}

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// All join.
    Join,
    /// Routes between random peers.
    Routes,
    /// Names are looked up, each once.
    Lookups,
    /// Where names are held.
    Load,
    /// Many die at once.
    Fail,
    /// The root dies.
    Root,
    /// Peers come and go.
    Churn,
    /// Some lie.
    Adversaries,
    /// The network falls into two halves, and heals.
    Partition,
    /// Trees founded offline meet.
    Islands,
    /// Nothing happens.
    Idle,
    /// Routes in realms of several sizes.
    Growth,
    /// The whole protocol at full size.
    Big,
}

impl Scenario {
    /// All of them, with their names on the command line.
    pub const ALL: [(Self, &str); 13] = [
        (Self::Join, "join"),
        (Self::Routes, "routes"),
        (Self::Lookups, "lookups"),
        (Self::Load, "load"),
        (Self::Fail, "fail"),
        (Self::Root, "root"),
        (Self::Churn, "churn"),
        (Self::Adversaries, "adversaries"),
        (Self::Partition, "partition"),
        (Self::Islands, "islands"),
        (Self::Idle, "idle"),
        (Self::Growth, "growth"),
        (Self::Big, "big"),
    ];

    /// Runs it.
    pub fn run(self, options: &Options) -> Report {
        match self {
            Self::Join => join::run(options),
            Self::Routes => routes::run(options),
            Self::Lookups => lookups::run(options),
            Self::Load => load::run(options),
            Self::Fail => fail::run(options),
            Self::Root => root::run(options),
            Self::Churn => churn::run(options),
            Self::Adversaries => adversaries::run(options),
            Self::Partition => partition::run(options),
            Self::Islands => islands::run(options),
            Self::Idle => idle::run(options),
            Self::Growth => growth::run(options),
            Self::Big => big::run(options),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl Options {
    /// Peers of this number with the defaults of everything.
    pub fn new(seed: u64, peers: usize) -> Self {
        Self {
            setup: Setup::new(seed, peers),
            fail: Share::percent(10),
            churn: Share::percent(50),
            lifetimes: Lifetimes::Exponential,
            names: peers,
            log: Log::Hash,
        }
    }

    /// The same with other numbers of peers and names.
    pub fn with_peers(&self, peers: usize) -> Self {
        let signatures = crate::Signatures::for_peers(peers);
        let setup = Setup { peers, signatures, ..self.setup.clone() };
        Self { setup, names: peers, ..self.clone() }
    }
}

/// A realm whose peers have all found their places and extra links.
fn grown(options: &Options, report: &mut Report) -> Realm {
    let mut realm = empty(options);
    realm.join_all();
    report_settled(&mut realm, report);
    realm.run_for(RIPEN);
    realm
}

/// A realm without peers, with the log that is wanted.
fn empty(options: &Options) -> Realm {
    let journal = match options.log {
        Log::Hash => Journal::hash_only(),
        Log::Lines => Journal::keep(),
    };
    Realm::with_journal(options.setup.clone(), journal)
}

fn report_settled(realm: &mut Realm, report: &mut Report) {
    let took = realm.settle(SETTLE_WITHIN);
    let seconds = took.map_or(f64::NAN, |took| took.as_secs_f64());
    report.add(Measure::new("last peer has its place after its start", seconds, Unit::Seconds));
    if took.is_none() {
        let count = realm.unsettled() as f64;
        report.add(Measure::new("peers without a place", count, Unit::Number));
    }
}
