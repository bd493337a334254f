//! Same seed, same run: event for event.

use cloak_sim::swarm::{self, Company};
use cloak_sim::{Journal, Log, Options, Scenario, Share};

#[test]
fn the_same_seed_gives_the_same_log() {
    let run = |seed| {
        let mut options = Options::new(seed, 60);
        options.setup.unreachable = Share::percent(30);
        options.log = Log::Lines;
        Scenario::Fail.run(&options)
    };
    let (a, b, other) = (run(4), run(4), run(5));
    assert!(a.events > 10_000, "{} events", a.events);
    assert_eq!((a.hash, a.events), (b.hash, b.events));
    assert_ne!(a.hash, other.hash);

    let mut journal = Journal::compare(a.log);
    b.log.iter().for_each(|line| journal.write(*line));
    assert_eq!(journal.difference(), None);
}

#[test]
fn a_swarm_run_replays() {
    let first = swarm::run(11, Company::Hostile, Journal::keep());
    let again = swarm::run(11, Company::Hostile, Journal::compare(first.log));
    assert_eq!(first.hash, again.hash);
}
