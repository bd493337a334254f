//! The state machine's face.

use std::collections::VecDeque;
use std::sync::Arc;

use cloak_base::{DeviceId, Instant, Rng};

use crate::cert::Certifier;
use crate::config::Config;
use crate::contact::Own;
use crate::event::{Event, Input, Place};
use crate::message::Message;
use crate::record::RecordVerifier;
use crate::snapshot::{Snapshot, Stats};

/// One overlay peer. One task owns it.
///
/// After every [`handle`](Self::handle) it is to be emptied, see [`drain`](crate::drain).
pub struct Overlay {
    out: VecDeque<(DeviceId, Message)>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Overlay {
    /// A peer that has no place and no links. It does nothing before `Input::Start`.
    pub fn new(
        now: Instant,
        own: Own,
        config: Arc<Config>,
        certifier: Arc<dyn Certifier + Send + Sync>,
        verifier: Arc<dyn RecordVerifier + Send + Sync>,
        rng: Rng,
    ) -> Self {
        let _ = (now, own, config, certifier, verifier, rng);
        Self { out: VecDeque::new(), events: VecDeque::new(), stats: Stats::default() }
    }

    /// Takes something in. `now` never runs backwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
    }

    /// The next message, and over whose link.
    pub fn poll_transmit(&mut self) -> Option<(DeviceId, Message)> {
        let next = self.out.pop_front();
        self.stats.sent += u64::from(next.is_some());
        next
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `Input::Timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What it shows of itself.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            place: Place::Seeking,
            rooted: false,
            warming: false,
            parent: None,
            neighbours: Vec::new(),
            held: Vec::new(),
            stats: self.stats,
        }
    }
}
