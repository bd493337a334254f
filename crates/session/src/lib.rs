//! The virtual session: a byte stream in each direction that outlives the transports it rides on.
//!
//! [`Session`] is a deterministic state machine without IO: time, randomness, frames and bytes come
//! in as arguments, frames, bytes and events are polled out of it. [`drain`] is the one order in
//! which a driver empties it. Its rules are those of docs/PROTOCOL.md, sections Lanes and Session.
//!
//! What a session holds in memory is charged to a [`Ledger`], in pooled chunks; an idle session
//! holds none. What is left of an ended session is a row in [`Tombstones`].

mod chunk;
mod config;
mod credit;
mod drain;
mod error;
mod escrow;
mod event;
mod lane;
mod ledger;
mod liveness;
mod planted;
mod proof;
mod queue;
mod rank;
mod receive;
mod rtt;
mod send;
mod session;
mod snapshot;
mod tombstones;

pub use config::Config;
pub use drain::{Outlet, drain};
pub use error::{CapsuleError, LaneError, RestoreError, Violation};
pub use escrow::Kept;
pub use event::{End, Event, Transmit};
pub use lane::{LANES_MAX, LaneEnds, LaneId, LaneUp};
pub use ledger::{Ledger, Memory};
pub use liveness::Suspicion;
#[doc(hidden)]
pub use planted::Planted;
pub use proof::{Claim, resume_proof, resumed_proof, verify_resume, verify_resumed};
pub use rank::{Rank, Role};
pub use session::{BATCH_MAX, Batch, Buffers, FirstBytes, News, Session};
pub use snapshot::{Snapshot, State};
pub use tombstones::{Tombstone, Tombstones};
