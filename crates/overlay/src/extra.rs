//! Extra links: short cuts between branches of the tree.
//!
//! We ask a random point of another branch, at a random level of our own path, for a neighbour, and
//! keep at most as many as are configured, those that others asked for included.

use cloak_base::DeviceId;
use cloak_geometry::Address;

use crate::message::{Body, Message, Offer, Refusal, Want};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

impl Overlay {
    /// Extra links that we could still take.
    pub(crate) fn extra_room(&self) -> u8 {
        let left = self.config.extra_max.saturating_sub(self.links.count(Role::Extra));
        u8::try_from(left).unwrap_or(u8::MAX)
    }

    pub(crate) fn on_extra_due(&mut self) {
        self.release_bad_extra();
        let wanted = self.links.count(Role::Extra) < self.config.extra_own;
        let pace = if wanted { self.config.extra_every / 6 } else { self.config.extra_every };
        let next = self.jittered(pace);
        self.timers.set(Timer::Extra, next);
        let Some(own) = self.address().cloned().filter(|_| wanted) else { return };
        self.extra_misses = self.extra_misses.saturating_add(1);
        if self.extra_misses > MISSES_MAX {
            self.ask_passing();
        }
        let to = self.elsewhere(&own);
        let id = self.next_question();
        self.ask_over(to, None, Body::Seek { want: Want::Extra, id, below: 0 }, &mut Vec::new());
    }

    /// Nobody answers: those over whom we ask may swallow it. Any peer of our tree that we are linked
    /// to by chance is better than them.
    fn ask_passing(&mut self) {
        let here = |link: &crate::links::Link| {
            link.role == Role::Passing && link.rooted && link.address.is_some()
        };
        if let Some(device) = self.links.devices(here).first() {
            self.send(*device, Message::ExtraAsk);
        }
    }

    pub(crate) fn on_extra_offer(&mut self, offer: Offer) {
        self.extra_misses = 0;
        let ours = self.tree.chain.as_ref().map(crate::Chain::tree) == Some(offer.tree);
        let linked = self.links.get(offer.contact.device).map(|link| link.role);
        let new = linked.is_none_or(|role| role == Role::Passing);
        if ours && new && self.links.count(Role::Extra) < self.config.extra_own {
            self.send_to(&offer.contact, Message::ExtraAsk);
        }
    }

    pub(crate) fn on_extra_ask(&mut self, from: DeviceId) {
        let Some(link) = self.links.get(from) else { return };
        let (role, there) = (link.role, link.address.is_some());
        if role == Role::Extra || (role == Role::Passing && there && self.extra_room() > 0) {
            self.set_role(from, Role::Extra);
            self.send(from, Message::ExtraYes);
        } else {
            self.send(from, Message::Refused(Refusal::Full));
        }
    }

    pub(crate) fn on_extra_yes(&mut self, from: DeviceId) {
        let Some(link) = self.links.get(from) else { return };
        match link.role {
            Role::Passing if self.extra_room() > 0 => self.set_role(from, Role::Extra),
            Role::Extra => {}
            _ => self.send(from, Message::Release),
        }
    }

    /// A random point outside of our own branch, at a random level: half of them at the top, where
    /// short cuts save most.
    fn elsewhere(&mut self, own: &Address) -> Address {
        let mut level = 0;
        while level + 1 < own.depth() && self.rng.chance(1, 2) {
            level += 1;
        }
        let degree = self.config.degree;
        let branch = own.ancestor_at(level);
        let children = degree.children_at(level);
        let mut index = u8::try_from(self.rng.below(u64::from(children))).unwrap_or(0);
        if own.as_bytes().get(level) == Some(&index) {
            index = (index + 1) % children;
        }
        let below = branch.child(index, degree).unwrap_or(branch);
        self.random_point(&below)
    }
}

/// Questions without an offer after which another way is tried.
const MISSES_MAX: u8 = 3;
