//! What must hold for the source tree as a whole: which crate may use which, and tidiness that
//! neither the compiler nor clippy looks after.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cloak_tests::binary::workspace;
use cloak_tests::process;
use serde_json::Value;

/// Crates from the lowest to the highest; each may use only those before it.
const ORDER: [&str; 11] = [
    "base",
    "geometry",
    "identity",
    "wire",
    "session",
    "overlay",
    "sim",
    "transport",
    "node",
    "gateway",
    "cli",
];
/// Crates without IO: no tokio, no sockets, no clock.
const CORE: [&str; 7] = ["base", "geometry", "identity", "wire", "session", "overlay", "sim"];
/// What the core must not use, directly or through others.
const NOT_IN_CORE: [&str; 5] = ["tokio", "mio", "hyper", "socket2", "tracing-subscriber"];
/// Only the command line may use these.
const ONLY_IN_CLI: [&str; 3] = ["anyhow", "clap", "clap_complete"];
/// The simulator's binary takes arguments too.
const ALSO_IN_SIM: &str = "clap";
/// Lines of a file, tests excluded.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Words that do not belong on the main branch, put together here so that this file is clean.
const BANNED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("dbg", "!("),
    concat!("/work", "/main"),
    concat!("/ro", "ot/"),
];
/// Top level of the tree, dot-files apart.
const TOP: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "crates",
    "docker",
    "tests",
    "docs",
    "target",
    "README.md",
    "LICENSE",
    "LICENSE-MIT",
    "CHANGELOG.md",
];

/// Normal dependencies of each of our crates, by folder name.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    command.current_dir(workspace());
    let text = process::run(command, b"", Duration::from_secs(60)).success().text();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (short(&package["name"]), normal(package))).collect()
}

fn normal(package: &Value) -> Vec<String> {
    let all = package["dependencies"].as_array().unwrap();
    all.iter().filter(|one| one["kind"] != "dev").map(|one| short(&one["name"])).collect()
}

fn short(name: &Value) -> String {
    let name = name.as_str().unwrap();
    name.strip_prefix("cloak-").unwrap_or(name).to_owned()
}

#[test]
fn crates_use_only_those_below_them() {
    let rank = |name: &str| ORDER.iter().position(|other| *other == name);
    for (name, uses) in dependencies().into_iter().filter(|(name, _)| name != "tests") {
        let own = rank(&name).unwrap_or_else(|| panic!("`{name}` has no place in the order"));
        for used in uses {
            if let Some(other) = rank(&used) {
                assert!(other < own, "`{name}` uses `{used}`, which is not below it");
            }
        }
    }
}

#[test]
fn the_core_has_no_io() {
    let all = dependencies();
    for name in CORE.into_iter().filter(|name| all.contains_key(*name)) {
        let mut command = Command::new(env!("CARGO"));
        let package = format!("cloak-{name}");
        command.args(["tree", "--offline", "--edges=normal", "--prefix=none", "--format={p}"]);
        command.args(["--package", &package]).current_dir(workspace());
        let tree = process::run(command, b"", Duration::from_secs(60)).success().text();
        for line in tree.lines() {
            let used = line.split(' ').next().unwrap_or("");
            assert!(!NOT_IN_CORE.contains(&used), "`{name}` reaches `{used}`");
        }
    }
}

#[test]
fn arguments_and_anyhow_are_the_command_lines_alone() {
    for (name, uses) in dependencies().into_iter().filter(|(name, _)| name != "cli") {
        let allowed = |used: &str| name == "sim" && used == ALSO_IN_SIM;
        let wrong: Vec<&String> = uses
            .iter()
            .filter(|used| ONLY_IN_CLI.contains(&used.as_str()) && !allowed(used))
            .collect();
        assert!(wrong.is_empty(), "`{name}` uses {wrong:?}");
    }
}

#[test]
fn the_top_level_stays_small() {
    for entry in std::fs::read_dir(workspace()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name.starts_with('.') || name.starts_with("LICENSE") || TOP.contains(&&*name);
        assert!(known, "`{name}` does not belong on the top level");
    }
}

#[test]
fn tidy() {
    let mut wrong = Vec::new();
    for path in files(&workspace()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let shown = path.strip_prefix(workspace()).unwrap_or(&path).display().to_string();
        for (index, line) in text.lines().enumerate() {
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{shown}:{}: `{word}`", index + 1));
            }
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            wrong.extend(rust(&shown, &text));
        }
    }
    assert!(wrong.is_empty(), "{} untidy places:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is untidy in a Rust file.
fn rust(shown: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
    let length = tests.unwrap_or(lines.len());
    if length > FILE_LINES_MAX {
        wrong.push(format!("{shown}: {length} lines"));
    }
    if shown.ends_with("mod.rs") {
        wrong.push(format!("{shown}: put it beside its folder"));
    }
    if !text.trim_start().starts_with("//!") && !shown.ends_with("tests.rs") {
        wrong.push(format!("{shown}: says not what it is for"));
    }
    wrong.extend(
        long_functions(&lines)
            .map(|(line, name, length)| format!("{shown}:{line}: `{name}` has {length} lines")),
    );
    wrong
}

/// Formatted code closes a function with a brace indented as deep as the line that begins it.
fn long_functions<'a>(lines: &'a [&str]) -> impl Iterator<Item = (usize, &'a str, usize)> {
    lines.iter().enumerate().filter_map(|(at, line)| {
        let code = line.trim_start();
        let before = code.split("fn ").next()?;
        let is_function = before.len() < code.len()
            && before.split(' ').all(|word| {
                matches!(word, "" | "pub" | "async" | "const" | "unsafe")
                    || word.starts_with("pub(")
            });
        let name = code[before.len()..].strip_prefix("fn ")?;
        let name = &name[..name.find(['(', '<'])?];
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        let length = lines[at..].iter().position(|line| *line == close)? + 1;
        (is_function && length > FUNCTION_LINES_MAX).then_some((at + 1, name, length))
    })
}

/// Files that people wrote: git's, tracked or not, without what it ignores.
fn files(top: &Path) -> Vec<PathBuf> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(top);
    let listed = process::run(command, b"", Duration::from_secs(30)).success().text();
    let written = |name: &&str| {
        [".rs", ".toml", ".md", ".sh", "/run", ".txt", ".yml"].iter().any(|end| name.ends_with(end))
    };
    listed
        .lines()
        .filter(written)
        .map(|name| top.join(name))
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn the_tidy_test_sees_what_it_should() {
    let long =
        format!("//! x\nimpl A {{\n    pub async fn f(\n    ) {{\n{}    }}\n}}\n", "\n".repeat(80));
    assert_eq!(rust("src/a.rs", &long), ["src/a.rs:3: `f` has 83 lines"]);
    assert_eq!(rust("src/a.rs", "//! x\n").len(), 0);
    assert_eq!(rust("src/a.rs", "fn main() {}\n").len(), 1);
    let tests = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(900));
    assert_eq!(rust("src/a.rs", &tests).len(), 0);
}
