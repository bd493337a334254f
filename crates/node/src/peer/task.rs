//! The task of one peer: keeps a channel, dials lanes, retries through an outage.
//!
//! While the path is *proven* (the last dial worked) lanes are dialled as they are needed. As soon
//! as a dial fails it is not, and one [`Redial`] runs, two attempts in flight, until one works. Where
//! there is no direct path, hosts are asked for circuits: see [`relayed`].

mod relayed;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cloak_base::{Instant, SessionId};
use cloak_transport::{Clock, Connection, Hurry, Redial};
use cloak_wire::{Blame, Code, Frame, Hello, NUDGE_MAX, Nonce, PeerFrame, Purpose};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::allowance::{Allowance, is_passed_on};
use super::channel::Channel;
use super::redialling::Redialling;
use super::{DIALS_MAX, Dial, Greeting, Link, LinkState, Peer, PeerCommand};
use crate::lane::{Lane, Opener};
use crate::registry::Command;
use crate::shared::Shared;
use crate::timer::Timer;
use relayed::Relayed;

/// Channels with one peer: one that each side dialled, and their successors.
const CHANNELS_MAX: usize = 4;
/// Pause between two rounds of `DialBack`, for a peer that we cannot dial.
const DIAL_BACK_EVERY: Duration = Duration::from_secs(1);
/// After an outage a peer that accepts and says nothing for this long is dialled again meanwhile.
const GREETING_PAUSE: Duration = Duration::from_millis(400);
/// Pause after the peer refused us: it knows our address and our key, and will not think again soon.
const REFUSED_PAUSE: Duration = Duration::from_secs(20);
/// A peer that says it moved is dialled anew at most this often on its word.
const REBOUND_PAUSE: Duration = Duration::from_secs(3);
/// How often warm lanes are checked.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// What a dial came to.
struct Outcome {
    purpose: Purpose,
    way: Way,
    result: Result<Dialled, Code>,
}

/// By which way a dial went, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// Through a host.
    Relay,
    /// Direct, to see whether that is possible again.
    Probe,
    /// Direct, for this session, which rides on a relayed lane.
    Move(SessionId),
}

enum Dialled {
    /// TLS is up, and a session waits for the lane.
    Connected(Connection),
    /// The peer's `Hello` was verified; the nonce is ours.
    Greeted(Connection, Box<Hello>, Nonce),
}

enum Step {
    Command(PeerCommand),
    Channel(usize, Result<Vec<PeerFrame>, Code>),
    Dialled(Box<Outcome>),
    Redialled(Option<Box<Connection>>),
    Again,
}

struct Task {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    channels: Vec<Channel>,
    dials: JoinSet<Outcome>,
    redial: Redialling,
    hurry: Hurry,
    /// Sessions waited when last looked at.
    was_waiting: bool,
    /// The last dial worked.
    proven: bool,
    dialling_lanes: usize,
    dialling_channel: bool,
    /// What there is through hosts.
    relayed: Relayed,
    /// Since when the first connection after an outage waits for the peer's `Hello`.
    greeting_since: Option<Instant>,
    /// The session that got it.
    lent_to: Option<SessionId>,
    dial_back_at: Instant,
    /// No dial before this: the peer refused the last one.
    refused_until: Instant,
    /// When a change of the peer's locators last made us hurry.
    rebound_at: Instant,
    sweep_at: Instant,
    /// Messages that the peer may still send us to pass on.
    allowance: Allowance,
}

pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    mut commands: mpsc::Receiver<PeerCommand>,
) {
    let mut timer = Timer::new(Arc::clone(&shared.clock));
    let now = shared.clock.now();
    let (cancel, clock) = (shared.cancel.clone(), Arc::clone(&shared.clock));
    let redial = Redial::new(
        shared.dialler.clone(),
        peer.device(),
        Arc::clone(&shared.clock),
        shared.split_rng(),
    );
    let hurry = redial.hurry();
    let redial = Redialling::Idle(Box::new(redial));
    let mut task = Task {
        shared,
        peer: Arc::clone(&peer),
        channels: Vec::new(),
        dials: JoinSet::new(),
        redial,
        hurry,
        was_waiting: false,
        proven: false,
        dialling_lanes: 0,
        dialling_channel: false,
        relayed: Relayed::new(now),
        greeting_since: None,
        lent_to: None,
        dial_back_at: now,
        refused_until: now,
        rebound_at: Instant::ZERO,
        sweep_at: now + SWEEP_EVERY,
        allowance: Allowance::gossip(now),
    };
    loop {
        task.provide();
        timer.set(Some(task.poll_timeout()));
        let step = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            (index, result) = next_on_channels(&mut task.channels, &*clock) => {
                Step::Channel(index, result)
            }
            command = commands.recv() => match command {
                Some(PeerCommand::Retire) | None => break,
                Some(command) => Step::Command(command),
            },
            Some(Ok(outcome)) = task.dials.join_next() => Step::Dialled(Box::new(outcome)),
            connection = task.redial.connection() => Step::Redialled(connection.map(Box::new)),
            () = peer.wanted() => Step::Again,
            () = std::future::poll_fn(|cx| timer.poll(cx)) => Step::Again,
        };
        task.handle(step);
        task.handle_timeout();
    }
    task.farewell(Code::ShuttingDown);
}

async fn greet(
    shared: &Arc<Shared>,
    connection: Connection,
    purpose: Purpose,
) -> Result<Dialled, Code> {
    let (connection, hello, nonce) = shared.greet(connection, purpose).await?;
    Ok(Dialled::Greeted(connection, Box::new(hello), nonce))
}

