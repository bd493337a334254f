//! Dials: which are needed, what comes of each, and the lanes that they become.
//!
//! While the path is proven every missing lane, and the channel, is dialled at once. After a dial
//! that failed, and whenever the path is doubted, the retries of an outage go on alone (see
//! [`crate::peer::redialling`]). Their connection goes to a session that waits before the peer's
//! `Hello` has come, and the next one is dialled when that takes too long.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{Instant, SessionId};
use cloak_transport::Connection;
use cloak_wire::{Blame, Code, Hello, NUDGE_MAX, Nonce, PeerFrame, Purpose};

use super::Task;
use crate::lane::{Lane, Opener};
use crate::peer::DIALS_MAX;
use crate::peer::dials::Dial;
use crate::shared::Shared;

/// Pause between two rounds of `DialBack`, for a peer that we cannot dial.
const DIAL_BACK_EVERY: Duration = Duration::from_secs(1);
/// After an outage a peer that accepts and says nothing for this long is dialled again meanwhile.
const GREETING_PAUSE: Duration = Duration::from_millis(400);
/// Pause after the peer refused us: it knows our address and our key, and will not think again soon.
const REFUSED_PAUSE: Duration = Duration::from_secs(20);

/// What a dial came to.
pub(super) struct Outcome {
    pub(super) purpose: Purpose,
    pub(super) way: Way,
    pub(super) result: Result<Dialled, Code>,
}

/// By which way a dial went, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    /// Through a host.
    Relay,
    /// Direct, to see whether that is possible again.
    Probe,
    /// Direct, for this session, which rides on a relayed lane.
    Move(SessionId),
}

pub(super) enum Dialled {
    /// TLS is up, and a session waits for the lane.
    Connected(Connection),
    /// The peer's `Hello` was verified; the nonce is ours.
    Greeted(Connection, Box<Hello>, Nonce),
}

impl Task {
    /// Starts the dials that are needed.
    pub(super) fn provide(&mut self) {
        if self.peer.dismissal().is_cancelled() {
            return;
        }
        let needs = self.peer.needs(self.now());
        if self.peer.take_doubt() {
            self.doubt();
        }
        if needs.waiting > 0 {
            self.ask_for_lanes(needs.waiting);
        }
        if self.now() < self.refused_until {
            return;
        }
        let waits = needs.waiting > 0;
        if waits && !self.was_waiting && self.redial.is_running() {
            self.hurry.now();
        }
        self.was_waiting = waits;
        let is_needed = self.is_needed();
        if !is_needed && self.channels.is_empty() {
            self.redial.stop();
        }
        if !self.proven {
            let is_wanted = waits || (is_needed && self.channels.is_empty());
            self.provide_relayed(needs.waiting);
            if is_wanted
                && !self.relayed.is_proven()
                && self.greeting_until().is_none_or(|until| until <= self.now())
            {
                self.redial.start(&self.shared, self.peer.device());
            }
            return;
        }
        if is_needed && self.channels.is_empty() && !self.dialling_channel {
            self.dial(Purpose::Peer, None);
        }
        let linked = !self.channels.is_empty();
        let wanted = needs.waiting + if linked { needs.spare } else { 0 };
        let most = DIALS_MAX - usize::from(self.dialling_channel);
        while self.dialling_lanes < wanted
            && let Some(dial) = self.peer.begin_dial(most)
        {
            self.dial(Purpose::Lane, Some(dial));
        }
    }

    /// The path may be dead, and every dial under way with it: a new one finds out sooner.
    pub(super) fn doubt(&mut self) {
        self.proven = false;
        self.dials.abort_all();
        self.dialling_lanes = 0;
        self.dialling_channel = false;
        self.greeting_since = None;
        self.relayed.doubt(self.shared.clock.now());
    }

    /// Asks the peer to dial us, where our own dials fail but its channel works.
    fn ask_for_lanes(&mut self, waiting: usize) {
        let now = self.now();
        // Where our own connection only waits for the peer's `Hello`, ours will do.
        let greeting = self.greeting_until().is_some_and(|until| now < until);
        if self.proven || greeting || now < self.dial_back_at {
            return;
        }
        let Some(channel) = self.channels.first_mut() else { return };
        self.dial_back_at = now + DIAL_BACK_EVERY;
        for _ in 0..waiting.min(DIALS_MAX) {
            let cookie = self.shared.random_u64();
            channel.send(PeerFrame::DialBack { cookie, at: None });
        }
        channel.send(PeerFrame::Nudge { sessions: self.peer.waiting(NUDGE_MAX) });
    }

