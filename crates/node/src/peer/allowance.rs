//! How much a peer may make us pass on, and log.
//!
//! Records and revocation lists go from peer to peer, each with signatures to check and a store to
//! write. A member that mints them without end would keep the whole realm busy: what is over its
//! allowance is dropped, and sent again by whoever is linked next.

use std::time::Duration;

use cloak_base::Instant;
use cloak_wire::PeerFrame;

/// Messages at once: as many as a fresh link brings in the largest realm, records and lists.
const BURST: u32 = 256;
/// One more each.
const EVERY: Duration = Duration::from_millis(500);
/// Lines of the log at once that a peer can cause: a cut of some dozens of sessions and its end.
const LINES_BURST: u32 = 64;
/// One more each. What is over is logged for debugging only.
const LINES_EVERY: Duration = Duration::from_secs(2);

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: Instant,
    burst: u32,
    every: Duration,
}

/// Whether the message is counted.
pub(super) fn is_passed_on(message: &PeerFrame) -> bool {
    matches!(
        message,
        PeerFrame::Binding { .. }
            | PeerFrame::Revocations { .. }
            | PeerFrame::FetchRevocations(_)
            | PeerFrame::Renew { .. }
            | PeerFrame::Certify { .. }
            | PeerFrame::Appoint { .. }
            | PeerFrame::DialBack { .. }
            | PeerFrame::Circuit { .. }
            | PeerFrame::Hop { from: Some(_), .. }
            | PeerFrame::Nudge { .. }
    )
}

impl Allowance {
    /// For messages that are passed on.
    pub(super) fn gossip(now: Instant) -> Self {
        Self { left: BURST, since: now, burst: BURST, every: EVERY }
    }

    /// For lines of the log.
    pub(super) fn lines(now: Instant) -> Self {
        Self { left: LINES_BURST, since: now, burst: LINES_BURST, every: LINES_EVERY }
    }

    /// Takes one; false when none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = now.since(self.since).as_micros() / self.every.as_micros();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(self.burst);
            self.left = self.left.saturating_add(earned).min(self.burst);
            self.since = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_bounded() {
        let mut now = Instant::from_micros(1);
        let mut allowance = Allowance::gossip(now);
        assert!((0..BURST).all(|_| allowance.take(now)));
        assert!(!allowance.take(now));
        now = now + EVERY * 3;
        assert_eq!((0..10).filter(|_| allowance.take(now)).count(), 3);
        now = now + EVERY * 10_000;
        assert_eq!((0..1000).filter(|_| allowance.take(now)).count(), 256);
    }

    #[test]
    fn lines_a_peer_causes_are_bounded() {
        let mut now = Instant::from_micros(1);
        let mut lines = Allowance::lines(now);
        assert_eq!((0..1000).filter(|_| lines.take(now)).count(), 64);
        now = now + LINES_EVERY * 2;
        assert_eq!((0..1000).filter(|_| lines.take(now)).count(), 2);
    }
}
