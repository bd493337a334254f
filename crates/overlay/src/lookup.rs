//! Lookups, driven by whoever asks.
//!
//! The asker knows the five points of a key. It asks the nearest binder first, each time over
//! another first hop, until it has a record that it verified, or until all points were asked and
//! three binders at least showed that they are that and have nothing. It needs nobody's word: a liar
//! can withhold, not forge. After many deaths at once some points have lost their records, so fewer
//! than all of them would be too few to ask.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::{Address, POINTS_PER_NAME, VirtualPoint, distance};

use crate::chain::Chain;
use crate::deliver::Ping;
use crate::event::{Event, LookupId};
use crate::limits::{CACHED_MAX, QUESTIONS_MAX};
use crate::message::{Body, Found};
use crate::overlay::Overlay;
use crate::record::{Key, Record};
use crate::seek::POINT_DIGITS;
use crate::timers::Timer;

/// Points whose binders must have nothing before a key is not found.
const MISSING_MIN: usize = 3;
/// Pause before a point is asked again that could not say.
const UNSURE_PAUSE: Duration = Duration::from_secs(1);
/// Questions of one lookup: each point twice.
const STEPS_MAX: u8 = 10;

/// Questions of ours that are not answered yet.
#[derive(Default)]
pub(crate) struct Questions {
    pub(crate) open: Vec<Question>,
}

pub(crate) struct Question {
    pub(crate) id: u32,
    pub(crate) asked: Asked,
    pub(crate) deadline: Instant,
    /// No link could lead it on.
    had_no_way: bool,
}

pub(crate) enum Asked {
    Ping(Box<Ping>),
    Trace(LookupId),
    Lookup(Box<Lookup>),
}

/// A lookup in progress.
pub(crate) struct Lookup {
    pub(crate) id: LookupId,
    key: Key,
    /// Nearest first.
    points: Vec<Address>,
    steps: u8,
    /// Points whose binders showed that they have nothing.
    missing: Vec<Address>,
    /// First hops that were taken.
    tried: Vec<DeviceId>,
    /// That of the last question.
    pub(crate) first: Option<DeviceId>,
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

impl Asked {
    /// What its asker is told when nobody answers.
    pub(crate) fn unanswered(self) -> Event {
        match self {
            Self::Ping(ping) => Event::Pong { id: ping.id, hops: None },
            Self::Trace(id) => Event::Traced { id, arrived: false, passed: Vec::new() },
            Self::Lookup(lookup) => Event::LookupFailed { id: lookup.id, steps: lookup.steps },
        }
    }
}

impl Questions {
    pub(crate) fn take(&mut self, id: u32) -> Option<Question> {
        let at = self.open.iter().position(|question| question.id == id)?;
        Some(self.open.swap_remove(at))
    }

    fn take_lookup(&mut self, id: u32) -> Option<(Box<Lookup>, Instant)> {
        let Question { asked, deadline, .. } = self.take(id)?;
        if let Asked::Lookup(lookup) = asked { Some((lookup, deadline)) } else { None }
    }

    fn take_first_due(&mut self) -> Option<Asked> {
        let first = self.open.iter().min_by_key(|question| question.deadline)?.id;
        self.take(first).map(|question| question.asked)
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
        let (missing, tried) = (Vec::new(), Vec::new());
        let lookup = Lookup { id, key, points, steps: 0, missing, tried, first: None };
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
        self.push_question(number, Asked::Lookup(lookup), deadline);
        let first = self.ask_over(point, None, body, &mut tried);
        if let Some(lookup) = self.questions.lookup(number) {
            (lookup.tried, lookup.first) = (tried, first);
        }
    }

    pub(crate) fn push_question(&mut self, id: u32, asked: Asked, deadline: Instant) {
        if self.questions.open.len() >= QUESTIONS_MAX
            && let Some(first) = self.questions.take_first_due()
        {
            self.events.push_back(first.unanswered());
        }
        let had_no_way = !self.links.iter().any(|link| self.may_lead_on(link));
        self.timers.set_earlier(Timer::Questions, deadline);
        self.questions.open.push(Question { id, asked, deadline, had_no_way });
    }

    /// Names a question. Nobody who does not see it can answer it.
    pub(crate) fn next_question(&mut self) -> u32 {
        u32::try_from(self.rng.next_u64() >> 32).unwrap_or_default()
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

    /// A link leads somewhere now: questions that no link led on, or one that is gone, are asked again.
    pub(crate) fn ask_again(&mut self) {
        let mut any = false;
        for question in &mut self.questions.open {
            let first = match &question.asked {
                Asked::Lookup(lookup) => lookup.first,
                Asked::Ping(ping) => ping.first,
                Asked::Trace(_) => continue,
            };
            if question.had_no_way || first.is_some_and(|first| !self.links.has(first)) {
                question.deadline = self.now;
                any = true;
            }
        }
        if any {
            self.timers.set_earlier(Timer::Questions, self.now);
        }
    }

    pub(crate) fn on_found(&mut self, found: Found) {
        let now = self.unix();
        let Some(lookup) = self.questions.lookup(found.id) else { return };
        let counts = lookup.key == found.key
            && found.record.expires >= now
            && self.verifier.verify(&found.key, &found.record, now);
        let Some((lookup, _)) = self.questions.take_lookup(found.id) else { return };
        if !counts {
            return self.next_step(found.id, lookup);
        }
        self.first_answered(lookup.first);
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
        let Some((mut lookup, _)) = self.questions.take_lookup(id) else { return };
        let shown = self.verify(chain, chain.holder());
        let own = self.address().cloned();
        let open = |point: &&Address| !lookup.missing.contains(point);
        let binds = |point: &&Address| point.as_bytes().starts_with(chain.address().as_bytes());
        let trusted = shown
            && (own.is_none() || self.tree.chain.as_ref().map(Chain::tree) == Some(chain.tree()));
        let point = lookup.points.iter().filter(open).find(binds).cloned();
        lookup.missing.extend(point.filter(|_| trusted));
        self.first_answered(lookup.first.filter(|_| trusted));
        self.next_step(id, lookup);
    }

    /// Somebody at a point cannot say: the next point is asked at once, and when all were, they are
    /// asked again in a while.
    pub(crate) fn on_unsure(&mut self, id: u32) {
        let Some((mut lookup, deadline)) = self.questions.take_lookup(id) else { return };
        self.first_answered(lookup.first.take());
        if usize::from(lookup.steps) < lookup.points.len() {
            return self.next_step(id, lookup);
        }
        // Never later than before: whoever says so again and again would hold it open.
        let deadline = deadline.min(self.now + UNSURE_PAUSE);
        self.push_question(id, Asked::Lookup(lookup), deadline);
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
