//! Our children: taken, certified, dropped.
//!
//! We are the only one that certifies their places. A place whose child is gone keeps the highest
//! term that it had as a floor for the next one, and whatever kin must hear of a change is told by
//! whoever made it, once all of it is made.

use cloak_base::DeviceId;
use cloak_geometry::Address;

use super::Child;
use crate::cert::Term;
use crate::message::Message;
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

impl Overlay {
    /// Makes `device` our child at `index` and certifies it.
    pub(crate) fn add_child(&mut self, index: u8, term: Term, device: DeviceId) {
        if let Some(other) = self.tree.child(device).copied().filter(|child| child.index != index) {
            self.tree.raise_floor(other.index, other.term);
        }
        self.tree.children.retain(|child| child.index != index && child.device != device);
        self.tree.children.push(Child { index, device, term });
        self.tree.children.sort_unstable_by_key(|child| child.index);
        self.tree.floors.retain(|(at, _)| *at != index);
        self.set_role(device, Role::Child);
        self.certify_child(index, term, device);
        self.introduce_kin(device);
        self.bequeath(device);
        self.children_changed();
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
        self.recall_from_siblings_of(child);
    }

    /// A child that took another place is our child no longer.
    pub(super) fn child_greeted(&mut self, from: DeviceId) {
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

    pub(super) fn recertify_children(&mut self) {
        let Some(depth) = self.address().map(Address::depth) else { return };
        let indices = self.config.degree.children_at(depth);
        for child in self.tree.children.clone() {
            if child.index < indices {
                self.certify_child(child.index, child.term, child.device);
            } else {
                // We were root, which has one child more than others.
                self.drop_child(&child);
                self.send(child.device, Message::Leaving);
            }
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
}
