//! Copies of ends that other devices of our entity have, for the case that one of them dies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_base::{DeviceId, Generation, SessionId, UnixTime};
use cloak_session::{BATCH_MAX, Kept};
use cloak_wire::{Capsule, Code, Deposit, Frame, HandOver, Mark};
use minicbor::bytes::ByteVec;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Left, RECEIVE_TIMEOUT, TAKE_TIMEOUT, receive_bytes};
use crate::hello::{flush, receive};
use crate::lane::Lane;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::sync::lock;
use crate::view::{SessionState, SessionView};

/// Copies that are kept at a time, and those of one device among them.
const KEPT_MAX: usize = 256;
const KEPT_PER_DEVICE_MAX: usize = 64;
/// Time for an owner that still brings its copy up to date to hand the session over instead.
const OWNER_TIMEOUT: Duration = Duration::from_secs(10);

/// The copies that are kept here.
#[derive(Default)]
pub(crate) struct Keeping(Mutex<State>);

#[derive(Default)]
struct State {
    copies: BTreeMap<SessionId, Held>,
    /// Copies so far.
    count: u64,
}

struct Held {
    /// Tells it from others of the same session, before and after.
    number: u64,
    owner: DeviceId,
    peer: DeviceId,
    record: Option<ByteVec>,
    opened_at: UnixTime,
    since: UnixTime,
    /// When it is dropped: its owner is not heard of any more.
    until: Option<UnixTime>,
    /// Drops it then.
    dropping: Option<AbortOnDropHandle<()>>,
    /// None until its bytes are here.
    kept: Option<Kept>,
}

/// The lane on which a copy is brought up to date. Once it is gone, the copy is kept for `linger`.
struct Place {
    shared: Arc<Shared>,
    session: SessionId,
    number: u64,
}

impl Keeping {
    fn admit(&self, owner: DeviceId, deposit: &Deposit, since: UnixTime) -> Result<u64, Code> {
        let state = &mut *lock(&self.0);
        let session = deposit.capsule.session;
        let before = state.copies.get(&session);
        let is_old = before
            .and_then(|copy| copy.kept.as_ref())
            .is_some_and(|kept| kept.capsule().generation > deposit.capsule.generation);
        if is_old {
            return Err(Code::Superseded);
        }
        let of_device = state.copies.values().filter(|copy| copy.owner == owner).count();
        let replaces_own = before.is_some_and(|copy| copy.owner == owner);
        let is_full = state.copies.len() >= KEPT_MAX && before.is_none();
        if is_full || (of_device >= KEPT_PER_DEVICE_MAX && !replaces_own) {
            return Err(Code::Busy);
        }
        state.count += 1;
        let number = state.count;
        let Deposit { peer, ref record, opened_at, .. } = *deposit;
        let record = record.clone();
        let copy = Held {
            number,
            owner,
            peer,
            record,
            opened_at,
            since,
            until: None,
            dropping: None,
            kept: None,
        };
        state.copies.insert(session, copy);
        Ok(number)
    }

    /// Works on a copy, if it is still that one.
    fn with<T>(
        &self,
        session: SessionId,
        number: u64,
        work: impl FnOnce(&mut Held) -> T,
    ) -> Option<T> {
        let mut state = lock(&self.0);
        state.copies.get_mut(&session).filter(|copy| copy.number == number).map(work)
    }

    fn remove(&self, session: SessionId, number: u64) {
        let copies = &mut lock(&self.0).copies;
        if copies.get(&session).is_some_and(|copy| copy.number == number) {
            copies.remove(&session);
        }
    }

    /// Whether a copy was begun by a later owner than the one who handed over that generation.
    pub(super) fn outdates(&self, session: SessionId, generation: Generation) -> bool {
        let state = lock(&self.0);
        let kept = state.copies.get(&session).and_then(|copy| copy.kept.as_ref());
        kept.is_some_and(|kept| kept.capsule().generation > generation)
    }

    /// The session is here, or its copy is taken.
    pub(super) fn forget(&self, session: SessionId) {
        lock(&self.0).copies.remove(&session);
    }

    /// At the other end of the session is this device.
    fn peer(&self, session: SessionId) -> Option<DeviceId> {
        let state = lock(&self.0);
        state.copies.get(&session).filter(|copy| copy.kept.is_some()).map(|copy| copy.peer)
    }

    /// The device that has the session, where it still brings the copy up to date.
    fn attentive_owner(&self, session: SessionId) -> Option<DeviceId> {
        let state = lock(&self.0);
        state.copies.get(&session).filter(|copy| copy.until.is_none()).map(|copy| copy.owner)
    }

