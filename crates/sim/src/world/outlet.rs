//! The drain of a peer: what its state machine says becomes events.

use cloak_base::DeviceId;
use cloak_overlay::{Contact, Event as Said, Input, Message, Outlet, Place, drain};

use super::{Answer, World};
use crate::peer::PeerId;

/// Where one peer is drained into.
struct Drain<'a> {
    world: &'a mut World,
    peer: PeerId,
    /// What it wants of its driver, done after the drain.
    wishes: Vec<Wish>,
}

enum Wish {
    Dial(Contact),
    Hangup(DeviceId),
}

impl World {
    /// One input, then all outputs.
    pub(super) fn feed(&mut self, peer: PeerId, input: Input) {
        let now = self.now;
        let Some(mut overlay) = self.peers[peer.index()].overlay.take() else { return };
        overlay.handle(now, input);
        let mut outlet = Drain { world: self, peer, wishes: Vec::new() };
        drain(&mut overlay, &mut outlet);
        let wishes = outlet.wishes;
        let due = overlay.poll_timeout();
        self.peers[peer.index()].overlay = Some(overlay);
        self.arm(peer, due);
        for wish in wishes {
            match wish {
                Wish::Dial(contact) => self.dial(peer, &contact),
                Wish::Hangup(device) => self.hang_up(peer, &device),
            }
        }
    }

    fn on_placed(&mut self, peer: PeerId, place: Place) {
        let now = self.now;
        let one = &mut self.peers[peer.index()].rest;
        one.place = place;
        one.placed_at = now;
    }
}

impl Outlet for Drain<'_> {
    fn transmit(&mut self, to: DeviceId, message: Message) {
        let Some(to) = self.world.find(&to) else { return };
        let own = self.world.device(self.peer);
        let malice = self.world.peer(self.peer).nature.malice;
        if let Some(message) = malice.corrupt(own, message) {
            self.world.send(self.peer, to, message);
        }
    }

    fn handle_event(&mut self, event: Said) {
        match event {
            Said::Dial { contact } => self.wishes.push(Wish::Dial(contact)),
            Said::Hangup { device, .. } => self.wishes.push(Wish::Hangup(device)),
            Said::Misbehaved { device, .. } => {
                self.wishes.push(Wish::Hangup(device));
                self.answer(event);
            }
            Said::Placed(place) => self.world.on_placed(self.peer, place),
            said => self.answer(said),
        }
    }
}

impl Drain<'_> {
    fn answer(&mut self, said: Said) {
        let at = self.world.now;
        self.world.answers.push(Answer { at, peer: self.peer, said });
    }
}
