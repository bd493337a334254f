//! `cloak doctor`: looks for the mistakes that people make most, and says what to do.
//!
//! It changes nothing, asks no DNS server and needs no gateway; with one running it looks there too.
//! Each check is a function from what was read to findings, so tests need no such machine.

mod gateway;
mod home;
mod machine;
mod programs;

use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{print, print_json};
use crate::show::Table;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, but will surprise.
    Warn,
    /// Something does not work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was checked: a stable word.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// What to do; null where nothing is to be done.
    pub(crate) advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Runs every check and shows the findings.
///
/// # Errors
/// At least one finding is a failure.
pub(crate) async fn run(home: &Path, json: bool) -> Result<(), Failure> {
    let mut findings = home::check(home);
    findings.extend(gateway::check(home).await);
    findings.extend(machine::check(home));
    findings.extend(programs::check());
    match json {
        true => print_json(&findings)?,
        false => print(render(&findings))?,
    }
    match findings.iter().filter(|finding| finding.level == Level::Fail).count() {
        0 => Ok(()),
        count => Err(anyhow!("{count} of {} checks failed", findings.len()).into()),
    }
}

fn render(findings: &[Finding]) -> String {
    let mut table = Table::new(["", "CHECK", "FOUND"]);
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        table.row([level.to_owned(), finding.check.to_owned(), finding.found.clone()]);
        if let Some(advice) = &finding.advice {
            table.row([String::new(), String::new(), format!("-> {advice}")]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_show_what_to_do_below_what_is_wrong() {
        let findings =
            [Finding::ok("home", "/h"), Finding::fail("clock", "it is 1970", "set the clock")];
        assert_eq!(
            render(&findings),
            "      CHECK  FOUND\nok    home   /h\nFAIL  clock  it is 1970\n             -> set the clock\n"
        );
    }
}
