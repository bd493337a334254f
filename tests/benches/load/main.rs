//! Load program: Cloak beside what one would use instead, in one run on one machine.
//!
//! Run it with `cargo bench -p cloak-tests --bench load`; `docs/benchmarks/README.md` says what the
//! tables mean. Absolute figures depend on the machine, so all paths carry the same load in rounds
//! that take turns, and the targets are ratios of the same round. It is a program to look at, not a
//! test: nothing here fails because it was slow.
#![allow(clippy::unwrap_used, reason = "a program of the harness may panic")]

mod bulk;
mod chart;
mod child;
mod cuts;
mod namespace;
mod origin;
mod path;
mod plan;
mod proc;
mod report;
mod requests;
mod results;
mod sample;
mod sessions;
mod target;

use std::net::SocketAddr;

use cloak_tests::realm::Realm;
use rustix::process::{Resource, getrlimit, setrlimit};

use child::{Child, Role};
use namespace::Congestion;
use path::Path;
use plan::{Load, Plan};
use results::Results;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, role, target] = &arguments[..]
        && argument == child::ARGUMENT
    {
        allow_descriptors();
        return child::run(role, target);
    }
    let Some(plan) = Plan::parse(arguments.iter().cloned()) else {
        println!("{}", plan::USAGE);
        return;
    };
    if let Some(directory) = &plan.write {
        std::fs::create_dir_all(directory).expect("the results can be written where they shall be");
    }
    if plan.paths.contains(&path::SHADOWSOCKS) {
        path::shadowsocks::prepare();
    }
    let congestion = namespace::enter(&arguments);
    allow_descriptors();
    let machine = machine(congestion);
    println!("{machine}\n");
    let realm = Realm::alone();
    let server = Child::start(Role::Origin, None);
    let paths = path::start(&plan.paths, &realm, server.address());
    let paths: Vec<&dyn Path> = paths.iter().map(AsRef::as_ref).collect();
    let mut results = Results::default();
    measure(&plan, &paths, &realm, server.address(), &mut results);
    let names: Vec<&str> = paths.iter().map(|path| path.name()).collect();
    let versions: Vec<String> = paths.iter().filter_map(|path| path.version()).collect();
    let text = report::text(&machine, &versions, &results, &names);
    println!("{text}");
    if let Some(directory) = &plan.write {
        report::write(directory, &text, &results, &names);
    }
}

fn measure(
    plan: &Plan,
    paths: &[&dyn Path],
    realm: &Realm,
    server: SocketAddr,
    results: &mut Results,
) {
    let cloak = paths.iter().find_map(|path| path.gateways());
    for load in &plan.loads {
        eprintln!("measuring {}", load.word());
        let able: Vec<&dyn Path> =
            paths.iter().copied().filter(|path| path.carries(*load)).collect();
        match (load, cloak) {
            (Load::Bulk, _) => bulk::measure(&able, plan.rounds, plan.bytes, results),
            (Load::Fresh, _) => requests::fresh(&able, plan.many_rounds, plan.requests, results),
            (Load::Kept, _) => requests::kept(&able, plan.many_rounds, plan.requests, results),
            (Load::Rate, _) => requests::rate(&able, plan.rounds, results),
            (Load::Idle, _) => sessions::idle(&able, results),
            (Load::Active, _) => sessions::active(&able, results),
            (Load::Scale, Some(_)) => sessions::scale(realm, server, results),
            (Load::Cuts, Some(gateways)) => cuts::measure(gateways, plan.rounds, results),
            (Load::Scale | Load::Cuts, None) => {}
        }
    }
}

/// The paths in turns: `rounds` times all of them, each time another one first.
fn turns<'p>(paths: &'p [&'p dyn Path], rounds: usize) -> impl Iterator<Item = &'p dyn Path> {
    (0..rounds)
        .flat_map(move |round| (0..paths.len()).map(move |at| paths[(round + at) % paths.len()]))
}

/// Ten thousand sessions are as many connections of this process; a lower hard limit shows as a
/// refused connection.
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
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("processor unknown", |(_, model)| model);
    let vector_aes = if cpuinfo.contains("vaes") { "with" } else { "without" };
    format!(
        "{cores} cores ({model}, {vector_aes} vector AES), Linux {}, loopback, {congestion}.",
        release.join(".")
    )
}
