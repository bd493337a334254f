//! The way to a place: three points are asked, and the shallowest offer is taken.
//!
//! Each point's binder offers itself, or passes the question up while its parent has room. The points
//! are those of our entity; a parent that has its devices already refuses, and deeper ones are asked.
//! Where none is left we attach. Hosts are found in the same way, at random points. Where no tree is in
//! reach, a peer that others can dial founds one.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::allotment;
use crate::cert::TreeId;
use crate::chain::Chain;
use crate::contact::Rank;
use crate::message::{Body, Message, Offer, Origin, Refusal, Routed, Want};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// Points that are asked at a time.
const POINTS_ASKED: usize = 3;
/// Digits of a point. A tree of degree 8 has 10^18 places at that depth.
pub(crate) const POINT_DIGITS: usize = 22;
/// Rounds in which an attached peer looks for more hosts than it has.
const MORE_HOSTS_ROUNDS: u32 = 2;
/// Rounds without an offer, after a refusal for our entity's sake, after which we do without a place.
const SURPLUS_ROUNDS: u32 = 2;
/// Remembered peers that are dialled at a time.
const DIALLED_AT_ONCE: usize = 3;
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(1500);
/// A parent or host that was asked must answer within this time, dial included.
const ANSWER: Duration = Duration::from_secs(4);

/// A search for a place, or for hosts.
pub(crate) struct Seek {
    pub(crate) want: Want,
    pub(crate) since: Instant,
    round: u32,
    offers: Vec<Offer>,
    /// Rounds of questions so far.
    rounds: u32,
    /// Who was asked to take us.
    asked: Option<DeviceId>,
    /// Parents above this depth have their devices of our entity.
    below: u8,
    /// Rounds without an offer since they said so.
    unoffered: u32,
}

impl Overlay {
    /// Begins to look for a place, or for hosts where others cannot dial us.
    pub(crate) fn find_place(&mut self) {
        if !self.running || self.seek.is_some() || self.tree.chain.is_some() {
            return;
        }
        let want = if self.may_be_inner() { Want::Place } else { Want::Host };
        self.begin_seek(want);
    }

    pub(crate) fn begin_seek(&mut self, want: Want) {
        let round = self.next_question();
        self.seek = Some(Box::new(Seek {
            want,
            since: self.now,
            round,
            offers: Vec::new(),
            rounds: 0,
            asked: None,
            below: 0,
            unoffered: 0,
        }));
        self.timers.set(Timer::Seek, self.now);
    }

    /// Whether we may take a place in the tree: others can dial us, and have for some time.
    pub(crate) fn may_be_inner(&self) -> bool {
        self.own.standing.positions > 0
            && self.reachable.is_some_and(|at| self.now.since(at) >= self.config.uptime_min)
    }

    pub(crate) fn seek_asked(&self, device: DeviceId) -> bool {
        self.seek.as_ref().is_some_and(|seek| seek.asked == Some(device))
    }

    pub(crate) fn on_seek_due(&mut self) {
        let Some(seek) = &mut self.seek else { return };
        seek.asked = None;
        if !seek.offers.is_empty() {
            return self.take_offer();
        }
        seek.rounds += 1;
        seek.unoffered += u32::from(seek.below > 0);
        if seek.unoffered > SURPLUS_ROUNDS {
            return self.do_without_place();
        }
        let for_more = seek.want == Want::Host && self.links.count(Role::Host) > 0;
        if for_more && seek.rounds > MORE_HOSTS_ROUNDS {
            // There are no others now. The next sweep looks again.
            self.seek = None;
            return;
        }
        let wait = self.jittered(ROUND);
        self.timers.set(Timer::Seek, wait);
        let entries = self.entries();
        if entries.is_empty() {
            self.seek_entries();
        } else {
            self.ask_points(&entries);
        }
    }

    /// A link showed its place: a seeker without an entry has one now.
    pub(crate) fn seek_greeted(&mut self) {
        let waiting =
            self.seek.as_ref().is_some_and(|seek| seek.asked.is_none() && seek.offers.is_empty());
        if waiting && self.entries().len() == 1 {
            self.timers.set_earlier(Timer::Seek, self.now);
        }
    }

