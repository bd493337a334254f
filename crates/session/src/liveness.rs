//! Whether a lane still answers.
//!
//! Silence counts only while an answer is due (bytes outstanding, or moved lately). After one
//! second of it a probe goes out, after two another; after three the lane is suspected unless the
//! kernel saw acknowledged bytes meanwhile, after four and a half in any case. Each step waits for
//! its own time to pass after the one before, so that a clock that jumps skips one step at most and
//! never condemns a lane that was not asked. Any frame from the peer starts anew.

use std::time::Duration;

use cloak_base::Instant;

/// Silence before the first probe.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(1);
/// From the first probe to the second, and from the second to suspicion.
const STEP: Duration = Duration::from_secs(1);
/// How much a long round trip may delay suspicion; with it, the whole stays below five seconds.
const SLACK_MAX: Duration = Duration::from_millis(750);
/// Silence after which a lane is suspected whatever the kernel says.
const SILENCE_MAX: Duration = Duration::from_millis(4500);
/// How long it may take until something follows an answer; with [`SILENCE_MAX`] at the other end, the
/// shortest stays below five seconds.
const FOLLOW_MIN: Duration = Duration::from_millis(400);
const FOLLOW_MAX: Duration = Duration::from_secs(1);

/// Why a lane may be dead; it is probed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// The peer channel does not answer: 3 s and two round trips.
    PeerSilent,
    /// The lane's own source address or route has changed: 1 s, or two round trips.
    NetworkChanged,
    /// The machine slept: 1 s, or two round trips.
    Woke,
    /// The peer says that it has no lane: neither have we.
    Nudged,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Probe,
    Suspect,
}

/// Silence of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Liveness {
    /// Since when silence counts.
    quiet_since: Instant,
    stage: Stage,
    /// When the stage began.
    stage_since: Instant,
    /// How long the stage lasts, where it does not follow from the stage.
    patience: Duration,
    /// The kernel's count when the stage began.
    progress: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked.
    Quiet,
    /// One probe went out.
    Probed,
    /// Two did, or a shorter answer was asked for.
    LastCall,
    /// Only the kernel still speaks for it.
    Grace,
    /// Suspected.
    Suspect,
}