    /// Until when the first connection after an outage may keep the next one from being dialled.
    pub(super) fn greeting_until(&self) -> Option<Instant> {
        self.greeting_since.map(|since| since + GREETING_PAUSE)
    }

    fn dial(&mut self, purpose: Purpose, dial: Option<Dial>) {
        self.count(&purpose, true);
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        self.dials.spawn(async move {
            let _dial = dial;
            let result = match shared.race(peer.device()).await {
                Ok(connection) if purpose == Purpose::Lane && peer.is_waited_for() => {
                    Ok(Dialled::Connected(connection))
                }
                Ok(connection) => greet(&shared, connection, purpose.clone()).await,
                Err(_) => Err(Code::PeerUnreachable),
            };
            Outcome { purpose, way: Way::Direct, result }
        });
    }

    /// The connection that may end an outage: for a session, or else for the channel.
    pub(super) fn redialled(&mut self, connection: Connection) {
        self.greeting_since = Some(self.now());
        // Whoever got the last connection and heard nothing on it since may try this one.
        if !self.peer.is_waited_for()
            && let Some(session) = self.lent_to
        {
            self.peer.wait_on(session);
        }
        if self.peer.is_waited_for() {
            return self.lend(connection);
        }
        self.count(&Purpose::Peer, true);
        let shared = Arc::clone(&self.shared);
        self.dials.spawn(async move {
            let result = greet(&shared, connection, Purpose::Peer).await;
            Outcome { purpose: Purpose::Peer, way: Way::Direct, result }
        });
    }

    pub(super) fn dialled(&mut self, outcome: Outcome) {
        if outcome.way != Way::Direct {
            return self.dialled_otherwise(outcome);
        }
        self.count(&outcome.purpose, false);
        match outcome.result {
            Err(code) => self.greeted(Err(code)),
            Ok(Dialled::Connected(connection)) => self.lend(connection),
            Ok(Dialled::Greeted(connection, hello, local_nonce)) => {
                self.greeted(Ok(()));
                if outcome.purpose == Purpose::Peer {
                    self.linked(connection, &hello);
                } else {
                    let _ = self.provide_lane(connection, Some(hello.nonce), local_nonce);
                }
            }
        }
    }

    /// A dial came to its end: the peer's `Hello` was verified, or did not come.
    pub(super) fn greeted(&mut self, result: Result<(), Code>) {
        (self.greeting_since, self.lent_to) = (None, None);
        self.proven = result.is_ok();
        self.peer.set_error(result.err().map(|code| code.to_string()));
        if result.is_err_and(|code| code.blame() == Blame::Peer) {
            self.refused_until = self.now() + REFUSED_PAUSE;
        }
    }

    /// Gives a session that waits a lane on which the peer has not said `Hello` yet: what the
    /// session says first shares a flight with ours. The session tells us how it went.
    fn lend(&mut self, mut connection: Connection) {
        let local_nonce = self.shared.salute(&mut connection, Purpose::Lane);
        self.lent_to = self.provide_lane(connection, None, local_nonce);
    }

    pub(super) fn provide_lane(
        &mut self,
        connection: Connection,
        peer_nonce: Option<Nonce>,
        local_nonce: Nonce,
    ) -> Option<SessionId> {
        let lane = self.lane(connection, peer_nonce, local_nonce);
        self.shared.hand_out(lane)
    }

    /// A lane that we dialled.
    pub(super) fn lane(
        &self,
        connection: Connection,
        peer_nonce: Option<Nonce>,
        local_nonce: Nonce,
    ) -> Lane {
        Lane {
            id: self.shared.next_lane_id(),
            connection,
            peer: Arc::clone(&self.peer),
            local: self.shared.tls.device(),
            local_nonce,
            lent: peer_nonce.is_none().then(|| self.peer.lend()),
            peer_nonce,
            unread: std::collections::VecDeque::new(),
            opener: Opener::Local,
        }
    }

    fn count(&mut self, purpose: &Purpose, started: bool) {
        match purpose {
            Purpose::Peer => self.dialling_channel = started,
            _ if started => self.dialling_lanes += 1,
            _ => self.dialling_lanes = self.dialling_lanes.saturating_sub(1),
        }
    }
}

pub(super) async fn greet(
    shared: &Arc<Shared>,
    connection: Connection,
    purpose: Purpose,
) -> Result<Dialled, Code> {
    let (connection, hello, nonce) = shared.greet(connection, purpose).await?;
    Ok(Dialled::Greeted(connection, Box::new(hello), nonce))
}
