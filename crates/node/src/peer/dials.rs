//! Places that lanes and dials take at a peer, each given back when its holder is dropped.
//!
//! A dial has a place until the peer's `Hello` has come, in the task's hands or, once it is lent, in
//! a session's. A lane that awaits the peer's next session has one for as long as it waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloak_wire::Code;

use super::{Peer, PeerCommand};

/// Dials in flight to one peer device, whoever asked for them, that of the channel included.
pub(crate) const DIALS_MAX: usize = 32;
/// Lanes of one peer device that await its next session, at most.
const PARKED_MAX: usize = 128;

/// The place of a lane that is being dialled.
pub(crate) struct Dial(Arc<Peer>);

impl Dial {
    fn begin(peer: &Arc<Peer>) -> Self {
        peer.dials.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(peer))
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        self.0.dials.fetch_sub(1, Ordering::Relaxed);
        self.0.wanted.notify_one();
    }
}

/// A dial that goes on in a session's hands. The peer's task is told how it ends.
pub(crate) struct Lent {
    dial: Dial,
    greeting: Greeting,
}

impl Lent {
    /// It ended.
    pub(crate) fn end(mut self, greeting: Greeting) {
        self.greeting = greeting;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.dial.0.tell(PeerCommand::Greeted(self.greeting));
    }
}

/// How the greeting on a lent lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The peer's `Hello` was verified.
    Verified,
    /// The connection broke before, or the peer refused us.
    Failed(Code),
    /// The session found a better lane.
    Abandoned,
}

/// The place of a parked lane.
pub(crate) struct Parked<'a>(&'a Peer);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    /// A place for one more lane to be dialled, while there is one.
    pub(crate) fn begin_dial(self: &Arc<Self>, most: usize) -> Option<Dial> {
        // A place that is taken and given back would wake the task that asks, which asks again.
        let one_more = |dials| (dials < most).then_some(dials + 1);
        let taken = self.dials.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Dial(Arc::clone(self)))
    }

    /// A dial goes on in a session's hands until the peer's `Hello` has come.
    pub(crate) fn lend(self: &Arc<Self>) -> Lent {
        Lent { dial: Dial::begin(self), greeting: Greeting::Abandoned }
    }

    /// A place for a lane that awaits the peer's next session, while there is one.
    pub(crate) fn park(&self) -> Option<Parked<'_>> {
        let parked = self.parked.fetch_add(1, Ordering::Relaxed);
        let place = Parked(self);
        (parked < PARKED_MAX).then_some(place)
    }
}
