//! What goes on the lanes. Control frames go ahead of data at every frame boundary.

use cloak_base::Instant;
use cloak_wire::{Early, Open, Opened, Resume, Resumed, SessionFrame};

use super::{FirstBytes, Leaving, Phase, Session, Tell};
use crate::lane::{Greeting, Hearing};
use crate::proof::{Claim, resume_proof, resumed_proof};
use crate::send::Next;
use crate::{LaneId, Planted, Transmit};

/// Offsets and credit of ours, as the next frame says them.
struct Ours {
    received: u64,
    delivered: u64,
    credit: u64,
}

impl Session {
    /// The next thing to put on `lane`, at most `max` bytes of data. Counts as sent: call it only
    /// while the lane's output buffer has room.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        lane: LaneId,
        max: usize,
    ) -> Option<Transmit<'_>> {
        let now = self.tick(now);
        if self.lane(lane)?.idle_sent.is_some() {
            return None;
        }
        let frame = self.poll_greeting(now, lane).or_else(|| self.poll_control(now, lane));
        if let Some(frame) = frame {
            self.settle();
            return Some(Transmit::Frame(frame));
        }
        if self.current != Some(lane) || self.phase != Phase::Open || !self.spill.is_here() {
            return None;
        }
        match self.send.poll(max, self.config.has(Planted::EarlyFin))? {
            Next::Fin => {
                self.moved(now);
                Some(Transmit::Frame(SessionFrame::Fin))
            }
            Next::Data(offset, len) => {
                self.moved(now);
                Some(Transmit::Data(self.send.slice(offset, len)))
            }
        }
    }

    /// The first frame of ours on a lane.
    fn poll_greeting(&mut self, now: Instant, id: LaneId) -> Option<SessionFrame> {
        let lane = self.lane_mut(id)?;
        let greeting = lane.greeting.take()?;
        (lane.greeted_at, lane.greeted_with) = (Some(now), Some(greeting));
        Some(match greeting {
            Greeting::Open => self.open_frame(id),
            Greeting::Opened => SessionFrame::Opened(Opened { credit: self.receive.credit() }),
            Greeting::Refused(code) => SessionFrame::Refused { code },
            Greeting::Resume => self.resume_frame(id)?,
            Greeting::Resumed => self.resumed_frame(id)?,
        })
    }

    fn poll_control(&mut self, now: Instant, id: LaneId) -> Option<SessionFrame> {
        let is_current = self.current == Some(id);
        let phase = self.phase;
        let lane = self.lane_mut(id)?;
        if is_current
            && !lane.reset_sent
            && let Phase::Leaving(Leaving { tell: Tell::Reset(code), .. }) = phase
        {
            lane.reset_sent = true;
            return Some(SessionFrame::Reset { code });
        }
        if let Some(number) = lane.alive_due.take() {
            return Some(SessionFrame::Alive { number });
        }
        if std::mem::take(&mut lane.probe_due) {
            return Some(self.probe_frame(now, id));
        }
        if is_current { self.poll_current(now, id) } else { None }
    }

    fn poll_current(&mut self, now: Instant, id: LaneId) -> Option<SessionFrame> {
        let in_company = self.send.has_more();
        if self.phase == Phase::Open
            && let Some(frame) = self.poll_hand_over().or_else(|| self.poll_escrow_frame())
        {
            return Some(frame);
        }
        match self.phase {
            Phase::Open if self.receive.is_ack_due(in_company) => Some(self.ack_frame()),
            // `Idle` follows.
            Phase::Leaving(Leaving { tell: Tell::Closed, .. }) if self.receive.is_ack_due(true) => {
                Some(self.ack_frame())
            }
            Phase::Leaving(_) => {
                self.lane_mut(id)?.idle_sent = Some(now);
                Some(SessionFrame::Idle)
            }
            Phase::Open
            | Phase::Opening(_)
            | Phase::Away { .. }
            | Phase::Taking
            | Phase::Ended(_) => None,
        }
    }

    fn open_frame(&mut self, id: LaneId) -> SessionFrame {
        let (credit, base) = (self.receive.credit(), self.base);
        let is_greeted = self.lane_mut(id).is_some_and(|lane| {
            lane.position = base;
            lane.up.peer_nonce.is_some()
        });
        // Who restarted may have served them before and has forgotten. Its `Hello` tells.
        let is_known = is_greeted && self.incarnation.is_some();
        let early = match self.first {
            FirstBytes::WithOpen if is_known => Early::of(self.send.send_early()),
            _ => Early::default(),
        };
        self.early = early.len() as u64;
        self.early_max = self.early_max.max(self.early);
        SessionFrame::Open(Open {
            session: self.id,
            secret: self.secret,
            target: self.target.clone(),
            credit,
            epoch: self.attempted,
            early,
        })
    }

    fn resume_frame(&mut self, id: LaneId) -> Option<SessionFrame> {
        let (session, role) = (self.id, self.role);
        let epoch = self.attempt.filter(|attempt| attempt.lane == id)?.rank.epoch;
        let ends = self.lane(id)?.up.ends()?;
        let Ours { received, delivered, credit } = self.ours(id);
        let claim = Claim { session, epoch, role, received, delivered, credit };
        let proof = resume_proof(&self.secret, &ends, &claim);
        let frame = Resume { session, epoch, received, delivered, credit, proof };
        Some(SessionFrame::Resume(frame))
    }

    fn resumed_frame(&mut self, id: LaneId) -> Option<SessionFrame> {
        let (session, role, epoch) = (self.id, self.role, self.committed.epoch);
        let ends = self.lane(id)?.up.ends()?;
        let Ours { received, delivered, credit } = self.ours(id);
        let claim = Claim { session, epoch, role, received, delivered, credit };
        let proof = resumed_proof(&self.secret, &ends, &claim)?;
        Some(SessionFrame::Resumed(Resumed { epoch, received, delivered, credit, proof }))
    }

    fn ack_frame(&mut self) -> SessionFrame {
        let (mut delivered, credit) = self.receive.tell();
        if self.config.has(Planted::AcknowledgeBeforeDelivery) {
            delivered = self.receive.received();
        }
        if self.config.has(Planted::Offset32Bit) {
            delivered &= u64::from(u32::MAX);
        }
        SessionFrame::Ack { delivered, credit }
    }

    fn probe_frame(&mut self, now: Instant, id: LaneId) -> SessionFrame {
        let number = self.rng.next_u64();
        let mut unheard = false;
        if let Some(lane) = self.lane_mut(id) {
            lane.probe = Some((number, now));
            unheard = lane.liveness.is_suspect() && lane.hearing != Hearing::Denied;
        }
        SessionFrame::Probe { number, unheard }
    }

    /// What we say in a frame that takes a lane; data on it starts at our `received`.
    fn ours(&mut self, id: LaneId) -> Ours {
        let (delivered, credit) = self.receive.tell();
        let received = self.receive.received();
        if let Some(lane) = self.lane_mut(id) {
            lane.position = received;
        }
        Ours { received, delivered, credit }
    }

    /// Measures the round trip where it is not known and windows are to grow by it.
    pub(super) fn ask_round_trip(&mut self) {
        if self.rtt.smoothed().is_none()
            && let Some(lane) = self.current.and_then(|id| self.lane_mut(id))
            && lane.probe.is_none()
        {
            lane.probe_due = true;
        }
    }
}
