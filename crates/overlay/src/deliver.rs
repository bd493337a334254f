//! What is done with a routed message that is for us.

use std::time::Duration;

use crate::event::{Destination, Event, LookupId};
use crate::lookup::{Asked, Question};
use crate::message::{Body, Routed, Trace};
use crate::overlay::Overlay;

impl Overlay {
    /// A message for us, or for a point that we bind.
    pub(crate) fn deliver(&mut self, routed: Routed) {
        let made = routed.made;
        let (to, origin) = (&routed.to, &routed.origin);
        match &routed.body {
            Body::Seek { want, id } => {
                let (want, id) = (*want, *id);
                self.on_seek(routed, want, id);
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
            Body::Stored { key, point, outcome } => self.on_stored(&key, &point, outcome),
            Body::Found(found) => self.on_found(*found),
            Body::Missing { id, chain } => self.on_missing(id, &chain),
            Body::Pong { id, hops } => self.on_pong(id, Some(hops)),
            Body::Traced(trace) => self.on_traced(*trace),
            Body::Holder(holder) => self.on_holder(self.own_device(), *holder),
            Body::WrongPeer { id: Some(id), .. } => self.on_pong(id, None),
            _ => {}
        }
    }

    pub(crate) fn ping(&mut self, id: LookupId, to: Destination) {
        let number = self.next_question();
        self.ask(number, Asked::Ping(id));
        if !self.originate(to.address, to.device, Body::Ping { id: number }) {
            self.on_pong(number, None);
        }
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
        let deadline = self.now + self.config.answer_timeout * PING_PATIENCE;
        self.push_question(Question { id, asked, deadline });
    }

    fn on_pong(&mut self, id: u32, hops: Option<u8>) {
        match self.questions.take(id) {
            Some(Asked::Ping(id)) => self.events.push_back(Event::Pong { id, hops }),
            Some(Asked::Trace(id)) => {
                let passed = Vec::new();
                self.events.push_back(Event::Traced { id, arrived: false, passed });
            }
            Some(lookup @ Asked::Lookup(_)) => {
                let deadline = self.now + Duration::from_secs(1);
                self.push_question(Question { id, asked: lookup, deadline });
            }
            None => {}
        }
    }

    fn on_traced(&mut self, trace: Trace) {
        if let Some(Asked::Trace(id)) = self.questions.take(trace.id) {
            let (arrived, passed) = (trace.arrived, trace.passed);
            self.events.push_back(Event::Traced { id, arrived, passed });
        }
    }

    pub(crate) fn question_expired(&mut self, question: Question) {
        match question.asked {
            Asked::Ping(id) => self.events.push_back(Event::Pong { id, hops: None }),
            Asked::Trace(id) => {
                let passed = Vec::new();
                self.events.push_back(Event::Traced { id, arrived: false, passed });
            }
            Asked::Lookup(lookup) => self.next_step(question.id, lookup),
        }
    }
}

/// Pings and traces are asked once, and may take a detour.
const PING_PATIENCE: u32 = 4;
