//! The guide in docs/guide says what the code does. Tests only.

use clap::CommandFactory;
use cloak_gateway::{http_status, socks5_reply};
use cloak_node::Code;

use crate::args::Cli;

const README: &str = include_str!("../../../README.md");
const PAGES: [&str; 10] = [
    README,
    include_str!("../../../docs/guide/quick-start.md"),
    include_str!("../../../docs/guide/configuration.md"),
    include_str!("../../../docs/guide/exits.md"),
    include_str!("../../../docs/guide/moving.md"),
    include_str!("../../../docs/guide/library.md"),
    include_str!("../../../docs/guide/operations.md"),
    include_str!("../../../docs/guide/security.md"),
    include_str!("../../../docs/guide/browser.md"),
    include_str!("../../../docs/guide/errors.md"),
];

#[test]
fn the_table_of_errors_is_complete_and_true() {
    let table = include_str!("../../../docs/guide/errors.md");
    for code in Code::ALL {
        let socks = socks5_reply(*code).as_u8();
        let http = http_status(*code).as_u16();
        let row = format!("| `{code}` | {socks} | {http} | ");
        assert!(table.contains(&row), "missing or different: {row}");
    }
}

/// Lines of shell blocks that begin with `cloak` can be typed as they stand.
#[test]
fn commands_in_the_guide_can_be_typed() {
    let mut count = 0;
    for line in PAGES.iter().flat_map(|page| shell_lines(page)) {
        let Some(command) = line.strip_prefix("cloak ") else { continue };
        let command = command.split(['#', '>', '<']).next().unwrap_or_default();
        let words = std::iter::once("cloak").chain(command.split_whitespace());
        if let Err(error) = Cli::command().try_get_matches_from(words) {
            panic!("{line}: {error}");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} commands were found");
}

fn shell_lines(page: &str) -> impl Iterator<Item = &str> {
    page.split("```sh\n")
        .skip(1)
        .flat_map(|rest| rest.split("```").next().unwrap_or_default().lines().map(str::trim))
}
