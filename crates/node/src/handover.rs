//! Hands our end of a session over to another device, and takes ends that others hand over.
//!
//! The session's own state machine agrees with the other end on who may own this one (docs/PROTOCOL.md,
//! "Hand-over"). Here is what is between the two devices: a lane on which the capsule goes, its bytes
//! after it, and the answer that the new owner has been accepted. Whatever fails on the way, the other
//! end decides whose the session is, so nothing has to be undone.

mod adopted;
mod api;
mod balance;
mod couriers;
mod drain;
mod export;
mod fetch;
mod keeping;
mod lodging;
mod offers;
mod policy;

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{DeviceId, Instant, SessionId};
use cloak_session::{Role, Session};
use cloak_wire::{Balance, Code, Frame, HandOver, Item, SessionFrame, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api::{Application, Backend, BoxFuture, Incoming, Movable, STATE_MAX};
use crate::config::TAIL_MAX;
use crate::driver::{Driver, Source};
use crate::hello::{flush, receive};
use crate::lane::Lane;
use crate::peer::{Greeting, Peer};
use crate::registry::{Command, Packed, SessionHandle};
use crate::shared::Shared;

pub(crate) use adopted::Adopted;
use adopted::Place;
use api::stays as stays_where_it_is;
pub(crate) use balance::run as balance;
pub(crate) use couriers::Couriers;
pub use drain::Drained;
pub(crate) use keeping::Keeping;
pub(crate) use lodging::Lodging;
pub use offers::OfferView;
pub(crate) use offers::Offers;

/// Hears whether the other end has accepted the new owner.
pub(crate) type Taken = oneshot::Sender<Result<(), Code>>;

/// Time for the other end to agree.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a lane to the next owner, the `Hello`s on it included.
const LANE_TIMEOUT: Duration = Duration::from_secs(8);
/// Time for that, the bytes, and its answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(50);
/// Time for the bytes to arrive.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for the next owner to be accepted by the other end. Shorter than the above, so that the answer
/// arrives.
const TAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an end that was handed over to us asks the other end for it.
const TAKEN_WITHIN: Duration = Duration::from_secs(600);
/// Time for the other end to say whose the session is, after a hand-over that failed.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that an application which has to end its stream may still say, and how long it may take.
const PART_BYTES_MAX: u64 = 16 << 20;
const PART_TIMEOUT: Duration = Duration::from_secs(10);

/// What an application leaves behind for the one that goes on in its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Bytes of the stream that it has not read, or was not given: the next one gets them first.
    pub(crate) unread: Vec<u8>,
    /// Whatever it wants the next one to know.
    pub(crate) state: Vec<u8>,
    /// How many bytes it had not read of those that count as accepted, where that is known. More than there are in
    /// `unread` where not all of them were kept.
    pub(crate) not_read: Option<u64>,
}

impl Shared {
    /// Hands a session over to the device `to`, by a policy or because somebody asked for it.
    ///
    /// # Errors
    /// Why it stays where it is; [`Code::Moving`] where the other end cannot be asked whose it is.
    pub(crate) async fn hand_over(
        self: &Arc<Self>,
        handle: &Arc<SessionHandle>,
        to: DeviceId,
        by: Balance,
    ) -> Result<(), Code> {
        if to == handle.peer().device() || to == self.tls.device() {
            // Nobody would be left to agree with.
            return Err(Code::NotMovable);
        }
        let packed = self.pack(handle, to).await?;
        let generation = packed.capsule.generation;
        let sent = timeout(SEND_TIMEOUT, self.send_end(handle, to, packed, by)).await;
        match sent.unwrap_or(Err(Code::Timeout)) {
            Ok(()) => handle.order(Command::LetGo(generation)).await,
            Err(code) => self.take_back(handle, code).await,
        }
    }

    /// Asks the other end whether a session may go to the device `to`, and packs it.
    async fn pack(
        self: &Arc<Self>,
        handle: &Arc<SessionHandle>,
        to: DeviceId,
    ) -> Result<Packed, Code> {
        let (packing, mut packed) = oneshot::channel();
        handle.order(Command::HandOver(to, packing)).await?;
        let asked = timeout(ASK_TIMEOUT, &mut packed).await;
        match asked {
            Ok(packed) => packed.map_err(|_| Code::Gone)?,
            Err(_) => {
                // It may have come in this very moment; from here on the session's task finds nobody.
                packed.close();
                if let Ok(packed) = packed.try_recv() {
                    return packed;
                }
                handle.order(Command::Withdraw).await?;
                Err(Code::PeerUnreachable)
            }
        }
    }