impl Liveness {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            quiet_since: now,
            stage: Stage::Quiet,
            stage_since: now,
            patience: PROBE_AFTER,
            progress: None,
        }
    }

    /// A frame came.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self { progress: self.progress, ..Self::new(now) };
    }

    /// The peer gets an answer of ours, which something has to follow within two round trips: it
    /// may have waited for a sign of us for [`SILENCE_MAX`] already.
    pub(crate) fn answered(&mut self, now: Instant, rtt: Option<Duration>) {
        self.progress = None;
        let patience = rtt.map_or(FOLLOW_MAX, |rtt| (rtt * 2).clamp(FOLLOW_MIN, FOLLOW_MAX));
        self.enter(now, Stage::LastCall, patience);
    }

    /// From now on an answer is due, and was not before.
    pub(crate) fn expect(&mut self, now: Instant) {
        if self.stage == Stage::Quiet {
            self.quiet_since = now;
        }
    }

    /// Asks at once and waits for `patience` at most. True when a probe has to go out.
    pub(crate) fn suspect(&mut self, now: Instant, why: Suspicion, rtt: Option<Duration>) -> bool {
        let (stage, patience) = match why {
            Suspicion::Nudged => (Stage::Suspect, Duration::ZERO),
            // With the call after it, 3 s; the kernel may speak for the lane.
            Suspicion::PeerSilent => (Stage::Probed, 2 * STEP),
            Suspicion::NetworkChanged | Suspicion::Woke => {
                (Stage::LastCall, (rtt.unwrap_or_default() * 2).clamp(STEP, 3 * STEP))
            }
        };
        let is_asked = !matches!(self.stage, Stage::Quiet) && self.ends() <= now + patience;
        if self.stage == Stage::Suspect || (is_asked && stage != Stage::Suspect) {
            return false;
        }
        self.progress = None;
        self.enter(now, stage, patience);
        stage != Stage::Suspect
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.stage == Stage::Suspect
    }

    /// When [`Liveness::handle_timeout`] has something to do. `expecting_until`: how long an
    /// answer is due; `None` when it is not.
    pub(crate) fn deadline(&self, expecting_until: Option<Instant>) -> Option<Instant> {
        match self.stage {
            Stage::Quiet => {
                let at = self.quiet_since + PROBE_AFTER;
                expecting_until.filter(|until| at <= *until).map(|_| at)
            }
            Stage::Suspect => None,
            Stage::Probed | Stage::LastCall | Stage::Grace => Some(self.ends()),
        }
    }

    /// Call only when [`Liveness::deadline`] has passed. `progress`: the kernel's count of
    /// acknowledged bytes.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        progress: Option<u64>,
        rtt: Option<Duration>,
    ) -> Due {
        let moved = progress > self.progress && self.progress.is_some();
        let slack = (rtt.unwrap_or_default() * 2).min(SLACK_MAX);
        self.progress = progress;
        match self.stage {
            Stage::Quiet => self.enter(now, Stage::Probed, STEP),
            Stage::Probed => self.enter(now, Stage::LastCall, STEP + slack),
            Stage::LastCall if moved => {
                let spent = PROBE_AFTER + STEP + self.patience;
                self.enter(now, Stage::Grace, SILENCE_MAX.saturating_sub(spent));
            }
            Stage::LastCall | Stage::Grace | Stage::Suspect => {
                self.enter(now, Stage::Suspect, Duration::ZERO);
            }
        }
        match self.stage {
            Stage::Suspect => Due::Suspect,
            _ => Due::Probe,
        }
    }

    fn enter(&mut self, now: Instant, stage: Stage, patience: Duration) {
        (self.stage, self.stage_since, self.patience) = (stage, now, patience);
    }

    fn ends(&self) -> Instant {
        self.stage_since + self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000_000);
    const ALWAYS: Option<Instant> = Some(Instant::from_micros(u64::MAX));

    /// Milliseconds after the start at which each thing was due.
    fn run(mut progress: impl FnMut() -> Option<u64>, rtt: Duration) -> Vec<(u128, Due)> {
        let (mut liveness, mut seen) = (Liveness::new(START), Vec::new());
        while let Some(at) = liveness.deadline(ALWAYS) {
            let due = liveness.handle_timeout(at, progress(), Some(rtt));
            seen.push((at.since(START).as_millis(), due));
        }
        seen
    }

    #[test]
    fn a_silent_lane_is_suspected_after_three_seconds() {
        let steps = [(1000, Due::Probe), (2000, Due::Probe), (3000, Due::Suspect)];
        assert_eq!(run(|| None, Duration::ZERO), steps);
        assert_eq!(run(|| Some(7), Duration::ZERO), steps, "no progress");
    }

    #[test]
    fn the_kernel_and_long_round_trips_delay_suspicion_below_five_seconds() {
        for rtt in [0, 100, 400, 9000] {
            let mut acked = 0;
            let progress = || {
                acked += 1;
                Some(acked)
            };
            let seen = run(progress, Duration::from_millis(rtt));
            assert_eq!(seen.last(), Some(&(4500, Due::Suspect)), "round trip {rtt} ms");
            let seen = run(|| None, Duration::from_millis(rtt));
            assert_eq!(seen.last(), Some(&(3000 + u128::from(2 * rtt.min(375)), Due::Suspect)));
        }
    }

    #[test]
    fn status_is_never_green_while_dead() {
        let second = Duration::from_secs(1);
        let mut idle = Liveness::new(START);
        assert_eq!(idle.deadline(None), None, "an idle lane is left alone");
        assert!(idle.suspect(START, Suspicion::NetworkChanged, None));
        assert_eq!(idle.deadline(None), Some(START + second));
        assert_eq!(idle.handle_timeout(START + second, None, None), Due::Suspect);
        assert!(idle.is_suspect());
        idle.heard(START + second * 2);
        assert!(!idle.is_suspect(), "any frame shows that it lives");
    }

    #[test]
    fn clock_jump_8h_forward_and_back() {
        let jump = Duration::from_secs(8 * 3600);
        let mut liveness = Liveness::new(START);
        assert_eq!(liveness.handle_timeout(START + jump, None, None), Due::Probe);
        assert_eq!(
            liveness.deadline(ALWAYS),
            Some(START + jump + STEP),
            "the answer gets its time"
        );
        liveness.heard(START);
        assert_eq!(liveness.deadline(ALWAYS), Some(START + PROBE_AFTER));
    }
}
