//! Arguments.

use clap::Parser;
use cloak_sim::{Lifetimes, Options, Scenario, Share};

/// Runs the overlay's own state machine in a simulated network.
#[derive(Debug, Parser)]
#[command(name = "cloak-sim", version)]
pub(crate) struct Args {
    /// What to run: join, routes, lookups, load, fail, root, churn, adversaries, partition, islands,
    /// idle, growth, big.
    #[arg(default_value = "join", value_parser = scenario)]
    pub(crate) scenario: Scenario,
    /// Peers that join.
    #[arg(long, default_value_t = 1000)]
    peers: usize,
    /// The seed that everything random is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The tree's degree.
    #[arg(long)]
    degree: Option<u8>,
    /// Extra links of a peer at most; it asks for half of them itself.
    #[arg(long)]
    extra_links: Option<usize>,
    /// Share of peers that are replaced each hour, from 0 to 1.
    #[arg(long, default_value = "0.5")]
    churn: Share,
    /// Most peers live shortly, some for long.
    #[arg(long)]
    heavy_tailed: bool,
    /// Share of peers that die at once.
    #[arg(long, default_value = "0.1")]
    fail: Share,
    /// Share of peers that nobody can dial.
    #[arg(long, default_value = "0")]
    unreachable: Share,
    /// Share of peers that sleep half of the time.
    #[arg(long, default_value = "0")]
    sleeping: Share,
    /// Share of peers that lie.
    #[arg(long, default_value = "0")]
    adversaries: Share,
    /// Names that are published; as many as peers without this.
    #[arg(long)]
    names: Option<usize>,
}

impl Args {
    /// What the scenario is run with.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(self.seed, self.peers);
        options.names = self.names.unwrap_or(self.peers);
        options.fail = self.fail;
        options.churn = self.churn;
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
        if let Some(degree) = self.degree.and_then(|degree| cloak_overlay::Degree::new(degree).ok())
        {
            setup.overlay.degree = degree;
        }
        options
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let found = Scenario::ALL.iter().find(|(_, known)| *known == name);
    found.map(|(scenario, _)| *scenario).ok_or_else(|| format!("no scenario `{name}`"))
}
