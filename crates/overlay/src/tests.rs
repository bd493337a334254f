//! The overlay in a small world: a few dozen peers, virtual time, latency, silent death.

mod join;
mod world;
