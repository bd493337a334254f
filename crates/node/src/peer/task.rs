//! The task of one peer: keeps a channel, dials lanes, retries through an outage.
//!
//! While the path is *proven* (the last dial worked) lanes are dialled as they are needed. As soon
//! as a dial fails it is not, and one [`Redial`] runs, two attempts in flight, until one works: see
//! [`dialling`], and [`channels`] for what is said over what came of it. Where there is no direct
//! path, hosts are asked for circuits: see [`relayed`].

mod channels;
mod dialling;
mod relayed;

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{Instant, SessionId};
use cloak_transport::{Connection, Hurry, Redial};
use cloak_wire::{Code, PeerFrame};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::allowance::Allowance;
use super::channel::Channel;
use super::redialling::Redialling;
use super::shown::LinkState;
use super::{Greeting, Peer, PeerCommand};
use crate::shared::Shared;
use crate::timer::Timer;
use channels::next_on_channels;
use dialling::Outcome;
use relayed::Relayed;

/// A peer that says it moved is dialled anew at most this often on its word.
const REBOUND_PAUSE: Duration = Duration::from_secs(3);
/// How often warm lanes are checked.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// After this long in an outage the overlay is asked where the peer is now, and then again.
const ASK_AFTER: Duration = Duration::from_millis(700);
const ASK_EVERY: Duration = Duration::from_secs(3);

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
    /// When the channel was last needed.
    needed_at: Instant,
    /// When to ask where the peer is.
    ask_at: Instant,
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
        needed_at: now,
        ask_at: now + ASK_AFTER,
        allowance: Allowance::gossip(now),
    };
    loop {
        task.provide();
        timer.set(Some(task.poll_timeout()));
        let step = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            // Before what the peer says: it may be that it is to be dropped for saying so much.
            command = commands.recv() => match command {
                Some(PeerCommand::Retire) | None => break,
                Some(command) => Step::Command(command),
            },
            (index, result) = next_on_channels(&mut task.channels, &*clock) => {
                Step::Channel(index, result)
            }
            Some(Ok(outcome)) = task.dials.join_next() => Step::Dialled(Box::new(outcome)),
            connection = task.redial.connection() => Step::Redialled(connection.map(Box::new)),
            () = peer.wanted() => Step::Again,
            () = std::future::poll_fn(|cx| timer.poll(cx)) => Step::Again,
        };
        task.handle(step);
        task.handle_timeout();
    }
    // What was said before the end still goes out.
    while let Ok(PeerCommand::Send(frame)) = commands.try_recv() {
        task.command(PeerCommand::Send(frame));
    }
    task.farewell(Code::ShuttingDown);
}

impl Task {
    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// Whether anything needs a channel to the peer.
    fn is_needed(&self) -> bool {
        let sessions = self.shared.sessions.count_awake(self.peer.device());
        self.peer.needs_channel(sessions, self.now())
    }

    /// In an outage the peer may have moved: whoever knows its record is asked.
    fn ask_where(&mut self) {
        let now = self.now();
        let in_outage = self.channels.is_empty() && !self.proven && self.redial.is_running();
        if !in_outage || self.shared.sessions.count_awake(self.peer.device()) == 0 {
            self.ask_at = now + ASK_AFTER;
        } else if now >= self.ask_at {
            self.ask_at = now + ASK_EVERY;
            self.shared.ask_where(self.peer.device());
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
            PeerCommand::Drop(code) | PeerCommand::Dismiss(code) => self.farewell(code),
            PeerCommand::Retire => {}
        }
    }

    /// Something may have changed for the better.
    fn hurry(&mut self) {
        self.hurry.now();
        self.relayed.hurry(self.shared.clock.now());
    }

    fn poll_timeout(&self) -> Instant {
        let channels = self.channels.iter().map(Channel::poll_timeout);
        let dial_back = (self.peer.needs(self.now()).waiting > 0 && !self.proven)
            .then_some(self.dial_back_at.max(self.now() + Duration::from_millis(50)))
            .filter(|_| !self.channels.is_empty());
        let greeting = self.greeting_until().filter(|until| *until > self.now());
        let refused = Some(self.refused_until).filter(|until| *until > self.now());
        let relayed = self.relayed_timeout();
        let ask = self.redial.is_running().then_some(self.ask_at);
        let all =
            channels.chain(dial_back).chain(refused).chain(greeting).chain(relayed).chain(ask);
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
        self.ask_where();
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_EVERY;
            self.peer.sweep(now, false);
            self.close_unneeded();
        }
        self.show();
    }

    fn show(&self) {
        let state = match (self.channels.is_empty(), self.redial.is_running()) {
            (false, _) => LinkState::Linked,
            (true, true) => LinkState::Dialling,
            (true, false) if self.is_needed() => LinkState::Unreachable,
            (true, false) => LinkState::Idle,
        };
        self.peer.set_state(state, self.shared.clock.wall(), self.now());
        let channel = self.channels.first();
        let is_relayed = channel.is_some_and(|channel| channel.connection.via().is_some());
        if self.peer.set_link(self.link(), is_relayed, channel.and_then(Channel::rtt)) {
            self.shared.overlay.changed(self.peer.device());
        }
    }
}
