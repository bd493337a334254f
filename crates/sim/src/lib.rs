//! A simulated world for thousands of overlay peers.
//!
//! The peers are the product's own state machines ([`cloak_overlay::Overlay`]); the network between
//! them, their lives and their owners are simulated, with a clock of its own. Everything follows
//! from a seed. See docs/SIMULATION.md.

mod ask;
pub mod check;
mod directory;
mod geography;
mod journal;
mod malice;
mod measure;
mod mishap;
mod names;
mod peer;
pub mod plot;
mod queue;
mod realm;
mod scenario;
mod setup;
mod signatures;
pub mod swarm;
mod table;
mod view;
mod world;

pub use ask::{Lookup, LookupOutcome, Ping};
pub use geography::Geography;
pub use journal::{BadLine, Difference, Journal, Kind, Line, Shown};
pub use malice::Malice;
pub use measure::{Measure, Samples, Target, Unit, millis, ratio};
pub use mishap::Mishap;
pub use names::{Verifier, forged, is_genuine, key, number, record};
pub use peer::{LinkId, Nature, Peer, PeerId, Traffic};
pub use queue::Queue;
pub use realm::{Name, Realm};
pub use scenario::{Lifetimes, Log, Options, Report, Scenario, Series};
pub use setup::{NotAShare, Setup, Share};
pub use signatures::{Keys, REAL_PEERS_MAX, Signatures};
pub use table::{Run, Table};
pub use view::{Distances, Graph, View, Views};
pub use world::{Answer, DIAL_TIMEOUT, World};
