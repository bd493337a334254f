//! `cloak man` and `cloak completions`: the arguments, described to a reader and to a shell.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::output::print;

/// Writes the manual page: the program, and a section for each command.
///
/// # Errors
/// What the system says of stdout.
pub(crate) fn man() -> io::Result<()> {
    let mut page = Vec::new();
    let mut program = Cli::command();
    program.build();
    Man::new(program.clone()).render(&mut page)?;
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(command, &mut page)?;
    }
    print(page)
}

/// Writes the completions for `shell`.
///
/// # Errors
/// What the system says of stdout.
pub(crate) fn completions(shell: Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cloak", &mut script);
    print(script)
}

fn describe(command: &clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    man.render_description_section(&mut part)?;
    if command.get_arguments().any(|argument| !argument.is_global_set()) {
        man.render_options_section(&mut part)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut part)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).replace('-', " ");
    let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
    page.extend(format!(".SH \"{}\"\n{part}", name.to_uppercase()).bytes());
    Ok(())
}
