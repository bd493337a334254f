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
        let wanted = self.links.count(Role::Extra) < self.config.extra_own;
        let pace = if wanted { self.config.extra_every / 6 } else { self.config.extra_every };
        let next = self.jittered(pace);
        self.timers.set(Timer::Extra, next);
        if let Some(own) = self.address().cloned().filter(|_| wanted) {
            let to = self.elsewhere(&own);
            let id = self.next_question();
            self.originate(to, None, Body::Seek { want: Want::Extra, id });
        }
    }

    pub(crate) fn on_extra_offer(&mut self, offer: Offer) {
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
