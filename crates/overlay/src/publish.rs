//! Our own records, kept alive at the binders of their points.
//!
//! A record is stored at its five points, and again where nobody confirms it. From then on a small
//! touch is sent from time to time, and soon after something was out of reach and is back; a binder that
//! does not know the record asks for it.

use std::time::Duration;

use cloak_base::{DeviceId, Epoch, Instant};
use cloak_geometry::{Address, POINTS_PER_NAME};

use crate::event::Event;
use crate::limits::PUBLISHED_MAX;
use crate::message::{Body, Outcome};
use crate::overlay::Overlay;
use crate::record::{Key, Record};
use crate::store::digest_of;
use crate::timers::Timer;

/// Attempts at a point in a row.
const ATTEMPTS_MAX: u8 = 6;
/// Pause before a point that did not confirm is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// Within this time after something is back in reach our records are touched.
const TOUCH_SOON: Duration = Duration::from_secs(5);
/// Between two rounds for that reason.
const TOUCH_SOON_PAUSE: Duration = Duration::from_secs(15);

/// Records of ours.
#[derive(Default)]
pub(crate) struct Publications(Vec<Publication>);

struct Publication {
    key: Key,
    record: Record,
    digest: u64,
    points: [Address; POINTS_PER_NAME],
    /// Points that have not confirmed this round.
    open: [bool; POINTS_PER_NAME],
    /// Whether the whole record is sent in this round.
    whole: bool,
    attempts: u8,
    /// When this round began.
    since: Instant,
    /// Points that confirmed in this round may not have the record any more.
    doubted: bool,
    next: Instant,
    /// First hops of this round: where nobody confirmed, the next attempt goes another way.
    tried: Vec<DeviceId>,
    /// Those of the last attempt, for each point.
    firsts: [Option<DeviceId>; POINTS_PER_NAME],
    /// The highest epoch of somebody else's that its owner was told of.
    told: Option<Epoch>,
}

impl Publications {
    pub(crate) fn withdraw(&mut self, key: &Key) {
        self.0.retain(|publication| publication.key != *key);
    }

    fn get_mut(&mut self, key: &Key) -> Option<&mut Publication> {
        self.0.iter_mut().find(|publication| publication.key == *key)
    }
}

impl Overlay {
    pub(crate) fn publish(&mut self, key: Key, record: Record) {
        self.published.withdraw(&key);
        if self.published.0.len() >= PUBLISHED_MAX {
            self.published.0.remove(0);
        }
        let points = self.points(&key);
        let digest = digest_of(&record);
        let open = [true; POINTS_PER_NAME];
        let next = self.now;
        let (whole, attempts, told) = (true, 0, None);
        self.published.0.push(Publication {
            key,
            record,
            digest,
            points,
            open,
            whole,
            attempts,
            since: self.now,
            doubted: false,
            next,
            tried: Vec::new(),
            firsts: [None; POINTS_PER_NAME],
            told,
        });
        self.timers.set_earlier(Timer::Touch, self.now);
    }

    /// In another tree nobody has our records yet.
    pub(crate) fn republish(&mut self) {
        for publication in &mut self.published.0 {
            publication.begin_round(self.now, true);
            publication.next = self.now;
        }
        if !self.published.0.is_empty() {
            self.timers.set_earlier(Timer::Touch, self.now);
        }
    }

    /// Peers that we could not reach are back. Binders among them, and beyond, may have older records of
    /// ours than those that we published meanwhile, and others confirmed.
    pub(crate) fn touch_soon(&mut self) {
        let soon = self.now + self.rng.duration(Duration::ZERO, TOUCH_SOON);
        for publication in &mut self.published.0 {
            publication.doubted = true;
            publication.next = publication.next.min(soon.max(publication.since + TOUCH_SOON_PAUSE));
            self.timers.set_earlier(Timer::Touch, publication.next);
        }
    }

    /// Stores a record of somebody else at its points, once. Who has a newer one keeps it.
    pub(crate) fn restore(&mut self, key: &Key, record: &Record) {
        for point in self.points(key) {
            let body = Body::Store { key: key.clone(), record: record.clone() };
            self.originate(point, None, body);
        }
    }

