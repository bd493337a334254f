//! What decides who follows a root: wills, ballots and votes.
//!
//! A root writes its will anew when its children change, so there are many of them. So that no two
//! of them elect by themselves, each names two electorates: its own, and that of the will before,
//! and an election needs more than half of both. A root goes on to the next will only once it
//! *settled* the last: half of both electorates keep it, and whoever keeps a will votes under no
//! older one. The electorates of wills that could still elect therefore always share a voter, who
//! votes once in a term. (This is the joint consensus of Raft, with wills in the place of its log.)
//!
//! An elector is a child in a certain place: a device that forgot its votes in a restart comes back
//! in another term, as another elector.

use cloak_base::DeviceId;
use minicbor::{Decode, Encode};

use crate::cert::{Certifier, Domain, Signature, Term, TreeId};
use crate::chain::{Chain, signed};
use crate::codec;
use crate::contact::Contact;

/// Most electors that a will names, of each electorate. A nominee sends each of them the dead root's
/// place, with the will and the votes that made it root, and the dead root's own will.
pub const ELECTORATE_MAX: usize = 12;
/// Most votes that an election takes: of two electorates that share nobody.
pub(crate) const VOTES_MAX: usize = 2 * (ELECTORATE_MAX / 2 + 1);
/// Most successors that a will names.
pub const NOMINEES_MAX: usize = 3;

/// A root's provision for its own death, signed in advance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Will {
    /// What is signed.
    #[n(0)]
    pub terms: WillTerms,
    /// The root's signature over it.
    #[n(1)]
    pub signature: Signature,
}

/// What a will says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WillTerms {
    /// The tree.
    #[n(0)]
    pub tree: TreeId,
    /// The root that wrote it.
    #[n(1)]
    pub root: DeviceId,
    /// That root's term.
    #[n(2)]
    pub term: Term,
    /// The root's wills, counted from one.
    #[n(3)]
    pub version: u32,
    /// Who shall follow, the first that lives.
    #[n(4)]
    #[cbor(decode_with = "codec::at_most::<_, _, NOMINEES_MAX>")]
    pub nominees: Vec<Contact>,
    /// The electorate of the will before this one, which has to consent as well.
    #[n(5)]
    #[cbor(decode_with = "codec::at_most::<_, _, ELECTORATE_MAX>")]
    pub before: Vec<Elector>,
    /// Children of the root.
    #[n(6)]
    #[cbor(decode_with = "codec::at_most::<_, _, ELECTORATE_MAX>")]
    pub electorate: Vec<Elector>,
    /// The root that wrote the will before: in its electorate no other root decides a tie.
    #[n(7)]
    pub before_by: DeviceId,
}

/// Which will of a tree: a later root's, and of one root the later one, is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct WillNumber {
    /// The root's term.
    #[n(0)]
    pub term: Term,
    /// The will's version.
    #[n(1)]
    pub version: u32,
}

/// A child in its place; for the vote of a root that leaves, the root in its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Elector {
    /// Who.
    #[n(0)]
    pub device: DeviceId,
    /// The index of its place; zero for the root.
    #[n(1)]
    pub index: u8,
    /// The term of its place.
    #[n(2)]
    pub term: Term,
}

/// One vote.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Vote {
    /// Who votes.
    #[n(0)]
    pub elector: Elector,
    /// Over the ballot and the elector.
    #[n(1)]
    pub signature: Signature,
}

/// What is voted for. An elector signs one ballot for each term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Ballot {
    /// The tree.
    #[n(0)]
    pub tree: TreeId,
    /// Under which will.
    #[n(1)]
    pub will: WillNumber,
    /// The nominee's term, should it win.
    #[n(2)]
    pub term: Term,
    /// For whom.
    #[n(3)]
    pub nominee: DeviceId,
}

/// A will with the place of the root that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Testament {
    /// The root's place.
    #[n(0)]
    pub root: Chain,
    /// Its will.
    #[n(1)]
    pub will: Will,
}

