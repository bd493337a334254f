//! A peer whose parent is gone, with what is below it: a fragment.
//!
//! It keeps its address and serves its fragment, and claims its way back: from its grandparent, or
//! the nearest ancestor that lives, it learns who holds the missing address now and is adopted by
//! that peer. A parent that was only cut off takes it back. Where nothing of that works for some
//! time it looks for another place; where no tree at all is in reach, its fragment becomes one.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::chain::Chain;
use crate::contact::Contact;
use crate::keep::ADOPTED_WITHIN;
use crate::message::{Body, Claim, Holder, Message, Origin, Routed, Want};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// Between two steps while the loss is fresh, and later.
const STEP: Duration = Duration::from_millis(1500);
const STEP_LATER: Duration = Duration::from_secs(4);
/// Without any tree to go to for this many times `rejoin_after`, the fragment becomes one.
const FOUND_FACTOR: u32 = 3;

/// The state of an orphan.
pub(crate) struct Orphan {
    since: Instant,
    /// The last parent.
    lost: Option<Contact>,
    /// The step that is next; steps go round all that could help.
    step: usize,
    /// Who was asked last.
    asked: Option<DeviceId>,
    /// Who was asked to adopt us.
    pub(crate) adopter: Option<DeviceId>,
}

impl Overlay {
    /// Our parent is gone.
    pub(crate) fn orphaned(&mut self) {
        if self.tree.chain.is_none() || self.tree.is_root() {
            return;
        }
        self.tree.parent = None;
        self.tree.told_below = None;
        self.set_rooted(false);
        let lost = self.tree.parent_contact.clone();
        if self.orphan.is_none() {
            let since = self.now;
            let orphan = Orphan { since, lost, step: 0, asked: None, adopter: None };
            self.orphan = Some(Box::new(orphan));
        }
        self.timers.set_earlier(Timer::Orphan, self.now);
    }

    /// The next step back into the tree.
    pub(crate) fn on_orphan_due(&mut self) {
        let Some(orphan) = &self.orphan else { return };
        let lost_for = self.now.since(orphan.since);
        let rejoin = self.config.rejoin_after;
        let pace = if lost_for < rejoin { STEP } else { STEP_LATER };
        let next = self.jittered(pace);
        self.timers.set(Timer::Orphan, next);
        if lost_for >= rejoin {
            if self.seek.is_none() {
                self.begin_seek(Want::Place);
            }
            if lost_for >= rejoin * FOUND_FACTOR && self.entries().is_empty() {
                return self.found_tree();
            }
        }
        self.orphan_step();
    }

    pub(crate) fn orphan_unreachable(&mut self, device: DeviceId) {
        let Some(orphan) = &mut self.orphan else { return };
        if orphan.asked == Some(device) {
            orphan.asked = None;
            self.orphan_step();
        }
    }

    /// Who holds an address: for an orphan the way back, for others a newer holder of their
    /// parent's place or of their own, or somebody of a better tree.
    pub(crate) fn on_holder(&mut self, from: DeviceId, holder: Holder) {
        let Holder { chain, contact } = holder;
        let honest = chain.holder() == contact.device && self.verify(&chain, from);
        let Some(own) = self.tree.chain.clone().filter(|_| honest) else { return };
        if chain.tree() < own.tree() {
            return self.dial(&contact);
        }
        if chain.tree() != own.tree() || contact.device == self.own_device() {
            return;
        }
        if chain.address() == own.address() && chain.supersedes(&own) {
            return self.step_down(&chain, &contact);
        }
        if !chain.address().is_ancestor_of(own.address()) {
            return;
        }
        if chain.address().is_root() && !self.trusts_root(&chain) {
            return;
        }
        self.remember(&contact);
        let above = own.above();
        let parent_place = above.is_some_and(|above| above.address() == chain.address());
        let newer = above.is_none_or(|above| chain.term() >= above.term());
        if parent_place && newer && self.tree.parent != Some(contact.device) {
            self.ask_adoption(&contact, own);
        } else if self.orphan.is_some() && !parent_place {
            self.claim_from(&contact, chain.address());
        }
    }

