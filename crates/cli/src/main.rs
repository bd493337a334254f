//! The `cloak` command.
//!
//! Arguments become settings, settings become a running gateway or a question to one, and answers
//! become text. This crate alone prints, handles signals and chooses exit codes.

mod args;
mod ask;
mod connect;
mod demo;
mod descriptors;
mod doctor;
mod enrol;
mod exit;
#[cfg(test)]
mod guide;
mod log;
mod manual;
mod output;
mod place;
mod running;
mod settings;
mod show;
mod stop;
mod up;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::args::{Cli, Command, Question};
use crate::ask::Asker;
use crate::exit::Failure;

fn main() -> ExitCode {
    // Whatever this program creates is for this user only.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cloak: {failure}");
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { home, json, command } = cli;
    let home = || place::home(home);
    match command {
        Command::Man => Ok(manual::man()?),
        Command::Completions { shell } => Ok(manual::completions(shell)?),
        Command::Demo(asked) => many_threads()?.block_on(demo::run(asked)),
        Command::Init(asked) => enrol::init(&home()?, asked, json),
        Command::Join(asked) => one_thread()?.block_on(enrol::join(&home()?, asked, json)),
        Command::Up(flags) => many_threads()?.block_on(up::run(&home()?, &flags)),
        Command::Doctor => one_thread()?.block_on(doctor::run(&home()?, json)),
        Command::Connect { target } => {
            let asker = Asker::new(&home()?, json);
            let runtime = one_thread()?;
            let stream = runtime.block_on(connect::open(asker.client(), target))?;
            connect::copy(stream)
        }
        Command::Question(question) => {
            one_thread()?.block_on(ask(Asker::new(&home()?, json), question))
        }
    }
}

async fn ask(asker: Asker, question: Question) -> Result<(), Failure> {
    match question {
        Question::Stop => stop::run(&asker).await,
        Question::Drain { deadline } => stop::drain(&asker, deadline).await,
        Question::Reload => asker.reload().await,
        Question::Status => asker.status().await,
        Question::Peers => asker.peers().await,
        Question::Sessions { entity: true, .. } => asker.entity_sessions().await,
        Question::Sessions { command, .. } => asker.sessions(command).await,
        Question::Services => asker.services().await,
        Question::Names => asker.names().await,
        Question::Resolve { name } => asker.resolve(name).await,
        Question::Ping { name } => asker.ping(name).await,
        Question::Trace { name } => asker.trace(name).await,
        Question::Why { target } => asker.why(target).await,
        Question::Invite(asked) => asker.invite(asked).await,
        Question::Device { command } => asker.device(command).await,
        Question::Member { command } => asker.member(command).await,
        Question::Realm { command } => asker.realm(command).await,
    }
}

fn one_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn many_threads() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