    /// Takes a copy out, to be continued.
    fn take(&self, session: SessionId) -> Option<(HandOver, Vec<u8>)> {
        let copies = &mut lock(&self.0).copies;
        copies.get(&session).filter(|copy| copy.kept.is_some())?;
        let Held { peer, record, opened_at, kept, .. } = copies.remove(&session)?;
        let (capsule, bytes) = kept?.into_parts();
        let hand_over = HandOver {
            capsule,
            bytes: [bytes.len() as u64, 0, 0],
            peer,
            record,
            opened_at,
            not_read: None,
            load: None,
        };
        Some((hand_over, bytes))
    }
}

impl Shared {
    /// Keeps a copy for a device of ours for as long as it says, and brings it up to date. The lane is free
    /// again then. `None` where the lane is not of use any more.
    pub(crate) async fn receive_deposit(
        self: &Arc<Self>,
        mut lane: Lane,
        deposit: Deposit,
    ) -> Option<Lane> {
        let session = deposit.capsule.session;
        let admitted = self.admit_deposit(&lane.peer, &deposit);
        lane.connection.queue(&Frame::Answer { code: admitted.as_ref().err().copied() });
        let Ok(number) = admitted else {
            flush(&mut lane.connection).await.ok()?;
            return Some(lane);
        };
        let place = Place { shared: Arc::clone(self), session, number };
        flush(&mut lane.connection).await.ok()?;
        let kept = place.receive_copy(&mut lane, deposit).await;
        let kept = match kept {
            Ok(()) => place.keep_up(&mut lane).await,
            Err(code) => Err(code),
        };
        match kept {
            Ok(()) => {
                self.keeping.remove(session, number);
                Some(lane)
            }
            Err(code) => {
                lane.connection.queue(&Frame::Close { code });
                lane.connection.close().await;
                None
            }
        }
    }

    fn admit_deposit(self: &Arc<Self>, peer: &Peer, deposit: &Deposit) -> Result<u64, Code> {
        self.standing(peer)?;
        self.own_standing()?;
        if peer.entity() != Some(self.home.entity()) {
            return Err(Code::NotAllowed);
        }
        if self.is_draining() {
            return Err(Code::ShuttingDown);
        }
        let Deposit { capsule, bytes, peer: other, record, .. } = deposit;
        let is_here = self.sessions.get(*other, capsule.session).is_some();
        if !capsule.initiator || *other == self.tls.device() || is_here {
            return Err(Code::NotMovable);
        }
        let buffer_max = self.session_config().buffer_max;
        let promised = capsule.received.credit.saturating_sub(capsule.received.delivered);
        if promised > buffer_max {
            // It could not be continued with the buffers that are allowed here.
            return Err(Code::NotMovable);
        }
        if *bytes > buffer_max || !self.ledger.admits_new_session() {
            return Err(Code::Busy);
        }
        if let Some(record) = record {
            self.learn(record);
        }
        self.keeping.admit(peer.device(), deposit, self.clock.wall())
    }

    /// Continues an end here whose copy is kept, once the other end has agreed. As long as its owner can be
    /// heard, that one gives it, or not.
    ///
    /// # Errors
    /// What the owner says, or the other end; [`Code::PeerUnreachable`] where it has not answered yet and goes on
    /// being asked, for `linger`.
    pub(crate) async fn take_kept(self: &Arc<Self>, session: SessionId) -> Result<(), Code> {
        if let Some(owner) = self.keeping.attentive_owner(session) {
            let asking = timeout(OWNER_TIMEOUT, self.fetch(owner, session)).await;
            match asking.unwrap_or(Err(Code::Timeout)) {
                Err(Code::PeerUnreachable | Code::Timeout) => {}
                answered => return answered,
            }
        }
        let peer = self.keeping.peer(session).ok_or(Code::Gone)?;
        self.admit_peer(peer)?;
        if self.is_draining() {
            return Err(Code::ShuttingDown);
        }
        if self.sessions.get(peer, session).is_some() || !self.ledger.admits_new_session() {
            return Err(Code::Busy);
        }
        let (hand_over, bytes) = self.keeping.take(session).ok_or(Code::Gone)?;
        let linger = self.session_config().linger;
        let taking = self.take_end(&hand_over, &bytes, Left::default(), linger);
        timeout(TAKE_TIMEOUT, taking).await.unwrap_or(Err(Code::PeerUnreachable))
    }

