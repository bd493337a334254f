//! The overlay of real gateways: they join through one another, find every name, and go on when the
//! root, a binder, a relay or half of them is gone, or when one of them plays foul.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "overlay/deaths.rs"]
mod deaths;
#[path = "overlay/foul.rs"]
mod foul;
#[path = "overlay/partition.rs"]
mod partition;
#[path = "overlay/relays.rs"]
mod relays;
#[path = "overlay/restarts.rs"]
mod restarts;
#[path = "overlay/shown.rs"]
mod shown;
#[path = "overlay/thirty.rs"]
mod thirty;

use std::time::Duration;

use cloak_base::Rng;
use cloak_tests::town::{Question, Town};

const SOON: Duration = Duration::from_secs(30);
/// After a death every name resolves again within this time.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);
/// Bytes a second of a load that runs beside a fault.
const RATE: u64 = 100_000;

/// Every gateway that runs asks for `each` names of others that run, drawn by `seed`.
fn drawn(town: &Town, each: usize, seed: u64) -> Vec<Question> {
    let (living, mut rng) = (town.living(), Rng::from_u64(seed));
    let mut draw = || {
        let index = rng.below(u64::try_from(living.len()).unwrap());
        living[usize::try_from(index).unwrap()]
    };
    let mut questions = Vec::new();
    for &at in &living {
        for _ in 0..each {
            let of = std::iter::repeat_with(&mut draw).find(|of| *of != at).unwrap();
            questions.push(Question { at, name: town.name(of) });
        }
    }
    questions
}

/// One gateway asks for every name of those that run.
fn row(town: &Town, at: usize) -> Vec<Question> {
    town.living().into_iter().map(|of| Question { at, name: town.name(of) }).collect()
}

/// Every gateway that runs asks for one name.
fn column(town: &Town, name: &str) -> Vec<Question> {
    town.living().into_iter().map(|at| Question { at, name: name.to_owned() }).collect()
}
