//! Lanes between the devices: dialled, cut, silent, and what comes on them.

use std::time::Duration;

use cloak_session::{LaneId, LaneUp, Session};
use cloak_wire::{Code, Nonce, SessionFrame};

use super::{Happening, ID, Link, World, index};
use crate::side::device;
use crate::wire::{Bound, Item, Pipe, Wire};

impl World {
    pub(super) fn is_cut_off(&self, devices: [usize; 2]) -> bool {
        let is_off = |device: &super::Device| device.vanished > 0 || device.escrow.is_dead;
        devices.iter().any(|number| is_off(&self.devices[*number]))
    }

    pub(super) fn want(&mut self, number: usize) {
        self.devices[number].wants = true;
        if !std::mem::replace(&mut self.devices[number].dialling, true) {
            let at = self.soon(100);
            self.schedule(at, Happening::Dial(number));
        }
    }

    pub(super) fn dial(&mut self, number: usize) {
        let next = if self.is_cut_off([number, self.devices[number].peer]) {
            (self.soon(400), Happening::Dial(number))
        } else {
            (self.now + self.latency * 3, Happening::Connected(number))
        };
        if self.devices[number].wants && self.devices[number].session.is_some() {
            self.schedule(next.0, next.1);
        } else {
            self.devices[number].dialling = false;
        }
    }

    pub(super) fn connected(&mut self, number: usize) {
        let peer = self.devices[number].peer;
        if self.is_cut_off([number, peer]) {
            self.schedule(self.now, Happening::Dial(number));
            return;
        }
        self.devices[number].dialling = false;
        if !self.devices[number].wants || self.devices[number].session.is_none() {
            return;
        }
        self.lanes += 1;
        let lane = LaneId(self.lanes);
        let wire = Wire {
            dialler: 0,
            nonces: [Nonce(self.rng.bytes().into()), Nonce(self.rng.bytes().into())],
            pipes: [Pipe::default(), Pipe::default()],
            bound: [Bound::Session, Bound::Waiting],
            latency: self.latency,
            rate: 10_000_000,
            capacity: 64 << 10,
            silent: false,
            idle: [false; 2],
            resume: [None, None],
        };
        let nonces = wire.nonces;
        self.links.insert(lane, Link { wire, devices: [number, peer] });
        for (side, device) in [number, peer].into_iter().enumerate() {
            self.send(
                lane,
                side,
                Item::Hello(nonces[side], self.devices[device].escrow.run(device)),
            );
        }
        self.give(lane, 0);
        self.pump(number);
    }

    pub(super) fn give(&mut self, lane: LaneId, side: usize) {
        let link = self.links.get_mut(&lane).unwrap();
        link.wire.bound[side] = Bound::Session;
        let up = LaneUp {
            lane,
            we_dialled: side == 0,
            local_nonce: link.wire.nonces[side],
            peer_nonce: (side == 1).then_some(link.wire.nonces[0]),
            local: device(link.devices[side]),
            peer: device(link.devices[1 - side]),
        };
        let number = link.devices[side];
        let now = self.now;
        self.devices[number].session.as_mut().unwrap().lane_up(now, up);
    }

    pub(super) fn send(&mut self, lane: LaneId, side: usize, item: Item) {
        let jitter = self.rng.duration(Duration::ZERO, Duration::from_millis(5));
        let now = self.now;
        let Some(link) = self.links.get_mut(&lane) else { return };
        if !link.wire.pipes[side].cut {
            let at = link.wire.push(now, side, item, jitter);
            self.schedule(at, Happening::Arrive(lane, 1 - side));
        }
    }

    pub(super) fn close(&mut self, lane: LaneId, side: usize, code: Code) {
        let Some(link) = self.links.get_mut(&lane) else { return };
        if link.wire.bound[side] != Bound::Closed {
            link.wire.bound[side] = Bound::Closed;
            // The kernel may have bytes that nobody has read; then its reset overtakes the code.
            let is_lost = code == Code::Paused && self.rng.chance(1, 4);
            self.send(lane, side, Item::End(if is_lost { Code::Closed } else { code }));
        }
    }

    pub(super) fn cut(&mut self, lane: LaneId) {
        let now = self.now;
        for side in 0..2 {
            let link = self.links.get_mut(&lane).unwrap();
            let count = link.wire.pipes[side].items.len() as u64;
            let keep = index(&mut self.rng, count + 1);
            link.wire.cut(side, keep, now);
            self.schedule(now, Happening::Arrive(lane, 1 - side));
        }
    }

    pub(super) fn deliver_all(&mut self) {
        let mut lanes: Vec<_> = self.links.keys().copied().collect();
        lanes.sort_unstable();
        for lane in lanes {
            (0..2).for_each(|side| self.schedule(self.now, Happening::Arrive(lane, side)));
        }
    }

