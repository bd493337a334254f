//! Every scenario at a small size: that it runs to its end, and what must hold even of few peers.

use cloak_sim::{Options, Report, Scenario, Share};

fn run(scenario: Scenario, peers: usize) -> Report {
    let report = scenario.run(&Options::new(3, peers));
    let missing: Vec<_> = report.measures.iter().filter(|one| one.value.is_nan()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    report
}

#[test]
fn joining_peers_form_one_tree() {
    let report = run(Scenario::Join, 150);
    assert_eq!(report.faults, []);
}

#[test]
fn routes_always_arrive_while_all_live() {
    let report = run(Scenario::Routes, 150);
    assert_eq!(report.value("route, success"), Some(1.0));
    assert!(report.value("route, stretch").is_some_and(|stretch| (1.0..2.0).contains(&stretch)));
}

#[test]
fn closed_and_sleeping_peers_attach() {
    let mut options = Options::new(3, 150);
    options.setup.unreachable = Share::percent(70);
    options.setup.sleeping = Share::percent(30);
    let report = Scenario::Join.run(&options);
    assert_eq!(report.faults, []);
}

#[test]
fn names_are_found() {
    let report = run(Scenario::Lookups, 100);
    assert_eq!(report.value("lookup, success"), Some(1.0), "{report}");
    let report = run(Scenario::Load, 60);
    assert!(report.value("records per binder, mean").is_some_and(|mean| mean > 1.0), "{report}");
}

#[test]
fn few_peers_move_when_the_root_dies() {
    let report = run(Scenario::Root, 100);
    let moved = report.value("peers whose address changes when the root dies");
    assert!(moved.is_some_and(|moved| moved <= 0.02), "{report}");
    assert_eq!(report.faults, []);
}

#[test]
fn islands_yield_to_the_realm() {
    let report = run(Scenario::Islands, 40);
    assert_eq!(report.value("realms captured by an island"), Some(0.0), "{report}");
    assert_eq!(report.faults, []);
}

#[test]
fn liars_can_deny_but_not_forge() {
    let report = run(Scenario::Adversaries, 100);
    assert_eq!(report.value("10 % liars, forged answers"), Some(0.0), "{report}");
}