    /// A peer shows the place that we certified, or somebody before us: it is our child.
    pub(crate) fn on_adopt(&mut self, from: DeviceId, chain: Chain) {
        let ours = self.tree.chain.as_ref();
        let below = ours.is_some_and(|ours| {
            ours.tree() == chain.tree()
                && chain.address().parent().as_ref() == Some(ours.address())
                && chain.holder() == from
        });
        let Some(index) = chain.address().index().filter(|_| below) else {
            return self.send(from, Message::Refused(crate::message::Refusal::NoPlace));
        };
        if !self.verify(&chain, from) {
            return self.misbehaved(from, crate::event::Code::FalseAddress);
        }
        if self.is_below(from) {
            return self.send(from, Message::Refused(crate::message::Refusal::NoPlace));
        }
        let held = self.tree.child_at(index).copied();
        let floor = self.tree.floor(index);
        let known = held.filter(|child| child.device != from);
        if known.is_some_and(|child| child.term >= chain.term()) || floor > chain.term() {
            return self.send(from, Message::Refused(crate::message::Refusal::WrongPeer));
        }
        if let Some(child) = known {
            self.drop_child(&child);
            self.send(child.device, Message::Refused(crate::message::Refusal::WrongPeer));
        }
        // One that was appointed meanwhile and not heard of yet has a higher term: go above it.
        let appointed = self.vacancy(index).is_some_and(|vacancy| vacancy.appointed.is_some());
        let term = if appointed { self.next_term(index) } else { chain.term() };
        self.add_child(index, term, from);
        self.hand_down(index, from);
        self.recall_within(ADOPTED_WITHIN);
        self.vacancy_filled(index);
        self.tell_kin();
    }

    fn orphan_step(&mut self) {
        let Some(own) = self.tree.chain.clone() else { return };
        let Some(orphan) = &mut self.orphan else { return };
        let step = orphan.step;
        orphan.step += 1;
        if own.address().depth() == 1 && step.is_multiple_of(2) {
            return self.summon(step / 2);
        }
        let lost = orphan.lost.clone();
        let ancestors = self.tree.ancestors.len();
        let round = step % (ancestors + 2);
        if round == ancestors + 1 {
            return self.ask_around(&own);
        }
        if let Some(ancestor) = self.tree.ancestors.get(round).cloned() {
            let depth = own.address().depth().saturating_sub(2 + round);
            let last = round + 1 == ancestors;
            let at = if last { Address::ROOT } else { own.address().ancestor_at(depth) };
            self.claim_from(&ancestor, &at);
        } else if let Some(lost) = lost {
            self.ask_adoption(&lost, own);
        }
    }

    /// Asks, through a neighbour whose way to the root is whole, who is at our parent's address or
    /// nearest above it: those that we know above us may all be gone.
    fn ask_around(&mut self, own: &Chain) {
        let entries = self.entries();
        let Some(above) = own.address().parent().filter(|_| !entries.is_empty()) else { return };
        let entry = entries[self.random_below(entries.len())];
        let address = self.links.get(entry).and_then(|link| link.address.clone());
        let Some(address) = address else { return };
        let origin = Origin { device: self.own_device(), address };
        self.send_hop(entry, Routed::new(above, None, origin, Body::Who));
    }

    pub(crate) fn on_who(&mut self, origin: &Origin) {
        let Some(chain) = self.tree.chain.clone() else { return };
        let contact = self.own.contact.clone();
        self.answer(origin, Body::Holder(Box::new(Holder { chain, contact })));
    }

    /// Claims, from the holder of `above`, what we miss right below it.
    fn claim_from(&mut self, holder: &Contact, above: &Address) {
        let Some(chain) = self.tree.chain.clone() else { return };
        let depth = above.depth() + 1;
        if depth >= chain.address().depth() || !above.is_ancestor_of(chain.address()) {
            return;
        }
        let missing = chain.address().ancestor_at(depth);
        let spares = self.spares();
        let claim = Claim { chain, missing, spares };
        if let Some(orphan) = &mut self.orphan {
            orphan.asked = Some(holder.device);
        }
        self.send_to(holder, Message::Claim(Box::new(claim)));
    }

    fn ask_adoption(&mut self, holder: &Contact, own: Chain) {
        if self.orphan.is_none() {
            if let Some(parent) = self.tree.parent {
                self.set_role(parent, Role::Passing);
            }
            self.orphaned();
        }
        if let Some(orphan) = &mut self.orphan {
            orphan.adopter = Some(holder.device);
            orphan.asked = Some(holder.device);
        }
        self.send_to(holder, Message::Adopt(own));
    }
}
