//! The election of a root's successor: its children vote, a nominee stands.
//!
//! A child that misses the root sends its will to a nominee, to one after the other. The nominee
//! draws up a ballot under the newest will that it was sent, and asks each of them for its vote. A
//! child votes once in a term, and under no older will than the newest that it keeps. A root that
//! leaves votes itself, in advance, for a nominee that it draws up the ballot for.

use cloak_base::DeviceId;

use crate::cert::{RootCert, Succession, Term};
use crate::chain::Chain;
use crate::limits::CLAIMS_MAX;
use crate::message::{Holder, Message, Stand, Voted, Yielded};
use crate::overlay::Overlay;
use crate::will::{Ballot, Elector, Testament, Vote};

/// A nominee that stands.
pub(crate) struct Candidacy {
    testament: Testament,
    pub(crate) ballot: Ballot,
    votes: Vec<Vote>,
    /// Children that miss the root and told us.
    summoners: Vec<DeviceId>,
}

impl Overlay {
    /// Tells the nominee whose turn it is that we miss the root.
    pub(crate) fn summon(&mut self, attempt: usize) {
        let Some(testament) = self.tree.testament.clone() else { return };
        let nominees = &testament.will.terms.nominees;
        let Some(nominee) = nominees.get(attempt % nominees.len().max(1)).cloned() else { return };
        if nominee.device == self.own_device() {
            self.on_missed(nominee.device, testament);
        } else {
            self.send_to(&nominee, Message::Missed(testament));
        }
    }

    /// A child of a root misses it, and shows the newest will that it knows.
    pub(crate) fn on_missed(&mut self, from: DeviceId, testament: Box<Testament>) {
        if !self.counts(&testament) {
            return;
        }
        if let Some(chain) = self.tree.chain.clone().filter(Chain::is_root)
            && chain.term() > testament.root.term()
        {
            let contact = self.own.contact.clone();
            return self.send(from, Message::Holder(Box::new(Holder { chain, contact })));
        }
        self.keep(&testament);
        if !self.tree.is_root() && self.may_stand(&testament) {
            self.stand(from, *testament);
        }
    }

    /// A nominee asks for our vote.
    pub(crate) fn on_stand(&mut self, from: DeviceId, stand: Stand) {
        let Stand { testament, ballot } = stand;
        let Some(elector) = self.elector() else { return };
        let terms = &testament.will.terms;
        let fits = ballot == Ballot::of(terms, ballot.term, from)
            && testament.will.names(from)
            && (self.orphan.is_some() || from == terms.root)
            && terms.enfranchises(&elector)
            && ballot.term > terms.term
            && ballot.term.is_plausible(self.unix());
        if !fits || !self.counts(&testament) {
            return;
        }
        self.keep(&testament);
        let newer = self.tree.testament.clone();
        if let Some(newer) = newer.filter(|kept| kept.will.terms.number() > ballot.will) {
            return self.say(from, Message::Missed(newer));
        }
        if self.tree.ballot != Some(ballot) {
            if ballot.term <= self.tree.promised {
                let term = self.tree.promised;
                return self.say(from, Message::Promised { term });
            }
            (self.tree.promised, self.tree.ballot) = (ballot.term, Some(ballot));
        }
        let vote = ballot.vote(elector, &*self.certifier);
        self.say(from, Message::Voted(Box::new(Voted { ballot, vote })));
    }

    /// An elector voted in a later term: we stand in one above that. To a root it says so when it
    /// cannot keep its will.
    pub(crate) fn on_promised(&mut self, from: DeviceId, term: Term) {
        if !term.is_plausible(self.unix()) {
            return;
        }
        if self.tree.is_root() {
            return self.stand_again(from, term);
        }
        let Some(election) = &mut self.election else { return };
        // Anybody else would keep us from ever being elected.
        let is_elector = election.testament.will.terms.names_elector(from);
        if is_elector && term >= election.ballot.term {
            election.ballot.term = Term(term.0.saturating_add(1));
            election.votes.clear();
            self.ask_all();
        }
    }

