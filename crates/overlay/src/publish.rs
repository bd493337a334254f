//! Our own records, kept alive at the binders of their points.
//!
//! A record is stored at its five points, and again where nobody confirms it. From then on a small
//! touch is sent from time to time; a binder that does not know the record asks for it.

use cloak_base::{DeviceId, Epoch, Instant};
use cloak_geometry::{Address, POINTS_PER_NAME};

use crate::event::Event;
use crate::limits::PUBLISHED_MAX;
use crate::message::{Body, Outcome};
use crate::overlay::Overlay;
use crate::record::{Key, Record};
use crate::store::digest_of;
use crate::timers::Timer;

/// Attempts at a point within one round; the next round comes anyway.
const ATTEMPTS_MAX: u8 = 6;

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
    next: Instant,
    /// First hops of this round: where nobody confirmed, the next attempt goes another way.
    tried: Vec<DeviceId>,
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
            next,
            tried: Vec::new(),
            told,
        });
        self.timers.set_earlier(Timer::Touch, self.now);
    }

    /// In another tree nobody has our records yet.
    pub(crate) fn republish(&mut self) {
        for publication in &mut self.published.0 {
            publication.open = [true; POINTS_PER_NAME];
            (publication.whole, publication.attempts) = (true, 0);
            publication.next = self.now;
        }
        if !self.published.0.is_empty() {
            self.timers.set_earlier(Timer::Touch, self.now);
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

    pub(crate) fn on_stored(&mut self, key: &Key, point: &Address, outcome: Outcome) {
        let (slow, touch) = (self.jittered(self.config.touch_every), self.config.touch_every);
        let Some(publication) = self.published.get_mut(key) else { return };
        let Some(at) = publication.points.iter().position(|other| other == point) else { return };
        match outcome {
            Outcome::Kept => publication.open[at] = false,
            Outcome::Unknown => {
                let body = publication.store();
                self.originate(point.clone(), None, body);
                return;
            }
            Outcome::Superseded(epoch) if epoch >= publication.record.epoch => {
                let key = key.clone();
                publication.open = [false; POINTS_PER_NAME];
                publication.next = slow;
                if publication.told < Some(epoch) {
                    publication.told = Some(epoch);
                    self.events.push_back(Event::Superseded { key, epoch });
                }
                return;
            }
            Outcome::Superseded(_) | Outcome::Refused => publication.open[at] = false,
        }
        if publication.open.iter().all(|open| !open) && publication.next < self.now + touch / 2 {
            publication.rest(slow);
        }
    }

    /// One attempt at the points that have not confirmed, or the next round.
    fn refresh(&mut self, at: usize, placed: bool) {
        let retry = self.jittered(self.config.answer_timeout);
        let slow = self.jittered(self.config.touch_every);
        let publication = &mut self.published.0[at];
        if !placed {
            publication.next = retry;
            return;
        }
        if publication.open.iter().all(|open| !open) {
            publication.open = [true; POINTS_PER_NAME];
            (publication.whole, publication.attempts) = (false, 0);
        }
        if publication.attempts >= ATTEMPTS_MAX {
            return publication.rest(slow);
        }
        publication.attempts += 1;
        publication.next = retry;
        let body = if publication.whole { publication.store() } else { publication.touch() };
        let open: Vec<Address> = publication.open_points().cloned().collect();
        let before = publication.tried.clone();
        for point in open {
            let mut tried = before.clone();
            self.originate_avoiding(point, None, body.clone(), &mut tried);
            let first = tried.pop().filter(|_| tried.len() == before.len());
            let publication = &mut self.published.0[at];
            publication.tried.extend(first.filter(|first| !publication.tried.contains(first)));
        }
    }
}

impl Publication {
    fn rest(&mut self, until: Instant) {
        self.open = [false; POINTS_PER_NAME];
        self.tried.clear();
        self.next = until;
    }

    fn open_points(&self) -> impl Iterator<Item = &Address> {
        self.points.iter().zip(self.open).filter(|(_, open)| *open).map(|(point, _)| point)
    }

    fn store(&self) -> Body {
        Body::Store { key: self.key.clone(), record: self.record.clone() }
    }

    fn touch(&self) -> Body {
        let (key, epoch, digest) = (self.key.clone(), self.record.epoch, self.digest);
        Body::Touch { key, epoch, digest }
    }
}
