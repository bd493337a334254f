//! Our place in the tree: how it is taken, renewed and lost.
//!
//! A place is an address with its chain of certificates. Our children's places are certified by us:
//! whenever our chain changes they get a new one, and so on downwards; see [`children`]. Who is
//! where around us is told by [`greet`]ings, and who lives by [`beat`]s.

mod beat;
mod children;
mod greet;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::cert::Term;
use crate::chain::Chain;
use crate::contact::Contact;
use crate::event::{Code, Event};
use crate::keep::Recalling;
use crate::message::{Above, Below, Message};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;
use crate::will::{Ballot, Elector, Testament};

/// Deepest place that we give away. Points have 22 digits, so nobody deeper could bind anything.
pub(crate) const PLACE_DEPTH_MAX: usize = 20;

/// Our place, and our kin around it.
#[derive(Default)]
pub(crate) struct Tree {
    /// The place; `None` outside of a tree.
    pub(crate) chain: Option<Chain>,
    /// The parent that is linked; `None` for a root and for an orphan.
    pub(crate) parent: Option<DeviceId>,
    /// The last parent, where to find it.
    pub(crate) parent_contact: Option<Contact>,
    /// In the order of their indices.
    pub(crate) children: Vec<Child>,
    /// The highest terms that places below us had, for those that are free.
    pub(crate) floors: Vec<(u8, Term)>,
    /// Above the parent, nearest first.
    pub(crate) ancestors: Vec<Contact>,
    /// Whether our way to a living root is whole, as far as we know.
    pub(crate) rooted: bool,
    /// Since when it is not.
    pub(crate) unrooted_since: Option<Instant>,
    /// Records were not all handed down to us yet; when we asked for them last.
    pub(crate) warming: Option<Instant>,
    /// The newest will of a root that we keep, as its child; the root's own.
    pub(crate) testament: Option<Box<Testament>>,
    /// As root: electors that keep our will.
    pub(crate) kept: Vec<Elector>,
    /// The highest term that we voted in, or were root in.
    pub(crate) promised: Term,
    /// What we voted for in it.
    pub(crate) ballot: Option<Ballot>,
    /// What we told our parent last.
    pub(crate) told_below: Option<Box<Below>>,
    /// What we told our children last.
    pub(crate) told_above: Option<Box<Above>>,
}

/// A child of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) index: u8,
    pub(crate) device: DeviceId,
    pub(crate) term: Term,
}

impl Tree {
    pub(crate) fn child(&self, device: DeviceId) -> Option<&Child> {
        self.children.iter().find(|child| child.device == device)
    }

    pub(crate) fn child_at(&self, index: u8) -> Option<&Child> {
        self.children.iter().find(|child| child.index == index)
    }

    /// The term that a new holder of this place needs at least.
    pub(crate) fn floor(&self, index: u8) -> Term {
        let floors = self.floors.iter().filter(|(at, _)| *at == index);
        floors.map(|(_, term)| *term).max().unwrap_or_default()
    }

    pub(crate) fn raise_floor(&mut self, index: u8, term: Term) {
        match self.floors.iter_mut().find(|(at, _)| *at == index) {
            Some((_, floor)) => *floor = (*floor).max(term),
            None => self.floors.push((index, term)),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.address().is_root())
    }
}

impl Overlay {
    /// Takes a place that was certified for us, or one that was renewed. `parent` is linked.
    pub(crate) fn take_place(&mut self, chain: Chain, parent: Option<DeviceId>) {
        let before = self.tree.chain.replace(chain.clone());
        let moved = before.as_ref().is_none_or(|old| {
            (old.address(), old.tree(), old.term()) != (chain.address(), chain.tree(), chain.term())
        });
        let new_tree = before.as_ref().is_none_or(|old| old.tree() != chain.tree());
        let elsewhere = before.as_ref().is_none_or(|old| old.address() != chain.address());
        if elsewhere || new_tree {
            self.tree.floors.clear();
            self.tree.testament = None;
            self.tree.kept.clear();
            self.vacancies.clear();
            self.recalling = Recalling::default();
        }
        self.set_parent(parent);
        // Nobody hands anything down to a root.
        self.tree.warming = self.tree.warming.filter(|_| parent.is_some());
        self.seek = None;
        self.orphan = None;
        self.timers.clear(Timer::Seek);
        self.timers.clear(Timer::Orphan);
        self.refresh_addresses();
        self.recertify_children();
        if moved {
            self.on_moved(before.is_some(), new_tree);
        }
        self.tell_kin();
        self.timers.set_earlier(Timer::Beat, self.now);
    }

    /// Gives our place up and looks for another. Our children become orphans.
    pub(crate) fn lose_place(&mut self) {
        if self.tree.chain.is_none() {
            return;
        }
        if let Some(parent) = self.tree.parent {
            self.send(parent, Message::Leaving);
            self.set_role(parent, Role::Passing);
        }
        self.forget_place();
        self.find_place();
    }

