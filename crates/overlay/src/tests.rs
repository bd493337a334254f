//! The overlay in a small world: a few dozen peers, virtual time, latency, silent death.

mod codec;
mod elections;
mod first;
mod heal;
mod islands;
mod join;
mod keep;
mod patience;
mod records;
mod world;
