//! The simulator's command line.

mod args;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let report = args.scenario.run(&args.options());
    println!("{report}");
    ExitCode::SUCCESS
}
