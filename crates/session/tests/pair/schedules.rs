//! Random schedules, and the bugs that they must find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cloak_base::Rng;
use cloak_session::Planted;

use crate::plan::{Pauses, Plan};
use crate::world::World;

const SCHEDULES: u64 = 3_000;
const SCHEDULES_FULL: u64 = 100_000;

fn plan(seed: u64, pauses: Pauses) -> Plan {
    let mut rng = Rng::from_u64(seed);
    let plan = Plan::draw(&mut rng);
    if pauses == Pauses::Some { plan.with_pauses(&mut rng) } else { plan }
}

fn run(seed: u64, planted: Option<Planted>, pauses: Pauses) -> u64 {
    let mut plan = plan(seed, pauses);
    plan.config.planted = planted;
    let mut world = World::new(seed, plan);
    world.run();
    world.log_hash()
}

/// Runs many schedules, or the one of `CLOAK_SEED`.
fn run_schedules(pauses: Pauses) {
    if let Some(seed) = std::env::var("CLOAK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:#?}", plan(seed, pauses));
        run(seed, None, pauses);
        return;
    }
    let full = std::env::var_os("CLOAK_FULL").is_some_and(|value| value == "1");
    let count = if full { SCHEDULES_FULL } else { SCHEDULES };
    let failed = failures(0..count, None, pauses, 10);
    assert!(failed.is_empty(), "run one alone with CLOAK_SEED=n:\n{}", failed.join("\n"));
}

#[test]
fn random_schedules_deliver_every_byte_once_or_end_with_an_error() {
    run_schedules(Pauses::None);
}

#[test]
fn random_schedules_with_pauses_deliver_every_byte_once_or_end_with_an_error() {
    run_schedules(Pauses::Some);
}

/// The first `most` seeds that fail, and how.
fn failures(
    seeds: impl Iterator<Item = u64>,
    planted: Option<Planted>,
    pauses: Pauses,
    most: usize,
) -> Vec<String> {
    let failure = |seed| {
        let ran = catch_unwind(AssertUnwindSafe(|| run(seed, planted, pauses)));
        ran.err().map(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            format!("seed {seed}: {text}")
        })
    };
    seeds.filter_map(failure).take(most).collect()
}

/// Seeds that once found a bug.
#[test]
fn schedules_that_found_a_bug() {
    for (seed, bug) in [
        (2544, "what was acknowledged on a lane that lost the race is acknowledged again"),
        (1062, "an outcome that is settled is not lost by the peer's restart"),
        (90_337, "an acknowledgement that overtakes the replay leaves no gap"),
        (5, "an answer that comes late goes on after what went early, not after what was sent"),
        (70, "a resume that stands for an answer may acknowledge what went early"),
    ] {
        let failed = failures([seed].into_iter(), None, Pauses::None, 1);
        assert!(failed.is_empty(), "{bug}: {failed:?}");
    }
    for (seed, bug) in [
        (4284, "an end that paused and has everything says so for as long as the other waits"),
        (54_159, "a straggler that is taken late does not tell that the peer is paused"),
    ] {
        let failed = failures([seed].into_iter(), None, Pauses::Some, 1);
        assert!(failed.is_empty(), "{bug}: {failed:?}");
    }
}

#[test]
fn same_seed_same_event_log() {
    for seed in 0..50 {
        let once = run(seed, None, Pauses::Some);
        assert_eq!(once, run(seed, None, Pauses::Some), "seed {seed}");
    }
    assert_ne!(run(1, None, Pauses::None), run(2, None, Pauses::None));
}

#[test]
fn planted_bugs_are_found() {
    for bug in [
        Planted::AcknowledgeBeforeDelivery,
        Planted::EpochUnchecked,
        Planted::EarlyFin,
        Planted::OffByOneReplay,
        Planted::Offset32Bit,
    ] {
        let found = failures(0..300, Some(bug), Pauses::None, 1);
        assert!(!found.is_empty(), "{bug:?} was not found");
    }
    let bug = Planted::TakesThePeerForPaused;
    assert!(!failures(0..3_000, Some(bug), Pauses::Some, 1).is_empty(), "{bug:?} was not found");
}
