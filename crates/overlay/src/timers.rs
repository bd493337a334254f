//! What happens when: one row per reason, never a callback.

use cloak_base::Instant;

/// Why to wake up. In the order in which those due at the same time run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Unanswered hops.
    Hops,
    /// Unanswered probes.
    Probes,
    /// Unanswered dials.
    Dials,
    /// Tree edges: beats, silence, the root's majority.
    Beat,
    /// The next step of an orphan.
    Orphan,
    /// The next step of filling a vacant place.
    Vacancies,
    /// Children that are to be asked for what they keep, or that did not answer.
    Recall,
    /// The next step towards a place or hosts.
    Seek,
    /// The change to a better tree.
    Move,
    /// Unanswered questions.
    Questions,
    /// Extra links and hosts: keepalives, silence.
    Keepalive,
    /// A look for another extra link.
    Extra,
    /// Our own records.
    Touch,
    /// Records that we bound in another tree.
    Strays,
    /// A look for other trees.
    Explore,
    /// What is over: held records, caches, unused links.
    Sweep,
}

impl Timer {
    pub(crate) const ALL: [Self; 16] = [
        Self::Hops,
        Self::Probes,
        Self::Dials,
        Self::Beat,
        Self::Orphan,
        Self::Vacancies,
        Self::Recall,
        Self::Seek,
        Self::Move,
        Self::Questions,
        Self::Keepalive,
        Self::Extra,
        Self::Touch,
        Self::Strays,
        Self::Explore,
        Self::Sweep,
    ];
}

/// When each reason is due, or [`NEVER`]: two cache lines, which are looked through after every input.
pub(crate) struct Timers([Instant; Timer::ALL.len()]);

const NEVER: Instant = Instant::from_micros(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Self([NEVER; Timer::ALL.len()])
    }
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    /// Sets it unless it is due before that.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let row = &mut self.0[timer as usize];
        *row = at.min(*row);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    /// Clears it when it is due, and says so.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let row = &mut self.0[timer as usize];
        let due = *row <= now;
        if due {
            *row = NEVER;
        }
        due
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().min().copied().filter(|at| *at < NEVER)
    }
}
