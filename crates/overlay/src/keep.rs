//! Copies of what others bind: who keeps them, and how they come back.
//!
//! A binder sends its copies to its parent, which keeps none of them: it passes each on to a
//! *keeper*, another child of its own, drawn from the record's point, so that copies spread as the
//! records do. Where there is no other child the parent keeps them itself; a root gives its own
//! copies to two children. When a child is gone its parent binds the points again, and *recalls*
//! what the other children keep for them; whoever takes the place is handed it down. Until a recall
//! has ended, nobody says that a record is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::message::{Copy, HeldRecord, Message, Purpose, Recall};
use crate::overlay::Overlay;
use crate::timers::Timer;
use crate::tree::Child;

/// Children that hold the copies of a root.
const ROOT_COPIES: usize = 2;
/// Children that do not answer a recall for so long have nothing, or are dead.
const RECALL_FOR: Duration = Duration::from_secs(3);
/// Between two recalls of a parent.
const RECALL_EVERY: Duration = Duration::from_secs(2);
/// A child answers no more often than that. Less than the pace of its parent, because messages are
/// delayed.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// A child that waits for longer than this until its parent handed down all asks again.
const HANDED_DOWN_WITHIN: Duration = Duration::from_secs(10);
/// The children of a peer that died follow its successor within this time.
pub(crate) const ADOPTED_WITHIN: Duration = Duration::from_secs(3);

/// What we recall, as a parent.
#[derive(Default)]
pub(crate) struct Recalling {
    /// There is something that the children were not asked for yet.
    due: bool,
    /// When they were asked last.
    asked: Option<Instant>,
    /// Those that have not answered.
    open: Vec<DeviceId>,
    /// Indices of children that were lost since.
    lost: Vec<u8>,
    /// Children that came meanwhile, and were not told that their hand-down is complete.
    owed: Vec<DeviceId>,
    /// When our own parent asked us last.
    answered: Option<Instant>,
}

impl Overlay {
    /// A child is gone: what it bound, and what it kept, must come from the others.
    pub(crate) fn recall_from_siblings_of(&mut self, child: &Child) {
        if !self.recalling.lost.contains(&child.index) {
            self.recalling.lost.push(child.index);
        }
        self.recalling.open.retain(|device| *device != child.device);
        self.recalling.owed.retain(|device| *device != child.device);
        self.recall_within(Duration::ZERO);
    }

    /// What we bind may be kept by children: they are asked after this time.
    pub(crate) fn recall_within(&mut self, delay: Duration) {
        self.recalling.due = true;
        let earliest = self.recalling.asked.map_or(self.now, |asked| asked + RECALL_EVERY);
        self.timers.set_earlier(Timer::Recall, earliest.max(self.now + delay));
    }

    /// Whether we bind points whose records may not be here yet.
    pub(crate) fn is_recalling(&self) -> bool {
        self.recalling.due || !self.recalling.open.is_empty()
    }

    pub(crate) fn on_recall_due(&mut self) {
        if !std::mem::take(&mut self.recalling.due) {
            return self.end_recall();
        }
        let children = self.tree.children.iter();
        let (indices, devices): (Vec<u8>, Vec<DeviceId>) =
            children.map(|child| (child.index, child.device)).unzip();
        let lost = std::mem::take(&mut self.recalling.lost);
        let lost = lost.into_iter().filter(|index| !indices.contains(index)).collect();
        let recall = Recall { children: indices.into(), lost };
        for device in &devices {
            self.send(*device, Message::Recall(recall.clone()));
        }
        self.recalling.asked = Some(self.now);
        self.recalling.open = devices;
        self.timers.set(Timer::Recall, self.now + RECALL_FOR);
        self.recall_answered(None);
    }

    /// The end of our hand-down did not come: it was lost, or our parent moved before it knew all.
    pub(crate) fn ask_for_records(&mut self) {
        let Some(asked) = self.tree.warming else { return };
        let (Some(parent), Some(chain)) = (self.tree.parent, self.tree.chain.clone()) else {
            return;
        };
        if self.now.since(asked) >= HANDED_DOWN_WITHIN {
            self.tree.warming = Some(self.now);
            self.send(parent, Message::Adopt(chain));
        }
    }

    /// A child sent all that it keeps of ours.
    pub(crate) fn recall_answered(&mut self, by: Option<DeviceId>) {
        self.recalling.open.retain(|device| Some(*device) != by);
        if !self.is_recalling() {
            self.timers.clear(Timer::Recall);
            self.end_recall();
        }
    }

    /// A child was handed down what is here. Whether that is all; else it hears it later.
    pub(crate) fn is_all_for(&mut self, child: DeviceId) -> bool {
        let all = !self.is_recalling();
        if !all && !self.recalling.owed.contains(&child) {
            self.recalling.owed.push(child);
        }
        all
    }

