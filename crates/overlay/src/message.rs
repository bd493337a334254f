//! What travels between linked peers.
//!
//! A message is one CBOR array of at most [`MESSAGE_MAX`] bytes. Large parts are boxed, so that
//! queues of messages stay small, and shared where a simulation passes them by reference.

use cloak_base::{DeviceId, Epoch};
use cloak_geometry::Address;
use minicbor::encode::Write;
use minicbor::{Decode, Encode};

use crate::cert::{Ballot, TreeId, Vote, Will};
use crate::chain::Chain;
use crate::codec;
use crate::contact::Contact;
use crate::record::{Key, Record};

/// Largest message, in bytes.
pub const MESSAGE_MAX: usize = 8 * 1024;
/// Most contacts of a kind in one message.
pub(crate) const CONTACTS_MAX: usize = 8;
/// Most records in one hand-down, and none after the message is half full.
pub(crate) const HELD_MAX: usize = 64;
/// Most peers that a detour remembers, and most hops it takes.
pub(crate) const DETOUR_MAX: usize = 24;
/// Most places that a trace reports.
pub(crate) const TRACE_MAX: usize = 32;

/// One message over a link.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// "I am here", along tree edges, extra links and to hosts.
    #[n(0)]
    Beat(#[n(0)] Beat),
    /// A routed message arrived over this hop.
    #[n(1)]
    Ack {
        /// Which.
        #[n(0)]
        hop: u32,
    },
    /// A message on its way over several hops.
    #[n(2)]
    Routed(#[n(0)] Box<Routed>),
    /// Where the sender is: at the start of a link, and whenever that changes.
    #[n(3)]
    Greet(#[n(0)] Box<Greet>),
    /// Answer at once: the sender heard nothing for too long.
    #[n(4)]
    Probe,
    /// The answer to a probe.
    #[n(5)]
    Alive,
    /// Asks for a place as a child.
    #[n(6)]
    Join,
    /// A place: to a joiner, to an adopted child, and again whenever the chain changes.
    #[n(7)]
    Joined(#[n(0)] Chain),
    /// No place, or no service of that kind.
    #[n(8)]
    Refused(#[n(0)] Refusal),
    /// A child tells its parent who could follow it.
    #[n(9)]
    Below(#[n(0)] Box<Below>),
    /// A parent tells its children who is above it.
    #[n(10)]
    Above(#[n(0)] Box<Above>),
    /// Records for the receiver: it binds them, or keeps copies.
    #[n(11)]
    Held(#[n(0)] Box<Held>),
    /// "My parent is dead: whom shall I follow?" To the nearest living ancestor.
    #[n(12)]
    Claim(#[n(0)] Box<Claim>),
    /// Who holds an address now.
    #[n(13)]
    Holder(#[n(0)] Box<Holder>),
    /// Appoints the receiver to an address.
    #[n(14)]
    Succeed(#[n(0)] Chain),
    /// A child with a certified place asks the holder of its parent's address to take it on.
    #[n(15)]
    Adopt(#[n(0)] Chain),
    /// The root's will, to its children.
    #[n(16)]
    Will(#[n(0)] Box<Will>),
    /// A vote for the receiver as the next root.
    #[n(17)]
    Voted(#[n(0)] Box<Voted>),
    /// The sender gives its place up.
    #[n(18)]
    Leaving,
    /// Asks to be the sender's host.
    #[n(19)]
    HostAsk,
    /// Consents to be a host.
    #[n(20)]
    HostYes,
    /// Asks for an extra link.
    #[n(21)]
    ExtraAsk,
    /// Consents.
    #[n(22)]
    ExtraYes,
    /// Ends an extra link, or a host's service.
    #[n(23)]
    Release,
    /// A record was confirmed by its publisher: keep the copy.
    #[n(24)]
    KeepCopy(#[n(0)] Box<Copy>),
    /// The copy is not there: send it.
    #[n(25)]
    WantCopy(#[n(0)] Box<Copy>),
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

/// Flags of a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Beat {
    /// Free child places, so that a child can send joiners upwards.
    #[n(0)]
    pub room: u8,
    /// Whether the sender's way to a living root is whole.
    #[n(1)]
    pub rooted: bool,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It is held.
    #[n(0)]
    Kept,
    /// It is not held: send it in full.
    #[n(1)]
    Unknown,
    /// A record of a higher epoch is held.
    #[n(2)]
    Superseded(#[n(0)] Epoch),
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

/// Where the sender of a message is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Greet {
    /// Its place in the tree; `None` for attached and seeking peers.
    #[n(0)]
    pub chain: Option<Chain>,
    /// Whether its way to a living root is whole.
    #[n(1)]
    pub rooted: bool,
}

/// What a child tells upwards.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Below {
    /// Who should follow the child; `None` for a leaf, whom nobody needs to follow.
    #[n(0)]
    pub heir: Option<Contact>,
    /// Leaves of its subtree that could follow somebody above; itself, for a leaf.
    #[n(1)]
    #[cbor(decode_with = "codec::at_most::<_, _, CONTACTS_MAX>")]
    pub spares: Vec<Contact>,
}

/// What a parent tells downwards.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Above {
    /// The nearest ancestors above the sender, nearest first.
    #[n(0)]
    #[cbor(decode_with = "codec::at_most::<_, _, CONTACTS_MAX>")]
    pub ancestors: Vec<Contact>,
}

/// Records for the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Held {
    /// Whether they are copies, or for the receiver to bind.
    #[n(0)]
    pub copies: bool,
    /// Whether this ends the hand-down.
    #[n(1)]
    pub last: bool,
    /// The records.
    #[n(2)]
    #[cbor(decode_with = "codec::at_most::<_, _, HELD_MAX>")]
    pub records: Vec<HeldRecord>,
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

/// An orphan's claim.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// The orphan's own place.
    #[n(0)]
    pub chain: Chain,
    /// The address whose holder is missing, an ancestor of the orphan's and a child of the
    /// receiver's.
    #[n(1)]
    #[cbor(with = "codec::address")]
    pub missing: Address,
    /// Leaves of the orphan's subtree that could take it, itself if it is one.
    #[n(2)]
    #[cbor(decode_with = "codec::at_most::<_, _, CONTACTS_MAX>")]
    pub spares: Vec<Contact>,
}

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Holder {
    /// The place.
    #[n(0)]
    pub chain: Chain,
    /// Where its holder may be dialled.
    #[n(1)]
    pub contact: Contact,
}

/// A vote with what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Voted {
    /// The place of the root that is missing.
    #[n(0)]
    pub root: Chain,
    /// Its will.
    #[n(1)]
    pub will: Will,
    /// For what.
    #[n(2)]
    pub ballot: Ballot,
    /// The vote.
    #[n(3)]
    pub vote: Vote,
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Refusal {
    /// No free place, or not for this entity.
    #[n(0)]
    Full,
    /// The receiver has no place itself.
    #[n(1)]
    NoPlace,
    /// The place that was shown is another peer's by now.
    #[n(2)]
    WrongPeer,
    /// The receiver cannot take the place it was appointed to.
    #[n(3)]
    Declined,
}

/// Bytes that are no message. Their sender is to blame: give the overlay `Input::Malformed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed overlay message")]
pub struct Malformed;

impl Message {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("invariant: encoding into memory cannot fail")
    }

    /// The message in exactly these bytes.
    ///
    /// # Errors
    /// When they are too many, not a message, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MESSAGE_MAX {
            return Err(Malformed);
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let message = decoder.decode().map_err(|_| Malformed)?;
        if decoder.position() == bytes.len() { Ok(message) } else { Err(Malformed) }
    }

    /// How many bytes travel, without making them.
    pub fn encoded_len(&self) -> usize {
        let mut count = Count(0);
        minicbor::encode(self, &mut count).expect("invariant: counting cannot fail");
        count.0
    }
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 += bytes.len();
        Ok(())
    }
}
