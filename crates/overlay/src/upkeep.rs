//! What is done from time to time, and at the ends: sweeping, waking, leaving.

use std::time::Duration;

use crate::event::Code;
use crate::limits::LINKS_MAX;
use crate::links::Link;
use crate::message::Message;
use crate::overlay::{Overlay, SWEEP_EVERY};
use crate::snapshot::{Holding, Neighbour, Role, Snapshot};
use crate::timers::Timer;

/// A passing link that was of no use for this long is ended.
const UNUSED_AFTER: Duration = Duration::from_secs(30);
/// Where the links are as many as they may be, one of no use for this long makes room for another
/// that came by itself.
const SPARED_FOR: Duration = Duration::from_secs(1);

impl Overlay {
    pub(crate) fn on_sweep_due(&mut self) {
        let next = self.jittered(SWEEP_EVERY);
        self.timers.set(Timer::Sweep, next);
        self.sweep_store();
        self.release_unused();
        self.forgive_firsts();
        self.promote();
        let hosts = self.links.count(Role::Host);
        if self.tree.chain.is_none() && self.seek.is_none() && hosts < self.config.hosts {
            self.find_place();
        }
    }

    /// Ends links whose peers have nothing to do with us any more.
    fn release_unused(&mut self) {
        let now = self.now;
        let unused = |link: &Link| is_passing(link) && now.since(link.used) > UNUSED_AFTER;
        for device in self.links.devices(unused) {
            self.hang_up(device, Code::Unused);
        }
    }

    /// Room for one more link: the passing one that said nothing for the longest makes it. After many
    /// deaths orphans claim from one arbiter, and the nominees that it dials must not find it full.
    pub(crate) fn make_room(&mut self, is_dialled: bool) -> bool {
        if self.links.len() < LINKS_MAX {
            return true;
        }
        let spare = if is_dialled { Duration::ZERO } else { SPARED_FOR };
        let last = |link: &Link| link.used.max(link.heard);
        let passing = self.links.iter().filter(|link| is_passing(link));
        let unused = passing.filter(|link| self.now.since(last(link)) >= spare);
        let Some(device) = unused.min_by_key(|link| last(link)).map(Link::device) else {
            return false;
        };
        self.hang_up(device, Code::Unused);
        true
    }

    /// Time passed that we did not see: every neighbour must show that it is there.
    pub(crate) fn woke(&mut self) {
        for device in self.links.devices(|_| true) {
            self.probe(device);
        }
        self.republish();
        for timer in [Timer::Beat, Timer::Keepalive] {
            if self.tree.chain.is_some() || timer == Timer::Keepalive {
                self.timers.set_earlier(timer, self.now);
            }
        }
        self.timers.set_earlier(Timer::Explore, self.now);
    }

    /// Goes in order: our parent binds what we did, and our place has an heir.
    pub(crate) fn leave(&mut self) {
        self.running = false;
        self.seek = None;
        if let Some(parent) = self.tree.parent {
            self.hand_over(parent);
            self.send(parent, Message::Leaving);
        } else if self.tree.is_root() {
            self.yield_root();
        }
        for child in self.tree.children.clone() {
            self.send(child.device, Message::Leaving);
        }
        for device in
            self.links.devices(|link| matches!(link.role, Role::Extra | Role::Guest | Role::Host))
        {
            self.send(device, Message::Release);
        }
        self.tree.parent = None;
        self.forget_place();
        self.timers = crate::timers::Timers::default();
    }

    /// What it shows of itself.
    pub fn snapshot(&self) -> Snapshot {
        let neighbours = self.links.iter().map(|link| Neighbour {
            device: link.device(),
            role: link.role,
            address: link.address.clone(),
            suspected: link.suspected,
        });
        let held = self.store.iter().map(|(point, key, entry)| Holding {
            key: key.clone(),
            point: point.clone(),
            record: entry.record.clone(),
            copy: !self.binds(point),
        });
        Snapshot {
            place: self.place(),
            rooted: self.tree.rooted,
            warming: self.tree.warming.is_some(),
            parent: self.tree.parent,
            neighbours: neighbours.collect(),
            held: held.collect(),
            stats: self.stats,
        }
    }
}

fn is_passing(link: &Link) -> bool {
    link.role == Role::Passing
}
