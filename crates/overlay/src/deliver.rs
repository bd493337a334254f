//! What is done with a routed message that is for us.

use std::time::Duration;

use cloak_base::DeviceId;

use crate::event::{Destination, Event, LookupId};
use crate::lookup::{Asked, Question};
use crate::message::{Body, Routed, Trace};
use crate::overlay::Overlay;

/// A ping in progress.
pub(crate) struct Ping {
    pub(crate) id: LookupId,
    to: Destination,
    attempts: u8,
    /// First hops that were taken.
    tried: Vec<DeviceId>,
    /// That of the last question.
    pub(crate) first: Option<DeviceId>,
}

impl Overlay {
    /// A message for us, or for a point that we bind.
    pub(crate) fn deliver(&mut self, routed: Routed) {
        let made = routed.made;
        let (to, origin) = (&routed.to, &routed.origin);
        match &routed.body {
            Body::Seek { want, id, below } => {
                let (want, id, below) = (*want, *id, *below);
                self.on_seek(routed, want, id, below);
            }
            Body::Store { key, record } => self.on_store(origin, to, key, record),
            Body::Touch { key, epoch, digest } => self.on_touch(origin, to, key, *epoch, *digest),
            Body::Find { key, id } => self.on_find(origin, to, key, *id, made),
            Body::Ping { id } => self.answer(origin, Body::Pong { id: *id, hops: made }),
            Body::Who => self.on_who(origin),
            Body::Trace(trace) => {
                let trace = Trace { arrived: true, ..(**trace).clone() };
                self.answer(origin, Body::Traced(Box::new(trace)));
            }
            _ => self.deliver_answer(routed.body),
        }
    }

    fn deliver_answer(&mut self, body: Body) {
        match body {
            Body::Offer(offer) => self.on_offer(*offer),
            Body::Stored { key, point, outcome, epoch } => {
                self.on_stored(&key, &point, outcome, epoch);
            }
            Body::Found(found) => self.on_found(*found),
            Body::Missing { id, chain } => self.on_missing(id, &chain),
            Body::Unsure { id } => self.on_unsure(id),
            Body::Pong { id, hops } => self.on_pong(id, Some(hops)),
            Body::Traced(trace) => self.on_traced(*trace),
            Body::Holder(holder) => self.on_holder(self.own_device(), *holder),
            Body::WrongPeer { id: Some(id), .. } => self.on_pong(id, None),
            _ => {}
        }
    }

    pub(crate) fn ping(&mut self, id: LookupId, to: Destination) {
        let number = self.next_question();
        let ping = Ping { id, to, attempts: 0, tried: Vec::new(), first: None };
        self.next_ping(number, Box::new(ping));
    }

    /// Asks, each time over another first hop, or gives up.
    fn next_ping(&mut self, number: u32, mut ping: Box<Ping>) {
        if ping.attempts >= PING_ATTEMPTS || self.origin().is_none() {
            return self.events.push_back(Event::Pong { id: ping.id, hops: None });
        }
        ping.attempts += 1;
        let Destination { address, device } = ping.to.clone();
        let body = Body::Ping { id: number };
        ping.first = self.ask_over(address, device, body, &mut ping.tried);
        let deadline = self.now + self.config.answer_timeout;
        self.push_question(number, Asked::Ping(ping), deadline);
    }

    pub(crate) fn trace(&mut self, id: LookupId, to: Destination) {
        let number = self.next_question();
        self.ask(number, Asked::Trace(id));
        let trace = Trace { id: number, arrived: false, passed: Vec::new() };
        self.originate(to.address, to.device, Body::Trace(Box::new(trace)));
    }

    /// Whether a message that passes is answered here, before it is where it goes.
    pub(crate) fn answers_early(&mut self, routed: &Routed) -> bool {
        match &routed.body {
            Body::Find { key, id } => {
                self.answer_from_store(&routed.origin, &routed.to, key, *id, routed.made)
            }
            Body::Found(found) => {
                self.cache(found, routed.made);
                false
            }
            _ => false,
        }
    }

    fn ask(&mut self, id: u32, asked: Asked) {
        let deadline = self.now + self.config.answer_timeout * TRACE_PATIENCE;
        self.push_question(id, asked, deadline);
    }

    fn on_pong(&mut self, id: u32, hops: Option<u8>) {
        let Some(Question { asked, deadline, .. }) = self.questions.take(id) else { return };
        match asked {
            Asked::Ping(ping) => {
                self.first_answered(ping.first);
                self.events.push_back(Event::Pong { id: ping.id, hops });
            }
            trace @ Asked::Trace(_) => self.events.push_back(trace.unanswered()),
            lookup @ Asked::Lookup(_) => {
                // Never later than before: whoever says so again and again would hold it open.
                let deadline = deadline.min(self.now + Duration::from_secs(1));
                self.push_question(id, lookup, deadline);
            }
        }
    }

    fn on_traced(&mut self, trace: Trace) {
        if let Some(Asked::Trace(id)) = self.questions.take(trace.id).map(|question| question.asked)
        {
            let (arrived, passed) = (trace.arrived, trace.passed);
            self.events.push_back(Event::Traced { id, arrived, passed });
        }
    }

    pub(crate) fn question_expired(&mut self, question: Question) {
        match question.asked {
            Asked::Ping(ping) => {
                self.first_unanswered(ping.first);
                self.next_ping(question.id, ping);
            }
            Asked::Lookup(lookup) => {
                self.first_unanswered(lookup.first);
                self.next_step(question.id, lookup);
            }
            trace @ Asked::Trace(_) => self.events.push_back(trace.unanswered()),
        }
    }
}

/// Questions of one ping.
const PING_ATTEMPTS: u8 = 4;
/// A trace is asked once, and may take a detour.
const TRACE_PATIENCE: u32 = 4;
