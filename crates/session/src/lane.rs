//! A lane as its session sees it.

use cloak_base::{DeviceId, Instant};
use cloak_wire::{Code, Nonce, SessionFrame};

use crate::liveness::Liveness;

/// Most lanes of a session at a time: the one in use, the one being tried, and two that the peer
/// has dialled and not yet spoken on.
pub const LANES_MAX: usize = 4;

/// A lane, numbered by the driver. Numbers are never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u64);

/// A transport that is authenticated (dialled: its TLS is up) and given to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneUp {
    /// Its number.
    pub lane: LaneId,
    /// Whether this end dialled it.
    pub we_dialled: bool,
    /// The nonce in our `Hello`.
    pub local_nonce: Nonce,
    /// The nonce in the peer's `Hello`. May still be unknown on a lane that we dialled.
    pub peer_nonce: Option<Nonce>,
    /// Our device.
    pub local: DeviceId,
    /// The peer's device, as TLS authenticated it.
    pub peer: DeviceId,
}

/// What binds a proof to one transport connection.
///
/// A `Resume` shares a flight with its sender's `Hello`, so its proof can cover only the sender's
/// own nonce; that it is fresh for its receiver follows from the fresh mutual TLS handshake, to
/// whose device keys it is bound. A `Resumed` covers both nonces. See [`Claim`](crate::Claim).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneEnds {
    /// The device that dialled, the sender of `Resume`.
    pub dialler: DeviceId,
    /// The device that was dialled, the sender of `Resumed`.
    pub acceptor: DeviceId,
    /// The dialler's nonce.
    pub dialler_nonce: Nonce,
    /// The acceptor's nonce, once its `Hello` is known.
    pub acceptor_nonce: Option<Nonce>,
}

impl LaneUp {
    /// The two ends of the connection; `None` while the dialler's nonce is unknown.
    pub(crate) fn ends(&self) -> Option<LaneEnds> {
        Some(if self.we_dialled {
            LaneEnds {
                dialler: self.local,
                acceptor: self.peer,
                dialler_nonce: self.local_nonce,
                acceptor_nonce: self.peer_nonce,
            }
        } else {
            LaneEnds {
                dialler: self.peer,
                acceptor: self.local,
                dialler_nonce: self.peer_nonce?,
                acceptor_nonce: Some(self.local_nonce),
            }
        })
    }
}

/// The first frame of ours on a lane, filled in when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    Open,
    Opened,
    Refused(Code),
    Resume,
    Resumed,
}

/// What is known of whether the peer hears us on a lane. A path may work in one direction only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// Nothing speaks against it: any frame of its shows that the lane works.
    Assumed,
    /// It asked for the session on this lane, and we answered. What it sends only on a lane that it
    /// rides on shows that the answer arrived.
    Unanswered,
    /// It says that it hears nothing: only what it sends when something of ours arrived counts.
    Denied,
}

impl Hearing {
    /// Whether a frame shows that the lane works in both directions.
    pub(crate) fn is_shown_by(self, frame: Heard) -> bool {
        match self {
            Self::Assumed => true,
            Self::Unanswered => matches!(frame, Heard::Answer | Heard::Riding),
            Self::Denied => matches!(frame, Heard::Answer | Heard::Question),
        }
    }
}

/// What a frame says of whether its sender hears us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It answers a probe of ours.
    Answer,
    /// It asks, and does not complain.
    Question,
    /// It is sent only on the lane in use.
    Riding,
    /// Nothing.
    Nothing,
}

impl From<&SessionFrame> for Heard {
    fn from(frame: &SessionFrame) -> Self {
        match frame {
            SessionFrame::Alive { .. } => Self::Answer,
            SessionFrame::Probe { unheard: false, .. } => Self::Question,
            SessionFrame::Ack { .. }
            | SessionFrame::Fin
            | SessionFrame::Reset { .. }
            | SessionFrame::Move { .. }
            | SessionFrame::MayMove { .. }
            | SessionFrame::Escrow { .. }
            | SessionFrame::Escrowed { .. }
            | SessionFrame::Stay { .. }
            | SessionFrame::Idle => Self::Riding,
            _ => Self::Nothing,
        }
    }
}

/// A lane of the session.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) up: LaneUp,
    /// Since when the session has it.
    pub(crate) since: Instant,
    /// What we have to say first.
    pub(crate) greeting: Option<Greeting>,
    /// When it went out, and which it was.
    pub(crate) greeted_at: Option<Instant>,
    pub(crate) greeted_with: Option<Greeting>,
    /// Offset of the next byte that arrives on it.
    pub(crate) position: u64,
    /// Whether the peer still answers.
    pub(crate) liveness: Liveness,
    /// A probe to send.
    pub(crate) probe_due: bool,
    /// Which frames of the peer's show that it works.
    pub(crate) hearing: Hearing,
    /// The probe that was sent last.
    pub(crate) probe: Option<(u64, Instant)>,
    /// The probe to answer: the latest, where several came at once.
    pub(crate) alive_due: Option<u64>,
    /// Whether `Reset` was sent on it.
    pub(crate) reset_sent: bool,
    /// When `Idle` was sent: nothing of ours follows.
    pub(crate) idle_sent: Option<Instant>,
    /// Whether `Idle` came: nothing of the peer's follows.
    pub(crate) idle_received: bool,
}

impl Lane {
    pub(crate) fn new(up: LaneUp, now: Instant) -> Self {
        Self {
            up,
            since: now,
            greeting: None,
            greeted_at: None,
            greeted_with: None,
            position: 0,
            liveness: Liveness::new(now),
            probe_due: false,
            hearing: Hearing::Assumed,
            probe: None,
            alive_due: None,
            reset_sent: false,
            idle_sent: None,
            idle_received: false,
        }
    }

    pub(crate) fn id(&self) -> LaneId {
        self.up.lane
    }

    /// Whether nothing was said on it, so that it can carry any session.
    pub(crate) fn is_untouched(&self) -> bool {
        self.up.we_dialled && self.greeted_at.is_none() && self.probe.is_none()
    }
}
