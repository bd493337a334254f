//! Lanes and the channel through hosts, where there is no direct path; and the way back to one.
//!
//! Circuits are asked for a moment after direct dials began, and one at a time until one works. From
//! then on a direct path is looked for now and then; as soon as there is one, the channel and every
//! session go over to it, each on a lane of its own, while the relayed ones go on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::{Instant, SessionId};
use cloak_wire::{Code, Purpose};

use super::Task;
use super::dialling::{Dialled, Outcome, Way, greet};
use crate::registry::Command;

/// How long direct dials are alone.
const STAGGER: Duration = Duration::from_millis(500);
/// Pause after the first circuit that came to nothing; doubled up to the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Lanes through hosts that are being opened at a time, once one worked.
const LANES_MAX: usize = 8;
/// Pause between two looks for a direct path; doubled up to the longest, short again at every hint.
const SEEK_MIN: Duration = Duration::from_secs(5);
const SEEK_MAX: Duration = Duration::from_secs(60);
/// Sessions that go over to direct lanes at a time.
const MOVES_MAX: usize = 8;

/// See the module.
pub(super) struct Relayed {
    /// The last circuit worked.
    proven: bool,
    lanes: usize,
    is_dialling_channel: bool,
    failures: u32,
    /// No circuit before this, after one that came to nothing.
    retry_at: Instant,
    /// Since when there is no direct path, and something to use one for.
    needed_since: Option<Instant>,
    /// When to look for a direct path.
    seek_at: Option<Instant>,
    seek_pause: Duration,
    is_seeking: bool,
    /// Sessions that are to go over.
    to_move: VecDeque<SessionId>,
    moving: usize,
}

impl Relayed {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            proven: false,
            lanes: 0,
            is_dialling_channel: false,
            failures: 0,
            retry_at: now,
            needed_since: None,
            seek_at: None,
            seek_pause: SEEK_MIN,
            is_seeking: false,
            to_move: VecDeque::new(),
            moving: 0,
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whatever worked may not any more, and what was under way is dropped.
    pub(super) fn doubt(&mut self, now: Instant) {
        let (seek_at, seek_pause) = (self.seek_at, self.seek_pause);
        *self = Self { seek_at, seek_pause, ..Self::new(now) };
    }

    /// Circuits and direct paths may be possible now that were not.
    pub(super) fn hurry(&mut self, now: Instant) {
        (self.failures, self.retry_at, self.seek_pause) = (0, now, SEEK_MIN);
        self.seek_at = self.seek_at.map(|_| now);
    }

    /// Looks for a direct path from now on.
    pub(super) fn seek_direct(&mut self, now: Instant) {
        self.seek_at.get_or_insert(now + SEEK_MIN);
    }

    fn worked(&mut self, now: Instant) {
        (self.proven, self.failures, self.retry_at) = (true, 0, now);
        self.seek_direct(now);
    }

    fn failed(&mut self, now: Instant) {
        self.proven = false;
        self.retry_at = now + (RETRY_MIN * (1 << self.failures.min(8))).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
    }
}

impl Task {
    /// Asks hosts for what is needed, while there is no direct path.
    pub(super) fn provide_relayed(&mut self, waiting: usize) {
        let now = self.now();
        let sessions = self.shared.sessions.count_awake(self.peer.device());
        let wants_channel = self.channels.is_empty() && (sessions > 0 || waiting > 0);
        if waiting == 0 && !wants_channel {
            self.relayed.needed_since = None;
            return;
        }
        self.relayed.needed_since.get_or_insert(now);
        if self.relayed_due().is_none_or(|due| now < due) {
            return;
        }
        if self.shared.hosts_to(self.peer.device()).is_empty() {
            self.relayed.retry_at = now + RETRY_MIN;
            return;
        }
        if wants_channel && !self.relayed.is_dialling_channel {
            self.relayed.is_dialling_channel = true;
            self.dial_otherwise(Purpose::Peer, Way::Relay);
        }
        for _ in self.relayed.lanes..waiting.min(self.lanes_max()) {
            self.relayed.lanes += 1;
            self.dial_otherwise(Purpose::Lane, Way::Relay);
        }
    }

    fn lanes_max(&self) -> usize {
        if self.relayed.proven { LANES_MAX } else { 1 }
    }

    /// From when on hosts may be asked for more than they are already.
    fn relayed_due(&self) -> Option<Instant> {
        let waiting = self.peer.needs(self.now()).waiting;
        let lacks_lane = self.relayed.lanes < waiting.min(self.lanes_max());
        let sessions = self.shared.sessions.count_awake(self.peer.device());
        let lacks_channel =
            sessions > 0 && self.channels.is_empty() && !self.relayed.is_dialling_channel;
        let is_dismissed = self.peer.dismissal().is_cancelled();
        if self.proven || is_dismissed || !(lacks_lane || lacks_channel) {
            return None;
        }
        let since = self.relayed.needed_since?;
        let is_alone = self.relayed.proven
            || (self.channels.is_empty() && self.shared.locators_of(self.peer.device()).is_empty());
        let stagger = if is_alone { Duration::ZERO } else { STAGGER };
        Some((since + stagger).max(self.relayed.retry_at).max(self.refused_until))
    }

