//! Transports that others dialled: greeted, then served by their purpose.

use std::sync::Arc;
use std::time::Duration;

use cloak_session::{Role, Session, State};
use cloak_transport::{Accepted, Carrier, Connection, Listener, RecvError, UnexpectedData};
use cloak_wire::{Code, Frame, Hello, Nonce, Open, Purpose, SessionFrame};

use crate::api::{Backend, BoxFuture, Incoming};
use crate::config::Follow;
use crate::driver::{Driver, Source};
use crate::hello::{flush, receive};
use crate::lane::{Lane, Opener};
use crate::peer::{Peer, PeerCommand};
use crate::registry::{Command, SessionHandle};
use crate::shared::Shared;

/// An idle lane that its opener forgot is closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(900);

/// Accepts until the node stops.
pub(crate) async fn run(shared: Arc<Shared>, mut listener: Listener) {
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            accepted = listener.accept() => {
                shared.tasks.spawn(serve(Arc::clone(&shared), accepted));
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { mut connection, half_open } = accepted;
    let cancel = shared.cancel.clone();
    let greeted = tokio::select! {
        biased;
        () = cancel.cancelled() => return,
        greeted = shared.welcome(&mut connection, half_open.deadline()) => greeted,
    };
    match greeted {
        Ok((hello, nonce)) => {
            // Who joins has shown nothing but a device key: it counts as half-open to its end.
            let _half_open = (hello.purpose == Purpose::Join).then_some(half_open);
            dispatch(shared, connection, hello, nonce).await;
        }
        Err(code) => {
            tracing::debug!(%code, "refused a transport");
            // What the peer has sent meanwhile is read first: a reset would overtake the code.
            connection.close().await;
        }
    }
}

/// Serves a connection whose `Hello` was verified.
pub(crate) async fn dispatch(
    shared: Arc<Shared>,
    mut connection: Connection,
    hello: Hello,
    nonce: Nonce,
) {
    if connection.via().is_some() {
        shared.peer(connection.peer()).tell(PeerCommand::Relayed);
    }
    match hello.purpose {
        Purpose::Peer => {
            let peer = shared.peer(connection.peer());
            peer.tell(PeerCommand::Channel(Box::new(connection), Box::new(hello)));
        }
        Purpose::Lane => {
            let lane = lane(&shared, connection, &hello, nonce, Opener::Peer);
            serve_lane(shared, lane).await;
        }
        Purpose::Reverse { .. } => {
            let mut lane = lane(&shared, connection, &hello, nonce, Opener::Local);
            // Our Hello is still to be written; whoever takes the lane writes it with its first frame.
            if flush(&mut lane.connection).await.is_ok() {
                let _ = shared.hand_out(lane);
            }
        }
        Purpose::Proof { cookie } => shared.locator_proved(cookie, connection.peer()),
        Purpose::Hop { cookie } => {
            let hop = shared.circuits.cookies.redeem_by(&cookie, connection.peer());
            if let Some(hop) = hop
                && flush(&mut connection).await.is_ok()
            {
                // Whoever asked for the hop may have given up.
                let _ = hop.send(Carrier::wrapped(connection));
            }
        }
        Purpose::Join => shared.redeem(&mut connection, &hello, nonce).await,
    }
}

fn lane(
    shared: &Arc<Shared>,
    connection: Connection,
    hello: &Hello,
    local_nonce: Nonce,
    opener: Opener,
) -> Lane {
    Lane {
        id: shared.next_lane_id(),
        peer: shared.peer(connection.peer()),
        connection,
        local: shared.tls.device(),
        local_nonce,
        peer_nonce: Some(hello.nonce),
        lent: None,
        unread: std::collections::VecDeque::new(),
        opener,
    }
}

/// Waits for the next `Open` or `Resume` on an idle lane, and gives the lane to its session.
pub(crate) async fn serve_lane(shared: Arc<Shared>, mut lane: Lane) {
    let peer = Arc::clone(&lane.peer);
    let dismissal = peer.dismissal();
    let Some(_place) = peer.park() else { return refuse(lane, Code::Busy).await };
    loop {
        let received = tokio::select! {
            biased;
            () = dismissal.cancelled() => return,
            received = tokio::time::timeout(IDLE_TIMEOUT, next_frame(&mut lane)) => received,
        };
        let frame = match received {
            Ok(Ok(Frame::Session(frame))) => frame,
            Ok(Err(RecvError::Wire(error))) => return refuse(lane, error.code()).await,
            Ok(Ok(frame)) => {
                let answered = tokio::select! {
                    biased;
                    () = dismissal.cancelled() => None,
                    answered = shared.answer_frame(lane, frame) => answered,
                };
                let Some(kept) = answered else { return };
                lane = kept;
                continue;
            }
            Ok(Err(_)) | Err(_) => return,
        };
        let result = match frame {
            SessionFrame::Open(open) => shared.accept_open(lane, open),
            SessionFrame::Resume(resume) => {
                let id = resume.session;
                shared.accept_resume(lane, id, SessionFrame::Resume(resume))
            }
            _ => return refuse(lane, Code::Violation).await,
        };
        // Answered without a session: the lane is free again.
        let Some((kept, answer)) = result else { return };
        lane = kept;
        let idle = Frame::Session(SessionFrame::Idle);
        lane.connection.queue(&Frame::Session(answer));
        lane.connection.queue(&idle);
        if !drain(&mut lane).await {
            return;
        }
    }
}

/// The next frame on a lane: one that was read too early, or one from the connection.
async fn next_frame(lane: &mut Lane) -> Result<Frame, RecvError<UnexpectedData>> {
    match lane.unread.pop_front() {
        Some(frame) => Ok(frame),
        None => receive(&mut lane.connection).await,
    }
}

/// Flushes, then drops what the opener still sends for the refused session, up to its `Idle`.
async fn drain(lane: &mut Lane) -> bool {
    loop {
        let received = tokio::time::timeout(IDLE_TIMEOUT, next_frame(lane)).await;
        match received {
            Ok(Ok(Frame::Session(SessionFrame::Idle))) => return true,
            Ok(Ok(Frame::Session(_))) => {}
            _ => return false,
        }
    }
}

async fn refuse(mut lane: Lane, code: Code) {
    tracing::debug!(%code, "closed a lane");
    lane.connection.queue(&Frame::Close { code });
    lane.connection.close().await;
}

impl Shared {
    /// Answers what else may come first on a lane than a session; `None` where the lane is not of use any
    /// more.
    async fn answer_frame(self: &Arc<Self>, lane: Lane, frame: Frame) -> Option<Lane> {
        match frame {
            Frame::HandOver(hand_over) => self.receive_end(lane, *hand_over).await,
            Frame::AskSessions => self.tell_sessions(lane).await,
            Frame::AskLoads { ports } => self.tell_loads(lane, &ports).await,
            Frame::Fetch { session } => self.give_session(lane, session).await,
            Frame::Offer(offer) => self.keep_offer(lane, *offer).await,
            Frame::Deposit(deposit) => self.receive_deposit(lane, *deposit).await,
            Frame::Close { .. } => None,
            _ => {
                refuse(lane, Code::Violation).await;
                None
            }
        }
    }

    /// Opens a session for the peer, or continues the one it opened before; gives the lane back
    /// with an answer where there is no session.
    fn accept_open(self: &Arc<Self>, lane: Lane, open: Open) -> Option<(Lane, SessionFrame)> {
        let peer = Arc::clone(&lane.peer);
        let now = self.clock.now();
        if let Err(code) = self.standing(&peer) {
            return Some((lane, SessionFrame::Refused { code }));
        }
        if let Some(handle) = self.sessions.get(peer.device(), open.session) {
            let first = SessionFrame::Open(open);
            let _ = handle.tell(Command::Lane(lane, Some(first)));
            return None;
        }
        if let SessionFrame::Gone { code, session, delivered } =
            self.epitaph(now, peer.device(), open.session)
            && code != Code::Gone
        {
            return Some((lane, SessionFrame::Gone { session, code, delivered }));
        }
        let refused = |lane, code| Some((lane, SessionFrame::Refused { code }));
        if self.is_draining() {
            return refused(lane, Code::ShuttingDown);
        }
        let Some(entity) = peer.entity() else { return refused(lane, Code::Unauthenticated) };
        let incoming = Incoming {
            peer: peer.entity_name(),
            entity,
            device: peer.device(),
            target: open.target.clone(),
        };
        if let Err(code) = self.authorise(&incoming) {
            return refused(lane, code);
        }
        if !self.ledger.admits_new_session() {
            return refused(lane, Code::Busy);
        }
        let (handle, inbox) = SessionHandle::new(
            open.session,
            Role::Responder,
            Arc::clone(&peer),
            open.target.clone(),
            self.clock.wall(),
            String::new(),
        );
        let max = crate::sync::read(&self.config).session.sessions_max;
        if self.sessions.insert(Arc::clone(&handle), max).is_err() {
            return refused(lane, Code::Busy);
        }
        let memory = self.ledger.account(peer.device());
        let session = Session::respond(now, self.session_config(), &open, memory, self.split_rng());
        let source = Source::Service(self.connect_backend(incoming));
        let driver = Driver::new(Arc::clone(self), Arc::clone(&handle), session, source, inbox);
        let first = SessionFrame::Open(open);
        let _ = handle.tell(Command::Lane(lane, Some(first)));
        self.tasks.spawn(driver.run());
        None
    }

    fn connect_backend(
        self: &Arc<Self>,
        incoming: Incoming,
    ) -> BoxFuture<'static, Result<Backend, Code>> {
        let services = Arc::clone(&self.services);
        Box::pin(async move { services.connect(incoming).await })
    }

    /// Gives the lane to the session it is for, if the peer may still have it.
    fn accept_resume(
        self: &Arc<Self>,
        lane: Lane,
        id: cloak_base::SessionId,
        frame: SessionFrame,
    ) -> Option<(Lane, SessionFrame)> {
        let peer = Arc::clone(&lane.peer);
        let Some(handle) = self.sessions.get(peer.device(), id) else {
            let answer = self.epitaph(self.clock.now(), peer.device(), id);
            return Some((lane, answer));
        };
        let gone = |code| SessionFrame::Gone { session: id, code, delivered: 0 };
        if handle.peer().device() != peer.device() {
            if let Err(code) = self.may_take(&handle, &peer) {
                return Some((lane, gone(code)));
            }
        } else if let Err(code) = self.reauthorise(&handle) {
            handle.close(code);
            return Some((lane, gone(code)));
        }
        // A full inbox drops the lane: the peer offers another.
        let _ = handle.tell(Command::Lane(lane, Some(frame)));
        None
    }

    /// Whether the other end of a session may be on another device from now on: one of the same entity,
    /// or of another one that may use the service, or by which our applications may be served.
    fn may_take(&self, handle: &SessionHandle, peer: &Peer) -> Result<(), Code> {
        self.standing(peer)?;
        let entity = peer.entity().ok_or(Code::Unauthenticated)?;
        let max = crate::sync::read(&self.config).session.sessions_max;
        if !self.sessions.has_room(handle, peer.device(), max) {
            return Err(Code::Busy);
        }
        let is_same = handle.peer().entity() == Some(entity);
        let may_change = crate::sync::read(&self.config).session.follow == Follow::Realm;
        if handle.role == Role::Initiator && !is_same && !may_change {
            return Err(Code::NotAllowed);
        }
        self.authorise_for(handle, peer, entity)
    }

    /// Asks again whether a session that is served here may go on.
    pub(crate) fn reauthorise(&self, handle: &SessionHandle) -> Result<(), Code> {
        // A peer that a session waits to meet has shown nothing yet, and one that was handed over to us is
        // asked for first.
        if handle.snapshot().is_some_and(|snapshot| snapshot.state == State::Held) {
            return Ok(());
        }
        let peer = handle.peer();
        if handle.role == Role::Responder || peer.standing().is_some() {
            self.standing(&peer)?;
        }
        let Some(entity) = peer.entity() else { return Err(Code::Unauthenticated) };
        self.authorise_for(handle, &peer, entity)
    }

    fn authorise_for(
        &self,
        handle: &SessionHandle,
        peer: &Peer,
        entity: cloak_base::EntityId,
    ) -> Result<(), Code> {
        if handle.role == Role::Initiator {
            return Ok(());
        }
        self.authorise(&Incoming {
            peer: peer.entity_name(),
            entity,
            device: peer.device(),
            target: handle.target.clone(),
        })
    }
}
