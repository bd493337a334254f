//! Questions of owners to their peers, many at a time, and what came of them.

use std::collections::BTreeMap;
use std::time::Duration;

use cloak_base::Instant;
use cloak_overlay::{Command, Destination, Event as Said, LookupId, Place};

use crate::names;
use crate::peer::PeerId;
use crate::realm::{Name, Realm, part_of};
use crate::world::Answer;

/// Answers are waited for so long after the last question.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether all are answered.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Who asked.
    pub from: PeerId,
    /// Whom.
    pub to: PeerId,
    /// Hops of the question; `None` without an answer.
    pub hops: Option<u8>,
}

/// What came of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// Who asked.
    pub from: PeerId,
    /// For which name.
    pub name: u32,
    /// What came.
    pub outcome: LookupOutcome,
    /// How long it took.
    pub latency: Duration,
}

/// How a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupOutcome {
    /// The genuine record.
    Found {
        /// Hops to its binder, as the answer says.
        hops: u8,
        /// Questions that it took.
        steps: u8,
    },
    /// A record that its owner never made.
    Forged,
    /// Enough binders said that there is none.
    Missing,
    /// Too few answers.
    Failed,
    /// Not even a failure within the patience.
    Silence,
}

impl Lookup {
    /// Whether the genuine record came.
    pub fn is_found(&self) -> bool {
        matches!(self.outcome, LookupOutcome::Found { .. })
    }
}

impl Realm {
    /// Lets peers ping others, evenly over `spread`.
    pub fn ping(&mut self, pairs: &[(PeerId, PeerId)], spread: Duration) -> Vec<Ping> {
        let begin = self.world.now();
        let mut asked = BTreeMap::new();
        self.world.take_answers();
        for (at, (from, to)) in pairs.iter().enumerate() {
            self.run_until(begin + part_of(spread, at, pairs.len()));
            if let Some(destination) = self.destination(*to) {
                let id = self.world.lookup_id();
                self.world.command(*from, Command::Ping { id, to: destination });
                asked.insert(id, at);
            }
        }
        let mut pings: Vec<Ping> =
            pairs.iter().map(|(from, to)| Ping { from: *from, to: *to, hops: None }).collect();
        self.gather(asked, |at, answer| {
            if let Said::Pong { hops, .. } = answer.said {
                pings[at].hops = hops;
            }
        });
        pings
    }

    /// Lets peers look names up, evenly over `spread`.
    pub fn look_up(&mut self, questions: &[(PeerId, Name)], spread: Duration) -> Vec<Lookup> {
        let begin = self.world.now();
        let (mut asked, mut asked_at) = (BTreeMap::new(), Vec::new());
        self.world.take_answers();
        for (at, (from, name)) in questions.iter().enumerate() {
            self.run_until(begin + part_of(spread, at, questions.len()));
            let id = self.world.lookup(*from, names::key(name.number));
            asked.insert(id, at);
            asked_at.push(self.world.now());
        }
        let silence = |(from, name): &(PeerId, Name)| Lookup {
            from: *from,
            name: name.number,
            outcome: LookupOutcome::Silence,
            latency: PATIENCE,
        };
        let mut lookups: Vec<Lookup> = questions.iter().map(silence).collect();
        self.gather(asked, |at, answer| note(&mut lookups[at], asked_at[at], &answer));
        lookups
    }

    /// Where a peer can be reached, as an outsider knows it.
    pub fn destination(&self, peer: PeerId) -> Option<Destination> {
        let device = Some(self.world.device(peer));
        match self.world.peer(peer).place() {
            Place::Inner { address, .. } => Some(Destination { address: address.clone(), device }),
            Place::Attached { hosts } => {
                let (_, address) = hosts.first()?;
                Some(Destination { address: address.clone(), device })
            }
            Place::Seeking => None,
        }
    }

    /// Waits for the answers, those already there included, and gives each to its question.
    fn gather(
        &mut self,
        mut asked: BTreeMap<LookupId, usize>,
        mut note: impl FnMut(usize, Answer),
    ) {
        let deadline = self.world.now() + PATIENCE;
        loop {
            for answer in self.world.take_answers() {
                let question = question_of(&answer.said).and_then(|id| asked.remove(&id));
                if let Some(at) = question {
                    note(at, answer);
                }
            }
            if asked.is_empty() || self.world.now() >= deadline {
                return;
            }
            self.run_for(LOOK_EVERY);
        }
    }
}

fn question_of(said: &Said) -> Option<LookupId> {
    match said {
        Said::Found { id, .. }
        | Said::NotFound { id, .. }
        | Said::LookupFailed { id, .. }
        | Said::Pong { id, .. }
        | Said::Traced { id, .. } => Some(*id),
        _ => None,
    }
}

fn note(lookup: &mut Lookup, asked: Instant, answer: &Answer) {
    lookup.latency = answer.at.since(asked);
    lookup.outcome = match &answer.said {
        Said::Found { record, hops, steps, .. } => {
            if names::is_genuine(&names::key(lookup.name), record) {
                LookupOutcome::Found { hops: *hops, steps: *steps }
            } else {
                LookupOutcome::Forged
            }
        }
        Said::NotFound { .. } => LookupOutcome::Missing,
        Said::LookupFailed { .. } => LookupOutcome::Failed,
        _ => return,
    };
}
