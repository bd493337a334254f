//! Filling the place of a dead child: its parent certified it, so its parent is the arbiter.
//!
//! A place is filled when the arbiter misses its holder *and* an orphan claims it: a child that is
//! only cut off from us keeps it. The nominee is a leaf below the dead peer, named in advance or by
//! the orphan. It gives its own place up, gets the records that we recalled, and the orphans are
//! told where to go. Terms rise with every nominee, so that of two holders the later one stays.

use std::time::Duration;

use cloak_base::{DeviceId, Instant};

use crate::cert::Term;
use crate::chain::Chain;
use crate::contact::Contact;
use crate::keep::ADOPTED_WITHIN;
use crate::limits::{CANDIDATES_MAX, CLAIMS_MAX, VACANCIES_MAX};
use crate::message::{Claim, Holder, Message, Refusal};
use crate::overlay::Overlay;
use crate::snapshot::Role;
use crate::timers::Timer;

/// Within this time a nominee, which has a link by then, must have taken the place.
const NOMINEE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Candidates that are dialled at a time; the first that answers is appointed.
const DIALLED_MAX: usize = 3;
/// A place that nobody claims is given to joiners after this time.
const UNCLAIMED_AFTER: Duration = Duration::from_secs(60);

/// A place below us that is to be filled.
pub(crate) struct Vacancy {
    pub(crate) index: u8,
    since: Instant,
    /// Orphans to be told.
    claims: Vec<DeviceId>,
    candidates: Vec<Contact>,
    tried: Vec<DeviceId>,
    /// Who was appointed, and until when it must have come.
    pub(crate) appointed: Option<(DeviceId, Instant)>,
}

impl Overlay {
    /// A child with children of its own is gone. Its place waits for a claim.
    pub(crate) fn open_vacancy(&mut self, index: u8, heir: Option<Contact>) {
        if self.vacancies.len() >= VACANCIES_MAX || self.vacancy(index).is_some() {
            return;
        }
        self.vacancies.push(Vacancy {
            index,
            since: self.now,
            claims: Vec::new(),
            candidates: heir.into_iter().collect(),
            tried: Vec::new(),
            appointed: None,
        });
        self.timers.set_earlier(Timer::Vacancies, self.now + UNCLAIMED_AFTER);
    }

    /// An orphan says that the holder of a place below us is gone.
    pub(crate) fn on_claim(&mut self, from: DeviceId, claim: Claim) {
        let Claim { chain, missing, spares } = claim;
        let ours = self.tree.chain.clone();
        let arbiter = ours.filter(|ours| {
            ours.tree() == chain.tree()
                && missing.parent().as_ref() == Some(ours.address())
                && missing.is_ancestor_of(chain.address())
                && chain.holder() == from
        });
        let Some(index) = missing.index().filter(|_| arbiter.is_some()) else {
            return self.send(from, Message::Refused(Refusal::NoPlace));
        };
        if !self.verify(&chain, from) {
            return self.misbehaved(from, crate::event::Code::FalseAddress);
        }
        if let Some(child) = self.tree.child_at(index).copied() {
            let heard = self.links.get(child.device).map(|link| link.heard);
            let fresh = heard.is_some_and(|at| self.now.since(at) < self.config.probe_timeout);
            if fresh {
                return self.tell_holder(child.device, from);
            }
            self.probe(child.device);
        }
        let floor = chain_term(&chain, index, missing.depth());
        self.tree.raise_floor(index, floor);
        self.open_vacancy(index, None);
        let Some(vacancy) = self.vacancy_mut(index) else { return };
        if !vacancy.claims.contains(&from) && vacancy.claims.len() < CLAIMS_MAX {
            vacancy.claims.push(from);
        }
        for spare in spares {
            let known =
                vacancy.candidates.contains(&spare) || vacancy.tried.contains(&spare.device);
            if !known && vacancy.candidates.len() < CANDIDATES_MAX {
                vacancy.candidates.push(spare);
            }
        }
        self.appoint(index);
    }

