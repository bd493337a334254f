//! Every scenario at a small size: that it runs to its end, and what must hold even of few peers.

use cloak_sim::{Options, Report, Scenario, Share, Signatures};

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

/// One ping of four thousand met a peer that had lost an acknowledgement, and was told that nobody
/// was there.
#[test]
fn a_lost_acknowledgement_loses_no_ping() {
    let report = Scenario::Routes.run(&Options::new(2, 1000));
    assert_eq!(report.value("route, success"), Some(1.0), "{report}");
}

/// One entity makes 64 devices, up to two fifths of all peers. They get about as many places as its
/// membership allows, and do not surround a name.
#[test]
fn eclipse_of_one_name() {
    for (seed, peers) in [(1, 100), (3, 100), (3, 300)] {
        let mut options = Options::new(seed, peers);
        options.setup.signatures = Signatures::Tags;
        options.names = 50;
        let report = Scenario::Adversaries.run(&options);
        let points = report.value("points of one name that it binds, most of 200 names");
        assert!(points.is_some_and(|points| points <= 2.0), "{report}");
        let places = report.value("places of one entity with 64 devices");
        assert!(places.is_some_and(|places| places >= 4.0), "{report}");
        let level = report.value("most of these at one level");
        assert!(level.is_some_and(|level| level <= 4.0), "{report}");
    }
}
