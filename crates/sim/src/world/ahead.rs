//! A look at what the next events will need.
//!
//! The state of a hundred thousand peers does not fit into any cache, and an event that finds
//! nothing of its peer there waits for memory a dozen times in a row. Here the events of one bucket
//! of the queue take the first steps of their ways side by side, so that they wait together. It
//! changes nothing: without it a run is the same, and takes longer.

use std::hint::black_box;

use super::{Event, World};
use crate::peer::PeerId;

impl World {
    /// Brings what the events at hand begin with into the cache, one step of all after the other.
    pub(super) fn look_ahead(&self) {
        for (peer, with) in self.ahead() {
            black_box((self.peers[peer.index()].armed, with.map(|with| self.device(with))));
        }
        for (peer, _) in self.ahead() {
            let one = &self.peers[peer.index()];
            black_box(one.overlay.as_ref().and_then(|overlay| overlay.poll_timeout()));
            for half in &one.links {
                black_box(half.told);
            }
        }
        for (peer, with) in self.ahead() {
            let overlay = self.peers[peer.index()].overlay.as_ref();
            black_box(overlay.zip(with).and_then(|(one, with)| one.heard(self.device(with))));
        }
    }

    /// At whom the events at hand happen, and who is at the other end of the link.
    fn ahead(&self) -> impl Iterator<Item = (PeerId, Option<PeerId>)> {
        self.queue.present().map(|event| match *event {
            Event::Message { to, from, .. } => (to, Some(from)),
            Event::LinkUp { peer, with, .. } | Event::LinkDown { peer, with, .. } => {
                (peer, Some(with))
            }
            Event::Accept { listener: peer, .. }
            | Event::Timer { peer }
            | Event::DialFailed { peer, .. }
            | Event::Reachability { peer } => (peer, None),
        })
    }
}