    /// We are appointed to a dead peer's place.
    pub(crate) fn on_succeed(&mut self, from: DeviceId, chain: Chain) {
        let ours = self.tree.chain.as_ref();
        let issued = chain.above().is_some_and(|above| above.holder() == from);
        let fits = ours.is_some_and(|ours| {
            ours.tree() == chain.tree() && chain.address().is_ancestor_of(ours.address())
        });
        let leaf = self.tree.children.is_empty() && self.vacancies.is_empty();
        let above = chain.above().is_some_and(|above| above.passes(self.own_device()));
        if !issued || !fits || !leaf || above || chain.holder() != self.own_device() {
            return self.send(from, Message::Refused(Refusal::Declined));
        }
        if !self.verify(&chain, from) {
            return self.misbehaved(from, crate::event::Code::FalseAddress);
        }
        let above = chain.above().cloned();
        if let Some(link) = self.links.get_mut(from) {
            link.chain = above;
            link.rooted = true;
        }
        self.vacate();
        self.tree.warming = Some(self.now);
        self.stats.succeeded += 1;
        self.take_place(chain, Some(from));
        self.recall_within(ADOPTED_WITHIN);
    }

    /// Gives a leaf's place up for a higher one.
    pub(crate) fn vacate(&mut self) {
        if let Some(parent) = self.tree.parent.take() {
            self.hand_over(parent);
            self.send(parent, Message::Leaving);
            self.set_role(parent, Role::Passing);
        }
        self.tree.ancestors.clear();
    }

    /// A peer showed a place below us: is it the one that we appointed?
    pub(crate) fn successor_greeted(&mut self, from: DeviceId, chain: &Chain) {
        let ours = self.tree.chain.as_ref();
        let below =
            ours.is_some_and(|ours| chain.address().parent().as_ref() == Some(ours.address()));
        let Some(index) = chain.address().index().filter(|_| below) else { return };
        let appointed = self.vacancy(index).and_then(|vacancy| vacancy.appointed);
        if appointed.is_some_and(|(device, _)| device == from) && !self.is_below(from) {
            self.stats.appointed += 1;
            self.add_child(index, chain.term(), from);
            self.hand_down(index, from);
            self.vacancy_filled(index);
            self.tell_kin();
        }
    }

    pub(crate) fn on_declined(&mut self, from: DeviceId) {
        let found = self
            .vacancies
            .iter_mut()
            .find(|vacancy| vacancy.appointed.is_some_and(|(device, _)| device == from));
        if let Some(vacancy) = found {
            vacancy.appointed = None;
            let index = vacancy.index;
            self.appoint(index);
        }
    }

    /// A peer does not answer, or is gone; it may be one that we waited for.
    pub(crate) fn vacancy_peer_gone(&mut self, device: DeviceId) {
        self.on_declined(device);
        for vacancy in &mut self.vacancies {
            vacancy.candidates.retain(|candidate| candidate.device != device);
        }
        self.appoint_everywhere();
    }

    /// A peer is linked, or answered: a candidate is appointed, and where it is a child that an
    /// orphan missed, the orphan shall try it again.
    pub(crate) fn vacancy_peer_alive(&mut self, device: DeviceId) {
        if let Some(child) = self.tree.child(device).copied() {
            self.vacancy_filled(child.index);
        }
        self.appoint_everywhere();
    }

    fn appoint_everywhere(&mut self) {
        let indices: Vec<u8> = self.vacancies.iter().map(|vacancy| vacancy.index).collect();
        for index in indices {
            self.appoint(index);
        }
    }

    /// Tells all that wait who holds the place.
    pub(crate) fn vacancy_filled(&mut self, index: u8) {
        let Some(at) = self.vacancies.iter().position(|vacancy| vacancy.index == index) else {
            return;
        };
        let vacancy = self.vacancies.swap_remove(at);
        let Some(child) = self.tree.child_at(index).copied() else { return };
        for orphan in vacancy.claims {
            if orphan != child.device {
                self.tell_holder(child.device, orphan);
            }
        }
    }