    /// Answers a seeker, or sends it upwards to where there is room.
    pub(crate) fn on_seek(&mut self, routed: Routed, want: Want, id: u32, below: u8) {
        let Some(chain) = &self.tree.chain else { return };
        if !self.tree.rooted || routed.origin.device == self.own_device() {
            return;
        }
        let (address, tree) = (chain.address().clone(), chain.tree());
        let parent = self.tree.parent.and_then(|parent| self.links.get(parent));
        if want == Want::Place
            && let Some(parent) = parent.filter(|link| link.room > 0 && link.address.is_some())
            && address.depth() > usize::from(below)
            && routed.left > 0
        {
            let device = parent.device();
            return self.send_hop(device, Routed { device: Some(device), ..routed });
        }
        if want == Want::Host && self.is_guest(routed.origin.device) {
            return self.ask_another_host(routed);
        }
        let room = match want {
            Want::Place if address.depth() < usize::from(below) => 0,
            Want::Place => self.room(),
            Want::Host => self.guest_room(),
            Want::Extra => self.extra_room(),
        };
        if room > 0 {
            let contact = self.own.contact.clone();
            let offer = Offer { want, id, contact, address, tree, room };
            self.answer(&routed.origin, Body::Offer(Box::new(offer)));
        }
    }

    fn is_guest(&self, device: DeviceId) -> bool {
        self.links.get(device).is_some_and(|link| link.role == Role::Guest)
    }

    /// A guest of ours looks for more hosts: a random neighbour is asked instead of us, once. Points
    /// alone would seldom lead to another one in a small realm.
    fn ask_another_host(&mut self, routed: Routed) {
        let is_inner = |role| matches!(role, Role::Parent | Role::Child | Role::Extra);
        let others = self.links.iter().filter(|link| is_inner(link.role) && !link.suspected);
        let others = others.filter_map(|link| Some((link.device(), link.address.clone()?)));
        let mut others: Vec<_> = others.collect();
        if others.is_empty() || routed.to.depth() < POINT_DIGITS {
            return;
        }
        let (device, to) = others.swap_remove(self.random_below(others.len()));
        self.send_hop(device, Routed { to, device: Some(device), ..routed });
    }

    pub(crate) fn on_offer(&mut self, offer: Offer) {
        if offer.want == Want::Extra {
            return self.on_extra_offer(offer);
        }
        let Some(seek) = &mut self.seek else { return };
        if offer.id != seek.round || offer.want != seek.want || seek.offers.len() >= POINTS_ASKED {
            return;
        }
        let role = self.links.get(offer.contact.device).map(|link| link.role);
        if offer.want == Want::Host && role == Some(Role::Host) {
            return;
        }
        seek.offers.push(offer);
        if seek.offers.len() == POINTS_ASKED && seek.asked.is_none() {
            self.take_offer();
        }
    }

    /// A peer asks to become our child.
    pub(crate) fn on_join(&mut self, from: DeviceId) {
        if let Some(child) = self.tree.child(from).copied().filter(|_| !self.is_below(from)) {
            // Its first question was answered too late for it, and it had given up on us.
            self.add_child(child.index, child.term, from);
            return self.hand_down(child.index, from);
        }
        let Some(link) = self.links.get(from) else { return };
        let standing = link.standing;
        let kin = self.links.with_role(Role::Child);
        let kin = kin.filter(|child| child.standing.entity == standing.entity).count();
        let kin_max = |at| allotment::children_max(&standing, at, self.config.degree);
        let free = if self.room() > 0 { self.free_places() } else { Vec::new() };
        let refusal = match &self.tree.chain {
            None => Some(Refusal::NoPlace),
            Some(chain) if chain.passes(from) => Some(Refusal::NoPlace),
            Some(_) if free.is_empty() => Some(Refusal::Full),
            Some(chain) if kin >= kin_max(chain.address()) => Some(Refusal::Kin),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return self.send(from, Message::Refused(refusal));
        }
        // The parent draws the index: a joiner does not choose where it sits.
        let index = free[self.random_below(free.len())];
        let term = self.tree.floor(index).next(self.unix());
        self.add_child(index, term, from);
        self.hand_down(index, from);
        self.tell_kin();
    }

    /// A peer has no place, or none for us below it.
    pub(crate) fn on_no_place(&mut self, from: DeviceId) {
        if self.seek_asked(from) {
            return self.seek_unreachable(from);
        }
        if self.tree.parent == Some(from) {
            self.set_role(from, Role::Passing);
            self.orphaned();
        }
    }

    /// A parent has its devices of our entity: others may be deeper.
    pub(crate) fn seek_refused_for_kin(&mut self, from: DeviceId) {
        let link = self.links.get(from).filter(|_| self.seek_asked(from));
        let Some(chain) = link.and_then(|link| link.chain.as_ref()) else { return };
        let below = chain.address().depth() + 1;
        if let Some(seek) = &mut self.seek {
            seek.below = seek.below.max(u8::try_from(below).unwrap_or(u8::MAX));
            seek.offers.retain(|offer| offer.address.depth() >= below);
            seek.unoffered = 0;
        }
        self.seek_unreachable(from);
    }

    /// Our entity has all its places: we attach. What is below us finds its own way.
    fn do_without_place(&mut self) {
        self.lose_place();
        self.seek = None;
        if self.links.count(Role::Host) < self.config.hosts {
            self.begin_seek(Want::Host);
        }
    }

