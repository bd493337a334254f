//! The way to a place: three random points are asked, and the shallowest offer is taken.
//!
//! Each point's binder offers itself, or passes the question up while its parent has room. The
//! same is done for hosts. Where no tree is in reach, a peer that others can dial founds one.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::cert::TreeId;
use crate::chain::Chain;
use crate::event::Code;
use crate::limits::CHILDREN_PER_ENTITY_MAX;
use crate::message::{Body, Message, Offer, Origin, Refusal, Routed, Want};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// Points that are asked at a time.
const POINTS_ASKED: usize = 3;
/// Digits of a point. A tree of degree 8 has 10^18 places at that depth.
pub(crate) const POINT_DIGITS: usize = 22;
/// Remembered peers that are dialled at a time.
const DIALLED_AT_ONCE: usize = 3;
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(1500);
/// A parent or host that was asked must answer within this time, dial included.
const ANSWER: Duration = Duration::from_secs(4);

/// A search for a place, or for hosts.
pub(crate) struct Seek {
    pub(crate) want: Want,
    since: Instant,
    round: u32,
    offers: Vec<Offer>,
    /// Who was asked to take us.
    asked: Option<DeviceId>,
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
        let seek = Seek { want, since: self.now, round, offers: Vec::new(), asked: None };
        self.seek = Some(Box::new(seek));
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
    pub(crate) fn on_seek(&mut self, routed: Routed, want: Want, id: u32) {
        let Some(chain) = &self.tree.chain else { return };
        if !self.tree.rooted || routed.origin.device == self.own_device() {
            return;
        }
        let (address, tree) = (chain.address().clone(), chain.tree());
        let parent = self.tree.parent.and_then(|parent| self.links.get(parent));
        if want == Want::Place
            && let Some(parent) = parent.filter(|link| link.room > 0 && link.address.is_some())
            && routed.left > 0
        {
            let device = parent.device();
            return self.send_hop(device, Routed { device: Some(device), ..routed });
        }
        let room = match want {
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

    pub(crate) fn on_offer(&mut self, offer: Offer) {
        if offer.want == Want::Extra {
            return self.on_extra_offer(offer);
        }
        let Some(seek) = &mut self.seek else { return };
        if offer.id != seek.round || offer.want != seek.want || seek.offers.len() >= POINTS_ASKED {
            return;
        }
        seek.offers.push(offer);
        if seek.offers.len() == POINTS_ASKED && seek.asked.is_none() {
            self.take_offer();
        }
    }

    /// A peer asks to become our child.
    pub(crate) fn on_join(&mut self, from: DeviceId) {
        if let Some(child) = self.tree.child(from).copied() {
            // Its first question was answered too late for it, and it had given up on us.
            self.add_child(child.index, child.term, from);
            return self.hand_down(child.index, from);
        }
        let Some(link) = self.links.get(from) else { return };
        let (entity, positions) = (link.standing.entity, usize::from(link.standing.positions));
        let kin = self.links.with_role(Role::Child);
        let kin = kin.filter(|child| child.standing.entity == entity).count();
        let free = if self.room() > 0 { self.free_places() } else { Vec::new() };
        let refusal = match &self.tree.chain {
            None => Some(Refusal::NoPlace),
            Some(chain) if chain.passes(from) => Some(Refusal::NoPlace),
            Some(_) if free.is_empty() => Some(Refusal::Full),
            Some(_) if kin >= positions.min(CHILDREN_PER_ENTITY_MAX) => Some(Refusal::Full),
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

    pub(crate) fn seek_refused(&mut self, from: DeviceId) {
        if self.seek_asked(from) {
            return self.seek_unreachable(from);
        }
        if self.tree.parent == Some(from) {
            self.set_role(from, Role::Passing);
            self.orphaned();
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
        let (want, id) = (seek.want, seek.round);
        for _ in 0..POINTS_ASKED {
            let entry = entries[self.random_below(entries.len())];
            let Some(chain) = self.links.get(entry).and_then(|link| link.chain.clone()) else {
                continue;
            };
            let origin = Origin { device: self.own_device(), address: chain.address().clone() };
            let to = self.random_point(&Address::ROOT);
            let routed = Routed::new(to, None, origin, Body::Seek { want, id });
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
        if alone && self.now.since(seek.since) >= self.config.found_after {
            self.found_tree();
        } else if seek.want == Want::Host && self.may_be_inner() {
            self.seek = None;
            self.find_place();
        }
    }

    pub(crate) fn found_tree(&mut self) {
        let founder = self.own_device();
        let rank = self.own.standing.rank;
        let tree = TreeId { rank, founded: self.unix(), founder };
        let chain = Chain::found(tree, &*self.certifier);
        self.take_place(chain, None);
    }

    /// Ends a link whose peer has nothing to do with us any more.
    pub(crate) fn release_unused(&mut self) {
        let (now, idle) = (self.now, UNUSED_AFTER);
        let unused =
            |link: &crate::links::Link| link.role == Role::Passing && now.since(link.used) > idle;
        for device in self.links.devices(unused) {
            self.hang_up(device, Code::Unused);
        }
    }
}

/// A passing link that was of no use for this long is ended.
const UNUSED_AFTER: Duration = Duration::from_secs(30);
