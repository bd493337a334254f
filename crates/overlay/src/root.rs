//! The root: its will for when it dies, its majority while it lives.
//!
//! The will names nominees, leaves of the tree, and the electorate, children of the root; see
//! [`crate::will`] for why there are two electorates, and [`crate::election`] for the votes. A root
//! that too few of its electors are with may have been followed by another one, so it does not
//! count as the root any more.

use cloak_base::DeviceId;

use crate::cert::Succession;
use crate::chain::Chain;
use crate::keep::ADOPTED_WITHIN;
use crate::message::Message;
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::tree::Child;
use crate::will::{
    ELECTORATE_MAX, Elector, NOMINEES_MAX, Testament, Will, WillNumber, WillTerms, carries,
};

impl Overlay {
    /// As root: writes the will anew when children or nominees changed, once the last one is
    /// settled, and gives it to the children.
    pub(crate) fn renew_will(&mut self) {
        let Some(root) = self.tree.chain.clone().filter(|_| self.tree.is_root()) else { return };
        if !self.tree.rooted || !self.is_settled() || self.has_lost_majority() {
            return;
        }
        let last = self.tree.testament.as_ref().map(|testament| &testament.will.terms);
        let (before_by, before) = match last {
            Some(last) => (last.root, last.electorate.clone()),
            None => electorate_of(&root),
        };
        let mut nominees = self.spares();
        nominees.truncate(NOMINEES_MAX);
        let terms = WillTerms {
            tree: root.tree(),
            root: self.own_device(),
            term: root.term(),
            version: last.map_or(0, |last| last.version),
            nominees,
            electorate: self.next_electorate(&before),
            before,
            before_by,
        };
        if last == Some(&terms) {
            return;
        }
        let terms = WillTerms { version: terms.version.saturating_add(1), ..terms };
        let will = terms.sign(&*self.certifier);
        self.tree.testament = Some(Box::new(Testament { root, will }));
        self.tree.kept.clear();
        for child in self.tree.children.clone() {
            self.bequeath(child.device);
        }
    }

    /// As root: gives a child the will.
    pub(crate) fn bequeath(&mut self, child: DeviceId) {
        if let Some(testament) = self.tree.testament.as_ref().filter(|_| self.tree.is_root()) {
            let will = Box::new(testament.will.clone());
            self.send(child, Message::Will(will));
        }
    }

    /// Our parent, the root, gives us its will. We say that we keep it unless we promised our vote
    /// to a successor: then the root may be one of the past, and stands again if it is not.
    pub(crate) fn on_will(&mut self, from: DeviceId, will: Will) {
        let above = self.tree.chain.as_ref().and_then(Chain::above);
        let Some(root) = above.filter(|_| self.tree.parent == Some(from)).cloned() else { return };
        let number = will.terms.number();
        let expected = root.is_root()
            && (root.holder(), root.term()) == (will.terms.root, will.terms.term)
            && root.holder() == from;
        if !expected || !will.verify(&*self.certifier) {
            return;
        }
        if will.terms.term < self.tree.promised {
            let term = self.tree.promised;
            return self.send(from, Message::Promised { term });
        }
        self.keep(&Testament { root, will });
        let kept = self.tree.testament.as_ref().map(|kept| kept.will.terms.number());
        if kept == Some(number) {
            self.send(from, Message::WillKept(number));
        }
    }

    /// As root: a child keeps our will.
    pub(crate) fn on_will_kept(&mut self, from: DeviceId, number: WillNumber) {
        let newest = self.tree.testament.as_ref().map(|testament| testament.will.terms.number());
        let Some(child) = self.tree.child(from).copied() else { return };
        let elector = Elector::from(child);
        if self.tree.is_root() && newest == Some(number) && !self.tree.kept.contains(&elector) {
            self.tree.kept.push(elector);
            self.children_changed();
        }
    }

    /// As root: a will names all children as soon as the last one allows it. Changes of nominees wait for
    /// a beat.
    pub(crate) fn children_changed(&mut self) {
        let terms = self.tree.testament.as_ref().map(|testament| &testament.will.terms);
        let is_new =
            terms.is_none_or(|terms| terms.electorate != self.next_electorate(&terms.electorate));
        if is_new {
            self.renew_will();
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

    pub(crate) fn become_root(&mut self, chain: Chain) {
        self.vacate();
        self.stats.succeeded += 1;
        self.tree.promised = self.tree.promised.max(chain.term());
        self.tree.testament = None;
        self.tree.kept.clear();
        self.take_place(chain, None);
        self.recall_within(ADOPTED_WITHIN);
    }

    /// Whether the electorates of our last will keep it, so that no older one elects any more.
    fn is_settled(&self) -> bool {
        let own = self.own_device();
        let kept = |elector: &Elector| elector.device == own || self.tree.kept.contains(elector);
        let testament = self.tree.testament.as_ref();
        testament.is_none_or(|testament| testament.will.terms.sustains(kept))
    }

    /// Children that are electors stay it; others follow until there are enough.
    fn next_electorate(&self, before: &[Elector]) -> Vec<Elector> {
        let children = self.tree.children.iter().map(|child| Elector::from(*child));
        let (mut electors, new): (Vec<_>, Vec<_>) =
            children.partition(|elector| before.contains(elector));
        electors.extend(new);
        electors.truncate(ELECTORATE_MAX);
        electors
    }

    /// Whether too few electors were heard of late: of our last will, or, before there is one, of
    /// the will by which we were elected.
    fn has_lost_majority(&self) -> bool {
        let own = self.own_device();
        let with = |elector: &Elector| {
            let child = self.tree.child(elector.device).copied().map(Elector::from);
            let heard =
                |link: &crate::links::Link| link.role == Role::Child && link.probed.is_none();
            let link = self.links.get(elector.device);
            elector.device == own || (child == Some(*elector) && link.is_some_and(heard))
        };
        match (&self.tree.testament, &self.tree.chain) {
            (Some(testament), _) => !testament.will.terms.sustains(with),
            (None, Some(root)) => {
                let (by, electorate) = electorate_of(root);
                !carries(&electorate, by == own, with)
            }
            (None, None) => false,
        }
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
                self.tree.unrooted_since = None;
                self.seek = None;
                self.found_tree();
            }
        }
    }
}

impl From<Child> for Elector {
    fn from(child: Child) -> Self {
        let Child { index, device, term } = child;
        Self { device, index, term }
    }
}

/// The electorate of the will that made `root` root, and whose will that was. A founder needs nobody's
/// consent.
fn electorate_of(root: &Chain) -> (DeviceId, Vec<Elector>) {
    match &root.root_cert().succession {
        Succession::Founded => (root.holder(), Vec::new()),
        Succession::Elected { will, .. } => (will.terms.root, will.terms.electorate.clone()),
    }
}

/// Without any tree to go to for this many times `rejoin_after`, an old root founds one anew.
const ALONE_FACTOR: u32 = 4;