    /// Rows of `cloak sessions --entity` for the copies that are kept here.
    pub(crate) fn kept_views(&self) -> Vec<SessionView> {
        let own = self.home.device_name();
        let label = own.split('.').next().unwrap_or_default();
        let name = |device: DeviceId| {
            let known = self.directory.device(device);
            known.map(|known| (known.device_name, known.entity_name))
        };
        let state = lock(&self.keeping.0);
        let copies = state.copies.values().filter_map(|copy| Some((copy, copy.kept.as_ref()?)));
        let views = copies.map(|(copy, kept)| {
            let Capsule { session, target, sent, received, .. } = kept.capsule();
            let Capsule { resumes, generation, peer_generation, .. } = *kept.capsule();
            let (peer_device, peer) =
                name(copy.peer).unwrap_or_else(|| (copy.peer.to_string(), String::new()));
            SessionView {
                id: session.to_string(),
                state: SessionState::Suspended,
                state_since: copy.since.to_string(),
                reason: Some(Code::PeerUnreachable.as_str().to_owned()),
                missing_side: Some("owner".to_owned()),
                role: "initiator".to_owned(),
                peer,
                peer_device,
                port: crate::registry::port(target),
                host: crate::registry::host(target),
                lane: None,
                opened_at: copy.opened_at.to_string(),
                resumes,
                bytes_sent: sent.sent,
                bytes_received: received.delivered,
                bytes_held: kept.held(),
                rtt_ms: None,
                application: String::new(),
                device: Some(name(copy.owner).map_or_else(|| copy.owner.to_string(), |of| of.0)),
                escrow: Some(label.to_owned()),
                expires: copy.until.map(|until| until.to_string()),
                moving: None,
                // The capsule has the generation of whoever takes it.
                generation: generation.0.saturating_sub(1),
                peer_generation: peer_generation.0,
            }
        });
        views.collect()
    }
}

impl Place {
    async fn receive_copy(&self, lane: &mut Lane, deposit: Deposit) -> Result<(), Code> {
        let bytes = self.receive_bytes(lane, deposit.bytes).await?;
        let (config, memory) =
            (self.shared.session_config(), self.shared.ledger.account(deposit.peer));
        let kept = Kept::new(&config, deposit.capsule, &bytes, memory);
        let kept = kept.map_err(|_| Code::Malformed)?;
        self.check_room()?;
        self.with(|copy| copy.kept = Some(kept))?;
        say_kept(lane).await
    }

    /// Takes what changes, until the copy is worth nothing any more.
    async fn keep_up(&self, lane: &mut Lane) -> Result<(), Code> {
        loop {
            let mark = match receive(&mut lane.connection).await {
                Ok(Frame::Mark(mark)) => mark,
                Ok(Frame::Void) => return Ok(()),
                Ok(Frame::Close { .. }) | Err(_) => return Err(Code::Closed),
                Ok(_) => return Err(Code::Violation),
            };
            if mark.bytes > BATCH_MAX as u64 {
                return Err(Code::Violation);
            }
            let bytes = self.receive_bytes(lane, mark.bytes).await?;
            if let Err(code) = self.check_room() {
                let _ = self.with(|copy| copy.kept = None);
                return Err(code);
            }
            self.update(&mark, &bytes)?;
            say_kept(lane).await?;
        }
    }

    fn update(&self, mark: &Mark, bytes: &[u8]) -> Result<(), Code> {
        let updated = self.with(|copy| {
            let updated = copy.kept.as_mut().map(|kept| kept.update(mark, bytes));
            if updated.is_some_and(|updated| updated.is_err()) {
                copy.kept = None;
            }
            copy.kept.is_some()
        });
        if updated? { Ok(()) } else { Err(Code::Malformed) }
    }

    /// Sessions of our own go first.
    fn check_room(&self) -> Result<(), Code> {
        if self.shared.ledger.is_over_high_water() { Err(Code::Busy) } else { Ok(()) }
    }

    /// Works on the copy, unless it is taken, or another came.
    fn with<T>(&self, work: impl FnOnce(&mut Held) -> T) -> Result<T, Code> {
        self.shared.keeping.with(self.session, self.number, work).ok_or(Code::Moved)
    }

