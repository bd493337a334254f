//! The root: its majority while it lives, its will for when it does not.
//!
//! The will names nominees, leaves of the tree, and the electorate, the root's children. When a
//! child misses the root it votes for a nominee. A nominee with a majority is root, in the term it
//! was voted for; a child votes once in a term, so there is one root at most in each. For the
//! majority the root counts as one of the electorate, with the casting vote: of two halves of a
//! realm one keeps the root, and of two peers the root.

use cloak_base::DeviceId;

use crate::cert::{
    Ballot, ELECTORATE_MAX, NOMINEES_MAX, RootCert, Succession, Term, Vote, Will, WillTerms,
};
use crate::chain::Chain;
use crate::contact::Contact;
use crate::message::{Holder, Message, Voted};
use crate::overlay::Overlay;
use crate::snapshot::Role;

/// Votes for us.
pub(crate) struct Election {
    ballot: Ballot,
    root: Chain,
    will: Will,
    votes: Vec<Vote>,
}

impl Overlay {
    /// As root: writes the will anew when children or nominees changed, and gives it to them.
    pub(crate) fn renew_will(&mut self) {
        let Some(chain) = self.tree.chain.clone().filter(|_| self.tree.is_root()) else { return };
        if !self.tree.rooted || self.has_lost_majority() {
            return;
        }
        let mut nominees = self.spares();
        nominees.truncate(NOMINEES_MAX);
        let children = self.tree.children.iter().take(ELECTORATE_MAX);
        let contact = |device| self.links.get(device).map(|link| link.contact.clone());
        let electorate = children.filter_map(|child| contact(child.device)).collect();
        let (tree, term, root) = (chain.tree(), chain.term(), self.own_device());
        let terms = WillTerms { tree, root, term, nominees, electorate };
        if self.tree.will.as_ref().is_some_and(|will| will.terms == terms) {
            return;
        }
        let will = Box::new(terms.sign(&*self.certifier));
        self.tree.will = Some(will.clone());
        for child in self.tree.children.clone() {
            self.send(child.device, Message::Will(will.clone()));
        }
    }

    pub(crate) fn on_will(&mut self, from: DeviceId, will: Box<Will>) {
        let expected = self.tree.parent == Some(from) && will.terms.root == from;
        if expected && will.verify(&*self.certifier) {
            self.tree.will = Some(will);
        }
    }

    /// As root: without a majority we act for our own fragment only.
    pub(crate) fn watch_majority(&mut self) {
        if !self.tree.is_root() {
            return;
        }
        let lost = self.has_lost_majority();
        match (lost, self.tree.unrooted_since) {
            (false, _) => {
                self.tree.unrooted_since = None;
                self.set_rooted(true);
                self.renew_will();
            }
            (true, None) => self.tree.unrooted_since = Some(self.now),
            (true, Some(since)) => self.lost_majority_since(since),
        }
    }

    /// Votes for the nominee whose turn it is.
    pub(crate) fn vote_next(&mut self, attempt: usize) {
        let (Some(will), Some(chain)) = (self.tree.will.clone(), self.tree.chain.clone()) else {
            return;
        };
        let Some(root) = chain.above().cloned() else { return };
        let nominees = &will.terms.nominees;
        let Some(nominee) = nominees.get(attempt % nominees.len().max(1)) else { return };
        let turn = u64::try_from(attempt).unwrap_or(0) + 1;
        let term = Term(will.terms.term.0.saturating_add(turn));
        if term <= self.tree.promised || will.terms.root != root.holder() {
            return;
        }
        self.tree.promised = term;
        let ballot = Ballot { tree: chain.tree(), term, nominee: nominee.device };
        let vote = ballot.vote(self.own_device(), &*self.certifier);
        let voted = Voted { root, will: (*will).clone(), ballot, vote };
        if nominee.device == self.own_device() {
            self.on_voted(voted);
        } else {
            let nominee = nominee.clone();
            self.send_to(&nominee, Message::Voted(Box::new(voted)));
        }
    }

    /// A child of the missing root votes for us.
    pub(crate) fn on_voted(&mut self, voted: Voted) {
        let Voted { root, will, ballot, vote } = voted;
        if !self.is_candidate(&root, &will, &ballot) || !ballot.counts(&vote, &*self.certifier) {
            return;
        }
        let known = self.election.as_ref().is_some_and(|election| election.ballot == ballot);
        if !known {
            self.election = Some(Box::new(Election { ballot, root, will, votes: Vec::new() }));
        }
        let Some(election) = &mut self.election else { return };
        if election.votes.iter().all(|other| other.voter != vote.voter)
            && election.will.terms.electorate.iter().any(|one| one.device == vote.voter)
        {
            election.votes.push(vote);
        }
        if election.votes.len() >= election.will.terms.majority() {
            self.elected();
        }
    }