    /// Leaves the tree without a word.
    pub(crate) fn forget_place(&mut self) {
        for child in std::mem::take(&mut self.tree.children) {
            self.set_role(child.device, Role::Passing);
        }
        let (promised, ballot) = (self.tree.promised, self.tree.ballot);
        self.tree = Tree { promised, ballot, ..Tree::default() };
        self.orphan = None;
        self.vacancies.clear();
        self.recalling = Recalling::default();
        self.election = None;
        for timer in [Timer::Beat, Timer::Orphan, Timer::Vacancies, Timer::Recall] {
            self.timers.clear(timer);
        }
        self.refresh_addresses();
        self.greet_all();
        self.events.push_back(Event::Placed(self.place()));
    }

    pub(crate) fn set_role(&mut self, device: DeviceId, role: Role) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(device) {
            link.role = role;
            link.used = now;
            if role != Role::Child {
                link.below = None;
            }
        }
    }

    /// A certified place came.
    pub(crate) fn on_joined(&mut self, from: DeviceId, chain: Chain) {
        let expected = self.tree.parent == Some(from)
            || self.seek_asked(from)
            || self.orphan.as_ref().is_some_and(|orphan| orphan.adopter == Some(from));
        if !expected {
            // It took too long, and we are elsewhere: the place is free again.
            self.send(from, Message::Leaving);
            return self.greet(from);
        }
        if chain.above().is_some_and(|above| above.passes(self.own_device())) {
            // Two peers below one another, each above the other: cut the loop.
            self.send(from, Message::Leaving);
            return self.lose_place();
        }
        let issuer = chain.above().is_some_and(|above| above.holder() == from);
        if !issuer || chain.holder() != self.own_device() || !self.verify(&chain, from) {
            return self.misbehaved(from, Code::FalseAddress);
        }
        let parent_chain = chain.above().cloned();
        if let Some(link) = self.links.get_mut(from) {
            link.chain = parent_chain;
            link.rooted = true;
        }
        let fresh = self.tree.chain.is_none();
        let elsewhere = self.tree.parent != Some(from) && self.address() != Some(chain.address());
        if fresh || elsewhere {
            self.tree.warming = Some(self.now);
        }
        self.take_place(chain, Some(from));
    }

    /// Another peer holds our address in a higher term: our children are told, and we go.
    pub(crate) fn step_down(&mut self, newer: &Chain, contact: &Contact) {
        let holder = crate::message::Holder { chain: newer.clone(), contact: contact.clone() };
        for child in self.tree.children.clone() {
            self.send(child.device, Message::Holder(Box::new(holder.clone())));
        }
        self.lose_place();
    }

    /// Our place is another peer's by now.
    pub(crate) fn on_wrong_peer(&mut self, from: DeviceId) {
        let adopting = self.orphan.as_ref().is_some_and(|orphan| orphan.adopter == Some(from));
        let arbiter = self.tree.parent == Some(from);
        let beside = self.links.get(from).and_then(|link| link.address.as_ref());
        let above = beside.is_some() && beside == self.address().and_then(Address::parent).as_ref();
        if adopting || arbiter || above {
            self.lose_place();
        }
    }

    /// A neighbour gives its place up.
    pub(crate) fn on_leaving(&mut self, from: DeviceId) {
        if self.tree.parent == Some(from) {
            self.set_role(from, Role::Passing);
            return self.orphaned();
        }
        let Some(child) = self.tree.child(from).copied() else { return };
        let heir = self.links.get(from).and_then(|link| link.below.as_ref()?.heir.clone());
        self.drop_child(&child);
        if let Some(link) = self.links.get_mut(from) {
            // It may never have been where we certified it.
            (link.chain, link.address) = (None, None);
        }
        if heir.is_some() {
            self.open_vacancy(child.index, heir);
        }
        self.tell_kin();
    }

    fn set_parent(&mut self, parent: Option<DeviceId>) {
        if let Some(old) = self.tree.parent.filter(|old| Some(*old) != parent) {
            self.set_role(old, Role::Passing);
        }
        if let Some(child) = parent.and_then(|parent| self.tree.child(parent)).copied() {
            // It took a place above us, and nobody had told us that it had left the one below.
            self.drop_child(&child);
        }
        if self.tree.parent != parent {
            self.tree.told_below = None;
        }
        self.tree.parent = parent;
        if let Some(parent) = parent {
            self.set_role(parent, Role::Parent);
            self.tree.parent_contact = self.links.get(parent).map(|link| link.contact.clone());
        } else {
            self.tree.parent_contact = None;
            self.tree.ancestors.clear();
        }
        let rooted = parent.is_none_or(|at| self.links.get(at).is_some_and(|link| link.rooted));
        self.set_rooted(rooted);
    }

    fn on_moved(&mut self, had_place: bool, new_tree: bool) {
        self.stats.placed += 1;
        self.release_hosts();
        self.greet_all();
        self.events.push_back(Event::Placed(self.place()));
        if !had_place {
            let extra = self.jittered(FIRST_EXTRA_AFTER);
            self.timers.set(Timer::Extra, extra);
            let keepalive = self.jittered(self.config.keepalive_every);
            self.timers.set(Timer::Keepalive, keepalive);
        }
        if new_tree {
            self.republish();
            self.gather_strays();
        }
    }
}

/// From our first place on to the first extra link.
const FIRST_EXTRA_AFTER: std::time::Duration = std::time::Duration::from_secs(2);