    pub(crate) fn on_voted(&mut self, voted: Voted) {
        let Voted { ballot, vote } = voted;
        let Some(election) = &mut self.election else { return };
        let known = election.votes.iter().any(|other| other.elector == vote.elector);
        let counts = election.ballot == ballot
            && election.testament.will.terms.enfranchises(&vote.elector)
            && ballot.counts(&vote, &*self.certifier);
        if counts && !known {
            election.votes.push(vote);
            self.count_votes();
        }
    }

    /// As root: a child of ours voted for a successor that did not come. Our terms go above its.
    fn stand_again(&mut self, from: DeviceId, term: Term) {
        let Some(testament) = self.tree.testament.clone() else { return };
        let stands = self.election.as_ref().is_some_and(|election| {
            election.ballot.term > term && election.testament == *testament
        });
        if stands || term < testament.root.term() || self.tree.child(from).is_none() {
            return;
        }
        let (ballot, vote) = self.own_ballot(&testament, term, self.own_device());
        let summoners = self.tree.children.iter().map(|child| child.device).collect();
        let candidacy = Candidacy { testament: *testament, ballot, votes: vec![vote], summoners };
        self.election = Some(Box::new(candidacy));
        self.ask_all();
        self.count_votes();
    }

    /// As root: draws up a ballot in a term above `above`, and votes for it.
    fn own_ballot(
        &mut self,
        testament: &Testament,
        above: Term,
        nominee: DeviceId,
    ) -> (Ballot, Vote) {
        let terms = &testament.will.terms;
        let above = above.max(self.tree.promised).max(terms.term);
        let ballot = Ballot::of(terms, Term(above.0.saturating_add(1)), nominee);
        (self.tree.promised, self.tree.ballot) = (ballot.term, Some(ballot));
        (ballot, ballot.vote(terms.author(), &*self.certifier))
    }

    /// As root, on leaving: our own vote goes to a nominee, which tells us from a root that died.
    pub(crate) fn yield_root(&mut self) {
        let Some(testament) = self.tree.testament.clone() else { return };
        let own = self.own_device();
        let others = || testament.will.terms.nominees.iter().filter(move |one| one.device != own);
        let linked = others().find(|one| self.links.has(one.device));
        let Some(heir) = linked.or_else(|| others().next()).cloned() else { return };
        let (ballot, vote) = self.own_ballot(&testament, Term::default(), heir.device);
        let yielded = Yielded { testament: *testament, ballot, vote };
        self.send_to(&heir, Message::Yield(Box::new(yielded)));
    }

    /// A root leaves, and votes for us.
    pub(crate) fn on_yield(&mut self, from: DeviceId, yielded: Yielded) {
        let Yielded { testament, ballot, vote } = yielded;
        let terms = &testament.will.terms;
        let fits = from == terms.root
            && vote.elector == terms.author()
            && ballot == Ballot::of(terms, ballot.term, self.own_device())
            && ballot.term > self.tree.promised.max(terms.term);
        if fits
            && self.counts(&testament)
            && self.may_stand(&testament)
            && ballot.counts(&vote, &*self.certifier)
        {
            let summoners = self.election.take().map(|last| last.summoners).unwrap_or_default();
            let candidacy = Candidacy { testament, ballot, votes: vec![vote], summoners };
            self.election = Some(Box::new(candidacy));
            self.ask_all();
            self.count_votes();
        }
    }

    /// Keeps a will that is newer than the one we have: from now on we vote under no older one.
    pub(crate) fn keep(&mut self, testament: &Testament) {
        let newest = self.tree.testament.as_ref().map(|kept| kept.will.terms.number());
        if self.elector().is_some() && newest < Some(testament.will.terms.number()) {
            self.tree.testament = Some(Box::new(testament.clone()));
        }
    }

    /// Ourselves, as a child of a root.
    pub(crate) fn elector(&self) -> Option<Elector> {
        let chain = self.tree.chain.as_ref().filter(|chain| chain.address().depth() == 1)?;
        let index = chain.address().index()?;
        Some(Elector { device: self.own_device(), index, term: chain.term() })
    }