impl WillTerms {
    /// Which will it is.
    pub fn number(&self) -> WillNumber {
        WillNumber { term: self.term, version: self.version }
    }

    /// Whether these votes, the root's among them or not, elect.
    pub(crate) fn decides(&self, votes: impl Fn(&Elector) -> bool) -> bool {
        let root = votes(&self.author());
        (self.is_first() || carries(&self.before, root && self.follows_itself(), &votes))
            && carries(&self.electorate, root, &votes)
    }

    /// Leaves out votes that it does not take: a root's place is shown to everybody, for long.
    pub(crate) fn prune(&self, votes: &mut Vec<Vote>) {
        for at in (0..votes.len()).rev() {
            let rest = |elector: &Elector| {
                votes.iter().enumerate().any(|(i, vote)| i != at && vote.elector == *elector)
            };
            if self.decides(rest) {
                votes.remove(at);
            }
        }
    }

    /// Whether enough electors are with the root for it to go on.
    pub(crate) fn sustains(&self, with: impl Fn(&Elector) -> bool) -> bool {
        (self.is_first() || carries(&self.before, self.follows_itself(), &with))
            && carries(&self.electorate, true, &with)
    }

    /// Whether there was no electorate before, whose consent it would need: a founder's first wills.
    fn is_first(&self) -> bool {
        self.before.is_empty() && self.follows_itself()
    }

    /// Whether the will before is the same root's.
    fn follows_itself(&self) -> bool {
        self.before_by == self.root
    }

    /// Whether it names this elector.
    pub(crate) fn enfranchises(&self, elector: &Elector) -> bool {
        self.before.contains(elector) || self.electorate.contains(elector)
    }

    /// Whether this device has a vote.
    pub(crate) fn names_elector(&self, device: DeviceId) -> bool {
        self.root == device
            || self.before.iter().chain(&self.electorate).any(|elector| elector.device == device)
    }

    /// The root as an elector.
    pub(crate) fn author(&self) -> Elector {
        Elector { device: self.root, index: 0, term: self.term }
    }

    /// Signs the will.
    pub(crate) fn sign(self, certifier: &dyn Certifier) -> Will {
        let signature = certifier.sign(Domain::Will, &signed(&self));
        Will { terms: self, signature }
    }
}

impl Will {
    /// Whether the root that it names signed it.
    pub(crate) fn verify(&self, certifier: &dyn Certifier) -> bool {
        let root = &self.terms.root;
        certifier.verify(root, Domain::Will, &signed(&self.terms), &self.signature)
    }

    /// Whether `device` may be elected: a nominee, or the root itself.
    pub(crate) fn names(&self, device: DeviceId) -> bool {
        device == self.terms.root
            || self.terms.nominees.iter().any(|nominee| nominee.device == device)
    }
}

impl Ballot {
    /// The ballot for a nominee of a will.
    pub(crate) fn of(will: &WillTerms, term: Term, nominee: DeviceId) -> Self {
        Self { tree: will.tree, will: will.number(), term, nominee }
    }

    /// Votes for it.
    pub(crate) fn vote(&self, elector: Elector, certifier: &dyn Certifier) -> Vote {
        Vote { elector, signature: certifier.sign(Domain::Vote, &signed(&(self, elector))) }
    }

    /// Whether `vote` is one for it.
    pub(crate) fn counts(&self, vote: &Vote, certifier: &dyn Certifier) -> bool {
        let bytes = signed(&(self, vote.elector));
        certifier.verify(&vote.elector.device, Domain::Vote, &bytes, &vote.signature)
    }
}

/// Whether those for whom `votes` holds are more than half of the electorate and the root together.
/// The root decides a tie: of two halves of a realm one keeps the root, and of two peers the root.
pub(crate) fn carries(
    electorate: &[Elector],
    root: bool,
    votes: impl Fn(&Elector) -> bool,
) -> bool {
    let count = electorate.iter().filter(|elector| votes(elector)).count();
    let root = if root { 3 } else { 0 };
    2 * count + root > electorate.len() + 1
}
