//! Records between kin: handed down, recalled, and kept as copies; see [`crate::keep`].
//!
//! Unlike a record on its way to or from a point these go over one tree edge, many in a message, and
//! each says at which point it is held and for how long its publisher has not confirmed it.

use std::sync::Arc;

use cloak_base::Epoch;
use cloak_geometry::Address;
use minicbor::{Decode, Encode};

use crate::codec;
use crate::record::{Key, Record};

/// Most records in one hand-down, and none after the message is half full.
pub(crate) const HELD_MAX: usize = 64;
/// Most children of a peer, at the largest degree.
const CHILDREN_MAX: usize = 64;

/// Records for the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Held {
    /// What for.
    #[n(0)]
    pub purpose: Purpose,
    /// Whether this ends the hand-down, or the answer to a recall.
    #[n(1)]
    pub last: bool,
    /// The records.
    #[n(2)]
    #[cbor(decode_with = "codec::at_most::<_, _, HELD_MAX>")]
    pub records: Vec<HeldRecord>,
}

/// What records are sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Purpose {
    /// The receiver binds them.
    #[n(0)]
    Bind,
    /// The sender binds them; the receiver keeps copies, or passes them on to keepers.
    #[n(1)]
    Copy,
    /// A sibling of the receiver binds them; the receiver keeps copies.
    #[n(2)]
    Keep,
}

/// A record with where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HeldRecord {
    /// The point.
    #[n(0)]
    #[cbor(with = "codec::address")]
    pub point: Address,
    /// The key.
    #[n(1)]
    pub key: Key,
    /// The record.
    #[n(2)]
    pub record: Record,
    /// Seconds since its publisher last confirmed it.
    #[n(3)]
    pub age: u32,
}

/// A parent's question for records.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recall {
    /// Indices of the sender's children. It binds what is below it and not below these.
    #[n(0)]
    #[cbor(
        decode_with = "codec::short_bytes::<_, CHILDREN_MAX>",
        encode_with = "codec::put_bytes"
    )]
    pub children: Arc<[u8]>,
    /// Indices of children that are gone since the last recall, with what they kept.
    #[n(1)]
    #[cbor(
        decode_with = "codec::short_bytes::<_, CHILDREN_MAX>",
        encode_with = "codec::put_bytes"
    )]
    pub lost: Arc<[u8]>,
}

/// Names a copy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Copy {
    /// The point.
    #[n(0)]
    #[cbor(with = "codec::address")]
    pub point: Address,
    /// The key.
    #[n(1)]
    pub key: Key,
    /// The epoch.
    #[n(2)]
    pub epoch: Epoch,
}
