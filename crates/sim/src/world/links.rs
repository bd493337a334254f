//! Links: dials that take round trips, messages in order, ends that are noticed late or never.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_overlay::{Contact, Input, Message};

use super::{Event, World};
use crate::journal::Kind;
use crate::peer::{Half, LinkId, PeerId};

/// A dial that nobody answers is given up after this time.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// One-way trips until the listener has a link: TCP's three, TLS's finish with the Hello.
const TRIPS_TO_ACCEPT: u32 = 5;
/// A neighbour has told us after so many one-way trips whether it could dial us back.
const TRIPS_TO_DIAL_BACK: u32 = 7;
/// What a lost packet costs: TCP's shortest retransmission timeout, and a round trip.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);
/// The driver's own probes find a link broken within this time: from, to.
const BROKEN_NOTICED: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(25));

impl World {
    /// Dials. The listener decides when the dial gets there.
    pub(super) fn dial(&mut self, dialler: PeerId, contact: &Contact) {
        let begun = self.now;
        let Some(listener) = self.directory.find(&contact.device) else {
            let device = contact.device;
            return self
                .queue
                .push(begun + DIAL_TIMEOUT, Event::DialFailed { peer: dialler, device });
        };
        let accept = begun + self.latency(dialler, listener) * TRIPS_TO_ACCEPT;
        self.queue.push(accept, Event::Accept { dialler, listener, begun });
    }

    pub(super) fn on_accept(&mut self, dialler: PeerId, listener: PeerId, begun: Instant) {
        if !self.peers[dialler.index()].is_awake() {
            return;
        }
        let open = self.peers[listener.index()].nature.reachable
            && self.peers[listener.index()].is_awake()
            && !self.cut(dialler, listener);
        if !open {
            let (device, at) = (self.device(listener), (begun + DIAL_TIMEOUT).max(self.now));
            return self.queue.push(at, Event::DialFailed { peer: dialler, device });
        }
        if !self.is_linked(dialler, listener) {
            self.link(dialler, listener);
        }
    }

    /// Both ends come into being; the dialler hears of it one trip later.
    fn link(&mut self, dialler: PeerId, listener: PeerId) {
        let link = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(1);
        let up = self.now + self.latency(dialler, listener);
        for (end, other) in [(dialler, listener), (listener, dialler)] {
            let dialled = end == dialler;
            let half =
                Half { peer: other, link, clear_at: up, told: false, broken: false, dialled };
            let before = self.peers[end.index()].put_half(half);
            if let Some(half) = self.peers[end.index()].half_mut(other) {
                half.told = before.is_some_and(|before| before.told);
            }
        }
        self.queue.push(up, Event::LinkUp { peer: dialler, with: listener, link });
        self.on_link_up(listener, dialler, link);
        // What the listener said at once is already on its way, behind the news of the link.
    }

    pub(super) fn on_link_up(&mut self, peer: PeerId, with: PeerId, link: LinkId) {
        let one = &mut self.peers[peer.index()];
        if !one.is_awake() {
            return;
        }
        let Some(half) = one.half_mut(with).filter(|half| half.link == link) else { return };
        let replaces = std::mem::replace(&mut half.told, true);
        let dialled = half.dialled;
        if replaces {
            self.note(peer, Kind::LinkDown, u64::from(with.0));
            self.feed(peer, Input::LinkDown { device: self.device(with) });
        }
        self.note(peer, Kind::LinkUp, u64::from(with.0));
        let other = &self.peers[with.index()].rest;
        let (contact, standing) = (other.contact.clone(), other.standing);
        self.feed(peer, Input::LinkUp { contact, standing });
        self.tell_reachability(peer, with, dialled);
    }

    /// Ends a link from one side, in order: the other side hears of it one trip later.
    pub(super) fn hang_up(&mut self, peer: PeerId, device: &DeviceId) {
        let Some(with) = self.directory.find(device) else { return };
        let Some(half) = self.peers[peer.index()].remove_half(with) else { return };
        let at = (self.now + self.latency(peer, with)).max(half.clear_at);
        if !half.broken {
            self.queue.push(at, Event::LinkDown { peer: with, with: peer, link: half.link });
        }
    }