    /// Whoever was asked will not take us: the next offer, or another round.
    pub(crate) fn seek_unreachable(&mut self, device: DeviceId) {
        let Some(seek) = &mut self.seek else { return };
        if seek.asked != Some(device) {
            return;
        }
        seek.asked = None;
        if seek.offers.is_empty() {
            let soon = self.jittered(ROUND / 3);
            self.timers.set(Timer::Seek, soon);
        } else {
            self.take_offer();
        }
    }

    /// Linked peers through which a tree can be entered: the best tree in reach, its newest root.
    pub(crate) fn entries(&self) -> Vec<DeviceId> {
        let rooted = |link: &&crate::links::Link| link.rooted && !link.suspected;
        let place = |link: &crate::links::Link| {
            let root = link.chain.as_ref()?.root_cert();
            Some((root.founding.tree, std::cmp::Reverse(root.term)))
        };
        let best = self.links.iter().filter(rooted).filter_map(place).min();
        let there =
            |link: &crate::links::Link| best.is_some() && place(link) == best && rooted(&link);
        self.links.devices(there)
    }

    /// A random point of the tree.
    pub(crate) fn random_point(&mut self, below: &Address) -> Address {
        let degree = self.config.degree;
        let mut digits = below.as_bytes().to_vec();
        while digits.len() < POINT_DIGITS {
            let base = u64::from(degree.children_at(digits.len()));
            digits.push(u8::try_from(self.rng.below(base)).unwrap_or(0));
        }
        Address::from_bytes(&digits, degree).unwrap_or(Address::ROOT)
    }

    fn ask_points(&mut self, entries: &[DeviceId]) {
        let Some(seek) = &self.seek else { return };
        let (want, id, below) = (seek.want, seek.round, seek.below);
        let mut own = match want {
            Want::Place => allotment::points(&self.own.standing, self.config.degree),
            Want::Host | Want::Extra => Vec::new(),
        };
        for _ in 0..POINTS_ASKED {
            let entry = entries[self.random_below(entries.len())];
            let Some(chain) = self.links.get(entry).and_then(|link| link.chain.clone()) else {
                continue;
            };
            let origin = Origin { device: self.own_device(), address: chain.address().clone() };
            let at = self.random_below(own.len());
            let to = match want {
                Want::Place if own.is_empty() => return,
                Want::Place => own.swap_remove(at),
                Want::Host | Want::Extra => self.random_point(&Address::ROOT),
            };
            let routed = Routed::new(to, None, origin, Body::Seek { want, id, below });
            self.send_hop(entry, routed);
        }
    }

    fn take_offer(&mut self) {
        let round = self.next_question();
        let Some(seek) = &mut self.seek else { return };
        let key = |offer: &Offer| (offer.tree, offer.address.depth(), u8::MAX - offer.room);
        let best = (0..seek.offers.len()).min_by_key(|at| key(&seek.offers[*at]));
        let Some(offer) = best.map(|at| seek.offers.swap_remove(at)) else { return };
        seek.offers.retain(|other| other.contact.device != offer.contact.device);
        seek.round = round;
        seek.asked = Some(offer.contact.device);
        let message = if seek.want == Want::Host { Message::HostAsk } else { Message::Join };
        self.timers.set(Timer::Seek, self.now + ANSWER);
        self.send_to(&offer.contact, message);
    }

    /// No tree in reach: dial those that we remember; after a while, found one.
    fn seek_entries(&mut self) {
        for _ in 0..DIALLED_AT_ONCE.min(self.remembered.len()) {
            let at = self.random_below(self.remembered.len());
            let contact = self.remembered[at].clone();
            self.dial(&contact);
        }
        let Some(seek) = &self.seek else { return };
        let alone = seek.want == Want::Place && self.tree.chain.is_none();
        if alone && self.now.since(seek.since) >= self.patience() {
            self.found_tree();
        } else if seek.want == Want::Host && self.may_be_inner() {
            self.seek = None;
            self.find_place();
        }
    }

    /// How long we look for a tree before we found one. The tree of a ranked founder is one that
    /// others come to, so there is little to wait for, and nothing once all that it knows are
    /// linked and have none.
    fn patience(&self) -> Duration {
        let (rank, _) = self.certifier.rank();
        match self.remembered.iter().all(|contact| self.links.has(contact.device)) {
            _ if rank == Rank::NONE => self.config.found_after,
            true => Duration::ZERO,
            false => self.config.ranked_found_after,
        }
    }

    pub(crate) fn found_tree(&mut self) {
        let founder = self.own_device();
        let (rank, proof) = self.certifier.rank();
        let tree = TreeId { rank, founded: self.unix(), founder };
        let chain = Chain::found(tree, proof, &*self.certifier);
        self.take_place(chain, None);
    }
}
