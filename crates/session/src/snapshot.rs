//! What a session shows of itself.

use std::time::Duration;

use cloak_base::{DeviceId, Generation, Instant, SessionId};
use cloak_wire::Code;

use crate::{LaneId, Role};

/// State of a session, from end-to-end evidence, never from "the socket is still open".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// `Open` was sent, or the backend is being connected.
    Opening,
    /// Bytes flow, or could.
    Live,
    /// No lane is known to work; bytes are kept.
    Suspended,
    /// Kept without an application.
    Held,
    /// The outcome is settled at this end; the other end is being told.
    Closing,
    /// Ended otherwise.
    Lost,
    /// Ended clean.
    Closed,
}

/// A view of a session. Byte counts are of this end's application: `sent` is what it wrote and was
/// put on a lane at least once, `received` what arrived for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The session.
    pub id: SessionId,
    /// Which end this is.
    pub role: Role,
    /// Its state.
    pub state: State,
    /// When it entered that state.
    pub since: Instant,
    /// Why it is suspended or lost.
    pub reason: Option<Code>,
    /// This end has suspended it on purpose, and is not resumed yet.
    pub paused_here: bool,
    /// When it is lost, unless a lane works before.
    pub expires: Option<Instant>,
    /// How many owners this end has had before the present one. An end that was taken back counts as well.
    pub generation: Generation,
    /// The same of the other end.
    pub peer_generation: Generation,
    /// How often it changed its lane.
    pub resumes: u64,
    /// Highest offset sent, exclusive.
    pub sent: u64,
    /// Offset up to which everything has arrived.
    pub received: u64,
    /// Of `received`, what the application accepted.
    pub delivered: u64,
    /// Of `sent`, what the peer's application accepted.
    pub acked: u64,
    /// Bytes in buffers here, both directions.
    pub held: u64,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// The lane in use.
    pub lane: Option<LaneId>,
    /// The device that may take this end if ours dies.
    pub escrow: Option<DeviceId>,
}

impl Snapshot {
    /// Whether one of the ends has suspended it on purpose, so that nothing is needed of the other end's
    /// device.
    pub fn is_dormant(&self) -> bool {
        self.state == State::Suspended && self.reason == Some(Code::Paused)
    }
}
