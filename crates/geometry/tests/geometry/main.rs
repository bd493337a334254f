//! Properties of the layout over random deep trees: greedy routing, precision, binders, load.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod addresses;
mod consistency;
mod exact;
mod greedy;
mod load;
mod precision;
