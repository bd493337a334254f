//! The overlay peer: tree, neighbours, greedy routing, names, and the healing of all of them.
//!
//! [`Overlay`] is a deterministic state machine without IO: time, randomness, signatures, messages
//! and link changes come in as arguments; messages and events are polled out of it. [`drain`] is the
//! one order in which a driver empties it. The gateway's control plane and the simulator run this
//! very code. Its rules are those of docs/PROTOCOL.md, section Overlay.

mod allotment;
mod attach;
mod cert;
mod chain;
mod codec;
mod config;
mod contact;
mod deliver;
mod detour;
mod dials;
mod drain;
mod election;
mod event;
mod extra;
mod first;
mod keep;
mod kin;
mod limits;
mod links;
mod lookup;
mod message;
mod orphan;
mod overlay;
mod publish;
mod record;
mod root;
mod route;
mod seek;
mod snapshot;
mod store;
mod strays;
mod succession;
#[cfg(test)]
mod tests;
mod timers;
mod tree;
mod trees;
mod upkeep;
mod will;

pub use cert::{
    CHAIN_MAX, Cert, Certifier, Domain, Founding, RANK_PROOF_MAX, RootCert, Signature, Succession,
    Term, TreeId,
};
pub use chain::Chain;
pub use cloak_geometry::{Address, Degree};
pub use config::Config;
pub use contact::{Contact, LOCATORS_MAX, Own, Rank, Standing};
pub use drain::{Outlet, drain};
pub use event::{Code, Command, Destination, Event, Input, LookupId, Place};
pub use message::{
    Body, Found, Greet, MESSAGE_MAX, Malformed, Message, Offer, Origin, Outcome, Passed, Routed,
    Want,
};
pub use overlay::Overlay;
pub use record::{KEY_MAX, Key, KeyTooLong, RECORD_MAX, Record, RecordVerifier};
pub use snapshot::{Holding, Neighbour, Role, Snapshot, Stats};
pub use will::{
    Ballot, ELECTORATE_MAX, Elector, NOMINEES_MAX, Testament, Vote, Will, WillNumber, WillTerms,
};
