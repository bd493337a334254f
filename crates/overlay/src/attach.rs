//! Peers that others cannot dial, and those that host them.
//!
//! An attached peer takes no place in the tree, holds no records and passes nothing on. Its address
//! is a host's address and its own id; its hosts pass on what it asks, and what is for it.

use cloak_base::DeviceId;

use crate::event::Event;
use crate::message::{Message, Refusal, Want};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// What an attached peer told its driver of its hosts.
#[derive(Default)]
pub(crate) struct Attachment {
    told: Vec<DeviceId>,
}

impl Overlay {
    /// Others can dial us from now on, or no longer.
    pub(crate) fn reachability(&mut self, confirmed: bool) {
        match (confirmed, self.reachable) {
            (true, None) => {
                self.reachable = Some(self.now);
                self.promote();
            }
            (false, Some(_)) => {
                self.reachable = None;
                self.seek = None;
                if self.tree.chain.is_some() {
                    self.lose_place();
                } else {
                    self.find_place();
                }
            }
            _ => {}
        }
    }

    /// An attached or seeking peer that may take a place in the tree looks for one.
    pub(crate) fn promote(&mut self) {
        let looking = self.seek.as_ref().is_some_and(|seek| seek.want == Want::Place);
        if self.running && self.tree.chain.is_none() && self.may_be_inner() && !looking {
            let since = self.seek.take().map(|seek| seek.since);
            self.find_place();
            // Who has found no tree for long as a guest need not begin to wait as a founder.
            if let (Some(seek), Some(since)) = (&mut self.seek, since) {
                seek.since = since;
            }
        }
    }

    /// Places for guests that are left.
    pub(crate) fn guest_room(&self) -> u8 {
        let left = self.config.guests_max.saturating_sub(self.links.count(Role::Guest));
        u8::try_from(left).unwrap_or(u8::MAX)
    }

    pub(crate) fn on_host_ask(&mut self, from: DeviceId) {
        let again = self.links.get(from).is_some_and(|link| link.role == Role::Guest);
        let passing = self.links.get(from).is_some_and(|link| link.role == Role::Passing);
        let consent = self.tree.chain.is_some() && self.tree.rooted && self.guest_room() > 0;
        if again || (passing && consent) {
            self.set_role(from, Role::Guest);
            self.send(from, Message::HostYes);
        } else {
            self.send(from, Message::Refused(Refusal::Full));
        }
    }

    pub(crate) fn on_host_yes(&mut self, from: DeviceId) {
        if !self.seek_asked(from) || self.tree.chain.is_some() {
            return self.send(from, Message::Release);
        }
        self.seek = None;
        self.timers.clear(Timer::Seek);
        self.set_role(from, Role::Host);
        self.hosts_changed();
        let keepalive = self.jittered(self.config.keepalive_every);
        self.timers.set_earlier(Timer::Keepalive, keepalive);
        if self.links.count(Role::Host) < self.config.hosts {
            self.begin_seek(Want::Host);
        } else {
            self.promote();
        }
    }

    /// A host has another place, or none.
    pub(crate) fn host_greeted(&mut self, from: DeviceId) {
        if self.links.get(from).is_some_and(|link| link.chain.is_none()) {
            self.set_role(from, Role::Passing);
            return self.host_lost();
        }
        self.attachment.told.clear();
        self.hosts_changed();
    }

    pub(crate) fn host_lost(&mut self) {
        self.hosts_changed();
        if self.links.count(Role::Host) < self.config.hosts {
            self.find_place();
        }
    }

    /// In the tree we need no hosts.
    pub(crate) fn release_hosts(&mut self) {
        for host in self.links.devices(|link| link.role == Role::Host) {
            self.set_role(host, Role::Passing);
            self.send(host, Message::Release);
        }
        self.attachment.told.clear();
    }

    /// Ends an extra link, or the relation of host and guest.
    pub(crate) fn on_release(&mut self, from: DeviceId) {
        let Some(role) = self.links.get(from).map(|link| link.role) else { return };
        if matches!(role, Role::Extra | Role::Guest | Role::Host) {
            self.set_role(from, Role::Passing);
        }
        if role == Role::Host {
            self.host_lost();
        }
    }

    /// Keepalives on extra links and to hosts; whoever is silent for too long is probed.
    pub(crate) fn on_keepalive_due(&mut self) {
        let (now, silent) = (self.now, self.config.keepalive_every * 3 / 2);
        let kept =
            |link: &crate::links::Link| matches!(link.role, Role::Extra | Role::Host | Role::Guest);
        let beat = Message::Beat(self.beat());
        for device in self.links.devices(kept) {
            let late = self.links.get(device).is_some_and(|link| now.since(link.heard) > silent);
            if late {
                self.probe(device);
            }
            self.out.push_back((device, beat.clone()));
        }
        let next = self.jittered(self.config.keepalive_every);
        self.timers.set(Timer::Keepalive, next);
    }

    /// Tells the driver of a change, once there is one.
    fn hosts_changed(&mut self) {
        let hosts = self.links.devices(|link| link.role == Role::Host);
        if self.tree.chain.is_none() && self.attachment.told != hosts {
            self.attachment.told = hosts;
            self.stats.placed += 1;
            self.events.push_back(Event::Placed(self.place()));
        }
    }
}