    pub(crate) fn on_vacancies_due(&mut self) {
        let now = self.now;
        for at in (0..self.vacancies.len()).rev() {
            let vacancy = &mut self.vacancies[at];
            if now.since(vacancy.since) >= UNCLAIMED_AFTER {
                self.vacancies.swap_remove(at);
                continue;
            }
            if vacancy.appointed.is_some_and(|(_, until)| until <= now) {
                vacancy.appointed = None;
                let index = vacancy.index;
                self.appoint(index);
            }
        }
        self.watch_vacancies();
    }

    pub(crate) fn vacancy(&self, index: u8) -> Option<&Vacancy> {
        self.vacancies.iter().find(|vacancy| vacancy.index == index)
    }

    /// The term of the next holder of a place below us; raises the floor to it.
    pub(crate) fn next_term(&mut self, index: u8) -> Term {
        let term = self.tree.floor(index).next(self.unix());
        self.tree.raise_floor(index, term);
        term
    }

    /// Appoints the first candidate that is there, if the place is claimed and its holder is gone.
    fn appoint(&mut self, index: u8) {
        let gone = self.tree.child_at(index).is_none();
        let Some(vacancy) = self.vacancy(index) else { return };
        let waits = vacancy.appointed.is_some() || vacancy.claims.is_empty();
        if waits || !gone || vacancy.candidates.is_empty() {
            return;
        }
        let is_there = |candidate: &Contact| {
            let heard = self.links.get(candidate.device).map(|link| link.heard);
            heard.is_some_and(|at| self.now.since(at) < self.config.probe_timeout)
        };
        let Some(at) = vacancy.candidates.iter().position(is_there) else {
            return self.call_candidates(index);
        };
        let until = self.now + NOMINEE_TIMEOUT;
        let Some(vacancy) = self.vacancy_mut(index) else { return };
        let nominee = vacancy.candidates.remove(at).device;
        vacancy.tried.push(nominee);
        vacancy.appointed = Some((nominee, until));
        self.timers.set_earlier(Timer::Vacancies, until);
        let term = self.next_term(index);
        let Some(chain) = &self.tree.chain else { return };
        let degree = self.config.degree;
        let chain = chain.certify(index, term, nominee, degree, &*self.certifier);
        if let Some(chain) = chain {
            self.send(nominee, Message::Succeed(chain));
        }
    }

    /// Of some candidates one that lives answers soon; one after the other, each dead one would cost
    /// a timeout.
    fn call_candidates(&mut self, index: u8) {
        let Some(vacancy) = self.vacancy(index) else { return };
        let called: Vec<Contact> = vacancy.candidates.iter().take(DIALLED_MAX).cloned().collect();
        for candidate in called {
            if self.links.has(candidate.device) {
                self.probe(candidate.device);
            } else {
                self.dial(&candidate);
            }
        }
    }

    /// Tells an orphan who holds the place that it claimed.
    fn tell_holder(&mut self, holder: DeviceId, orphan: DeviceId) {
        let Some(link) = self.links.get(holder) else { return };
        let (Some(chain), contact) = (link.chain.clone(), link.contact.clone()) else { return };
        self.send(orphan, Message::Holder(Box::new(Holder { chain, contact })));
    }

    fn watch_vacancies(&mut self) {
        let due = |vacancy: &Vacancy| {
            vacancy.appointed.map_or(vacancy.since + UNCLAIMED_AFTER, |(_, until)| until)
        };
        if let Some(next) = self.vacancies.iter().map(due).min() {
            self.timers.set_earlier(Timer::Vacancies, next);
        }
    }

    fn vacancy_mut(&mut self, index: u8) -> Option<&mut Vacancy> {
        self.vacancies.iter_mut().find(|vacancy| vacancy.index == index)
    }
}

/// The term that the missing place had when the orphan was certified.
fn chain_term(chain: &Chain, index: u8, depth: usize) -> Term {
    let mut level = Some(chain);
    while let Some(place) = level {
        if place.address().depth() == depth && place.address().index() == Some(index) {
            return place.term();
        }
        level = place.above();
    }
    Term::default()
}
