//! Who follows whom: what kin must know in advance, claims of orphans, and votes.
//!
//! Below the root the parent of a place appoints its next holder, see [`crate::succession`]; a root is
//! elected under its will, see [`crate::election`]. Contacts in these messages are where somebody may
//! be dialled, and prove nothing: chains and signatures do.

use cloak_geometry::Address;
use minicbor::{Decode, Encode};

use crate::chain::Chain;
use crate::codec;
use crate::contact::Contact;
use crate::will::{Ballot, Testament, Vote};

/// Most contacts of a kind in one message.
const CONTACTS_MAX: usize = 8;

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

/// A nominee's request for votes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Stand {
    /// The newest will that it was sent.
    #[n(0)]
    pub testament: Testament,
    /// What it asks the receiver to vote for.
    #[n(1)]
    pub ballot: Ballot,
}

/// A vote with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Voted {
    /// For what.
    #[n(0)]
    pub ballot: Ballot,
    /// The vote.
    #[n(1)]
    pub vote: Vote,
}

/// The vote of a root that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Yielded {
    /// Its place and will.
    #[n(0)]
    pub testament: Testament,
    /// For what it votes.
    #[n(1)]
    pub ballot: Ballot,
    /// The vote.
    #[n(2)]
    pub vote: Vote,
}
