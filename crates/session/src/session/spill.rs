//! Fewer resources while disconnected: buffers go elsewhere, or are dropped where the peer still
//! has the bytes.
//!
//! Only bytes for replay are worth keeping. Bytes that arrived and were not delivered are dropped:
//! they were never acknowledged, so the peer sends them again from our `delivered`.

use std::time::Duration;

use cloak_base::Instant;
use cloak_wire::{Code, Resume, SessionFrame};

use super::{Phase, Session};
use crate::error::RestoreError;
use crate::queue::Queue;
use crate::{Event, LaneId};

/// After shedding, how long the session leaves it to the peer to come back.
const SHED_PAUSE: Duration = Duration::from_secs(1);

/// Where the buffers are.
#[derive(Debug, Default)]
pub(super) enum Spill {
    #[default]
    Here,
    /// `Event::Spill` was given out.
    Asked,
    /// The driver has so many bytes.
    Away {
        len: u64,
        /// `Event::Unspill` was given out.
        wanted: bool,
        /// The resume that waits for them.
        parked: Option<Box<(LaneId, Resume)>>,
    },
}

/// The bytes of a suspended session that were not acknowledged.
#[derive(Debug)]
pub struct Buffers {
    queue: Queue,
}

impl Buffers {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.queue.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The bytes in order, in pieces. They go back in the same order.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.queue.slices()
    }
}

impl Session {
    /// Gives away the bytes kept for replay, after [`Event::Spill`]; lanes are closed. `None` when
    /// the session has come back meanwhile, or there are none.
    pub fn take_buffers(&mut self, now: Instant) -> Option<Buffers> {
        self.tick(now);
        if !matches!(self.spill, Spill::Asked) {
            return None;
        }
        self.spill = Spill::Here;
        if self.is_riding() || self.phase != Phase::Open {
            return None;
        }
        self.evict_all(Code::Timeout);
        self.receive.drop_held();
        let buffers = Buffers { queue: self.send.take() };
        let len = buffers.len();
        if len > 0 {
            self.spill = Spill::Away { len, wanted: false, parked: None };
        }
        self.settle();
        (len > 0).then_some(buffers)
    }

    /// Brings back the bytes that [`take_buffers`](Self::take_buffers) gave, all of them in order;
    /// then the resume that waited for them goes on.
    ///
    /// # Errors
    /// These are not those bytes: [`reset`](Self::reset) the session with `StorageFailed`.
    pub fn restore_buffers(&mut self, now: Instant, bytes: &[u8]) -> Result<(), RestoreError> {
        self.tick(now);
        let Spill::Away { len, ref mut parked, .. } = self.spill else {
            return Err(RestoreError::NotAway);
        };
        if len != bytes.len() as u64 {
            return Err(RestoreError::Length { expected: len, found: bytes.len() as u64 });
        }
        let parked = parked.take();
        self.send.restore(&self.memory, bytes);
        self.spill = Spill::Here;
        self.busy_at = self.now;
        if let Some((lane, resume)) = parked.map(|parked| *parked)
            && let Err(error) = self.handle_frame(now, lane, SessionFrame::Resume(resume))
        {
            self.events.push_back(Event::Evict { lane, code: error.code() });
        }
        self.settle();
        Ok(())
    }

    /// Memory is short: drops bytes that arrived and were not delivered, with the lane they came
    /// on. Does nothing where there are none.
    pub fn shed(&mut self, now: Instant) {
        let now = self.tick(now);
        if self.phase == Phase::Open && self.receive.drop_held() {
            self.evict_all(Code::Busy);
            self.paused_until = Some(now + SHED_PAUSE);
        }
        self.settle();
    }

    /// When the buffers of a suspended session go: a while after the last byte was delivered.
    pub(super) fn spill_deadline(&self) -> Option<Instant> {
        let (since, _) = self.suspended?;
        let holds = self.send.held() + self.receive.held_len() > 0;
        let is_here = matches!(self.spill, Spill::Here) && self.attempt.is_none();
        let may = holds && is_here && !self.is_riding() && self.phase == Phase::Open;
        may.then(|| since.max(self.busy_at) + self.config.spill_after)
    }

    pub(super) fn ask_spill(&mut self) {
        self.spill = Spill::Asked;
        self.events.push_back(Event::Spill);
    }

    /// Asks for the buffers back, once.
    pub(super) fn want_buffers(&mut self) {
        if let Spill::Away { wanted, .. } = &mut self.spill
            && !std::mem::replace(wanted, true)
        {
            self.events.push_back(Event::Unspill);
        }
    }
}

impl Spill {
    pub(super) fn is_here(&self) -> bool {
        !matches!(self, Self::Away { .. })
    }

    /// The session came back before its buffers went.
    pub(super) fn withdraw(&mut self) {
        if matches!(self, Self::Asked) {
            *self = Self::Here;
        }
    }

    pub(super) fn park(&mut self, lane: LaneId, resume: Resume) {
        if let Self::Away { parked, .. } = self {
            *parked = Some(Box::new((lane, resume)));
        }
    }

    pub(super) fn is_parked(&self, lane: LaneId) -> bool {
        matches!(self, Self::Away { parked: Some(parked), .. } if parked.0 == lane)
    }

    pub(super) fn forget(&mut self, lane: LaneId) {
        if let Self::Away { parked, .. } = self {
            *parked = parked.take().filter(|parked| parked.0 != lane);
        }
    }
}
