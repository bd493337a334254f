//! Lookups, driven by whoever asks.
//!
//! The asker knows the five points of a key. It asks the nearest binder first, each time over
//! another first hop, until it has a record that it verified, or until all points were asked and
//! three binders at least showed that they are that and have nothing. It needs nobody's word: a liar
//! can withhold, not forge. After many deaths at once some points have lost their records, so fewer
//! than all of them would be too few to ask.

use cloak_base::{DeviceId, Instant};
use cloak_geometry::{Address, POINTS_PER_NAME, VirtualPoint, distance};

use crate::chain::Chain;
use crate::event::{Event, LookupId};
use crate::limits::{CACHED_MAX, QUESTIONS_MAX};
use crate::message::{Body, Found};
use crate::overlay::Overlay;
use crate::record::{Key, Record};
use crate::seek::POINT_DIGITS;
use crate::timers::Timer;

/// Points whose binders must have nothing before a key is not found.
const MISSING_MIN: usize = 3;
/// Questions of one lookup: each point twice.
const STEPS_MAX: u8 = 10;

/// Questions of ours that are not answered yet.
#[derive(Default)]
pub(crate) struct Questions {
    next: u32,
    open: Vec<Question>,
}

pub(crate) struct Question {
    pub(crate) id: u32,
    pub(crate) asked: Asked,
    pub(crate) deadline: Instant,
}

pub(crate) enum Asked {
    Ping(LookupId),
    Trace(LookupId),
    Lookup(Box<Lookup>),
}

/// A lookup in progress.
pub(crate) struct Lookup {
    id: LookupId,
    key: Key,
    /// Nearest first.
    points: Vec<Address>,
    steps: u8,
    /// Points whose binders showed that they have nothing.
    missing: Vec<Address>,
    /// First hops that were taken.
    tried: Vec<DeviceId>,
}

impl Lookup {
    /// What came of it, when there is no point in asking on: all points have nothing, or those
    /// that did not say were asked again and again.
    fn end(&self) -> Option<Event> {
        let (id, missing) = (self.id, self.missing.len());
        let over = self.steps >= STEPS_MAX;
        if missing == self.points.len() || (over && missing >= MISSING_MIN) {
            let points_asked = u8::try_from(missing).unwrap_or(u8::MAX);
            return Some(Event::NotFound { id, points_asked });
        }
        over.then_some(Event::LookupFailed { id, steps: self.steps })
    }
}

impl Questions {
    pub(crate) fn take(&mut self, id: u32) -> Option<Asked> {
        let at = self.open.iter().position(|question| question.id == id)?;
        Some(self.open.swap_remove(at).asked)
    }

    fn lookup(&mut self, id: u32) -> Option<&mut Lookup> {
        self.open.iter_mut().find(|question| question.id == id).and_then(|question| {
            match &mut question.asked {
                Asked::Lookup(lookup) => Some(&mut **lookup),
                _ => None,
            }
        })
    }
}

impl Overlay {
    /// The points of a key in this realm.
    pub(crate) fn points(&self, key: &Key) -> [Address; POINTS_PER_NAME] {
        let points = VirtualPoint::of_name(key.as_bytes(), self.config.degree);
        points.map(|point| point.path().ancestor_at(POINT_DIGITS))
    }

    pub(crate) fn lookup(&mut self, id: LookupId, key: Key) {
        let mut points = Vec::from(self.points(&key));
        if let Some(own) = self.origin().map(|origin| origin.address) {
            let degree = self.config.degree;
            points.sort_by_key(|point| distance(&own, point, degree));
        }
        let lookup = Lookup { id, key, points, steps: 0, missing: Vec::new(), tried: Vec::new() };
        let number = self.next_question();
        self.next_step(number, Box::new(lookup));
    }

    /// Asks the next point, or gives up.
    pub(crate) fn next_step(&mut self, number: u32, mut lookup: Box<Lookup>) {
        if let Some((record, age)) = self.known(&lookup.points, &lookup.key) {
            return self.found_here(&lookup, record, age);
        }
        if let Some(end) = lookup.end() {
            return self.events.push_back(end);
        }
        let open = |point: &&Address| !lookup.missing.contains(point);
        let left: Vec<&Address> = lookup.points.iter().filter(open).collect();
        let Some(point) = left.get(usize::from(lookup.steps) % left.len().max(1)) else { return };
        let point = (*point).clone();
        lookup.steps += 1;
        let body = Body::Find { key: lookup.key.clone(), id: number };
        let mut tried = std::mem::take(&mut lookup.tried);
        let deadline = self.now + self.config.answer_timeout;
        self.push_question(Question { id: number, asked: Asked::Lookup(lookup), deadline });
        self.originate_avoiding(point, None, body, &mut tried);
        if let Some(lookup) = self.questions.lookup(number) {
            lookup.tried = tried;
        }
    }

