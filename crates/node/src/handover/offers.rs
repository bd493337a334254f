//! Sessions that other entities would hand over to us, and whether we want them.
//!
//! An offer stands for as long as the lane on which it came: who made it may think better of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_base::{DeviceId, SessionId};
use cloak_identity::Name;
use cloak_session::Role;
use cloak_wire::{Code, Frame, Offer, Target};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::hello::{flush, receive};
use crate::lane::Lane;
use crate::registry::SessionHandle;
use crate::shared::Shared;
use crate::sync::lock;

/// How long an offer stands.
pub(super) const OFFER_TIMEOUT: Duration = Duration::from_secs(600);
/// Offers that stand at a time, and those of one device among them.
const OFFERS_MAX: usize = 64;
const OFFERS_PER_DEVICE_MAX: usize = 8;
/// Sessions that were accepted and have not come.
const ACCEPTED_MAX: usize = 64;
/// How long an accepted session may take to come.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// A row of `cloak sessions offers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// The session's id, 32 hexadecimal digits.
    pub id: String,
    /// Name of the entity that offers it.
    pub from: String,
    /// Name of its device.
    pub from_device: String,
    /// Which end it is: `initiator` or `responder`.
    pub role: String,
    /// Name of the entity at the other end.
    pub peer: String,
    /// The service's port; through an exit, the host's.
    pub port: u16,
    /// The host that is reached through an exit; null where it is a service.
    pub host: Option<String>,
    /// When it was offered.
    pub offered_at: String,
}

/// What was offered to us, and what we accepted.
#[derive(Default)]
pub(crate) struct Offers(Mutex<State>);

#[derive(Default)]
struct State {
    standing: BTreeMap<SessionId, Standing>,
    accepted: BTreeMap<SessionId, Accepted>,
}

struct Standing {
    from: DeviceId,
    view: OfferView,
    answer: oneshot::Sender<Result<(), Code>>,
}

struct Accepted {
    from: DeviceId,
    arrived: oneshot::Sender<Result<(), Code>>,
}

/// Forgets that a session was accepted, when nobody waits for it any more.
struct Forget<'o> {
    offers: &'o Offers,
    session: SessionId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.offers.0).accepted.remove(&self.session);
    }
}

impl Offers {
    fn stand(&self, session: SessionId, offer: Standing) -> Result<(), Code> {
        let standing = &mut lock(&self.0).standing;
        let of_device = standing.values().filter(|other| other.from == offer.from).count();
        let is_full = standing.len() >= OFFERS_MAX || of_device >= OFFERS_PER_DEVICE_MAX;
        if is_full || standing.contains_key(&session) {
            return Err(Code::Busy);
        }
        standing.insert(session, offer);
        Ok(())
    }

    fn withdraw(&self, session: SessionId) {
        lock(&self.0).standing.remove(&session);
    }

    /// The offers that stand, oldest first.
    pub(super) fn views(&self) -> Vec<OfferView> {
        let mut all: Vec<_> =
            lock(&self.0).standing.values().map(|offer| offer.view.clone()).collect();
        all.sort_by(|a, b| (&a.offered_at, &a.id).cmp(&(&b.offered_at, &b.id)));
        all
    }

    /// The sessions on offer whose id begins with `prefix`.
    pub(super) fn find(&self, prefix: &str) -> Vec<SessionId> {
        let state = lock(&self.0);
        let found = state.standing.keys().filter(|id| id.to_string().starts_with(prefix));
        found.copied().collect()
    }

    /// Says no.
    pub(super) fn refuse(&self, session: SessionId) -> bool {
        let offer = lock(&self.0).standing.remove(&session);
        offer.is_some_and(|offer| offer.answer.send(Err(Code::NotAllowed)).is_ok())
    }

    /// Says yes, and waits until the session is here.
    ///
    /// # Cancel safety
    /// Dropping the future declines what has not come.
    pub(super) async fn accept(&self, session: SessionId) -> Result<(), Code> {
        let (arrived, arrival) = oneshot::channel();
        {
            let state = &mut *lock(&self.0);
            let offer = state.standing.remove(&session).ok_or(Code::Gone)?;
            if state.accepted.len() >= ACCEPTED_MAX {
                return Err(Code::Busy);
            }
            state.accepted.insert(session, Accepted { from: offer.from, arrived });
            if offer.answer.send(Ok(())).is_err() {
                state.accepted.remove(&session);
                return Err(Code::Gone);
            }
        }
        let _accepted = Forget { offers: self, session };
        let arrived = timeout(ARRIVAL_TIMEOUT, arrival).await;
        arrived.map_err(|_| Code::Timeout)?.unwrap_or(Err(Code::Gone))
    }

    /// Whether a session was accepted from this device.
    pub(super) fn is_accepted(&self, session: SessionId, from: DeviceId) -> bool {
        lock(&self.0).accepted.get(&session).is_some_and(|accepted| accepted.from == from)
    }

    /// An accepted session is here, or will not come.
    pub(super) fn arrived(&self, session: SessionId, result: Result<(), Code>) {
        if let Some(accepted) = lock(&self.0).accepted.remove(&session) {
            let _ = accepted.arrived.send(result);
        }
    }
}

