//! What kin tell each other: who is above, and who could follow whom.
//!
//! Both are sent when they change, never on a timer.

use cloak_base::DeviceId;

use crate::contact::Contact;
use crate::message::{Above, Below, Message};
use crate::overlay::Overlay;
use crate::tree::PLACE_DEPTH_MAX;

/// Ancestors that a peer knows besides its parent and the root.
const ANCESTORS_MAX: usize = 4;
/// Leaves that a peer names upwards.
const SPARES_MAX: usize = 3;

impl Overlay {
    /// Free child places, none while we should not take anybody.
    pub(crate) fn room(&self) -> u8 {
        let Some(address) = self.address() else { return 0 };
        if !self.tree.rooted || self.tree.warming.is_some() || address.depth() >= PLACE_DEPTH_MAX {
            return 0;
        }
        let all = usize::from(self.config.degree.children_at(address.depth()));
        let filling =
            |vacancy: &&crate::succession::Vacancy| self.tree.child_at(vacancy.index).is_none();
        let taken = self.tree.children.len() + self.vacancies.iter().filter(filling).count();
        u8::try_from(all.saturating_sub(taken)).unwrap_or(u8::MAX)
    }

    /// Indices that are neither held nor being filled.
    pub(crate) fn free_places(&self) -> Vec<u8> {
        let Some(address) = self.address() else { return Vec::new() };
        let all = 0..self.config.degree.children_at(address.depth());
        let taken = |index: &u8| {
            self.tree.child_at(*index).is_some()
                || self.vacancies.iter().any(|vacancy| vacancy.index == *index)
        };
        all.filter(|index| !taken(index)).collect()
    }

    /// Tells parent and children what changed for them.
    pub(crate) fn tell_kin(&mut self) {
        if self.tree.chain.is_none() {
            return;
        }
        if let Some(parent) = self.tree.parent {
            let below = Box::new(self.below());
            if self.tree.told_below.as_ref() != Some(&below) {
                self.tree.told_below = Some(below.clone());
                self.send(parent, Message::Below(below));
            }
        }
        let above = Box::new(self.above());
        if self.tree.told_above.as_ref() != Some(&above) {
            self.tree.told_above = Some(above.clone());
            for child in self.tree.children.clone() {
                self.send(child.device, Message::Above(above.clone()));
            }
        }
    }

    /// Tells a new child what the others know.
    pub(crate) fn introduce_kin(&mut self, child: DeviceId) {
        let above = Box::new(self.above());
        self.send(child, Message::Above(above));
    }

    pub(crate) fn on_below(&mut self, from: DeviceId, below: Box<Below>) {
        if self.tree.child(from).is_none() {
            return;
        }
        if let Some(link) = self.links.get_mut(from) {
            link.below = Some(below);
            self.tell_kin();
        }
    }

    pub(crate) fn on_above(&mut self, from: DeviceId, above: Above) {
        if self.tree.parent == Some(from) {
            self.tree.ancestors = above.ancestors;
            self.tell_kin();
        }
    }

    /// Leaves below us, or ourselves.
    pub(crate) fn spares(&self) -> Vec<Contact> {
        if self.tree.children.is_empty() {
            return vec![self.own.contact.clone()];
        }
        let children = self.tree.children.iter();
        let told = children.filter_map(|child| self.links.get(child.device)?.below.as_ref());
        // One of each child before the second of any: deaths below one child cost one spare.
        let told: Vec<_> = told.collect();
        let nth = |at: usize| told.iter().filter_map(move |below| below.spares.get(at));
        (0..SPARES_MAX).flat_map(nth).take(SPARES_MAX + 1).cloned().collect()
    }

    fn below(&self) -> Below {
        let mut spares = self.spares();
        if self.tree.children.is_empty() {
            return Below { heir: None, spares };
        }
        // Our own heir is named to those above only when there is nobody else.
        let heir = if spares.len() > 1 { Some(spares.remove(0)) } else { spares.first().cloned() };
        spares.truncate(SPARES_MAX);
        Below { heir, spares }
    }

    /// Who is above our children, nearest first: our parent, and those above it; the root always.
    fn above(&self) -> Above {
        let parent = self.tree.parent_contact.iter();
        let mut ancestors: Vec<Contact> = parent.chain(&self.tree.ancestors).cloned().collect();
        if ancestors.len() > ANCESTORS_MAX + 1 {
            let root = ancestors.pop();
            ancestors.truncate(ANCESTORS_MAX);
            ancestors.extend(root);
        }
        Above { ancestors }
    }
}