    /// When something of this file is due.
    pub(super) fn relayed_timeout(&self) -> Option<Instant> {
        self.relayed_due().into_iter().chain(self.relayed.seek_at).min()
    }

    fn dial_otherwise(&mut self, purpose: Purpose, way: Way) {
        let (shared, device) = (Arc::clone(&self.shared), self.peer.device());
        self.dials.spawn(async move {
            let dialled = match way {
                Way::Relay => shared.reach_through_hosts(device).await,
                _ => shared.race(device).await.map_err(|_| Code::PeerUnreachable),
            };
            let result = match dialled {
                Ok(connection) => greet(&shared, connection, purpose.clone()).await,
                Err(code) => Err(code),
            };
            Outcome { purpose, way, result }
        });
    }

    /// What became of a dial that was no ordinary one.
    pub(super) fn dialled_otherwise(&mut self, outcome: Outcome) {
        let now = self.now();
        let greeted = match outcome.result {
            Ok(Dialled::Greeted(connection, hello, nonce)) => Ok((connection, hello, nonce)),
            Ok(Dialled::Connected(_)) => Err(Code::Violation),
            Err(code) => Err(code),
        };
        match outcome.way {
            Way::Relay => {
                match outcome.purpose {
                    Purpose::Peer => self.relayed.is_dialling_channel = false,
                    _ => self.relayed.lanes = self.relayed.lanes.saturating_sub(1),
                }
                let Ok((connection, hello, nonce)) = greeted else {
                    return self.relayed.failed(now);
                };
                self.relayed.worked(now);
                self.redial.stop();
                match outcome.purpose {
                    Purpose::Peer => self.linked(connection, &hello),
                    _ => drop(self.provide_lane(connection, Some(hello.nonce), nonce)),
                }
            }
            Way::Probe => {
                self.relayed.is_seeking = false;
                let Ok((connection, hello, _)) = greeted else { return };
                self.greeted(Ok(()));
                self.linked(connection, &hello);
                self.move_sessions();
            }
            Way::Move(session) => {
                self.relayed.moving = self.relayed.moving.saturating_sub(1);
                if let Ok((connection, hello, nonce)) = greeted {
                    let lane = self.lane(connection, Some(hello.nonce), nonce);
                    match self.shared.sessions.get(self.peer.device(), session) {
                        Some(handle) => {
                            let _ = handle.tell(Command::Better(lane));
                        }
                        None => self.shared.release(lane),
                    }
                }
                self.move_next();
            }
            Way::Direct => {}
        }
    }

    /// A direct channel is there: what leads through hosts is no longer needed.
    pub(super) fn linked_directly(&mut self) {
        self.channels.retain(|channel| channel.connection.via().is_none());
        self.peer.drop_relayed();
        let now = self.now();
        self.relayed.proven = false;
        self.relayed.seek_at = self.relayed.seek_at.map(|_| now);
    }

    /// Looks for a direct path when it is time to, as long as anything is relayed.
    pub(super) fn seek_direct(&mut self) {
        let now = self.now();
        if self.relayed.seek_at.is_none_or(|at| now < at) {
            return;
        }
        let is_linked = self.peer.direct_link().is_some();
        let sessions = self.shared.sessions.of(self.peer.device());
        let any = sessions.iter().any(|session| session.is_relayed());
        if !any && (is_linked || self.channels.is_empty()) {
            self.relayed.seek_at = None;
            self.relayed.seek_pause = SEEK_MIN;
            return;
        }
        self.relayed.seek_at = Some(now + self.relayed.seek_pause);
        self.relayed.seek_pause = (self.relayed.seek_pause * 2).min(SEEK_MAX);
        if is_linked && self.proven {
            self.move_sessions();
        } else if !self.relayed.is_seeking {
            self.relayed.is_seeking = true;
            self.dial_otherwise(Purpose::Peer, Way::Probe);
        }
    }

    /// Every session that rides on a relayed lane goes over to a direct one.
    fn move_sessions(&mut self) {
        let sessions = self.shared.sessions.of(self.peer.device());
        let relayed = sessions.iter().filter(|session| session.is_relayed());
        self.relayed.to_move = relayed.map(|session| session.id).collect();
        self.move_next();
    }

    fn move_next(&mut self) {
        while self.relayed.moving < MOVES_MAX {
            let Some(session) = self.relayed.to_move.pop_front() else { return };
            self.relayed.moving += 1;
            self.dial_otherwise(Purpose::Lane, Way::Move(session));
        }
    }
}
