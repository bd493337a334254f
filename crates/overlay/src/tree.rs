//! Our place in the tree: how it is taken, renewed and lost.
//!
//! A place is an address with its chain of certificates. Our children's places are certified by us:
//! whenever our chain changes they get a new one, and so on downwards.

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::cert::{Succession, Term, Will};
use crate::chain::Chain;
use crate::contact::Contact;
use crate::event::{Code, Event};
use crate::message::{Above, Beat, Below, Greet, Message, Refusal};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

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
    /// Records were not handed down to us yet.
    pub(crate) warming: bool,
    /// The root's will: our own, or our parent's.
    pub(crate) will: Option<Box<Will>>,
    /// The highest term that we voted for.
    pub(crate) promised: Term,
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
            self.tree.will = None;
            self.vacancies.clear();
        }
        self.set_parent(parent);
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
        self.tree = Tree { promised: self.tree.promised, ..Tree::default() };
        self.orphan = None;
        self.vacancies.clear();
        self.election = None;
        for timer in [Timer::Beat, Timer::Orphan, Timer::Vacancies] {
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

    /// Makes `device` our child at `index` and certifies it.
    pub(crate) fn add_child(&mut self, index: u8, term: Term, device: DeviceId) {
        self.tree.children.retain(|child| child.index != index && child.device != device);
        self.tree.children.push(Child { index, device, term });
        self.tree.children.sort_unstable_by_key(|child| child.index);
        self.tree.floors.retain(|(at, _)| *at != index);
        self.set_role(device, Role::Child);
        self.certify_child(index, term, device);
        self.introduce_kin(device);
        self.timers.set_earlier(Timer::Beat, self.now + self.config.beat_every);
    }

    /// A child's link is gone: its place is free, or is filled by its heir.
    pub(crate) fn child_lost(&mut self, link: &crate::links::Link) {
        let Some(child) = self.tree.child(link.device()).copied() else { return };
        self.drop_child(&child);
        if let Some(heir) = link.below.as_ref().and_then(|below| below.heir.clone()) {
            self.open_vacancy(child.index, Some(heir));
        }
        self.tell_kin();
    }

    pub(crate) fn drop_child(&mut self, child: &Child) {
        self.tree.children.retain(|other| other.device != child.device);
        self.tree.raise_floor(child.index, child.term);
        self.set_role(child.device, Role::Passing);
    }

    /// A certified place came.
    pub(crate) fn on_joined(&mut self, from: DeviceId, chain: Chain) {
        let expected = self.tree.parent == Some(from)
            || self.seek_asked(from)
            || self.orphan.as_ref().is_some_and(|orphan| orphan.adopter == Some(from));
        if !expected {
            // It took too long, and we are elsewhere: the place is free again.
            return self.send(from, Message::Leaving);
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
        let adopted = !fresh && self.tree.parent != Some(from);
        self.tree.warming |= fresh || (adopted && self.address() != Some(chain.address()));
        self.take_place(chain, Some(from));
        if adopted {
            self.hand_up(from);
        }
    }

    /// A peer says where it is.
    pub(crate) fn on_greet(&mut self, from: DeviceId, greet: Greet) {
        let Greet { chain, rooted } = greet;
        if let Some(chain) = &chain
            && (chain.holder() != from || !self.verify(chain, from))
        {
            return self.misbehaved(from, Code::FalseAddress);
        }
        let Some(link) = self.links.get_mut(from) else { return };
        link.chain = chain;
        link.rooted = rooted;
        let role = link.role;
        self.refresh_address(from);
        match role {
            Role::Parent => self.parent_greeted(from),
            Role::Child => self.child_greeted(from),
            Role::Host => self.host_greeted(from),
            _ => {}
        }
        self.compare_places(from);
        self.seek_greeted();
    }

    /// Our parent is where our chain says, or it is our parent no longer.
    fn parent_greeted(&mut self, from: DeviceId) {
        let Some(link) = self.links.get(from) else { return };
        let rooted = link.rooted;
        let above = self.address().and_then(Address::parent);
        if link.address.is_some() && link.address == above {
            self.set_rooted(rooted);
        } else {
            self.set_role(from, Role::Passing);
            self.orphaned();
        }
    }

    /// A child that took another place is our child no longer.
    fn child_greeted(&mut self, from: DeviceId) {
        let Some(child) = self.tree.child(from).copied() else { return };
        let address = self.links.get(from).and_then(|link| link.address.as_ref());
        let is_there = address.is_some_and(|at| {
            at.index() == Some(child.index) && at.parent().as_ref() == self.address()
        });
        if !is_there {
            self.drop_child(&child);
            self.tell_kin();
        }
    }

    /// A peer showed its place: another tree may be better, another holder of ours newer.
    fn compare_places(&mut self, from: DeviceId) {
        let Some(link) = self.links.get(from) else { return };
        let (Some(theirs), Some(ours)) = (link.chain.clone(), &self.tree.chain) else { return };
        if theirs.tree() != ours.tree() {
            return self.compare_trees(from, theirs.tree());
        }
        self.compare_roots(from, &theirs);
        let Some(ours) = &self.tree.chain else { return };
        let Some(link) = self.links.get(from) else { return };
        if theirs.address() == ours.address() && theirs.holder() != ours.holder() {
            if theirs.term() > ours.term() {
                let contact = link.contact.clone();
                self.step_down(&theirs, &contact);
            } else {
                self.greet(from);
                self.send(from, Message::Refused(Refusal::WrongPeer));
            }
        } else {
            self.successor_greeted(from, &theirs);
        }
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
        if heir.is_some() {
            self.open_vacancy(child.index, heir);
        }
        self.tell_kin();
    }

    /// A beat along a tree edge, or a keepalive.
    pub(crate) fn on_beat(&mut self, from: DeviceId, beat: Beat) {
        let Some(link) = self.links.get_mut(from) else { return };
        (link.room, link.rooted) = (beat.room, beat.rooted);
        match link.role {
            Role::Parent => self.set_rooted(beat.rooted),
            // It may take us for its parent or child, and is not ours.
            Role::Passing => self.send(from, Message::Refused(Refusal::NoPlace)),
            _ => {}
        }
    }

    pub(crate) fn on_beat_due(&mut self) {
        if self.tree.chain.is_none() {
            return;
        }
        let beat = self.beat();
        let (now, silent) = (self.now, self.config.silent_after);
        let mut silenced = Vec::new();
        for link in self.links.iter() {
            if matches!(link.role, Role::Parent | Role::Child) {
                self.out.push_back((link.device(), Message::Beat(beat)));
                if now.since(link.heard) > silent {
                    silenced.push(link.device());
                }
            }
        }
        for device in silenced {
            self.probe(device);
        }
        self.watch_majority();
        let next = self.jittered(self.config.beat_every);
        self.timers.set(Timer::Beat, next);
    }

    pub(crate) fn beat(&self) -> Beat {
        Beat { room: self.room(), rooted: self.tree.rooted }
    }

    /// Our way to a living root changed; all neighbours hear it at once, for what is below us hangs
    /// on it, and the others may be sending seekers to us.
    pub(crate) fn set_rooted(&mut self, rooted: bool) {
        if self.tree.rooted == rooted {
            return;
        }
        self.tree.rooted = rooted;
        self.tree.unrooted_since = (!rooted).then_some(self.now);
        let beat = self.beat();
        for link in self.links.iter().filter(|link| link.role != Role::Parent) {
            self.out.push_back((link.device(), Message::Beat(beat)));
        }
    }

    /// Asks a silent peer for a sign of life.
    pub(crate) fn probe(&mut self, device: DeviceId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(device) else { return };
        if link.probed.is_none() {
            link.probed = Some(now);
            self.send(device, Message::Probe);
            self.timers.set_earlier(Timer::Probes, now + self.config.probe_timeout);
        }
    }

    pub(crate) fn on_probes_due(&mut self) {
        let (now, limit) = (self.now, self.config.probe_timeout);
        let late = |link: &crate::links::Link| link.probed.is_some_and(|at| at + limit <= now);
        for device in self.links.devices(late) {
            self.hang_up(device, Code::Silent);
        }
        if let Some(first) = self.links.iter().filter_map(|link| link.probed).min() {
            self.timers.set(Timer::Probes, first + limit);
        }
    }

    /// Whether our place is below one of `device`'s: it cannot be our child.
    pub(crate) fn is_below(&self, device: DeviceId) -> bool {
        self.tree.chain.as_ref().is_some_and(|chain| chain.passes(device))
    }

    /// Whether a chain counts: its signatures, and what it says of a root that we know.
    pub(crate) fn verify(&self, chain: &Chain, from: DeviceId) -> bool {
        let known = [
            self.tree.chain.as_ref(),
            self.tree.chain.as_ref().and_then(Chain::above),
            self.links.get(from).and_then(|link| link.chain.as_ref()),
        ];
        chain.verify(self.config.degree, &*self.certifier, &known)
    }

    /// Whether a chain's root is the one that we know, an older one, or the next one after it.
    pub(crate) fn trusts_root(&self, chain: &Chain) -> bool {
        let Some(ours) = self.tree.chain.as_ref().map(Chain::root_cert) else { return true };
        let theirs = chain.root_cert();
        if theirs.term <= ours.term {
            return theirs.term < ours.term || theirs.holder == ours.holder;
        }
        match &theirs.succession {
            Succession::Founded => false,
            Succession::Elected { will, .. } => will.terms.root == ours.holder,
            Succession::Abdicated { root, .. } => *root == ours.holder,
        }
    }

    /// A link's address counts for routing when its place is in our tree.
    fn refresh_address(&mut self, device: DeviceId) {
        let ours = self.tree.chain.as_ref().map(Chain::tree);
        let trusted = match self.links.get(device).and_then(|link| link.chain.as_ref()) {
            Some(chain) => Some(chain.tree()) == ours && self.trusts_root(chain),
            None => false,
        };
        if let Some(link) = self.links.get_mut(device) {
            let address = link.chain.as_ref().map(|chain| chain.address().clone());
            link.address = address.filter(|_| trusted);
        }
    }

    fn refresh_addresses(&mut self) {
        for device in self.links.devices(|_| true) {
            self.refresh_address(device);
        }
    }

    fn recertify_children(&mut self) {
        for Child { index, device, term } in self.tree.children.clone() {
            self.certify_child(index, term, device);
        }
    }

    fn certify_child(&mut self, index: u8, term: Term, device: DeviceId) {
        let degree = self.config.degree;
        let Some(chain) = &self.tree.chain else { return };
        if let Some(chain) = chain.certify(index, term, device, degree, &*self.certifier) {
            if let Some(link) = self.links.get_mut(device) {
                link.address = Some(chain.address().clone());
                link.chain = Some(chain.clone());
            }
            self.send(device, Message::Joined(chain));
        }
    }

    fn set_parent(&mut self, parent: Option<DeviceId>) {
        if let Some(old) = self.tree.parent.filter(|old| Some(*old) != parent) {
            self.set_role(old, Role::Passing);
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
        }
    }

    fn greet_all(&mut self) {
        for device in self.links.devices(|_| true) {
            self.greet(device);
        }
    }
}

/// From our first place on to the first extra link.
const FIRST_EXTRA_AFTER: std::time::Duration = std::time::Duration::from_secs(2);
