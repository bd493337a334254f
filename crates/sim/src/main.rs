//! The simulator's command line. Figures go to stdout; the seed, first of all, and progress to
//! stderr. The exit code is 1 when a checker found a fault or a target was missed, 2 for wrong usage.

mod args;
mod output;
mod results;

use std::process::ExitCode;

use clap::Parser;
use cloak_sim::{Journal, Run, Scenario, Table, swarm};

use crate::args::{Args, What};
use crate::output::{Problem, show};
use crate::results::Results;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.what {
        What::Scenario(scenario) => one(scenario, &args),
        What::Table => table(&args),
        What::Swarm => swarm_of(&args),
        What::Replay => replay(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problem) => {
            eprintln!("cloak-sim: {problem}");
            ExitCode::from(2)
        }
    }
}

/// One run of a scenario. Says whether all is well.
fn one(scenario: Scenario, args: &Args) -> Result<bool, Problem> {
    eprintln!("seed {}", args.seed);
    let report = scenario.run(&args.options());
    show(&report, args.json);
    if let Some(file) = &args.log {
        output::write_log(file, scenario.name(), &report.log)?;
    }
    if let Some(directory) = &args.plots {
        output::write_plots(directory, &report.series)?;
    }
    Ok(report.faults.is_empty() && report.measures.iter().all(cloak_sim::Measure::is_met))
}

/// All figures that were promised, each the worst of several seeds.
fn table(args: &Args) -> Result<bool, Problem> {
    let mut results = Results::open(args.results.as_deref())?;
    let mut series = Vec::new();
    for seed in args.seed..args.seed + args.seeds {
        for Run { name, scenario, options, .. } in Run::all(seed, args.peers, args.growth) {
            let wanted = args.only.is_empty() || args.only.iter().any(|only| only == name);
            if !wanted || results.has(name, args.peers, seed) {
                continue;
            }
            eprintln!("seed {seed}: {name}");
            let report = scenario.run(&options);
            eprintln!("{report}");
            results.add(name, args.peers, &report)?;
            if seed == args.seed {
                series.extend(report.series);
            }
        }
    }
    let mut table = Table::default();
    for Run { name, label, .. } in Run::all(args.seed, args.peers, args.growth) {
        for one in results.of(name, args.peers) {
            table.add(label, &one.measures, one.faults);
        }
    }
    if let Some(directory) = &args.plots {
        output::write_plots(directory, &series)?;
    }
    println!("{}", table.to_markdown());
    println!("Faults that the checkers found at the end of these runs: {}", table.faults());
    Ok(table.is_met() && table.faults() == 0)
}

/// Random realms with random mishaps.
fn swarm_of(args: &Args) -> Result<bool, Problem> {
    let mut all_good = true;
    let company = args.company();
    for seed in args.seed..args.seed + args.seeds {
        println!("seed {seed}: {}", swarm::Parameters::draw(seed, company));
        let journal = if args.log.is_some() { Journal::keep() } else { Journal::hash_only() };
        let outcome = swarm::run(seed, company, journal);
        println!("  {outcome}");
        all_good &= outcome.is_good();
        if let Some(file) = &args.log {
            output::write_log(file, "swarm", &outcome.log)?;
        }
    }
    Ok(all_good)
}

/// Runs what a log's first line says, and compares event by event.
fn replay(args: &Args) -> Result<bool, Problem> {
    let file = args.file.as_ref().ok_or(Problem::NoFile)?;
    let (again, lines) = output::read_log(file)?;
    let again = Args::parse_from(again);
    eprintln!("seed {}", again.seed);
    let found = match again.what {
        What::Scenario(scenario) => scenario.run(&again.options()).log,
        What::Swarm => swarm::run(again.seed, again.company(), Journal::keep()).log,
        What::Table | What::Replay => return Err(Problem::NotARun),
    };
    let mut journal = Journal::compare(lines);
    for line in found {
        journal.write(line);
        if args.peer == Some(line.peer.0) {
            println!("{line}");
        }
    }
    let difference = journal.difference();
    match &difference {
        Some(difference) => println!("not the same run: {difference}"),
        None => println!("the same {} events, log {:016x}", journal.events(), journal.hash()),
    }
    Ok(difference.is_none())
}