    pub(crate) fn push_question(&mut self, question: Question) {
        if self.questions.open.len() >= QUESTIONS_MAX {
            let oldest = self.questions.open.remove(0);
            if let Asked::Lookup(lookup) = oldest.asked {
                let (id, steps) = (lookup.id, lookup.steps);
                self.events.push_back(Event::LookupFailed { id, steps });
            }
        }
        self.timers.set_earlier(Timer::Questions, question.deadline);
        self.questions.open.push(question);
    }

    pub(crate) fn next_question(&mut self) -> u32 {
        self.questions.next = self.questions.next.wrapping_add(1);
        self.questions.next
    }

    pub(crate) fn on_questions_due(&mut self) {
        let now = self.now;
        let late = |question: &mut Question| question.deadline <= now;
        let late: Vec<Question> = self.questions.open.extract_if(.., late).collect();
        for question in late {
            self.question_expired(question);
        }
        if let Some(next) = self.questions.open.iter().map(|question| question.deadline).min() {
            self.timers.set_earlier(Timer::Questions, next);
        }
    }

    pub(crate) fn on_found(&mut self, found: Found) {
        let now = self.unix();
        let Some(lookup) = self.questions.lookup(found.id) else { return };
        let counts = lookup.key == found.key
            && found.record.expires >= now
            && self.verifier.verify(&found.key, &found.record, now);
        let Some(Asked::Lookup(lookup)) = self.questions.take(found.id) else { return };
        if !counts {
            return self.next_step(found.id, lookup);
        }
        self.cache(&found, 0);
        self.events.push_back(Event::Found {
            id: lookup.id,
            record: found.record,
            binder: found.binder,
            hops: found.hops,
            age: std::time::Duration::from_secs(found.age.into()),
            steps: lookup.steps,
        });
    }

    /// A binder says that it has nothing, and shows that it is one.
    pub(crate) fn on_missing(&mut self, id: u32, chain: &Chain) {
        let Some(Asked::Lookup(mut lookup)) = self.questions.take(id) else { return };
        let shown = self.verify(chain, chain.holder());
        let own = self.address().cloned();
        let open = |point: &&Address| !lookup.missing.contains(point);
        let binds = |point: &&Address| point.as_bytes().starts_with(chain.address().as_bytes());
        let trusted = shown
            && (own.is_none() || self.tree.chain.as_ref().map(Chain::tree) == Some(chain.tree()));
        let point = lookup.points.iter().filter(open).find(binds).cloned();
        lookup.missing.extend(point.filter(|_| trusted));
        self.next_step(id, lookup);
    }

    /// Keeps a record that passes within a hop of its binder, or that we asked for.
    pub(crate) fn cache(&mut self, found: &Found, hops_from_binder: u8) {
        if hops_from_binder > CACHED_HOPS || found.cached {
            return;
        }
        let cached = Cached {
            key: found.key.clone(),
            record: found.record.clone(),
            since: self.now,
            age: found.age,
            binder: found.binder,
        };
        self.store.cached.retain(|other| other.key != found.key);
        if self.store.cached.len() >= CACHED_MAX {
            self.store.cached.remove(0);
        }
        self.store.cached.push(cached);
    }

    fn found_here(&mut self, lookup: &Lookup, record: Record, age: u32) {
        self.events.push_back(Event::Found {
            id: lookup.id,
            record,
            binder: self.own_device(),
            hops: 0,
            age: std::time::Duration::from_secs(age.into()),
            steps: lookup.steps,
        });
    }
}

/// A record that passed.
pub(crate) struct Cached {
    pub(crate) key: Key,
    pub(crate) record: Record,
    pub(crate) since: Instant,
    pub(crate) age: u32,
    pub(crate) binder: DeviceId,
}

/// Farthest from a binder that its answers are kept on their way.
const CACHED_HOPS: u8 = 2;
