//! Checkers: what must hold of all peers together, seen from outside.
//!
//! Each looks at [`Views`] and says what is wrong; none asks a peer for its opinion of itself. Their
//! tests give each a world that is broken on purpose, which it must find.

mod addresses;
mod bindings;
mod bounds;
mod loops;
mod tree;

use cloak_base::DeviceId;
use cloak_overlay::{Address, Key, Role};

use crate::peer::PeerId;
use crate::view::Views;

pub use addresses::{addresses, given_twice};
pub use bindings::{lost, unbound};
pub use bounds::bounds;
pub use loops::loops;
pub use tree::tree;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A peer has no place, or not one of its nature.
    #[error("peer {0} has no place")]
    NoPlace(PeerId),
    /// Peers that are connected are in different trees.
    #[error("peers {0} and {1} are in different trees")]
    TwoTrees(PeerId, PeerId),
    /// A tree has not one root.
    #[error("{0} roots in one tree")]
    Roots(usize),
    /// The peer that a peer calls its parent is dead, or has another address.
    #[error("peer {0} at {1} has no parent there")]
    NoParent(PeerId, Address),
    /// A host of an attached peer is dead, or somewhere else.
    #[error("peer {0} is attached to {1:?}, which is not there")]
    NoHost(PeerId, DeviceId),
    /// Two live peers hold one address of one tree.
    #[error("peers {0} and {1} both hold {2}")]
    TwoHolders(PeerId, PeerId, Address),
    /// A binding is nowhere.
    #[error("no live peer holds {0:?}")]
    Lost(Key),
    /// A point's binder does not have the binding.
    #[error("peer {0} binds a point of {1:?} and has no record")]
    Unbound(PeerId, Key),
    /// Greedy steps come back to where they were.
    #[error("greedy steps from peer {0} to {1} go round")]
    Loop(PeerId, Address),
    /// Greedy steps end elsewhere.
    #[error("greedy steps from peer {0} to {1} end at {2}")]
    DeadEnd(PeerId, Address, Address),
    /// Too many neighbours of a kind.
    #[error("peer {0} has {2} neighbours of role {1:?}")]
    Neighbours(PeerId, Role, usize),
    /// Too many records.
    #[error("peer {0} holds {1} records")]
    Records(PeerId, usize),
}

/// Everything that must hold of connected peers once nothing has changed for a while.
pub fn quiescent(views: &Views, config: &cloak_overlay::Config) -> Vec<Fault> {
    let mut faults = tree(views);
    faults.extend(addresses(views));
    faults.extend(bounds(views, config));
    faults.extend(loops(views, config.degree));
    faults
}

#[cfg(test)]
mod tests;