/// The next thing that happens on any channel.
async fn next_on_channels(
    channels: &mut [Channel],
    clock: &dyn Clock,
) -> (usize, Result<Vec<PeerFrame>, Code>) {
    std::future::poll_fn(|cx| {
        let now = clock.now();
        for (index, channel) in channels.iter_mut().enumerate() {
            if let Poll::Ready(result) = channel.poll(cx, now) {
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    })
    .await
}

impl Task {
    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// Starts the dials that are needed.
    fn provide(&mut self) {
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
        if !self.proven {
            let is_wanted = waits || self.channels.is_empty();
            self.provide_relayed(needs.waiting);
            if is_wanted
                && !self.relayed.is_proven()
                && self.greeting_until().is_none_or(|until| until <= self.now())
            {
                self.redial.start(&self.shared, self.peer.device());
            }
            return;
        }
        if self.channels.is_empty() && !self.dialling_channel {
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
    fn doubt(&mut self) {
        self.proven = false;
        self.dials.abort_all();
        self.dialling_lanes = 0;
        self.dialling_channel = false;
        self.greeting_since = None;
        self.relayed.doubt(self.shared.clock.now());
    }

    /// Until when the first connection after an outage may keep the next one from being dialled.
    fn greeting_until(&self) -> Option<Instant> {
        self.greeting_since.map(|since| since + GREETING_PAUSE)
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
    fn redialled(&mut self, connection: Connection) {
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

    /// Gives a session that waits a lane on which the peer has not said `Hello` yet: what the
    /// session says first shares a flight with ours. The session tells us how it went.
    fn lend(&mut self, mut connection: Connection) {
        let local_nonce = self.shared.salute(&mut connection, Purpose::Lane);
        self.lent_to = self.provide_lane(connection, None, local_nonce);
    }

    fn count(&mut self, purpose: &Purpose, started: bool) {
        match purpose {
            Purpose::Peer => self.dialling_channel = started,
            _ if started => self.dialling_lanes += 1,
            _ => self.dialling_lanes = self.dialling_lanes.saturating_sub(1),
        }
    }

    fn handle(&mut self, step: Step) {
        match step {
            Step::Again => {}
            Step::Command(command) => self.command(command),
            Step::Redialled(None) => {}
            Step::Redialled(Some(connection)) => self.redialled(*connection),
            Step::Dialled(outcome) => self.dialled(*outcome),
            Step::Channel(index, Ok(messages)) => {
                for message in messages {
                    if !self.message(index, message) {
                        break;
                    }
                }
            }
            Step::Channel(index, Err(code)) => self.channel_lost(index, code),
        }
        self.show();
    }

    fn command(&mut self, command: PeerCommand) {
        let now = self.now();
        match command {
            PeerCommand::Channel(connection, hello) => self.linked(*connection, &hello),
            PeerCommand::Greeted(Greeting::Verified) => self.greeted(Ok(())),
            PeerCommand::Greeted(Greeting::Failed(code)) => self.greeted(Err(code)),
            PeerCommand::Greeted(Greeting::Abandoned) => self.greeting_since = None,
            PeerCommand::Send(frame) => {
                if let Some(channel) = self.channels.first_mut() {
                    channel.send(frame);
                }
            }
            PeerCommand::NetworkChanged => {
                self.refused_until = now;
                self.hurry();
                for channel in &mut self.channels {
                    if !self.shared.is_route_unchanged(&channel.connection) {
                        channel.suspect(now);
                    }
                }
            }
            PeerCommand::Woke => {
                self.refused_until = now;
                self.hurry();
                self.peer.sweep(now, false);
                self.channels.iter_mut().for_each(|channel| channel.suspect(now));
            }
            PeerCommand::Rebound => {
                if now.since(self.rebound_at) >= REBOUND_PAUSE {
                    self.rebound_at = now;
                    self.refused_until = now;
                    self.hurry();
                }
            }
            PeerCommand::Relayed => self.relayed.seek_direct(now),
            PeerCommand::Suspect => {
                self.channels.iter_mut().for_each(|channel| channel.suspect(now));
            }
            PeerCommand::Dismiss(code) => self.farewell(code),
            PeerCommand::Retire => {}
        }
    }

    /// Something may have changed for the better.
    fn hurry(&mut self) {
        self.hurry.now();
        self.relayed.hurry(self.shared.clock.now());
    }

    fn dialled(&mut self, outcome: Outcome) {
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
    fn greeted(&mut self, result: Result<(), Code>) {
        (self.greeting_since, self.lent_to) = (None, None);
        self.proven = result.is_ok();
        self.peer.set_error(result.err().map(|code| code.to_string()));
        if result.is_err_and(|code| code.blame() == Blame::Peer) {
            self.refused_until = self.now() + REFUSED_PAUSE;
        }
    }

    fn provide_lane(
        &mut self,
        connection: Connection,
        peer_nonce: Option<Nonce>,
        local_nonce: Nonce,
    ) -> Option<SessionId> {
        let lane = self.lane(connection, peer_nonce, local_nonce);
        self.shared.hand_out(lane)
    }

    /// A lane that we dialled.
    fn lane(&self, connection: Connection, peer_nonce: Option<Nonce>, local_nonce: Nonce) -> Lane {
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

    fn linked(&mut self, connection: Connection, hello: &Hello) {
        // Each side may ask for a circuit while the other dials.
        if connection.via().is_some() && self.link().is_some() {
            return;
        }
        let now = self.now();
        match self.peer.may_log(now) {
            true => tracing::info!(peer = %self.peer.name(), "linked"),
            false => tracing::debug!(peer = %self.peer.name(), "linked"),
        }
        let mut channel = Channel::new(connection, now);
        for record in self.shared.directory.records() {
            channel.send(PeerFrame::Binding { record: record.into() });
        }
        for list in self.shared.revocation_lists() {
            channel.send(PeerFrame::Revocations { list: list.into() });
        }
        channel.send(PeerFrame::Serials(self.shared.serials()));
        if channel.connection.via().is_none() {
            self.linked_directly();
        }
        self.channels.insert(0, channel);
        self.channels.truncate(CHANNELS_MAX);
        // Others may ask for this link as soon as they hear of it.
        self.show();
        self.shared.linked(&self.peer, hello);
    }

    fn channel_lost(&mut self, index: usize, code: Code) {
        let channel = self.channels.swap_remove(index);
        tracing::debug!(peer = %self.peer.device().fmt_short(), %code, "channel lost");
        if code != Code::Closed {
            let mut connection = channel.connection;
            connection.queue(&Frame::Close { code });
            let _ = connection.poll_flush(&mut Context::from_waker(std::task::Waker::noop()));
        }
        if !self.channels.is_empty() {
            return;
        }
        // Whether the path still works is for the next dial to show, two attempts at a time.
        self.doubt();
        self.peer.sweep(self.now(), true);
        self.show();
        self.shared.check_relays();
        for session in self.shared.sessions.of(self.peer.device()) {
            let _ = session.inbox.try_send(Command::Suspect(cloak_session::Suspicion::PeerSilent));
        }
    }

    /// False when the channel is gone.
    fn message(&mut self, index: usize, message: PeerFrame) -> bool {
        if is_passed_on(&message) && !self.allowance.take(self.now()) {
            tracing::debug!(peer = %self.peer.device().fmt_short(), "too much gossip");
            return true;
        }
        match self.shared.peer_message(&self.peer, message) {
            Ok(None) => {}
            Ok(Some(reply)) => {
                if let Some(channel) = self.channels.get_mut(index) {
                    channel.send(reply);
                }
            }
            Err(code) => {
                self.channel_lost(index, code);
                return false;
            }
        }
        true
    }

    fn poll_timeout(&self) -> Instant {
        let channels = self.channels.iter().map(Channel::poll_timeout);
        let dial_back = (self.peer.needs(self.now()).waiting > 0 && !self.proven)
            .then_some(self.dial_back_at.max(self.now() + Duration::from_millis(50)))
            .filter(|_| !self.channels.is_empty());
        let greeting = self.greeting_until().filter(|until| *until > self.now());
        let refused = Some(self.refused_until).filter(|until| *until > self.now());
        let relayed = self.relayed_timeout();
        let all = channels.chain(dial_back).chain(refused).chain(greeting).chain(relayed);
        all.fold(self.sweep_at, Instant::min)
    }

    fn handle_timeout(&mut self) {
        let now = self.now();
        for index in (0..self.channels.len()).rev() {
            if let Err(code) = self.channels[index].handle_timeout(now) {
                self.channel_lost(index, code);
            }
        }
        self.seek_direct();
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_EVERY;
            self.peer.sweep(now, false);
        }
        self.show();
    }

    fn show(&self) {
        let state = match (self.channels.is_empty(), self.redial.is_running()) {
            (false, _) => LinkState::Linked,
            (true, true) => LinkState::Dialling,
            (true, false) => LinkState::Unreachable,
        };
        self.peer.set_state(state, self.shared.clock.wall());
        let channel = self.channels.first();
        let is_relayed = channel.is_some_and(|channel| channel.connection.via().is_some());
        self.peer.set_link(self.link(), is_relayed, channel.and_then(Channel::rtt));
    }

    /// The direct channels: where the peer dialled one from, and where we dialled one to.
    fn link(&self) -> Option<Link> {
        let direct = || {
            let connections = self.channels.iter().map(|channel| &channel.connection);
            connections.filter(|connection| connection.via().is_none())
        };
        let dialled = direct().find(|connection| connection.is_dialler());
        let accepted = direct().find(|connection| !connection.is_dialler());
        let from = accepted.or(dialled)?.peer_addr();
        Some(Link { from, dialled_at: dialled.map(Connection::peer_addr) })
    }

    /// Closes every channel with a word.
    fn farewell(&mut self, code: Code) {
        self.doubt();
        self.peer.sweep(self.now(), true);
        for mut channel in self.channels.drain(..) {
            channel.connection.queue(&Frame::Close { code });
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let _ = channel.connection.poll_flush(cx);
        }
    }
}
