//! Signs of life along tree edges.
//!
//! Beats say that a neighbour lives, and whether its way to a living root is whole. One that was
//! not heard for too long is probed, and the link of one that does not answer that is over.

use cloak_base::DeviceId;

use crate::event::Code;
use crate::message::{Beat, Message, Refusal};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

impl Overlay {
    /// A beat along a tree edge, or a keepalive.
    pub(crate) fn on_beat(&mut self, from: DeviceId, beat: Beat) {
        let Some(link) = self.links.get_mut(from) else { return };
        let was_rooted = link.rooted;
        (link.room, link.rooted) = (beat.room, beat.rooted);
        match link.role {
            Role::Parent => self.set_rooted(beat.rooted),
            Role::Host if beat.rooted && !was_rooted => self.touch_soon(),
            // It may take us for its parent or child, and is not ours.
            Role::Passing => self.send(from, Message::Refused(Refusal::NoPlace)),
            _ => {}
        }
    }

    pub(crate) fn on_beat_due(&mut self) {
        if self.tree.chain.is_none() {
            return;
        }
        let beat = self.beat();
        let (now, silent) = (self.now, self.config.silent_after);
        let mut silenced = Vec::new();
        for link in self.links.iter() {
            if matches!(link.role, Role::Parent | Role::Child) {
                self.out.push_back((link.device(), Message::Beat(beat)));
                if now.since(link.heard) > silent {
                    silenced.push(link.device());
                }
            }
        }
        for device in silenced {
            self.probe(device);
        }
        self.watch_majority();
        self.ask_for_records();
        let next = self.jittered(self.config.beat_every);
        self.timers.set(Timer::Beat, next);
    }

    pub(crate) fn beat(&self) -> Beat {
        Beat { room: self.room(), rooted: self.tree.rooted }
    }

    /// Our way to a living root changed; all neighbours hear it at once, for what is below us hangs
    /// on it, and the others may be sending seekers to us.
    pub(crate) fn set_rooted(&mut self, rooted: bool) {
        if self.tree.rooted == rooted {
            return;
        }
        self.tree.rooted = rooted;
        self.tree.unrooted_since = (!rooted).then_some(self.now);
        if rooted {
            self.touch_soon();
        }
        let beat = self.beat();
        for link in self.links.iter().filter(|link| link.role != Role::Parent) {
            self.out.push_back((link.device(), Message::Beat(beat)));
        }
    }

    /// Asks a silent peer for a sign of life.
    pub(crate) fn probe(&mut self, device: DeviceId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(device) else { return };
        if link.probed.is_none() {
            link.probed = Some(now);
            self.send(device, Message::Probe);
            self.timers.set_earlier(Timer::Probes, now + self.config.probe_timeout);
        }
    }

    pub(crate) fn on_probes_due(&mut self) {
        let (now, limit) = (self.now, self.config.probe_timeout);
        let late = |link: &crate::links::Link| link.probed.is_some_and(|at| at + limit <= now);
        for device in self.links.devices(late) {
            self.hang_up(device, Code::Silent);
        }
        if let Some(first) = self.links.iter().filter_map(|link| link.probed).min() {
            self.timers.set(Timer::Probes, first + limit);
        }
    }
}