    /// Whether a will is one of a root of our tree, no older than the one that we know.
    fn counts(&self, testament: &Testament) -> bool {
        let Testament { root, will } = testament;
        let ours = self.tree.chain.as_ref();
        ours.is_some_and(|ours| {
            ours.tree() == will.terms.tree && ours.tree() == root.tree() && root.is_root()
        }) && root.holder() == will.terms.root
            && root.term() == will.terms.term
            && will.verify(&*self.certifier)
            && self.verify(root, root.holder())
    }

    /// Whether we could follow its root, being a leaf, or are it.
    fn may_stand(&self, testament: &Testament) -> bool {
        if self.tree.is_root() {
            return self.tree.testament.as_deref() == Some(testament);
        }
        let root = self.tree.chain.as_ref().map(Chain::root_cert);
        root.is_some_and(|root| root.term <= testament.root.term())
            && self.tree.children.is_empty()
            && self.vacancies.is_empty()
            && testament.will.names(self.own_device())
    }

    /// Draws up a ballot, or goes on with the one under a will that is no older; asks `from`.
    fn stand(&mut self, from: DeviceId, testament: Testament) {
        let last = self.election.take();
        let number = testament.will.terms.number();
        if let Some(mut last) = last {
            if !last.summoners.contains(&from) && last.summoners.len() < CLAIMS_MAX {
                last.summoners.push(from);
            }
            let goes_on = last.ballot.will >= number;
            if !goes_on {
                let term =
                    self.next_ballot(&testament).max(Term(last.ballot.term.0.saturating_add(1)));
                last.ballot = Ballot::of(&testament.will.terms, term, self.own_device());
                (last.testament, last.votes) = (testament, Vec::new());
            }
            self.election = Some(last);
            return if goes_on { self.ask_vote(from) } else { self.ask_all() };
        }
        let term = self.next_ballot(&testament);
        let ballot = Ballot::of(&testament.will.terms, term, self.own_device());
        let candidacy = Candidacy { testament, ballot, votes: Vec::new(), summoners: vec![from] };
        self.election = Some(Box::new(candidacy));
        self.ask_vote(from);
    }

    fn next_ballot(&self, testament: &Testament) -> Term {
        Term(self.tree.promised.max(testament.root.term()).0.saturating_add(1))
    }

    fn ask_all(&mut self) {
        let summoners = self.election.as_ref().map(|election| election.summoners.clone());
        for summoner in summoners.unwrap_or_default() {
            self.ask_vote(summoner);
        }
    }

    fn ask_vote(&mut self, elector: DeviceId) {
        let Some(election) = &self.election else { return };
        let (testament, ballot) = (election.testament.clone(), election.ballot);
        self.say(elector, Message::Stand(Box::new(Stand { testament, ballot })));
    }

    /// Sends, or hears it ourselves: a nominee may be an elector.
    pub(crate) fn say(&mut self, to: DeviceId, message: Message) {
        if to == self.own_device() {
            self.dispatch(to, message);
        } else {
            self.send(to, message);
        }
    }

    fn count_votes(&mut self) {
        let decided = self.election.as_ref().is_some_and(|election| {
            let voted = |elector: &Elector| election.votes.iter().any(|v| v.elector == *elector);
            election.testament.will.terms.decides(voted) && self.may_stand(&election.testament)
        });
        if !decided {
            return;
        }
        let Some(election) = self.election.take() else { return };
        let Candidacy { testament, ballot, mut votes, summoners } = *election;
        testament.will.terms.prune(&mut votes);
        let founding = testament.root.root_cert().founding.clone();
        let succession = Succession::Elected { will: testament.will, votes };
        let (term, holder) = (ballot.term, self.own_device());
        let chain = Chain::root(RootCert { founding, term, holder, succession });
        self.become_root(chain.clone());
        let holder = Holder { chain, contact: self.own.contact.clone() };
        for summoner in summoners {
            self.send(summoner, Message::Holder(Box::new(holder.clone())));
        }
    }
}
