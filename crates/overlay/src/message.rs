//! What travels between linked peers.
//!
//! A message is one CBOR array of at most [`MESSAGE_MAX`] bytes. Large parts are boxed, so that
//! queues of messages stay small, and shared where a simulation passes them by reference. The parts
//! are in the modules below: what is routed, records between kin, and who follows whom.

mod body;
mod held;
mod routed;
mod succession;

use minicbor::encode::Write;
use minicbor::{Decode, Encode};

use crate::cert::Term;
use crate::chain::Chain;
use crate::will::{Testament, Will, WillNumber};
pub use body::{Body, Found, Offer, Outcome, Passed, Want};
pub(crate) use body::{TRACE_MAX, Trace};
pub(crate) use held::{Copy, HELD_MAX, Held, HeldRecord, Purpose, Recall};
pub(crate) use routed::{DETOUR_MAX, Detour};
pub use routed::{Origin, Routed};
pub(crate) use succession::{Above, Below, Claim, Holder, Stand, Voted, Yielded};

/// Largest message, in bytes: with its length and the array around it, one control frame of 8 KiB.
pub const MESSAGE_MAX: usize = 8 * 1024 - 16;

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
    /// The sender misses the root; this is the newest will of it that it knows. To a nominee.
    #[n(17)]
    Missed(#[n(0)] Box<Testament>),
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
    /// The sender keeps the root's will of this number.
    #[n(26)]
    WillKept(#[n(0)] WillNumber),
    /// A nominee asks for the receiver's vote.
    #[n(27)]
    Stand(#[n(0)] Box<Stand>),
    /// A vote for the receiver as the next root.
    #[n(28)]
    Voted(#[n(0)] Box<Voted>),
    /// No vote: the sender gave one in this term, which is no lower.
    #[n(29)]
    Promised {
        /// The highest term that it voted in.
        #[n(0)]
        term: Term,
    },
    /// The root leaves, and votes for the receiver.
    #[n(30)]
    Yield(#[n(0)] Box<Yielded>),
    /// A parent asks a child for what it keeps of the parent's.
    #[n(31)]
    Recall(#[n(0)] Recall),
}

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

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Refusal {
    /// No free place.
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
    /// The asker's entity has its places here.
    #[n(4)]
    Kin,
}

/// Bytes that are no message. Their sender is to blame: give the overlay `Input::Malformed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed overlay message")]
pub struct Malformed;

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 += bytes.len();
        Ok(())
    }
}