    /// What goes to the next owner: the capsule, and three parts of bytes.
    fn wrap(
        &self,
        handle: &SessionHandle,
        packed: Packed,
        by: Balance,
    ) -> (HandOver, [Vec<u8>; 3]) {
        let other = handle.peer().device();
        let Packed { capsule, bytes, left: Left { unread, state, not_read } } = packed;
        let parts = [bytes, unread, state];
        let hand_over = HandOver {
            capsule,
            bytes: parts.each_ref().map(|part| part.len() as u64),
            peer: other,
            record: self.directory.record_of(other).map(Into::into),
            opened_at: handle.opened_at,
            // This one is away already, and counts here until somebody else has it.
            load: match (by, &handle.target) {
                (Balance::Load, Target::Service(port)) => Some(self.load(*port) + 1),
                _ => None,
            },
            not_read,
        };
        (hand_over, parts)
    }

    /// The next owner has not said that it has the session: the other end decides.
    async fn take_back(&self, handle: &Arc<SessionHandle>, why: Code) -> Result<(), Code> {
        let (returning, returned) = oneshot::channel();
        handle.order(Command::TakeBack(returning)).await?;
        match timeout(RETURN_TIMEOUT, returned).await {
            Ok(Ok(true)) => Err(why),
            Ok(Ok(false)) => Ok(()),
            Ok(Err(_)) => Err(Code::Gone),
            Err(_) => Err(Code::Moving),
        }
    }

    /// Brings a capsule to the next owner, and waits until the other end has accepted it.
    async fn send_end(
        self: &Arc<Self>,
        handle: &SessionHandle,
        to: DeviceId,
        packed: Packed,
        by: Balance,
    ) -> Result<(), Code> {
        let generation = packed.capsule.generation;
        let (hand_over, parts) = self.wrap(handle, packed, by);
        let mut lane = self.courier(&self.peer(to)).await?;
        lane.connection.queue(&Frame::HandOver(Box::new(hand_over)));
        match receive(&mut lane.connection).await.map_err(|_| Code::PeerUnreachable)? {
            Frame::Answer { code: None } => {}
            Frame::Answer { code: Some(code) } => {
                self.release(lane);
                return Err(code);
            }
            Frame::Close { code } => return Err(code),
            _ => return Err(Code::Violation),
        }
        for part in &parts {
            send_all(&mut lane, part).await.map_err(|_| Code::PeerUnreachable)?;
        }
        let answer = receive(&mut lane.connection).await.map_err(|_| Code::PeerUnreachable)?;
        self.release(lane);
        match answer {
            Frame::HandedOver { generation: theirs } if theirs == generation => Ok(()),
            Frame::Session(SessionFrame::Refused { code }) | Frame::Close { code } => Err(code),
            _ => Err(Code::Violation),
        }
    }

    /// A lane to a device, for something else than a session.
    async fn courier(self: &Arc<Self>, peer: &Arc<Peer>) -> Result<Lane, Code> {
        let lane = timeout(LANE_TIMEOUT, self.courier_lane(peer)).await;
        lane.unwrap_or(Err(Code::PeerUnreachable))
    }

    async fn courier_lane(self: &Arc<Self>, peer: &Arc<Peer>) -> Result<Lane, Code> {
        // Lanes are promised to sessions, by their ids; this one is nobody's.
        let ticket = SessionId::from_bytes(self.random_bytes());
        let waiting = self.couriers.wait(ticket, peer);
        let lane = match peer.want(ticket, self.clock.now()) {
            Some(lane) => Some(lane),
            None => waiting.lane().await,
        };
        let mut lane = lane.ok_or(Code::PeerUnreachable)?;
        if lane.peer_nonce.is_none() {
            let greeted = self.await_hello(&mut lane).await;
            lane.greeted(greeted.map_or_else(Greeting::Failed, |()| Greeting::Verified));
            greeted?;
        }
        Ok(lane)
    }

