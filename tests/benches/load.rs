//! Load program: what two gateways cost beside two plain TCP relays, in one run on one machine.
//!
//! Run it with `cargo bench -p cloak-tests --bench load`; `docs/benchmarks/README.md` says what the
//! table means. Absolute figures depend on the machine, so every measure through the gateways has
//! the same one through relays beside it, in rounds that take turns, and medians of both. It is
//! a program to look at, not a test: nothing here fails because it was slow.
#![allow(clippy::unwrap_used, reason = "a program of the harness may panic")]

#[path = "load/bulk.rs"]
mod bulk;
#[path = "load/fresh.rs"]
mod fresh;
#[path = "load/idle.rs"]
mod idle;
#[path = "load/namespace.rs"]
mod namespace;
#[path = "load/origin.rs"]
mod origin;
#[path = "load/path.rs"]
mod path;
#[path = "load/proc.rs"]
mod proc;
#[path = "load/relay.rs"]
mod relay;
#[path = "load/sample.rs"]
mod sample;

use rustix::process::{Resource, getrlimit, setrlimit};

use namespace::Congestion;

/// What `--help` says.
const USAGE: &str = "\
Usage: cargo bench -p cloak-tests --bench load -- [--rounds N] [--mib N] [bulk] [fresh] [idle]

  --rounds N  rounds of each measure (7)
  --mib N     size of a transfer in MiB (1024)
  bulk        one stream down and up, eight streams: throughput and processor time
  fresh       a new connection and 1 KiB over it: latency, and handshakes per connection
  idle        1,000 open sessions: memory and processor time
Without a word all three are measured.";

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    rounds: usize,
    /// Bytes of a transfer.
    bytes: u64,
    measures: Vec<String>,
}

impl Plan {
    /// Reads the command line; nothing when it asks for something else.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut plan = Self { rounds: 7, bytes: 1 << 30, measures: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--rounds" => plan.rounds = arguments.next()?.parse().ok().filter(|n| *n > 0)?,
                "--mib" => {
                    let mib: u64 = arguments.next()?.parse().ok().filter(|n| *n > 0)?;
                    plan.bytes = mib.checked_mul(1 << 20)?;
                }
                "bulk" | "fresh" | "idle" => plan.measures.push(argument),
                _ => return None,
            }
        }
        Some(plan)
    }

    fn has(&self, measure: &str) -> bool {
        self.measures.is_empty() || self.measures.iter().any(|other| other == measure)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, target] = &arguments[..]
        && argument == relay::ARGUMENT
    {
        return relay::run(target.parse().expect("an address"));
    }
    let Some(plan) = Plan::parse(arguments.iter().cloned()) else {
        println!("{USAGE}");
        return;
    };
    let congestion = namespace::enter(&arguments);
    allow_descriptors();
    println!("{}\n", machine(congestion));
    if plan.has("bulk") {
        bulk::measure(plan.rounds, plan.bytes);
    }
    if plan.has("fresh") {
        fresh::measure(plan.rounds);
    }
    if plan.has("idle") {
        idle::measure();
    }
}

/// A thousand sessions are two thousand connections of this process; a lower hard limit shows as
/// a refused connection.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The machine, for whoever keeps the table.
fn machine(congestion: Congestion) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    format!("{cores} cores, Linux {}, loopback, {congestion}", release.join("."))
}
