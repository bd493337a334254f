//! Certified places: who holds which address of which tree, and since which term.
//!
//! A parent certifies its child's address. The certificates from an address up to the root's
//! founding are its [`Chain`]; whoever has it can check a claim without asking anybody. The root's
//! own place is certified by its founding or, after a root died, by the will that it had signed in
//! advance and the votes of a majority of the children named there (see [`Succession`]).
//!
//! Terms only rise: a successor's is above that of the peer it replaces, and a peer that knows a
//! higher term for an address takes no claim of a lower one.

use std::sync::Arc;

use cloak_base::{DeviceId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec;
use crate::contact::Rank;
use crate::will::{VOTES_MAX, Vote, Will};

/// Most levels of a chain that is taken from a peer.
pub const CHAIN_MAX: usize = 24;
/// Longest certificate of a founder's rank: a registrar's delegation with the most names that it
/// may list. Most are far shorter.
pub const RANK_PROOF_MAX: usize = 1280;

/// A signature under a device's key.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 64],
);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature")
    }
}

/// What a signature is for, so that none serves elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The founding of a tree, by its first root.
    Founding,
    /// An address, by its parent.
    Address,
    /// A will, by a root.
    Will,
    /// A vote for a root's successor, by a child of the root, or by the root when it leaves.
    Vote,
}

impl Domain {
    /// What is put before the signed bytes.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Founding => "cloak overlay founding\n",
            Self::Address => "cloak overlay address\n",
            Self::Will => "cloak overlay will\n",
            Self::Vote => "cloak overlay vote\n",
        }
    }
}

/// Signs as this device, and verifies for all. Ed25519 in the product and in simulations of up to
/// 1,000 peers, a keyed tag above that.
pub trait Certifier {
    /// Signs with this device's key.
    fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature;

    /// Whether `device` signed these bytes for this purpose.
    fn verify(
        &self,
        device: &DeviceId,
        domain: Domain,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool;

    /// Whether the realm's authority gave `device` this rank. Not asked for [`Rank::NONE`].
    fn verify_rank(&self, device: &DeviceId, rank: Rank, proof: &[u8]) -> bool;

    /// This device's own rank, asked when it founds a tree, and the authority's certificate of it,
    /// at most [`RANK_PROOF_MAX`] bytes. [`Rank::NONE`] goes without one.
    fn rank(&self) -> (Rank, Vec<u8>);
}

/// Which tree. The smaller one is the one to be in: rank first, then age, then the founder's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TreeId {
    /// The founder's rank.
    #[n(0)]
    pub rank: Rank,
    /// When it was founded.
    #[n(1)]
    pub founded: UnixTime,
    /// Who founded it.
    #[n(2)]
    pub founder: DeviceId,
}

/// Counts the holders of one address. Starts at the wall-clock second of the first one, so that a
/// holder that forgot its predecessors does not fall below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Term(#[n(0)] pub u64);

impl Term {
    /// A term above this one, and not below the present second.
    pub fn next(self, now: UnixTime) -> Self {
        Self(self.0.saturating_add(1).max(now.0))
    }

    /// Whether terms may have come so far. They begin at a second and rise by one, so that one far
    /// in the future is a lie: after the last of all terms nobody could be elected any more.
    pub(crate) fn is_plausible(self, now: UnixTime) -> bool {
        self.0 <= now.0.saturating_add(AHEAD_MAX)
    }
}

/// Seconds that a term may be ahead of our clock: a year.
const AHEAD_MAX: u64 = 365 * 24 * 3600;

/// The founding of a tree, signed by its founder.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Founding {
    /// The tree.
    #[n(0)]
    pub tree: TreeId,
    /// The authority's certificate of the founder's rank.
    #[n(1)]
    #[cbor(
        decode_with = "codec::short_bytes::<_, RANK_PROOF_MAX>",
        encode_with = "codec::put_bytes"
    )]
    pub proof: Arc<[u8]>,
    /// The founder's signature over the tree's id.
    #[n(2)]
    pub signature: Signature,
}

/// How a root came to its place.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "one for each tree that is known, and it is shared")]
pub enum Succession {
    /// It founded the tree.
    #[n(0)]
    Founded,
    /// The will of the root before, and the votes that it asks for.
    #[n(1)]
    Elected {
        /// The will.
        #[n(0)]
        will: Will,
        /// The votes.
        #[n(1)]
        #[cbor(decode_with = "codec::at_most::<_, _, VOTES_MAX>")]
        votes: Vec<Vote>,
    },
}

/// The root's place.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RootCert {
    /// The tree's founding.
    #[n(0)]
    pub founding: Founding,
    /// The root's term.
    #[n(1)]
    pub term: Term,
    /// Who is root.
    #[n(2)]
    pub holder: DeviceId,
    /// Why.
    #[n(3)]
    pub succession: Succession,
}

/// One level of a chain: a child's place, signed by the holder of its parent's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Cert {
    /// The child's index.
    #[n(0)]
    pub index: u8,
    /// The term.
    #[n(1)]
    pub term: Term,
    /// Who holds the place.
    #[n(2)]
    pub holder: DeviceId,
    /// The parent's signature.
    #[n(3)]
    pub signature: Signature,
}

impl RootCert {
    /// Whether this root follows `other`: its term is higher. No two roots have one term unless
    /// electors lie; of such two the smaller id stays.
    pub(crate) fn is_later_than(&self, other: &Self) -> bool {
        (self.term, std::cmp::Reverse(self.holder)) > (other.term, std::cmp::Reverse(other.holder))
    }
}
