//! What routed messages say: questions to whoever is at an address or binds a point, and answers.
//!
//! An answer names its question by the number that the asker drew, and goes to the question's
//! origin; nothing on the way remembers it.

use cloak_base::{DeviceId, Epoch};
use cloak_geometry::Address;
use minicbor::{Decode, Encode};

use super::succession::Holder;
use crate::cert::TreeId;
use crate::chain::Chain;
use crate::codec;
use crate::contact::Contact;
use crate::record::{Key, Record};

/// Most places that a trace reports.
pub(crate) const TRACE_MAX: usize = 32;

/// What a routed message says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Looks for a peer that will be a parent, a host, or an extra neighbour.
    #[n(0)]
    Seek {
        /// For what.
        #[n(0)]
        want: Want,
        /// Names the answer.
        #[n(1)]
        id: u32,
        /// A parent is looked for at this depth or deeper.
        #[n(2)]
        below: u8,
    },
    /// Answers `Seek`.
    #[n(1)]
    Offer(#[n(0)] Box<Offer>),
    /// Stores a record at the destination point's binder.
    #[n(2)]
    Store {
        /// Under which key.
        #[n(0)]
        key: Key,
        /// The record.
        #[n(1)]
        record: Record,
    },
    /// Asks the binder to keep a record that it should have.
    #[n(3)]
    Touch {
        /// Under which key.
        #[n(0)]
        key: Key,
        /// The epoch of the publisher's record.
        #[n(1)]
        epoch: Epoch,
        /// Its digest.
        #[n(2)]
        digest: u64,
    },
    /// Answers `Store` and `Touch`.
    #[n(4)]
    Stored {
        /// The key.
        #[n(0)]
        key: Key,
        /// The point.
        #[n(1)]
        #[cbor(with = "codec::address")]
        point: Address,
        /// What came of it.
        #[n(2)]
        outcome: Outcome,
        /// The epoch of the record that was stored or touched.
        #[n(3)]
        epoch: Epoch,
    },
    /// Looks for a record.
    #[n(5)]
    Find {
        /// The key.
        #[n(0)]
        key: Key,
        /// Names the answer.
        #[n(1)]
        id: u32,
    },
    /// Answers `Find`.
    #[n(6)]
    Found(#[n(0)] Box<Found>),
    /// Answers `Find`: the binder of that point has nothing.
    #[n(7)]
    Missing {
        /// Names the question.
        #[n(0)]
        id: u32,
        /// Shows that the answerer binds the point.
        #[n(1)]
        chain: Chain,
    },
    /// Answers `Find`: whether there is such a record cannot be said there now.
    #[n(15)]
    Unsure {
        /// Names the question.
        #[n(0)]
        id: u32,
    },
    /// Asks for an answer.
    #[n(8)]
    Ping {
        /// Names the answer.
        #[n(0)]
        id: u32,
    },
    /// Answers `Ping`.
    #[n(9)]
    Pong {
        /// Names the question.
        #[n(0)]
        id: u32,
        /// Hops of the question.
        #[n(1)]
        hops: u8,
    },
    /// Gathers the places it passes.
    #[n(10)]
    Trace(#[n(0)] Box<Trace>),
    /// Answers `Trace`.
    #[n(11)]
    Traced(#[n(0)] Box<Trace>),
    /// The holder of the destination is not the device that the message was for, or nobody is.
    #[n(12)]
    WrongPeer {
        /// The device that was meant.
        #[n(0)]
        device: DeviceId,
        /// The number in the message that could not be delivered, if it has one.
        #[n(1)]
        id: Option<u32>,
    },
    /// Asks who is at the destination, or nearest above it.
    #[n(13)]
    Who,
    /// Answers `Who`.
    #[n(14)]
    Holder(#[n(0)] Box<Holder>),
}

/// What a seeker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Want {
    /// A parent with a free place.
    #[n(0)]
    Place,
    /// A host.
    #[n(1)]
    Host,
    /// An extra neighbour.
    #[n(2)]
    Extra,
}

/// A peer that would serve.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// For what.
    #[n(0)]
    pub want: Want,
    /// Names the question.
    #[n(1)]
    pub id: u32,
    /// Who.
    #[n(2)]
    pub contact: Contact,
    /// Where it is.
    #[n(3)]
    #[cbor(with = "codec::address")]
    pub address: Address,
    /// In which tree.
    #[n(4)]
    pub tree: TreeId,
    /// Free places of that kind.
    #[n(5)]
    pub room: u8,
}

/// What became of a record at a binder.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It is held.
    #[n(0)]
    Kept,
    /// It is not held: send it in full.
    #[n(1)]
    Unknown,
    /// A record of a higher epoch is held, this one: nobody is believed a number alone.
    #[n(2)]
    Superseded(#[n(0)] Record),
    /// No room, or the record does not count.
    #[n(3)]
    Refused,
}

/// A record that was found.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Found {
    /// Names the question.
    #[n(0)]
    pub id: u32,
    /// The key.
    #[n(1)]
    pub key: Key,
    /// The record.
    #[n(2)]
    pub record: Record,
    /// Who answered.
    #[n(3)]
    pub binder: DeviceId,
    /// Seconds since its publisher last confirmed it there.
    #[n(4)]
    pub age: u32,
    /// Hops of the question.
    #[n(5)]
    pub hops: u8,
    /// Whether it comes from a cache on the way.
    #[n(6)]
    pub cached: bool,
}

/// The places that a trace passed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Trace {
    /// Names the answer.
    #[n(0)]
    pub id: u32,
    /// Whether the last one is the destination.
    #[n(1)]
    pub arrived: bool,
    /// In order.
    #[n(2)]
    #[cbor(decode_with = "codec::at_most::<_, _, TRACE_MAX>")]
    pub passed: Vec<Passed>,
}

/// A peer that a trace passed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Passed {
    /// Who.
    #[n(0)]
    pub device: DeviceId,
    /// Where.
    #[n(1)]
    #[cbor(with = "codec::address")]
    pub address: Address,
}
