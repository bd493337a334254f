//! What a seed decides: the network, the applications, the faults.

use std::time::Duration;

use cloak_base::Rng;
use cloak_session::{Config, Planted, Suspicion};
use cloak_wire::EARLY_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One lane, or every lane, breaks; both ends learn of it.
    Cut { all: bool },
    /// The newest lane turns silent for ever and stays up.
    Zombie,
    /// Everything is silent for a while, in the directions given (by sender).
    Silence { from: [bool; 2], length: Duration },
    /// A side has to drop bytes that are not delivered.
    Shed(usize),
    /// A side's clock jumps 8 hours ahead.
    ClockJump(usize),
    /// A side has reason to doubt its lane.
    Suspect(usize, Suspicion),
    /// A side's memory is nearly all taken for a while.
    Pressure(usize, Duration),
    /// The last `Resume` of a lane comes again on the same lane.
    Replay,
    /// A peer that knows the secret resumes with a rank that is not above the committed one.
    Stale(usize),
    /// The application dies.
    Reset(usize),
    /// The application of the side dies at both ends at once.
    ResetBoth,
    /// A peer that knows the secret resumes with an offset beyond what was sent.
    Hostile(usize),
    /// A side's gateway restarts and remembers nothing.
    Restart(usize),
    /// A side is suspended on purpose for a while.
    Suspend(usize, Duration),
}

impl Fault {
    /// Whether the session may end other than clean.
    pub(crate) fn is_lethal(self) -> bool {
        matches!(self, Self::Reset(_) | Self::ResetBoth | Self::Hostile(_) | Self::Restart(_))
    }
}

/// Whether ends are suspended on purpose in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pauses {
    None,
    Some,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) base: u64,
    pub(crate) totals: [u64; 2],
    /// Bytes that the initiator's application says at once, of its total.
    pub(crate) early: u64,
    /// Whether the initiator knows the responder's run, and has a lane in its pool.
    pub(crate) acquainted: bool,
    /// Pause between the application's steps, and how much it does in one.
    pub(crate) pace: [(Duration, u64); 2],
    pub(crate) backend_delay: Duration,
    pub(crate) refuses: bool,
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) rate: u64,
    pub(crate) capacity: usize,
    pub(crate) memory: u64,
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// Lanes that each side has in its pool, to be used where none can be dialled.
    pub(crate) warm: [u64; 2],
}

impl Plan {
    /// A quick network, two quick applications, no faults.
    pub(crate) fn quiet() -> Self {
        Self {
            config: Config::default(),
            base: 0,
            totals: [100_000, 100_000],
            early: 0,
            acquainted: false,
            pace: [(Duration::from_millis(1), 50_000); 2],
            backend_delay: Duration::from_millis(1),
            refuses: false,
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
            rate: 100_000_000,
            capacity: 256 << 10,
            memory: 64 << 20,
            faults: Vec::new(),
            warm: [0, 0],
        }
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let ms = |rng: &mut Rng, most| Duration::from_millis(rng.below(most));
        let mut plan = Self::quiet();
        plan.config.buffer_max = [64 << 10, 256 << 10, 4 << 20][pick(rng, 3)];
        plan.config.spill_after = Duration::from_secs([2, 60][pick(rng, 2)]);
        plan.base = [0, (1 << 32) - rng.below(60_000), 1 << 40][pick(rng, 3)];
        plan.totals = [0, 1].map(|_| [0, 1, 1_000, 40_000, 200_000][pick(rng, 5)]);
        plan.totals = plan.totals.map(|total| rng.below(total + 1));
        plan.pace = [0, 1].map(|_| {
            let size = 1 + below(rng, [100, 20_000, 100_000]);
            (Duration::from_millis(1) + ms(rng, 200), size)
        });
        for side in 0..2 {
            // No application needs more than some 200 steps.
            let least = plan.totals[0].max(plan.totals[1]) / 200 + 1;
            plan.pace[side].1 = plan.pace[side].1.max(least);
        }
        plan.backend_delay = ms(rng, 1500);
        plan.refuses = rng.chance(1, 50);
        plan.latency = Duration::from_micros(below(rng, [1_000, 50_000, 300_000]));
        plan.jitter = Duration::from_micros(below(rng, [1, 20_000, 400_000]));
        plan.rate = [60_000, 1_000_000, 100_000_000][pick(rng, 3)];
        plan.capacity = [100, 3_000, 64 << 10][pick(rng, 3)];
        // No schedule runs for hours: at least 10 KB/s, whatever the round trip.
        let round_trip = plan.latency * 2 + plan.jitter * 2;
        let least = usize::try_from(round_trip.as_millis()).unwrap() * 10;
        plan.capacity = plan.capacity.max(least);
        plan.memory = [200 << 10, 64 << 20][pick(rng, 2)];
        let count = rng.below(9);
        let spread = [200, 3_000, 30_000][pick(rng, 3)];
        plan.faults = (0..count).map(|_| (ms(rng, spread), fault(rng))).collect();
        plan.faults.sort_by_key(|(at, _)| *at);
        plan.warm = [0, 1].map(|_| rng.below(6).saturating_sub(2));
        let early = below(rng, [1, 10, 2 * EARLY_MAX as u64]);
        plan.early = early.min(EARLY_MAX as u64).min(plan.totals[0]);
        plan.acquainted = rng.chance(2, 3);
        plan
    }

