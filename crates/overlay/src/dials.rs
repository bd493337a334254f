//! Links that are wanted: a message to a peer without a link waits for its dial.
//!
//! What a dial is for is in the messages that wait for it; nothing else is remembered.

use cloak_base::{DeviceId, Instant};

use crate::contact::Contact;
use crate::event::Event;
use crate::limits::{DIALS_MAX, REMEMBERED_MAX, WAITING_MAX};
use crate::message::Message;
use crate::overlay::Overlay;
use crate::timers::Timer;

/// A dial in flight.
pub(crate) struct Dial {
    device: DeviceId,
    deadline: Instant,
    waiting: Vec<Message>,
}

impl Overlay {
    /// Sends over the link, if there is one.
    pub(crate) fn send(&mut self, to: DeviceId, message: Message) {
        if self.links.has(to) {
            self.out.push_back((to, message));
        }
    }

    /// Sends over the link, or dials for one first. Where that fails, [`Self::unreachable`] hears
    /// of it.
    pub(crate) fn send_to(&mut self, contact: &Contact, message: Message) {
        if contact.device == self.own.contact.device {
            return;
        }
        if self.links.has(contact.device) {
            self.out.push_back((contact.device, message));
        } else if let Some(dial) = self.dial_of(contact.device) {
            if dial.waiting.len() < WAITING_MAX {
                dial.waiting.push(message);
            }
        } else {
            self.begin_dial(contact, vec![message]);
        }
    }

    /// Dials without anything to say yet: greetings follow.
    pub(crate) fn dial(&mut self, contact: &Contact) {
        let device = contact.device;
        if device != self.own.contact.device
            && !self.links.has(device)
            && self.dial_of(device).is_none()
        {
            self.begin_dial(contact, Vec::new());
        }
    }

    /// Messages that waited for this link; none where we did not dial.
    pub(crate) fn end_dial(&mut self, device: DeviceId) -> Option<Vec<Message>> {
        let at = self.dials.iter().position(|dial| dial.device == device)?;
        Some(self.dials.swap_remove(at).waiting)
    }

    pub(crate) fn on_dials_due(&mut self) {
        let now = self.now;
        let over = |dial: &Dial| (dial.deadline <= now).then_some(dial.device);
        let late: Vec<DeviceId> = self.dials.iter().filter_map(over).collect();
        for device in late {
            self.unreachable(device);
        }
        if let Some(next) = self.dials.iter().map(|dial| dial.deadline).min() {
            self.timers.set(Timer::Dials, next);
        }
    }

    /// A dial failed, or took too long. A link may still come up later.
    pub(crate) fn unreachable(&mut self, device: DeviceId) {
        self.end_dial(device);
        self.seek_unreachable(device);
        self.orphan_unreachable(device);
        self.exploration_failed(device);
        self.vacancy_peer_gone(device);
    }

    /// Keeps a contact for bad times; a random one makes room.
    pub(crate) fn remember(&mut self, contact: &Contact) {
        let known = self.remembered.iter_mut().find(|other| other.device == contact.device);
        if let Some(known) = known {
            known.clone_from(contact);
        } else if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push(contact.clone());
        } else {
            let at = self.random_below(REMEMBERED_MAX);
            self.remembered[at] = contact.clone();
        }
    }

    fn begin_dial(&mut self, contact: &Contact, waiting: Vec<Message>) {
        if self.dials.len() >= DIALS_MAX {
            return;
        }
        let deadline = self.now + self.config.dial_timeout;
        self.dials.push(Dial { device: contact.device, deadline, waiting });
        self.timers.set_earlier(Timer::Dials, deadline);
        self.events.push_back(Event::Dial { contact: contact.clone() });
    }

    fn dial_of(&mut self, device: DeviceId) -> Option<&mut Dial> {
        self.dials.iter_mut().find(|dial| dial.device == device)
    }
}
