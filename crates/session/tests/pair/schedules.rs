//! Random schedules, and the bugs that they must find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cloak_base::Rng;
use cloak_session::Planted;

use crate::plan::Plan;
use crate::world::World;

const SCHEDULES: u64 = 3_000;
const SCHEDULES_FULL: u64 = 100_000;

fn run(seed: u64, planted: Option<Planted>) -> u64 {
    let mut plan = Plan::draw(&mut Rng::from_u64(seed));
    plan.config.planted = planted;
    let mut world = World::new(seed, plan);
    world.run();
    world.log_hash()
}

#[test]
fn random_schedules_deliver_every_byte_once_or_end_with_an_error() {
    if let Some(seed) = std::env::var("CLOAK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:#?}", Plan::draw(&mut Rng::from_u64(seed)));
        run(seed, None);
        return;
    }
    let full = std::env::var_os("CLOAK_FULL").is_some_and(|value| value == "1");
    let count = if full { SCHEDULES_FULL } else { SCHEDULES };
    let failed = failures(0..count, None, 10);
    assert!(failed.is_empty(), "run one alone with CLOAK_SEED=n:\n{}", failed.join("\n"));
}

/// The first `most` seeds that fail, and how.
fn failures(
    seeds: impl Iterator<Item = u64>,
    planted: Option<Planted>,
    most: usize,
) -> Vec<String> {
    let failure = |seed| {
        let ran = catch_unwind(AssertUnwindSafe(|| run(seed, planted)));
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
        let failed = failures([seed].into_iter(), None, 1);
        assert!(failed.is_empty(), "{bug}: {failed:?}");
    }
}

#[test]
fn same_seed_same_event_log() {
    for seed in 0..50 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
    assert_ne!(run(1, None), run(2, None));
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
        assert!(!failures(0..300, Some(bug), 1).is_empty(), "{bug:?} was not found");
    }
}
