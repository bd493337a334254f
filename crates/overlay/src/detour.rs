//! Arrival, and the bounded way round a hole while the tree is being repaired.
//!
//! Without holes greedy forwarding ends at the destination, or at the binder of a point. Where it
//! ends elsewhere a peer is missing. The message then goes to the nearest neighbour that it did not
//! pass, even away from the destination, until it is nearer than where it got stuck
//! (gravity-pressure routing, bounded).

use cloak_base::DeviceId;
use cloak_geometry::{Address, Distance, distance};

use crate::message::{Body, DETOUR_MAX, Detour, Routed};
use crate::overlay::Overlay;

impl Overlay {
    /// Nobody near is nearer: we are the destination, the point's binder, or beside a hole.
    pub(crate) fn arrived(&mut self, routed: Routed) {
        let Some(address) = self.address() else {
            self.stats.dropped += 1;
            return;
        };
        if !routed.to.as_bytes().starts_with(address.as_bytes()) {
            return self.begin_detour(routed);
        }
        let next = routed.to.as_bytes().get(address.depth());
        let filling = self.vacancies.iter().any(|vacancy| Some(&vacancy.index) == next);
        let child = next.and_then(|index| self.tree.child_at(*index));
        if let Some(child) = child.filter(|_| routed.device.is_some()) {
            // It is suspected, or it would have the message. Whether it lives shows within a second;
            // if not, the message comes back.
            let device = child.device;
            return self.send_hop(device, routed);
        }
        match routed.device {
            Some(_) if filling => self.begin_detour(routed),
            Some(device) => self.wrong_peer(&routed, device),
            None if self.tree.warming.is_some() && self.pass_to_parent(&routed) => {}
            None => self.deliver(routed),
        }
    }

    /// A binder without its records sends askers to its parent, which hands them down.
    fn pass_to_parent(&mut self, routed: &Routed) -> bool {
        let Some(parent) = self.tree.parent.filter(|_| routed.left > 0) else { return false };
        self.send_hop(parent, Routed { device: Some(parent), ..routed.clone() });
        true
    }

    fn wrong_peer(&mut self, routed: &Routed, device: DeviceId) {
        let id = match &routed.body {
            Body::Ping { id } => Some(*id),
            Body::Trace(trace) => Some(trace.id),
            Body::WrongPeer { .. } => return,
            _ => None,
        };
        if routed.origin.device != device {
            self.answer(&routed.origin, Body::WrongPeer { device, id });
        }
    }

    fn begin_detour(&mut self, mut routed: Routed) {
        let Some(from) = self.address().cloned() else { return };
        self.stats.detours += 1;
        routed.detour = Some(Box::new(Detour { from, passed: Vec::new() }));
        self.detour(routed);
    }

    /// One step of a detour; ends it when we are nearer than where it began.
    pub(crate) fn detour(&mut self, mut routed: Routed) {
        let Some(mut detour) = routed.detour.take() else { return self.forward(routed) };
        let degree = self.config.degree;
        let stuck = distance(&detour.from, &routed.to, degree);
        let Some(own) = self.address().map(|own| distance(own, &routed.to, degree)) else { return };
        if own < stuck {
            return self.forward(routed);
        }
        let mark = mark(&self.own_device());
        if !detour.passed.contains(&mark) {
            detour.passed.push(mark);
        }
        match self.unpassed(&routed.to, &detour) {
            Some((there, next)) if detour.passed.len() < DETOUR_MAX => {
                routed.detour = Some(detour).filter(|_| there >= stuck);
                self.send_hop(next, routed);
            }
            _ if detour.passed.len() == 1 && self.wait_for_parent(&routed) => {}
            _ => self.stats.dropped += 1,
        }
    }

    /// There is no way but over our parent, which is suspected: if it is dead the message comes back.
    fn wait_for_parent(&mut self, routed: &Routed) -> bool {
        let Some(parent) = self.tree.parent.filter(|_| routed.left > 0) else { return false };
        self.send_hop(parent, routed.clone());
        true
    }

    fn unpassed(&self, to: &Address, detour: &Detour) -> Option<(Distance, DeviceId)> {
        let degree = self.config.degree;
        let open = self
            .links
            .iter()
            .filter(|link| !link.suspected && !detour.passed.contains(&mark(&link.device())));
        let there = |link: &crate::links::Link| {
            Some((distance(link.address.as_ref()?, to, degree), link.device()))
        };
        open.filter_map(there).min()
    }
}

/// A peer in the list of those passed: four bytes are enough to tell a few dozen apart.
pub(crate) fn mark(device: &DeviceId) -> u32 {
    let [a, b, c, d, ..] = *device.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
