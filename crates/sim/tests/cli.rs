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
