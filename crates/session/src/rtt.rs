//! Smoothed round-trip time, from probes and resumes.

use std::time::Duration;

/// Smoothed as in RFC 6298: a new sample counts an eighth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rtt(Option<Duration>);

impl Rtt {
    pub(crate) fn sample(&mut self, sample: Duration) {
        self.0 = Some(self.0.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8));
    }

    pub(crate) fn smoothed(self) -> Option<Duration> {
        self.0
    }
}
