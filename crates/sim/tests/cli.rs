//! The binary: what it prints, its exit codes, and logs that replay.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloak-sim")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn file(name: &str) -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).display().to_string()
}

#[test]
fn reports_are_json_on_demand_and_the_seed_comes_first() {
    let output = sim(&["routes", "--peers", "40", "--seed", "9", "--json"]);
    assert!(text(&output.stderr).starts_with("seed 9\n"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["scenario"], &report["seed"], &report["peers"]),
        (&"routes".into(), &9.into(), &40.into())
    );
    let names: Vec<&str> = report["measures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"route, mean"), "{names:?}");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn a_log_replays_and_a_changed_one_does_not() {
    let path = file("join.log");
    sim(&["join", "--peers", "20", "--log", &path]);
    let replayed = sim(&["replay", &path, "--peer", "3"]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    assert!(text(&replayed.stdout).contains("3 link-up"));

    let log = std::fs::read_to_string(&path).unwrap();
    let changed = file("changed.log");
    std::fs::write(&changed, log.replacen(" link-up 0", " link-up 1", 1)).unwrap();
    let replayed = sim(&["replay", &changed]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(text(&replayed.stdout).starts_with("not the same run: event "));
}

#[test]
fn plots_are_written() {
    let directory = file("plots");
    sim(&["load", "--peers", "30", "--plots", &directory]);
    let plot = std::fs::read_to_string(Path::new(&directory).join("load.svg")).unwrap();
    assert!(plot.starts_with("<svg ") && plot.contains("with copies"));
}

#[test]
fn wrong_usage_is_told() {
    for wrong in
        [&["nonsense"][..], &["replay"], &["join", "--fail", "2"], &["join", "--degree", "2"]]
    {
        assert_eq!(sim(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// A table of hours is resumed: what is in the file is not run again.
#[test]
fn a_table_goes_on_where_it_was_left() {
    let path = file("results");
    let _ = std::fs::remove_file(&path);
    let table = |seeds: &str, only: &str| {
        let rest = ["--seeds", seeds, "--only", only, "--results", &path];
        sim(&[&["table", "--peers", "30"], &rest[..]].concat())
    };
    let ran = |output: &Output| text(&output.stderr).matches("virtual seconds").count();
    assert_eq!(ran(&table("1", "routes,idle")), 2);
    let first = std::fs::read_to_string(&path).unwrap();
    assert_eq!(first.lines().count(), 2);
    let output = table("2", "routes");
    assert_eq!(ran(&output), 1);
    let second = std::fs::read_to_string(&path).unwrap();
    assert!(second.starts_with(&first) && second.lines().count() == 3);
    // What is in the file is in the table, whether it was wanted this time or not.
    let shown = text(&output.stdout);
    let row = |name: &str| shown.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let hops = row("| route, mean |").unwrap();
    assert_eq!(hops.split('|').nth(4).unwrap().split(',').count(), 2, "{hops}");
    assert!(row("| idle traffic per peer, mean |").is_some(), "{shown}");
    let again = table("2", "routes");
    assert_eq!((ran(&again), text(&again.stdout)), (0, shown));

    std::fs::write(&path, second + "{\"run\":").unwrap();
    assert_eq!(table("2", "routes").status.code(), Some(2));
    assert_eq!(table("2", "nonsense").status.code(), Some(2));
}