    pub(super) fn on_link_down(&mut self, peer: PeerId, with: PeerId, link: LinkId) {
        let one = &mut self.peers[peer.index()];
        if !one.is_awake() || one.half(with).is_none_or(|half| half.link != link) {
            return;
        }
        let told = one.remove_half(with).is_some_and(|half| half.told);
        if told {
            self.note(peer, Kind::LinkDown, u64::from(with.0));
            self.feed(peer, Input::LinkDown { device: self.device(with) });
        }
    }

    /// Sends over the link, which keeps the order and may lose everything.
    pub(super) fn send(&mut self, from: PeerId, to: PeerId, message: Message) {
        let bytes = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
        let traffic = &mut self.peers[from.index()].sent;
        traffic.messages += 1;
        traffic.bytes += u64::from(bytes);
        if self.cut(from, to) || self.peers[to.index()].asleep {
            self.break_link(from, to);
        }
        let delay = self.delay(from, to);
        let now = self.now;
        let half = self.peers[from.index()].half_mut(to).filter(|half| !half.broken);
        let Some(half) = half else {
            self.dropped += 1;
            return;
        };
        half.clear_at = half.clear_at.max(now + delay);
        let (at, link) = (half.clear_at, half.link);
        self.queue.push(at, Event::Message { to, from, link, bytes, message });
    }

    pub(super) fn on_message(
        &mut self,
        to: PeerId,
        from: PeerId,
        link: LinkId,
        bytes: u32,
        message: Message,
    ) {
        let one = &self.peers[to.index()];
        let up =
            one.is_awake() && one.half(from).is_some_and(|half| half.link == link && half.told);
        if !up {
            self.dropped += 1;
            return;
        }
        self.note(to, Kind::Message, u64::from(from.0) << 32 | u64::from(bytes));
        self.feed(to, Input::Message { from: self.device(from), message });
    }

    /// Nothing passes any more; both ends notice, but late.
    pub(super) fn break_link(&mut self, a: PeerId, b: PeerId) {
        for (peer, with) in [(a, b), (b, a)] {
            let half = self.peers[peer.index()].half_mut(with).filter(|half| !half.broken);
            let Some(half) = half else { continue };
            half.broken = true;
            let link = half.link;
            let at = self.now + self.rng.duration(BROKEN_NOTICED.0, BROKEN_NOTICED.1);
            self.queue.push(at, Event::LinkDown { peer, with, link });
        }
    }

    /// One-way delay.
    fn latency(&self, a: PeerId, b: PeerId) -> Duration {
        self.geography.latency(self.peers[a.index()].at, self.peers[b.index()].at)
    }

    /// One-way delay of one message, which may have to be sent twice.
    fn delay(&mut self, a: PeerId, b: PeerId) -> Duration {
        let latency = self.latency(a, b);
        let lost = self.rng.chance(self.setup.loss.per_million(), 1_000_000);
        if lost { latency * 3 + RETRANSMIT_AFTER } else { latency }
    }

    /// Whether both ends have the same link, and it works.
    fn is_linked(&self, a: PeerId, b: PeerId) -> bool {
        let half =
            |peer: PeerId, with| self.peers[peer.index()].half(with).filter(|half| !half.broken);
        let (ours, theirs) = (half(a, b), half(b, a));
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours.link == theirs.link)
    }

    fn tell_reachability(&mut self, peer: PeerId, by: PeerId, dialled: bool) {
        if self.peers[peer.index()].told_reachability {
            return;
        }
        let wait =
            if dialled { self.latency(peer, by) * TRIPS_TO_DIAL_BACK } else { Duration::ZERO };
        self.peers[peer.index()].told_reachability = true;
        self.queue.push(self.now + wait, Event::Reachability { peer });
    }
}