    pub(crate) fn on_touch_due(&mut self) {
        let (now, unix) = (self.now, self.unix());
        self.published.0.retain(|publication| publication.record.expires >= unix);
        let placed = self.origin().is_some();
        for at in 0..self.published.0.len() {
            if self.published.0[at].next <= now {
                self.refresh(at, placed);
            }
        }
        if let Some(next) = self.published.0.iter().map(|publication| publication.next).min() {
            self.timers.set(Timer::Touch, next);
        }
    }

    /// A binder says what became of our record with this epoch.
    pub(crate) fn on_stored(&mut self, key: &Key, point: &Address, outcome: Outcome, epoch: Epoch) {
        let (slow, touch) = (self.jittered(self.config.touch_every), self.config.touch_every);
        if let Outcome::Superseded(held) = &outcome
            && !self.verifier.verify(key, held, self.unix())
        {
            return;
        }
        let Some(publication) = self.published.get_mut(key) else { return };
        let current = publication.record.epoch;
        if epoch != current
            && !matches!(&outcome, Outcome::Superseded(held) if held.epoch > current)
        {
            // Of one that we have replaced since.
            return;
        }
        let Some(at) = publication.points.iter().position(|other| other == point) else { return };
        let first = publication.firsts[at].take();
        self.first_answered(first);
        let Some(publication) = self.published.get_mut(key) else { return };
        match outcome {
            Outcome::Kept => publication.open[at] = false,
            Outcome::Unknown => {
                let body = publication.store();
                let first = self.ask_over(point.clone(), None, body, &mut Vec::new());
                if let Some(publication) = self.published.get_mut(key) {
                    publication.firsts[at] = first;
                }
                return;
            }
            Outcome::Superseded(record) if record.epoch >= publication.record.epoch => {
                let key = key.clone();
                publication.open = [false; POINTS_PER_NAME];
                publication.next = slow;
                if publication.told < Some(record.epoch) {
                    publication.told = Some(record.epoch);
                    self.events.push_back(Event::Superseded { key, record });
                }
                return;
            }
            Outcome::Superseded(_) | Outcome::Refused => publication.open[at] = false,
        }
        let settled = !publication.doubted && publication.open.iter().all(|open| !open);
        if settled && publication.next < self.now + touch / 2 {
            publication.rest(slow);
        }
    }

    /// One attempt at the points that have not confirmed, or the next round.
    fn refresh(&mut self, at: usize, placed: bool) {
        let retry = self.jittered(self.config.answer_timeout);
        let again = self.jittered(AGAIN_AFTER);
        let (now, touch_every) = (self.now, self.config.touch_every);
        let publication = &mut self.published.0[at];
        if !placed {
            publication.next = retry;
            return;
        }
        let is_over = now.since(publication.since) >= touch_every;
        if is_over || publication.doubted || publication.open.iter().all(|open| !open) {
            publication.begin_round(now, false);
        }
        if publication.attempts >= ATTEMPTS_MAX {
            // A part of the realm may be out of reach, and asks what we published before.
            (publication.attempts, publication.next) = (0, again);
            return publication.tried.clear();
        }
        publication.attempts += 1;
        publication.next = retry;
        let body = if publication.whole { publication.store() } else { publication.touch() };
        let before = publication.tried.clone();
        for nth in 0..POINTS_PER_NAME {
            let publication = &mut self.published.0[at];
            if !publication.open[nth] {
                continue;
            }
            let (point, last) = (publication.points[nth].clone(), publication.firsts[nth].take());
            self.first_unanswered(last);
            let first = self.ask_over(point, None, body.clone(), &mut before.clone());
            let publication = &mut self.published.0[at];
            publication.firsts[nth] = first;
            publication.tried.extend(first.filter(|first| !publication.tried.contains(first)));
        }
    }
}

impl Publication {
    fn begin_round(&mut self, now: Instant, whole: bool) {
        self.open = [true; POINTS_PER_NAME];
        (self.whole, self.attempts, self.since, self.doubted) = (whole, 0, now, false);
    }

    fn rest(&mut self, until: Instant) {
        self.open = [false; POINTS_PER_NAME];
        self.tried.clear();
        self.next = until;
    }

    fn store(&self) -> Body {
        Body::Store { key: self.key.clone(), record: self.record.clone() }
    }

    fn touch(&self) -> Body {
        let (key, epoch, digest) = (self.key.clone(), self.record.epoch, self.digest);
        Body::Touch { key, epoch, digest }
    }
}
