//! How much a peer may make us pass on.
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

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: Instant,
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
            | PeerFrame::Nudge { .. }
    )
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Takes one; false when none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = now.since(self.since).as_micros() / EVERY.as_micros();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.left = self.left.saturating_add(earned).min(BURST);
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
        let mut allowance = Allowance::new(now);
        assert!((0..BURST).all(|_| allowance.take(now)));
        assert!(!allowance.take(now));
        now = now + EVERY * 3;
        assert_eq!((0..10).filter(|_| allowance.take(now)).count(), 3);
        now = now + EVERY * 10_000;
        assert_eq!((0..1000).filter(|_| allowance.take(now)).count(), 256);
    }
}