    pub(super) fn arrive(&mut self, lane: LaneId, side: usize) {
        loop {
            let now = self.now;
            let Some(link) = self.links.get(&lane) else { return };
            let is_silent = self.is_cut_off(link.devices) && !link.wire.pipes[1 - side].cut;
            let pipe = &mut self.links.get_mut(&lane).unwrap().wire.pipes[1 - side];
            if is_silent || pipe.items.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let (_, item) = pipe.items.pop_front().unwrap();
            pipe.in_flight = pipe.in_flight.saturating_sub(item.len());
            let devices = self.links[&lane].devices;
            self.take(lane, side, devices[side], item);
            devices.into_iter().for_each(|number| self.pump(number));
        }
    }

    pub(super) fn take(&mut self, lane: LaneId, side: usize, number: usize, item: Item) {
        let now = self.now;
        let bound = self.links[&lane].wire.bound[side];
        let peer = self.links[&lane].devices[1 - side];
        let has_session = self.devices[number].session.is_some();
        match (bound, item) {
            (Bound::Closed | Bound::Free, _) => {}
            (Bound::Session, Item::End(code)) if has_session => {
                self.close(lane, side, Code::Closed);
                self.devices[number].session.as_mut().unwrap().lane_down(now, lane, code);
            }
            (_, Item::End(_)) => self.close(lane, side, Code::Closed),
            (Bound::Session, Item::Hello(nonce, run)) if has_session => {
                let session = self.devices[number].session.as_mut().unwrap();
                session.peer_incarnation(now, device(peer), run);
                session.lane_nonce(lane, nonce);
            }
            (Bound::Session, Item::Frame(frame)) if has_session => {
                self.frame(lane, side, number, frame);
            }
            (Bound::Session, Item::Data(bytes)) if has_session => {
                self.data(lane, side, number, &bytes);
            }
            (Bound::Waiting, Item::Frame(frame)) => self.route(lane, side, number, frame),
            (Bound::Answered, Item::Frame(SessionFrame::Idle)) => {
                self.close(lane, side, Code::Closed);
            }
            (_, _) => {}
        }
    }

    pub(super) fn route(&mut self, lane: LaneId, side: usize, number: usize, frame: SessionFrame) {
        let peer = self.links[&lane].devices[1 - side];
        let here = &self.devices[number];
        let is_ours = here.session.is_some()
            && [Some(here.peer), here.may_come, here.escrow.noted].contains(&Some(peer));
        let buried = here.tombstones.get(self.now, &device(peer), ID);
        if let SessionFrame::Open(open) = &frame
            && number == 1
            && !is_ours
            && buried.is_none()
        {
            let (memory, rng) = (here.memory.clone(), self.rng.split());
            let session = Session::respond(self.now, self.config.clone(), open, memory, rng);
            self.devices[1].session = Some(session);
            self.give(lane, side);
            let now = self.now;
            self.devices[1].session.as_mut().unwrap().opened(now);
        } else if is_ours {
            let (now, known) = (self.now, here.peer);
            let run = self.devices[known].escrow.run(known);
            let session = self.devices[number].session.as_mut().unwrap();
            session.peer_incarnation(now, device(known), run);
            self.give(lane, side);
            self.frame(lane, side, number, frame);
        } else {
            let answer = here.tombstones.answer(self.now, &device(peer), ID);
            self.trace(number, format_args!("answers {peer} {answer:?}"));
            self.links.get_mut(&lane).unwrap().wire.bound[side] = Bound::Answered;
            self.send(lane, side, Item::Frame(answer));
            self.send(lane, side, Item::Frame(SessionFrame::Idle));
        }
    }

    pub(super) fn frame(&mut self, lane: LaneId, side: usize, number: usize, frame: SessionFrame) {
        self.trace(number, format_args!("gets {lane:?} {frame:?}"));
        let now = self.now;
        let session = self.devices[number].session.as_mut().unwrap();
        if let Err(error) = session.handle_frame(now, lane, frame) {
            self.lane_error(lane, side, number, error);
        }
    }

    pub(super) fn data(&mut self, lane: LaneId, side: usize, number: usize, bytes: &[u8]) {
        let now = self.now;
        let session = self.devices[number].session.as_mut().unwrap();
        match session.handle_data(now, lane, bytes) {
            Err(error) => self.lane_error(lane, side, number, error),
            Ok(fresh) => {
                let can_take = session.held().is_empty();
                let taken = if can_take { self.app(number).take(fresh) } else { 0 };
                let session = self.devices[number].session.as_mut().unwrap();
                session.delivered(now, taken);
                session.hold(&fresh[taken..]);
            }
        }
    }

    pub(super) fn lane_error(
        &mut self,
        lane: LaneId,
        side: usize,
        number: usize,
        error: cloak_session::LaneError,
    ) {
        use cloak_session::LaneError;
        self.trace(number, format_args!("closes {lane:?}: {error}"));
        let is_fault = matches!(error, LaneError::Violation(_) | LaneError::Bug(_));
        assert!(!is_fault, "an honest peer was called hostile: {error}");
        self.close(lane, side, error.code());
    }
}