    /// Our parent asks for what it binds, and says who keeps nothing any more.
    pub(crate) fn on_recall(&mut self, from: DeviceId, recall: &Recall) {
        let Some(own) = self.address().cloned().filter(|_| self.tree.parent == Some(from)) else {
            return;
        };
        let soon = |at: Instant| self.now.since(at) < ANSWER_EVERY;
        let (Some(above), Some(index)) = (own.parent(), own.index()) else { return };
        if self.recalling.answered.is_some_and(soon) || !recall.children.contains(&index) {
            return;
        }
        self.recalling.answered = Some(self.now);
        let theirs = self.held_below(&above, |point| {
            let next = point.as_bytes().get(above.depth());
            next.is_none_or(|next| !recall.children.contains(next))
        });
        self.send_held(from, Purpose::Bind, true, theirs);
        let kept_by_lost = |point: &Address| {
            let all = recall.children.iter().chain(recall.lost.iter()).copied();
            let keeper = keeper(point, all.filter(|other| *other != index));
            keeper.is_some_and(|keeper| recall.lost.contains(&keeper))
        };
        let copies = self.held_below(&own, |point| self.binds(point) && kept_by_lost(point));
        self.send_held(from, Purpose::Copy, false, copies);
    }

    /// Copies of what a child binds go to their keepers.
    pub(crate) fn pass_copies(&mut self, binder: &Child, copies: Vec<HeldRecord>) {
        let mut passed: BTreeMap<DeviceId, Vec<HeldRecord>> = BTreeMap::new();
        for held in copies {
            if self.child_binding(&held.point) != Some(binder.device) {
                continue;
            }
            match self.keeper_beside(binder, &held.point) {
                None => self.hold(&held, false),
                Some(keeper) => {
                    // What was left here when the child came would grow old.
                    self.store.remove(&held.point, &held.key);
                    passed.entry(keeper).or_default().push(held);
                }
            }
        }
        for (keeper, copies) in passed {
            self.send_held(keeper, Purpose::Keep, false, copies);
        }
    }

    /// A binder's record was confirmed: its copy is, too.
    pub(crate) fn on_keep_copy(&mut self, from: DeviceId, copy: Box<Copy>) {
        if let Some(binder) = self.tree.child(from).copied() {
            if self.child_binding(&copy.point) != Some(from) {
                return;
            }
            if let Some(keeper) = self.keeper_beside(&binder, &copy.point) {
                return self.send(keeper, Message::KeepCopy(copy));
            }
        } else if self.tree.parent != Some(from) {
            return;
        }
        if !self.store.touch(&copy, self.now) {
            self.send(from, Message::WantCopy(copy));
        }
    }

    pub(crate) fn on_want_copy(&mut self, from: DeviceId, copy: Box<Copy>) {
        let keeper = self.tree.child(from).is_some();
        if !keeper && self.tree.parent != Some(from) {
            return;
        }
        match self.child_binding(&copy.point).filter(|_| keeper) {
            Some(binder) if binder != from => self.send(binder, Message::WantCopy(copy)),
            Some(_) => {}
            None => {
                let held = self.held_at(&copy.point, &copy.key);
                self.send_held(from, Purpose::Copy, false, held.into_iter().collect());
            }
        }
    }

    /// Who has copies of what we bind, or passes them on to keepers.
    pub(crate) fn copy_holders(&self) -> Vec<DeviceId> {
        if let Some(parent) = self.tree.parent {
            return vec![parent];
        }
        if !self.tree.is_root() {
            return Vec::new();
        }
        self.tree.children.iter().take(ROOT_COPIES).map(|child| child.device).collect()
    }

    fn keeper_beside(&self, binder: &Child, point: &Address) -> Option<DeviceId> {
        let indices = self.tree.children.iter().map(|child| child.index);
        let index = keeper(point, indices.filter(|index| *index != binder.index))?;
        self.tree.child_at(index).map(|child| child.device)
    }

    fn end_recall(&mut self) {
        self.recalling.open.clear();
        for child in std::mem::take(&mut self.recalling.owed) {
            self.send_held(child, Purpose::Bind, true, Vec::new());
        }
    }
}

/// Which of these children of one peer keeps the copy for a point: each has a score for it, and the
/// highest counts, so that the loss of one moves nothing but what it kept.
fn keeper(point: &Address, indices: impl Iterator<Item = u8>) -> Option<u8> {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = point.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    indices.max_by_key(|index| mixed(hash ^ (u64::from(*index) << 56)))
}

/// Every bit of the outcome depends on every bit of `word` (the finalizer of MurmurHash3).
fn mixed(mut word: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        word = (word ^ (word >> 33)).wrapping_mul(factor);
    }
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use cloak_geometry::Degree;

    use super::*;

    fn point(digits: [u8; 4]) -> Address {
        Address::from_bytes(&digits, Degree::MAX).unwrap()
    }

    #[test]
    fn keepers_share_what_there_is_and_a_loss_moves_only_its_own() {
        let (mut counts, mut moved) = ([0_usize; 15], 0);
        for at in 0..15_u16.pow(3) {
            let digit = |place| u8::try_from(at / 15_u16.pow(place) % 15).unwrap();
            let point = point([3, digit(0), digit(1), digit(2)]);
            let first = keeper(&point, 0..15).unwrap();
            counts[usize::from(first)] += 1;
            let second = keeper(&point, (0..15).filter(|index| *index != 4)).unwrap();
            assert!(first == second || first == 4);
            moved += usize::from(first != second);
        }
        assert_eq!(moved, counts[4]);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most * 2 <= least * 3, "{counts:?}");
        assert_eq!(keeper(&point([0; 4]), std::iter::empty()), None);
    }
}