impl Shared {
    /// Asks a device of another entity whether it wants a session; waits for the answer of its user.
    pub(super) async fn offer(
        self: &Arc<Self>,
        handle: &SessionHandle,
        to: DeviceId,
    ) -> Result<(), Code> {
        let mut lane = self.courier(&self.peer(to)).await?;
        let offer = Offer {
            session: handle.id,
            initiator: handle.role == Role::Initiator,
            target: handle.target.clone(),
            peer: handle.peer().entity_name(),
        };
        lane.connection.queue(&Frame::Offer(Box::new(offer)));
        match timeout(OFFER_TIMEOUT, receive(&mut lane.connection)).await {
            Err(_) => Err(Code::Timeout),
            Ok(Ok(Frame::Answer { code })) => {
                self.release(lane);
                code.map_or(Ok(()), Err)
            }
            Ok(Ok(Frame::Close { code })) => Err(code),
            Ok(Ok(_)) => Err(Code::Violation),
            Ok(Err(_)) => Err(Code::PeerUnreachable),
        }
    }

    /// Keeps an offer until somebody answers it here, or who made it goes away.
    pub(crate) async fn keep_offer(self: &Arc<Self>, mut lane: Lane, offer: Offer) -> Option<Lane> {
        let session = offer.session;
        let answer = match self.stand_offer(&lane, offer) {
            Err(code) => Err(code),
            Ok(mut answer) => {
                let answered = tokio::select! {
                    biased;
                    answered = &mut answer => answered.unwrap_or(Err(Code::ShuttingDown)),
                    // Nothing may come before the answer: it is the end of the lane.
                    _ = receive(&mut lane.connection) => {
                        self.offers.withdraw(session);
                        return None;
                    }
                    () = tokio::time::sleep(OFFER_TIMEOUT) => Err(Code::Timeout),
                };
                self.offers.withdraw(session);
                answered
            }
        };
        lane.connection.queue(&Frame::Answer { code: answer.err() });
        flush(&mut lane.connection).await.ok()?;
        Some(lane)
    }

    fn stand_offer(
        &self,
        lane: &Lane,
        offer: Offer,
    ) -> Result<oneshot::Receiver<Result<(), Code>>, Code> {
        let peer = &lane.peer;
        self.standing(peer)?;
        if self.is_draining() {
            return Err(Code::ShuttingDown);
        }
        let is_name = Name::parse(&offer.peer).is_ok();
        let is_host = |host: &str| host.chars().all(|c| c.is_ascii_graphic());
        if !is_name || matches!(&offer.target, Target::Host(host, _) if !is_host(host)) {
            return Err(Code::BadName);
        }
        let (host, port) = match offer.target {
            Target::Service(port) => (None, port),
            Target::Host(host, port) => (Some(host), port),
        };
        let view = OfferView {
            id: offer.session.to_string(),
            from: peer.entity_name(),
            from_device: peer.name(),
            role: if offer.initiator { "initiator" } else { "responder" }.to_owned(),
            peer: offer.peer,
            port,
            host,
            offered_at: self.clock.wall().to_string(),
        };
        let (answer, answered) = oneshot::channel();
        let from = peer.device();
        self.offers.stand(offer.session, Standing { from, view, answer })?;
        if peer.may_log(self.clock.now()) {
            tracing::info!(from = %peer.name(), session = %offer.session.fmt_short(), "a session is offered");
        }
        Ok(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(from: u8) -> (Standing, oneshot::Receiver<Result<(), Code>>) {
        let (answer, answered) = oneshot::channel();
        let text = String::new;
        let view = OfferView {
            id: text(),
            from: text(),
            from_device: text(),
            role: text(),
            peer: text(),
            port: 1,
            host: None,
            offered_at: text(),
        };
        (Standing { from: DeviceId::from_bytes([from; 32]), view, answer }, answered)
    }

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; 16])
    }

    #[test]
    fn one_device_takes_few_of_the_places() {
        let offers = Offers::default();
        let stand = |number, from| offers.stand(session(number), standing(from).0);
        assert!((0..8).all(|number| stand(number, 1).is_ok()));
        assert_eq!(
            (stand(8, 1), stand(9, 2), stand(9, 3)),
            (Err(Code::Busy), Ok(()), Err(Code::Busy))
        );
        assert!((10..65).all(|number| stand(number, number).is_ok()));
        assert_eq!(stand(100, 200), Err(Code::Busy), "all places are taken");
    }

    #[tokio::test]
    async fn an_accepted_session_is_awaited_from_who_offered_it() {
        let offers = Offers::default();
        let (offer, answered) = standing(1);
        offers.stand(session(1), offer).unwrap();
        let arrival = offers.accept(session(1));
        let device = |number| DeviceId::from_bytes([number; 32]);
        let comes = async {
            assert_eq!(answered.await, Ok(Ok(())));
            assert!(!offers.is_accepted(session(1), device(2)), "from somebody else");
            assert!(offers.is_accepted(session(1), device(1)));
            offers.arrived(session(1), Ok(()));
        };
        assert_eq!(tokio::join!(arrival, comes).0, Ok(()));
        assert!(!offers.is_accepted(session(1), device(1)), "once");
        assert_eq!(offers.accept(session(1)).await, Err(Code::Gone));
    }
}
