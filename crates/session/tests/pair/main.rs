//! Two ends of a session over simulated lanes, under faults.
//!
//! A seed draws everything: the network, the two applications, the faults and when they strike.
//! Checkers stand outside the sessions. A failure prints its seed; `CLOAK_SEED=n` runs that one
//! alone with its trace, `CLOAK_FULL=1` runs 100,000 schedules instead of 3,000.

#![expect(clippy::unwrap_used, reason = "a test: its panic is its report")]

mod app;
mod checks;
mod moves;
mod named;
mod plan;
mod schedules;
mod side;
mod wire;
mod world;
