//! Several trees: how they are found, and which one yields.
//!
//! Trees are ordered: a ranked founder's before an unranked one's, then the older, then the smaller
//! id. A peer that sees a better tree with a living root goes there, after a short random time, and
//! shows its new place to its neighbours, who follow. So a tree that yields empties by itself.

use std::time::Duration;

use cloak_base::DeviceId;

use crate::cert::TreeId;
use crate::chain::Chain;
use crate::contact::Contact;
use crate::links::Link;
use crate::message::{Holder, Message};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// Longest wait before a peer follows into a better tree.
const MOVE_WITHIN: Duration = Duration::from_millis(1500);
/// Remembered peers that are asked one after the other while none answers.
const EXPLORED_IN_A_ROW: u8 = 4;
/// Within this time the news of a root's successor reach all that are below it.
const NEWS_WITHIN: Duration = Duration::from_secs(8);

impl Overlay {
    /// A linked peer is in another tree.
    pub(crate) fn compare_trees(&mut self, from: DeviceId, theirs: TreeId) {
        let Some(ours) = self.tree.chain.as_ref().map(Chain::tree) else { return };
        let rooted = self.links.get(from).is_some_and(|link| link.rooted);
        if theirs < ours && rooted {
            let when = self.now + self.rng.duration(Duration::ZERO, MOVE_WITHIN);
            self.timers.set_earlier(Timer::Move, when);
        }
    }

    /// Without a place we may be linked to two trees that know nothing of each other: those of the
    /// worse one are told of the better one.
    pub(crate) fn introduce_trees(&mut self) {
        let placed = |link: &Link| link.chain.clone().filter(|_| link.rooted && !link.suspected);
        let trees = self.links.iter().filter_map(|link| Some((placed(link)?, link)));
        let Some((chain, link)) = trees.min_by_key(|(chain, _)| chain.tree()) else { return };
        let holder = Holder { chain, contact: link.contact.clone() };
        let tree = holder.chain.tree();
        let worse = self.links.devices(|link| link.chain.as_ref().is_some_and(|c| tree < c.tree()));
        for device in worse {
            self.send(device, Message::Holder(Box::new(holder.clone())));
        }
    }

    /// A linked peer is in our tree and may know a newer root. In time a successor's news come from
    /// above; a peer that has not heard them by then follows a root of the past.
    pub(crate) fn compare_roots(&mut self, from: DeviceId, theirs: &Chain) {
        let Some(ours) = &self.tree.chain else { return };
        let rooted = self.links.get(from).is_some_and(|link| link.rooted);
        if rooted && theirs.root_cert().is_later_than(ours.root_cert()) {
            let when = self.jittered(NEWS_WITHIN);
            self.timers.set_earlier(Timer::Move, when);
        }
    }

    /// Whether others of our tree have a newer root: one that ours provided for, or one that two
    /// neighbours agree on. A root without children has nothing to lose.
    fn follows_a_past_root(&self) -> bool {
        let Some(ours) = self.tree.chain.as_ref().filter(|_| self.tree.rooted) else {
            return false;
        };
        let alone = self.tree.is_root() && self.tree.children.is_empty();
        let newer = |chain: &&Chain| {
            chain.tree() == ours.tree() && chain.root_cert().is_later_than(ours.root_cert())
        };
        let links = self.links.iter().filter(|link| link.rooted);
        let newer: Vec<_> = links.filter_map(|link| link.chain.as_ref()).filter(newer).collect();
        newer.len() > 1 || newer.iter().any(|chain| alone || self.trusts_root(chain))
    }

    /// Goes to the better tree, if there still is one.
    pub(crate) fn on_move_due(&mut self) {
        let Some(ours) = self.tree.chain.as_ref().map(Chain::tree) else { return };
        let better = self.links.iter().any(|link| {
            link.rooted && link.chain.as_ref().is_some_and(|chain| chain.tree() < ours)
        });
        if better || self.follows_a_past_root() {
            self.seek = None;
            self.lose_place();
        }
    }

    /// Asks a remembered peer where it is, by linking to it: one after the other, for by chance a dead one
    /// may be asked again and again.
    pub(crate) fn on_explore_due(&mut self) {
        let lonely = self.links.count(Role::Extra) == 0 && self.tree.children.is_empty();
        let pace = self.config.explore_every / if lonely { 4 } else { 1 };
        let next = self.jittered(pace);
        self.timers.set(Timer::Explore, next);
        self.explore();
    }

    /// Nobody answered: the next one is asked, a few times in a row.
    pub(crate) fn exploration_failed(&mut self, device: DeviceId) {
        let Some((_, failed)) = self.exploring.take_if(|(asked, _)| *asked == device) else {
            return;
        };
        if failed < EXPLORED_IN_A_ROW {
            self.explore();
            self.exploring = self.exploring.map(|(asked, _)| (asked, failed + 1));
        }
    }

    fn explore(&mut self) {
        let unlinked = |contact: &&Contact| !self.links.has(contact.device);
        let unlinked: Vec<Contact> = self.remembered.iter().filter(unlinked).cloned().collect();
        if !unlinked.is_empty() {
            self.explored = self.explored.wrapping_add(1);
            let contact = &unlinked[self.explored % unlinked.len()];
            self.exploring = Some((contact.device, 1));
            self.dial(contact);
        }
    }
}
