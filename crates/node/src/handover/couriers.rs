//! Lanes for something else than a session, which are promised by tickets in the sessions' line.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cloak_base::SessionId;
use tokio::sync::oneshot;

use crate::lane::Lane;
use crate::peer::Peer;
use crate::sync::lock;

/// Who waits for a lane, by ticket. Each leaves by itself when it goes.
#[derive(Default)]
pub(crate) struct Couriers(Mutex<BTreeMap<SessionId, oneshot::Sender<Lane>>>);

/// A place in the line.
pub(crate) struct Waiting<'c> {
    couriers: &'c Couriers,
    ticket: SessionId,
    peer: &'c Peer,
    lane: oneshot::Receiver<Lane>,
}

impl Couriers {
    /// Waits in a peer's line with a ticket that nobody else has.
    pub(crate) fn wait<'c>(&'c self, ticket: SessionId, peer: &'c Peer) -> Waiting<'c> {
        let (sender, lane) = oneshot::channel();
        lock(&self.0).insert(ticket, sender);
        Waiting { couriers: self, ticket, peer, lane }
    }

    /// Gives a lane to whoever has the ticket.
    ///
    /// # Errors
    /// The lane, where nobody has it any more.
    pub(crate) fn give(&self, ticket: SessionId, lane: Lane) -> Result<(), Box<Lane>> {
        match lock(&self.0).remove(&ticket) {
            Some(waiting) => waiting.send(lane).map_err(Box::new),
            None => Err(Box::new(lane)),
        }
    }
}

impl Waiting<'_> {
    /// The lane, when there is one.
    pub(crate) async fn lane(mut self) -> Option<Lane> {
        (&mut self.lane).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.couriers.0).remove(&self.ticket);
        self.peer.forget(self.ticket);
    }
}
