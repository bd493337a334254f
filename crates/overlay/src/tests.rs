//! The overlay in a small world: a few dozen peers, virtual time, latency, silent death.

mod codec;
mod heal;
mod islands;
mod join;
mod records;
mod world;