    async fn await_hello(self: &Arc<Self>, lane: &mut Lane) -> Result<(), Code> {
        match receive(&mut lane.connection).await {
            Ok(Frame::Hello(hello)) => {
                self.check(lane.connection.peer(), &hello)?;
                lane.peer_nonce = Some(hello.nonce);
                Ok(())
            }
            Ok(Frame::Close { code }) => Err(code),
            Ok(_) => Err(Code::Violation),
            Err(_) => Err(Code::PeerUnreachable),
        }
    }

    /// Takes an end that a peer hands over to us: says that it may come, receives it, and answers once the
    /// other end has agreed. The lane is free again then. `None` where the lane is not of use any more.
    pub(crate) async fn receive_end(
        self: &Arc<Self>,
        mut lane: Lane,
        hand_over: HandOver,
    ) -> Option<Lane> {
        let (session, generation) = (hand_over.capsule.session, hand_over.capsule.generation);
        let peer = Arc::clone(&lane.peer);
        let admitted = self.admit_end(&peer, &hand_over);
        lane.connection.queue(&Frame::Answer { code: admitted.as_ref().err().copied() });
        flush(&mut lane.connection).await.ok()?;
        let Ok(place) = admitted else { return Some(lane) };
        let receiving = timeout(RECEIVE_TIMEOUT, receive_bytes(&mut lane, hand_over.bytes));
        let [bytes, unread, state] = receiving.await.ok()??;
        let left = Left { unread, state, not_read: hand_over.not_read };
        let taking = self.take_end(&hand_over, &bytes, left, TAKEN_WITHIN);
        let taken = timeout(TAKE_TIMEOUT, taking).await.unwrap_or(Err(Code::Timeout));
        self.offers.arrived(session, taken);
        drop(place);
        if taken.is_ok() {
            self.keeping.forget(session);
        }
        let answer = match taken {
            Ok(()) => Frame::HandedOver { generation },
            Err(code) => Frame::Session(SessionFrame::Refused { code }),
        };
        lane.connection.queue(&answer);
        flush(&mut lane.connection).await.ok()?;
        Some(lane)
    }

    /// Whether we take what this peer hands over: it is a device of our own entity, or we have accepted
    /// its offer; and this is news.
    fn admit_end(&self, peer: &Peer, hand_over: &HandOver) -> Result<Place<'_>, Code> {
        self.standing(peer)?;
        self.own_standing()?;
        let is_ours = peer.entity() == Some(self.home.entity());
        let session = hand_over.capsule.session;
        if !is_ours && !self.offers.is_accepted(session, peer.device()) {
            return Err(Code::NotAllowed);
        }
        self.admit_news(hand_over)
    }

    /// Whether there is room for an end of a session, and it did not come before.
    fn admit_news(&self, hand_over: &HandOver) -> Result<Place<'_>, Code> {
        if self.is_draining() {
            return Err(Code::ShuttingDown);
        }
        if hand_over.peer == self.tls.device() {
            return Err(Code::NotMovable);
        }
        let limits = [self.session_config().buffer_max, TAIL_MAX, STATE_MAX as u64];
        let is_too_large = hand_over.bytes.iter().zip(limits).any(|(len, most)| *len > most);
        if is_too_large || !self.ledger.admits_new_session() {
            return Err(Code::Busy);
        }
        let HandOver { capsule, peer: other, .. } = hand_over;
        if !hand_over.is_unread_possible() {
            return Err(Code::Malformed);
        }
        if self.sessions.get(*other, capsule.session).is_some() {
            return Err(Code::NotMovable);
        }
        if self.keeping.outdates(capsule.session, capsule.generation) {
            return Err(Code::Moved);
        }
        let place = self.adopted.admit(capsule.session, capsule.generation)?;
        match (hand_over.load, &capsule.target) {
            (Some(theirs), Target::Service(port)) if !self.evens_out(theirs, *port) => {
                Err(Code::Busy)
            }
            _ => Ok(place),
        }
    }

    /// Continues the end here, once the other end has agreed. It is asked for as long as `within`, though whoever
    /// waits for the answer may leave before.
    async fn take_end(
        self: &Arc<Self>,
        hand_over: &HandOver,
        bytes: &[u8],
        mut left: Left,
        within: Duration,
    ) -> Result<(), Code> {
        let HandOver { capsule, peer: other, record, opened_at, .. } = hand_over;
        if let Some(record) = record {
            self.learn(record);
        }
        let peer = self.admit_peer(*other)?;
        let role = if capsule.initiator { Role::Initiator } else { Role::Responder };
        let backend = match role {
            Role::Initiator => None,
            Role::Responder => {
                let state = std::mem::take(&mut left.state);
                let incoming = incoming_from(&peer, capsule.target.clone())?;
                if self.services.movable(&incoming.target) == Movable::No {
                    return Err(Code::NotMovable);
                }
                Some(self.services.take_over(incoming, state).await?)
            }
        };
        let (handle, inbox) = SessionHandle::new(
            capsule.session,
            role,
            Arc::clone(&peer),
            capsule.target.clone(),
            *opened_at,
            String::new(),
        );
        let session = Session::adopt(
            self.clock.now(),
            self.session_config(),
            capsule,
            bytes,
            self.ledger.account(*other),
            self.split_rng(),
        )
        .map_err(|_| Code::Malformed)?;
        let max = crate::sync::read(&self.config).session.sessions_max;
        self.sessions.insert(Arc::clone(&handle), max).map_err(|_| Code::Busy)?;
        // It may have been here before.
        self.unbury(*other, capsule.session);
        self.sessions.came_back(capsule.session);
        let (taken, outcome) = oneshot::channel();
        let driver =
            Driver::new(Arc::clone(self), Arc::clone(&handle), session, Source::Adopted, inbox);
        self.tasks.spawn(driver.adopt(backend, left, taken, within).run());
        // Whoever gave it to us stops waiting; what comes of it the other end decides.
        outcome.await.unwrap_or(Err(Code::Gone))
    }

    /// A backend that goes on where one has left in vain.
    pub(crate) fn backend_after(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: Vec<u8>,
    ) -> BoxFuture<'static, Result<Backend, Code>> {
        let incoming = incoming_from(&handle.peer(), handle.target.clone());
        let services = Arc::clone(&self.services);
        Box::pin(async move { services.take_over(incoming?, state).await })
    }

    /// The other end of a session is with `device` from now on.
    pub(crate) fn move_peer(
        self: &Arc<Self>,
        handle: &Arc<SessionHandle>,
        device: DeviceId,
        now: Instant,
    ) -> Result<Arc<Peer>, Code> {
        let peer = self.peer(device);
        handle.peer().forget(handle.id);
        let before = self.sessions.rehome(handle, Arc::clone(&peer));
        let before = before.map_err(|_| Code::Violation)?;
        self.unbury(device, handle.id);
        if before != device {
            let moved = cloak_session::Tombstone { delivered: 0, code: Code::Superseded };
            self.bury(now, before, handle.id, moved);
        }
        Ok(peer)
    }
}

