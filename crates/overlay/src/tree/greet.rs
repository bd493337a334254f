//! Where our neighbours are: what they show in `Greet`, and whether it counts.
//!
//! A chain counts when its signatures do. Its holder is a neighbour to route by when its place is in
//! our tree, under a root that we know or could come to know. What is shown may also end our own
//! place: another peer may hold it, or the one above it, in a higher term.

use cloak_base::DeviceId;
use cloak_geometry::Address;

use crate::cert::Succession;
use crate::chain::Chain;
use crate::event::Code;
use crate::message::{Greet, Message, Refusal};
use crate::overlay::Overlay;
use crate::snapshot::Role;

impl Overlay {
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
        if rooted {
            self.ask_again();
        }
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

    /// A peer showed its place: another tree may be better, another holder of ours newer.
    fn compare_places(&mut self, from: DeviceId) {
        let Some(link) = self.links.get(from) else { return };
        let Some(theirs) = link.chain.clone() else { return };
        let Some(ours) = &self.tree.chain else { return self.introduce_trees() };
        if theirs.tree() != ours.tree() {
            return self.compare_trees(from, theirs.tree());
        }
        self.compare_roots(from, &theirs);
        let Some(ours) = &self.tree.chain else { return };
        let Some(link) = self.links.get(from) else { return };
        if theirs.address() == ours.address() && theirs.holder() != ours.holder() {
            if theirs.supersedes(ours) {
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
        if !theirs.is_later_than(ours) {
            return true;
        }
        let missed = self.tree.testament.as_ref().map(|testament| testament.root.holder());
        match &theirs.succession {
            Succession::Founded => false,
            Succession::Elected { will, .. } => {
                will.terms.root == ours.holder || Some(will.terms.root) == missed
            }
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

    pub(super) fn refresh_addresses(&mut self) {
        for device in self.links.devices(|_| true) {
            self.refresh_address(device);
        }
    }

    pub(super) fn greet_all(&mut self) {
        for device in self.links.devices(|_| true) {
            self.greet(device);
        }
    }
}
