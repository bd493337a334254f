//! The certificates from an address up to its tree's founding, made and verified.

use std::sync::Arc;

use cloak_base::DeviceId;
use cloak_geometry::{Address, Degree};
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::cert::{
    CHAIN_MAX, Cert, Certifier, Domain, Founding, RootCert, Succession, Term, TreeId,
};
use crate::codec;
use crate::contact::Rank;
use crate::will::Ballot;

/// A place with its evidence. Cheap to clone: peers below one another share what lies above.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain(Arc<Level>);

#[derive(PartialEq, Eq)]
struct Level {
    root: Arc<RootCert>,
    address: Address,
    below: Option<(Chain, Cert)>,
}

impl Chain {
    /// The root's place.
    pub(crate) fn root(cert: RootCert) -> Self {
        Self::top(Arc::new(cert))
    }

    /// Founds a tree; `proof` is of the founder's rank.
    pub(crate) fn found(tree: TreeId, proof: Vec<u8>, certifier: &dyn Certifier) -> Self {
        let signature = certifier.sign(Domain::Founding, &signed(&tree));
        let founding = Founding { tree, proof: proof.into(), signature };
        let (term, holder) = (Term(tree.founded.0), tree.founder);
        Self::root(RootCert { founding, term, holder, succession: Succession::Founded })
    }

    /// Certifies a child's place; `None` where there is no such child.
    pub(crate) fn certify(
        &self,
        index: u8,
        term: Term,
        holder: DeviceId,
        degree: Degree,
        certifier: &dyn Certifier,
    ) -> Option<Self> {
        let bytes = signed(&(self.tree(), self.address().as_bytes(), index, term, holder));
        let signature = certifier.sign(Domain::Address, &bytes);
        self.with(Cert { index, term, holder, signature }, degree)
    }

    /// Whether every certificate counts. What is equal to a chain in `known` was verified before.
    pub(crate) fn verify(
        &self,
        degree: Degree,
        certifier: &dyn Certifier,
        known: &[Option<&Self>],
    ) -> bool {
        let mut level = self;
        while let Some((above, cert)) = &level.0.below {
            if known.iter().flatten().any(|chain| chain.is(level)) {
                return true;
            }
            let Cert { index, term, holder, signature } = cert;
            let bytes = signed(&(self.tree(), above.address().as_bytes(), index, term, holder));
            let valid = *index < degree.children_at(above.address().depth())
                && certifier.verify(&above.holder(), Domain::Address, &bytes, signature);
            if !valid {
                return false;
            }
            level = above;
        }
        let known = known.iter().flatten().any(|chain| chain.0.root == level.0.root);
        known || verify_root(&level.0.root, certifier)
    }

    /// Whether both are the same, cheaply where they share memory.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.address == other.0.address && self.0.below == other.0.below)
    }

    /// The address that is certified.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Who holds it.
    pub fn holder(&self) -> DeviceId {
        self.0.below.as_ref().map_or(self.0.root.holder, |(_, cert)| cert.holder)
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.0.below.as_ref().map_or(self.0.root.term, |(_, cert)| cert.term)
    }

    /// The tree.
    pub fn tree(&self) -> TreeId {
        self.0.root.founding.tree
    }

    /// The root's place.
    pub fn root_cert(&self) -> &RootCert {
        &self.0.root
    }

    /// The place above; `None` for the root's.
    pub fn above(&self) -> Option<&Self> {
        self.0.below.as_ref().map(|(above, _)| above)
    }

    /// Whether this is a root's place.
    pub(crate) fn is_root(&self) -> bool {
        self.address().is_root()
    }

    /// Whether this holder of an address stays, and `other`'s goes: the higher term does. Of equal
    /// ones, that two parents gave who did not know of each other, the one below the later parent.
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        let key = |chain: &Self| (chain.term(), chain.terms(), std::cmp::Reverse(chain.holder()));
        key(self) > key(other)
    }

    /// The terms of all levels, the root's first.
    fn terms(&self) -> Vec<Term> {
        let root = std::iter::once(self.0.root.term);
        root.chain(self.certs().iter().map(|cert| cert.term)).collect()
    }

    /// Whether `device` holds this place or one above it.
    pub(crate) fn passes(&self, device: DeviceId) -> bool {
        self.holder() == device || self.above().is_some_and(|above| above.passes(device))
    }

    fn top(root: Arc<RootCert>) -> Self {
        Self(Arc::new(Level { root, address: Address::ROOT, below: None }))
    }

    fn with(&self, cert: Cert, degree: Degree) -> Option<Self> {
        let address = self.address().child(cert.index, degree).ok()?;
        if address.depth() > CHAIN_MAX {
            return None;
        }
        let root = self.0.root.clone();
        Some(Self(Arc::new(Level { root, address, below: Some((self.clone(), cert)) })))
    }

    fn certs(&self) -> Vec<Cert> {
        let mut certs = Vec::with_capacity(self.address().depth());
        let mut level = self;
        while let Some((above, cert)) = &level.0.below {
            certs.push(*cert);
            level = above;
        }
        certs.reverse();
        certs
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({}, term {})", self.address(), self.term().0)
    }
}

impl<C> Encode<C> for Chain {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.array(2)?;
        self.0.root.encode(e, ctx)?;
        self.certs().encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Chain {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        if d.array()? != Some(2) {
            return Err(DecodeError::message("a chain has two parts"));
        }
        let top = Self::top(Arc::new(RootCert::decode(d, ctx)?));
        let certs = codec::at_most::<C, Cert, CHAIN_MAX>(d, ctx)?;
        let chain = certs.into_iter().try_fold(top, |above, cert| above.with(cert, Degree::MAX));
        chain.ok_or_else(|| DecodeError::message("no such child"))
    }
}

fn verify_root(root: &RootCert, certifier: &dyn Certifier) -> bool {
    let Founding { tree, proof, signature } = &root.founding;
    let ranked = tree.rank == Rank::NONE || certifier.verify_rank(&tree.founder, tree.rank, proof);
    let founded = certifier.verify(&tree.founder, Domain::Founding, &signed(tree), signature);
    ranked && founded && verify_succession(root, certifier)
}

fn verify_succession(root: &RootCert, certifier: &dyn Certifier) -> bool {
    let tree = root.founding.tree;
    match &root.succession {
        Succession::Founded => root.holder == tree.founder && root.term.0 == tree.founded.0,
        Succession::Elected { will, votes } => {
            let ballot = Ballot::of(&will.terms, root.term, root.holder);
            let distinct =
                |at: usize| votes[..at].iter().all(|one| one.elector != votes[at].elector);
            will.terms.tree == tree
                && will.terms.term < root.term
                && will.names(root.holder)
                && (0..votes.len()).all(distinct)
                && will.terms.decides(|elector| votes.iter().any(|vote| vote.elector == *elector))
                && will.verify(certifier)
                && votes.iter().all(|vote| ballot.counts(vote, certifier))
        }
    }
}

/// The bytes that are signed for a value: its one encoding.
pub(crate) fn signed(value: &impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("invariant: encoding into memory cannot fail")
}
