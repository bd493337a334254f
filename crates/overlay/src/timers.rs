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
    /// A look for other trees.
    Explore,
    /// What is over: held records, caches, unused links.
    Sweep,
}

impl Timer {
    pub(crate) const ALL: [Self; 14] = [
        Self::Hops,
        Self::Probes,
        Self::Dials,
        Self::Beat,
        Self::Orphan,
        Self::Vacancies,
        Self::Seek,
        Self::Move,
        Self::Questions,
        Self::Keepalive,
        Self::Extra,
        Self::Touch,
        Self::Explore,
        Self::Sweep,
    ];
}

/// When each reason is due.
#[derive(Default)]
pub(crate) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets it unless it is due before that.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let row = &mut self.0[timer as usize];
        *row = Some(row.map_or(at, |set| set.min(at)));
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Clears it when it is due, and says so.
    pub(crate) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let row = &mut self.0[timer as usize];
        let due = row.is_some_and(|at| at <= now);
        if due {
            *row = None;
        }
        due
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
