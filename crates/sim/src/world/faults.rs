//! What goes wrong: deaths, sleep, partitions. The peers are not told.

use cloak_overlay::{Input, Place};

use super::World;
use crate::journal::Kind;
use crate::peer::PeerId;

impl World {
    /// A peer dies without a word. Its links stay as they are at the other ends.
    pub fn kill(&mut self, peer: PeerId) {
        if !self.peers[peer.index()].is_alive() {
            return;
        }
        self.note(peer, Kind::Death, 0);
        let one = &mut self.peers[peer.index()];
        one.overlay = None;
        one.links = Vec::new();
        one.armed = None;
        one.asleep = false;
        one.rest.place = Place::Seeking;
    }

    /// A peer falls asleep: it neither hears nor says anything.
    pub fn sleep(&mut self, peer: PeerId) {
        if self.peers[peer.index()].is_awake() {
            self.note(peer, Kind::Sleep, 0);
            self.peers[peer.index()].asleep = true;
        }
    }

    /// A peer wakes up, and finds the links broken over which somebody tried to reach it.
    pub fn wake(&mut self, peer: PeerId) {
        let one = &mut self.peers[peer.index()];
        if !one.asleep {
            return;
        }
        one.asleep = false;
        one.armed = None;
        one.links.retain(|half| half.told);
        let broken: Vec<_> = one.links.iter().filter(|half| half.broken).copied().collect();
        self.note(peer, Kind::Wake, 0);
        self.feed(peer, Input::Woke);
        for half in broken {
            self.on_link_down(peer, half.peer, half.link);
        }
    }

    /// Cuts the network: peers with different numbers no longer hear one another.
    pub fn partition(&mut self, side: impl Fn(PeerId) -> u8) {
        self.partitioned = true;
        for peer in self.ids() {
            let side = side(peer);
            self.note(peer, Kind::Side, u64::from(side));
            self.peers[peer.index()].side = side;
        }
    }

    /// Puts one more peer on a side of the cut network.
    pub fn put_on_side(&mut self, peer: PeerId, side: u8) {
        self.note(peer, Kind::Side, u64::from(side));
        self.peers[peer.index()].side = side;
    }

    /// A peer's owner says that it can be dialled.
    pub fn confirm_reachability(&mut self, peer: PeerId) {
        self.on_reachability(peer);
    }

    /// Makes the network whole again. Links over which something was lost stay broken.
    pub fn heal(&mut self) {
        self.partitioned = false;
        for peer in self.ids() {
            self.peers[peer.index()].side = 0;
        }
    }

    /// Whether nothing passes between two peers.
    pub(super) fn cut(&self, a: PeerId, b: PeerId) -> bool {
        self.partitioned && self.peers[a.index()].side != self.peers[b.index()].side
    }
}