    /// Suspends the ends on purpose, too.
    pub(crate) fn with_pauses(mut self, rng: &mut Rng) -> Self {
        let spread = [200, 3_000, 30_000][pick(rng, 3)];
        for _ in 0..1 + rng.below(6) {
            let at = Duration::from_millis(rng.below(spread));
            let length = Duration::from_millis(below(rng, [100, 5_000, 100_000]));
            self.faults.push((at, Fault::Suspend(pick(rng, 2), length)));
        }
        self.faults.sort_by_key(|(at, _)| *at);
        self
    }

    pub(crate) fn with(mut self, at: Duration, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self
    }

    pub(crate) fn planting(mut self, bug: Planted) -> Self {
        self.config.planted = Some(bug);
        self
    }

    /// Whether the 30 s in which a session must open may pass, or the 24 h of linger.
    pub(crate) fn may_time_out(&self) -> bool {
        let is_long = |fault: &Fault| match fault {
            Fault::ClockJump(_) => true,
            Fault::Silence { length, .. } => length.as_secs() > 5,
            _ => false,
        };
        self.faults.iter().any(|(_, fault)| is_long(fault))
    }

    pub(crate) fn is_lethal(&self) -> bool {
        self.refuses || self.faults.iter().any(|(_, fault)| fault.is_lethal())
    }
}

fn pick(rng: &mut Rng, count: u64) -> usize {
    usize::try_from(rng.below(count)).unwrap()
}

/// One of `most`, then a number below that.
fn below(rng: &mut Rng, most: [u64; 3]) -> u64 {
    let most = most[pick(rng, 3)];
    rng.below(most)
}

fn fault(rng: &mut Rng) -> Fault {
    let side = pick(rng, 2);
    let long = Duration::from_millis(below(rng, [500, 8_000, 100_000]));
    let why =
        [Suspicion::PeerSilent, Suspicion::NetworkChanged, Suspicion::Woke, Suspicion::Nudged];
    match rng.below(40) {
        0..12 => Fault::Cut { all: rng.chance(1, 2) },
        12..15 => Fault::Zombie,
        15..20 => {
            let from = [[true, true], [true, false], [false, true]][pick(rng, 3)];
            Fault::Silence { from, length: long }
        }
        20..24 => Fault::Shed(side),
        24..26 => Fault::ClockJump(side),
        26..29 => Fault::Suspect(side, why[pick(rng, 4)]),
        29..31 => Fault::Pressure(side, long),
        31..34 => Fault::Replay,
        34..36 => Fault::Stale(side),
        36 => Fault::Reset(side),
        37 => Fault::ResetBoth,
        38 => Fault::Hostile(side),
        _ => Fault::Restart(side),
    }
}