    /// As root, on leaving: the place goes to a nominee without an election.
    pub(crate) fn abdicate(&mut self) {
        let (Some(will), Some(chain)) = (self.tree.will.clone(), self.tree.chain.clone()) else {
            return;
        };
        let mut nominees = will.terms.nominees.iter();
        let Some(heir) = nominees.find(|one| one.device != self.own_device()) else { return };
        let term = chain.term().next(self.unix());
        let ballot = Ballot { tree: chain.tree(), term, nominee: heir.device };
        let succession = ballot.abdicate(self.own_device(), &*self.certifier);
        let founding = chain.root_cert().founding.clone();
        let heir = heir.clone();
        let root = RootCert { founding, term, holder: heir.device, succession };
        let chain = Chain::root(root);
        let holder = Holder { chain: chain.clone(), contact: heir.clone() };
        self.send_to(&heir, Message::Succeed(chain));
        for child in self.tree.children.clone() {
            self.send(child.device, Message::Holder(Box::new(holder.clone())));
        }
    }

    /// Appointed by a root that leaves.
    pub(crate) fn succeed_root(&mut self, from: DeviceId, chain: Chain) {
        let known = self.tree.chain.as_ref().is_some_and(|ours| {
            ours.tree() == chain.tree() && chain.term() > ours.root_cert().term
        });
        let signed = matches!(&chain.root_cert().succession,
            Succession::Abdicated { root, .. } if *root == from);
        if known && signed && self.tree.children.is_empty() && self.verify(&chain, from) {
            self.become_root(chain);
        }
    }

    fn is_candidate(&self, root: &Chain, will: &Will, ballot: &Ballot) -> bool {
        let ours = self.tree.chain.as_ref();
        let known = ours.is_some_and(|ours| {
            ours.tree() == will.terms.tree && ours.root_cert().term <= will.terms.term
        });
        known
            && ballot.nominee == self.own_device()
            && ballot.tree == will.terms.tree
            && ballot.term > will.terms.term
            && root.holder() == will.terms.root
            && root.term() == will.terms.term
            && root.address().is_root()
            && self.tree.children.is_empty()
            && will.terms.nominees.iter().any(|one| one.device == self.own_device())
            && will.verify(&*self.certifier)
            && root.verify(self.config.degree, &*self.certifier, &[])
    }

    /// A majority wants us.
    fn elected(&mut self) {
        let Some(election) = self.election.take() else { return };
        let Election { ballot, root, will, votes } = *election;
        let electorate = will.terms.electorate.clone();
        let founding = root.root_cert().founding.clone();
        let succession = Succession::Elected { will, votes };
        let (term, holder) = (ballot.term, self.own_device());
        let chain = Chain::root(RootCert { founding, term, holder, succession });
        self.become_root(chain.clone());
        let holder = Holder { chain, contact: self.own.contact.clone() };
        for voter in electorate {
            self.send_to(&voter, Message::Holder(Box::new(holder.clone())));
        }
    }

    fn become_root(&mut self, chain: Chain) {
        self.vacate();
        self.stats.succeeded += 1;
        self.tree.promised = self.tree.promised.max(chain.term());
        self.tree.will = None;
        // The majority is counted from the first will on, which names those who come now.
        self.take_place(chain, None);
    }

    /// Whether too few of those that the will names were heard of late.
    fn has_lost_majority(&self) -> bool {
        let Some(will) = &self.tree.will else { return false };
        let electorate = &will.terms.electorate;
        let alive = |one: &&Contact| {
            let link = self.links.get(one.device);
            link.is_some_and(|link| link.role == Role::Child && link.probed.is_none())
        };
        // The root is one of them and decides a tie.
        let alive = electorate.iter().filter(alive).count() + 1;
        2 * alive < electorate.len() + 1
    }

    fn lost_majority_since(&mut self, since: cloak_base::Instant) {
        let lost_for = self.now.since(since);
        if lost_for >= self.config.unrooted_after && self.tree.rooted {
            self.set_rooted(false);
            self.tree.unrooted_since = Some(since);
        }
        if lost_for >= self.config.unrooted_after + self.config.rejoin_after {
            if self.seek.is_none() {
                self.begin_seek(crate::message::Want::Place);
            }
            if lost_for >= self.config.rejoin_after * ALONE_FACTOR && self.entries().is_empty() {
                self.tree.will = None;
                self.tree.unrooted_since = None;
                self.seek = None;
                self.found_tree();
            }
        }
    }
}

/// Without any tree to go to for this many times `rejoin_after`, an old root founds one anew.
const ALONE_FACTOR: u32 = 4;