/// What the service table is asked with.
fn incoming_from(peer: &Peer, target: cloak_wire::Target) -> Result<Incoming, Code> {
    let entity = peer.entity().ok_or(Code::Unauthenticated)?;
    Ok(Incoming { peer: peer.entity_name(), entity, device: peer.device(), target })
}

/// Sends `bytes` as `Data`, no faster than the lane takes them.
async fn send_all(lane: &mut Lane, mut bytes: &[u8]) -> std::io::Result<()> {
    flush(&mut lane.connection).await?;
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(lane.connection.room().max(1)));
        lane.connection.queue_data(piece);
        bytes = rest;
        flush(&mut lane.connection).await?;
    }
    Ok(())
}

/// The bytes that follow, in parts of these lengths.
async fn receive_bytes(lane: &mut Lane, lengths: [u64; 3]) -> Option<[Vec<u8>; 3]> {
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let mut left = lengths.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    while left.iter().any(|left| *left > 0) {
        let mut take = |item: Item<'_>| {
            let Item::Data(mut data) = item else { return Err(Code::Violation) };
            for (part, left) in parts.iter_mut().zip(&mut left) {
                let (ours, rest) = data.split_at(data.len().min(*left));
                part.extend_from_slice(ours);
                (data, *left) = (rest, *left - ours.len());
            }
            if data.is_empty() { Ok(()) } else { Err(Code::Violation) }
        };
        std::future::poll_fn(|cx| lane.connection.poll_recv(cx, &mut take)).await.ok()?;
    }
    Some(parts)
}

/// Tells an application that its stream ends here, and reads what it still says: closing while it
/// speaks would look like a reset.
pub(crate) async fn part_with(mut application: Box<dyn Application>) {
    let parting = async {
        application.shutdown().await?;
        let mut rest = (&mut application).take(PART_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _ = timeout(PART_TIMEOUT, parting).await;
}
