//! Greedy forwarding, hop by hop, each one acknowledged.
//!
//! A message goes to the neighbour that is nearest to its destination, if that is nearer than we
//! are. A hop that is not acknowledged in time is made again through another neighbour, and the
//! silent one gets nothing more until it was heard. Where nobody is nearer the message has arrived,
//! or there is a hole in the tree, see [`crate::detour`].

use std::collections::VecDeque;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::{Address, Distance, Towards};

use crate::limits::{HOPS_MAX, PENDING_MAX};
use crate::links::Link;
use crate::message::{Body, Message, Origin, Passed, Routed, TRACE_MAX};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// Hops of routed messages that were not acknowledged yet, in the order in which they were made.
#[derive(Default)]
pub(crate) struct Hops {
    next: u32,
    pending: VecDeque<Pending>,
}

struct Pending {
    hop: u32,
    to: DeviceId,
    deadline: Instant,
    /// `None` once it was acknowledged.
    routed: Option<Box<Routed>>,
}

impl Hops {
    pub(crate) fn acknowledged(&mut self, from: DeviceId, hop: u32) {
        let Some(first) = self.pending.front() else { return };
        // Numbers follow one another, so the place in the row is known.
        let at = usize::try_from(hop.wrapping_sub(first.hop)).unwrap_or(usize::MAX);
        if let Some(pending) = self.pending.get_mut(at).filter(|pending| pending.to == from) {
            pending.routed = None;
        }
        self.forget_done();
    }

    fn push(&mut self, to: DeviceId, deadline: Instant, mut routed: Routed) -> Box<Routed> {
        routed.hop = self.next;
        self.next = self.next.wrapping_add(1);
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        let routed = Box::new(routed);
        let kept = Some(routed.clone());
        self.pending.push_back(Pending { hop: routed.hop, to, deadline, routed: kept });
        routed
    }

    fn forget_done(&mut self) {
        while self.pending.front().is_some_and(|pending| pending.routed.is_none()) {
            self.pending.pop_front();
        }
    }

    fn take(&mut self, which: impl Fn(&Pending) -> bool) -> Vec<(DeviceId, Box<Routed>)> {
        let open = self.pending.iter_mut().filter(|pending| which(pending));
        let taken = open.filter_map(|pending| Some((pending.to, pending.routed.take()?))).collect();
        self.forget_done();
        taken
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.deadline)
    }
}

impl Routed {
    pub(crate) fn new(to: Address, device: Option<DeviceId>, origin: Origin, body: Body) -> Self {
        Self { hop: 0, left: HOPS_MAX, made: 0, to, device, origin, detour: None, body }
    }
}

impl Overlay {
    /// Sends something of our own on its way; false when there is no way.
    pub(crate) fn originate(&mut self, to: Address, device: Option<DeviceId>, body: Body) -> bool {
        let Some(origin) = self.origin() else { return false };
        self.forward(Routed::new(to, device, origin, body));
        true
    }

    /// Answers whoever sent a message.
    pub(crate) fn answer(&mut self, origin: &Origin, body: Body) {
        self.originate(origin.address.clone(), Some(origin.device), body);
    }

    /// A routed message came over a link.
    pub(crate) fn on_routed(&mut self, from: DeviceId, mut routed: Routed) {
        self.send(from, Message::Ack { hop: routed.hop });
        if routed.left == 0 {
            self.stats.dropped += 1;
            return;
        }
        routed.left -= 1;
        routed.made = routed.made.saturating_add(1);
        self.stamp(&mut routed);
        if routed.device == Some(self.own_device()) {
            return self.deliver(routed);
        }
        self.stats.forwarded += 1;
        if self.answers_early(&routed) {
            return;
        }
        self.forward(routed);
    }

    /// Passes a message on, or takes it when it has arrived.
    pub(crate) fn forward(&mut self, mut routed: Routed) {
        if let Some(device) = routed.device {
            if device == self.own_device() {
                return self.deliver(routed);
            }
            if self.links.get(device).is_some_and(|link| !link.suspected) {
                return self.send_hop(device, routed);
            }
        }
        if routed.detour.is_some() {
            return self.detour(routed);
        }
        match self.nearer(&routed.to) {
            Some(next) => self.send_hop(next, routed),
            None => {
                routed.detour = None;
                self.arrived(routed);
            }
        }
    }

    /// The linked peer that is nearest to `to`, if it is nearer than we are.
    pub(crate) fn nearer(&self, to: &Address) -> Option<DeviceId> {
        let degree = self.config.degree;
        let inner = self.tree.chain.as_ref();
        let mut best: Option<(Distance, DeviceId)> = None;
        let towards = Towards::new(to, degree);
        let own = inner.map(|chain| towards.distance(chain.address()));
        for link in self.links.iter() {
            let Some(address) = self.place_of(link) else { continue };
            if link.suspected || !self.forwards(link) {
                continue;
            }
            let there = towards.distance(address);
            if own.is_none_or(|own| there < own) && best.is_none_or(|(best, _)| there < best) {
                best = Some((there, link.device()));
            }
        }
        best.map(|(_, device)| device)
    }

    /// Makes one hop, and waits for its acknowledgement.
    pub(crate) fn send_hop(&mut self, to: DeviceId, routed: Routed) {
        let deadline = self.now + self.config.hop_timeout;
        if let Some(link) = self.links.get_mut(to) {
            link.used = self.now;
        }
        let routed = self.hops.push(to, deadline, routed);
        self.timers.set_earlier(Timer::Hops, deadline);
        self.out.push_back((to, Message::Routed(routed)));
    }

    pub(crate) fn on_hops_due(&mut self) {
        let now = self.now;
        let late = self.hops.take(|pending| pending.deadline <= now);
        for (to, _) in &late {
            if let Some(link) = self.links.get_mut(*to) {
                link.suspected = true;
            }
            self.probe(*to);
        }
        for (_, mut routed) in late {
            self.stats.hops_lost += 1;
            // The only way is tried again and again.
            if routed.left == 0 {
                self.stats.dropped += 1;
                continue;
            }
            routed.left -= 1;
            self.forward(*routed);
        }
        if let Some(next) = self.hops.next_deadline() {
            self.timers.set(Timer::Hops, next);
        }
    }

    /// A link is gone: what it did not acknowledge goes another way.
    pub(crate) fn reroute_around(&mut self, gone: DeviceId) {
        for (_, routed) in self.hops.take(|pending| pending.to == gone) {
            self.forward(*routed);
        }
    }

    /// Where answers find us: our own place, a host's, or that of a peer through which we seek.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let device = self.own_device();
        if let Some(address) = self.address() {
            return Some(Origin { device, address: address.clone() });
        }
        let host = self.links.with_role(Role::Host).find(|link| !link.suspected);
        let entry = || self.entries().first().and_then(|entry| self.links.get(*entry));
        let via = host.or_else(entry)?.chain.as_ref()?;
        Some(Origin { device, address: via.address().clone() })
    }

    /// What passes us that asks for it. An attached peer has no place but its host's.
    fn stamp(&self, routed: &mut Routed) {
        if let Body::Trace(trace) = &mut routed.body
            && trace.passed.len() < TRACE_MAX
            && let Some(Origin { device, address }) = self.origin()
        {
            trace.passed.push(Passed { device, address });
        }
    }

    /// Whether a linked peer passes messages on for us.
    pub(crate) fn forwards(&self, link: &Link) -> bool {
        match link.role {
            Role::Parent | Role::Child | Role::Extra | Role::Host => true,
            Role::Guest => false,
            Role::Passing => self.tree.chain.is_none(),
        }
    }
}
