//! What is done from time to time, and at the ends: sweeping, waking, leaving.

use crate::message::Message;
use crate::overlay::{Overlay, SWEEP_EVERY};
use crate::snapshot::{Holding, Neighbour, Role, Snapshot};
use crate::timers::Timer;

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
            warming: self.tree.warming,
            parent: self.tree.parent,
            neighbours: neighbours.collect(),
            held: held.collect(),
            stats: self.stats,
        }
    }
}