    async fn receive_bytes(&self, lane: &mut Lane, length: u64) -> Result<Vec<u8>, Code> {
        let received = timeout(RECEIVE_TIMEOUT, receive_bytes(lane, [length, 0, 0])).await;
        let [bytes, ..] = received.ok().flatten().ok_or(Code::Closed)?;
        Ok(bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self { session, number, .. } = *self;
        let since = self.shared.clock.wall();
        let linger = self.shared.session_config().linger;
        let is_whole = self.shared.keeping.with(session, number, |copy| {
            copy.since = since;
            copy.until = Some(UnixTime(since.0.saturating_add(linger.as_secs())));
            copy.kept.is_some()
        });
        match is_whole {
            None => {}
            Some(false) => self.shared.keeping.remove(session, number),
            Some(true) => {
                let shared = Arc::clone(&self.shared);
                let dropping = self.shared.tasks.spawn(async move {
                    tokio::select! {
                        () = shared.cancel.cancelled() => {}
                        () = tokio::time::sleep(linger) => {}
                    }
                    shared.keeping.remove(session, number);
                });
                let dropping = Some(AbortOnDropHandle::new(dropping));
                let _ = self.shared.keeping.with(session, number, |copy| copy.dropping = dropping);
            }
        }
    }
}

async fn say_kept(lane: &mut Lane) -> Result<(), Code> {
    lane.connection.queue(&Frame::Kept);
    flush(&mut lane.connection).await.map_err(|_| Code::Closed)
}

#[cfg(test)]
mod tests {
    use cloak_base::Epoch;
    use cloak_session::{Config, Ledger};
    use cloak_wire::{Received, Secret, Sent, Target};

    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    fn device(number: u8) -> DeviceId {
        DeviceId::from_bytes([number; 32])
    }

    fn deposit(session: u16, generation: u64) -> Deposit {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&session.to_be_bytes());
        let capsule = Capsule {
            session: SessionId::from_bytes(id),
            initiator: true,
            secret: Secret([7; 32].into()),
            generation: Generation(generation),
            peer_generation: Generation(0),
            peer_run: None,
            target: Target::Service(80),
            epoch: Epoch(1),
            sent: Sent { acked: 0, sent: 0, credit: 0, fin: None },
            received: Received { delivered: 0, credit: 0, fin: None },
            resumes: 0,
        };
        Deposit { capsule, bytes: 0, peer: device(200), record: None, opened_at: NOW }
    }

    /// Its bytes have arrived.
    fn arrive(keeping: &Keeping, deposit: &Deposit, number: u64) {
        let memory = Ledger::new(1 << 20).account(deposit.peer);
        let kept = Kept::new(&Config::default(), deposit.capsule.clone(), &[], memory).unwrap();
        let session = deposit.capsule.session;
        assert!(keeping.with(session, number, |copy| copy.kept = Some(kept)).is_some());
    }

    #[test]
    fn no_device_fills_what_is_kept_and_nobody_keeps_more_than_there_is_room_for() {
        let keeping = Keeping::default();
        let most = u16::try_from(KEPT_PER_DEVICE_MAX).unwrap();
        for session in 0..most {
            keeping.admit(device(1), &deposit(session, 1), NOW).unwrap();
        }
        let full = Err(Code::Busy);
        assert_eq!(keeping.admit(device(1), &deposit(most, 1), NOW), full);
        assert!(keeping.admit(device(1), &deposit(0, 1), NOW).is_ok(), "in place of its own");
        let rest = u16::try_from(KEPT_MAX).unwrap();
        for session in most..rest {
            let owner = device(u8::try_from(2 + session / most).unwrap());
            keeping.admit(owner, &deposit(session, 1), NOW).unwrap();
        }
        assert_eq!(keeping.admit(device(100), &deposit(rest, 1), NOW), full);
        assert!(keeping.admit(device(100), &deposit(0, 2), NOW).is_ok(), "it moved there");
        assert_eq!(keeping.admit(device(1), &deposit(rest, 1), NOW), full, "no room for another");
    }

    #[test]
    fn an_older_copy_does_not_replace_a_newer_one() {
        let keeping = Keeping::default();
        let newer = deposit(1, 3);
        let session = newer.capsule.session;
        let number = keeping.admit(device(1), &newer, NOW).unwrap();
        assert!(!keeping.outdates(session, Generation(1)), "it has not arrived");
        assert_eq!(keeping.peer(session), None);
        arrive(&keeping, &newer, number);
        assert_eq!(keeping.peer(session), Some(device(200)));
        assert_eq!(keeping.attentive_owner(session), Some(device(1)));
        let refused = keeping.admit(device(2), &deposit(1, 2), NOW);
        assert_eq!(refused, Err(Code::Superseded));
        assert!(keeping.outdates(session, Generation(2)));
        assert!(!keeping.outdates(session, Generation(3)), "the next owner's");
        let again = keeping.admit(device(1), &deposit(1, 3), NOW).unwrap();
        keeping.remove(session, number);
        assert!(keeping.with(session, number, |_| ()).is_none(), "another one by now");
        assert!(keeping.take(session).is_none(), "which has not arrived");
        arrive(&keeping, &newer, again);
        let (hand_over, bytes) = keeping.take(session).unwrap();
        assert_eq!((hand_over.capsule, bytes), (newer.capsule, Vec::new()));
        assert!(keeping.take(session).is_none(), "once");
    }
}
