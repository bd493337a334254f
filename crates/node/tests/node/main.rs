//! Nodes on loopback, in one process: joining, linking, sessions, and what faults do to them.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test ends where it fails")]
#![allow(clippy::duplicate_mod, reason = "each example brings its realm")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait on real deadlines, and end with their runtime"
)]

mod devices;
mod examples;
mod flight;
mod half_open;
mod hostile;
mod library;
mod realm;
mod sessions;
mod sleep;
mod wrong_clock;
