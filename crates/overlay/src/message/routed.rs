//! The envelope of what travels over several hops.
//!
//! Every hop counts it, names it anew for its acknowledgement, and may put it on a detour; see
//! [`crate::route`]. What is inside is for its destination, see [`Body`].

use cloak_base::DeviceId;
use cloak_geometry::Address;
use minicbor::{Decode, Encode};

use super::body::Body;
use crate::codec;

/// Most peers that a detour remembers, and most hops it takes.
pub(crate) const DETOUR_MAX: usize = 24;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Routed {
    /// Names this hop in its acknowledgement.
    #[n(0)]
    pub hop: u32,
    /// Hops that are left.
    #[n(1)]
    pub left: u8,
    /// Hops that were made.
    #[n(2)]
    pub made: u8,
    /// Where to.
    #[n(3)]
    #[cbor(with = "codec::address")]
    pub to: Address,
    /// For whom; nobody in particular when the destination is a point.
    #[n(4)]
    pub device: Option<DeviceId>,
    /// Whom to answer.
    #[n(5)]
    pub origin: Origin,
    /// Set while it goes round a hole in the tree.
    #[n(6)]
    pub detour: Option<Box<Detour>>,
    /// What it says.
    #[n(7)]
    pub body: Body,
}

/// Who sent a routed message, and where answers find it: its own address, or that of the peer that
/// is linked to it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// Who.
    #[n(0)]
    pub device: DeviceId,
    /// Where.
    #[n(1)]
    #[cbor(with = "codec::address")]
    pub address: Address,
}

/// The way round a hole.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Detour {
    /// Where no neighbour was nearer; the detour ends at any place nearer than this.
    #[n(0)]
    #[cbor(with = "codec::address")]
    pub from: Address,
    /// Peers that it passed: the first four bytes of their ids.
    #[n(1)]
    #[cbor(decode_with = "codec::at_most::<_, _, DETOUR_MAX>")]
    pub passed: Vec<u32>,
}
