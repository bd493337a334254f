//! What an overlay peer shows of itself: for status, and for checkers outside.

use cloak_base::DeviceId;
use cloak_geometry::Address;

use crate::event::Place;
use crate::record::{Key, Record};

/// A peer's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is.
    pub place: Place,
    /// Whether its way to a living root is whole, as far as it knows.
    pub rooted: bool,
    /// Whether it still waits for records, and sends askers to its parent.
    pub warming: bool,
    /// Its parent; `None` for a root and outside of a tree.
    pub parent: Option<DeviceId>,
    /// Linked peers.
    pub neighbours: Vec<Neighbour>,
    /// Records held for others.
    pub held: Vec<Holding>,
    /// What happened so far.
    pub stats: Stats,
}

/// A linked peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub device: DeviceId,
    /// What it is to us.
    pub role: Role,
    /// Its verified address, when it is in our tree.
    pub address: Option<Address>,
    /// Whether it is suspected to be dead, and gets nothing to forward.
    pub suspected: bool,
}

/// What a linked peer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Our parent in the tree.
    Parent,
    /// A child of ours.
    Child,
    /// An extra neighbour.
    Extra,
    /// We are attached to it.
    Host,
    /// It is attached to us.
    Guest,
    /// Nothing for long: the link ends when it is not used any more.
    Passing,
}

/// A record held for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Its key.
    pub key: Key,
    /// The point that it is held for.
    pub point: Address,
    /// The record.
    pub record: Record,
    /// Whether it is a copy, and another peer binds it.
    pub copy: bool,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages given to the driver.
    pub sent: u64,
    /// Messages taken in.
    pub received: u64,
    /// Routed messages of others that were passed on.
    pub forwarded: u64,
    /// Hops that were not acknowledged in time.
    pub hops_lost: u64,
    /// Routed messages given up: no way, or no hops left.
    pub dropped: u64,
    /// Detours begun.
    pub detours: u64,
    /// Times that our place changed.
    pub placed: u64,
    /// Addresses that we took over from a dead peer.
    pub succeeded: u64,
    /// Addresses that we gave to a successor.
    pub appointed: u64,
}
