//! From when to when a certificate counts, on clocks that are never quite right.

use std::fmt;
use std::time::Duration;

use cloak_base::UnixTime;
use minicbor::{Decode, Encode};

/// How far two honest clocks may differ, in either direction.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The time in which a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Validity {
    /// When it was made.
    #[n(0)]
    pub issued: UnixTime,
    /// The last second in which it counts.
    #[n(1)]
    pub expires: UnixTime,
}

/// Outside its [`Validity`]. Either the certificate or a clock is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Made in the future: one of the two clocks is wrong.
    #[error("counts from {issued} on, and here it is {now}: check both clocks")]
    NotYetValid {
        /// When it was made, by its maker's clock.
        issued: UnixTime,
        /// The time here.
        now: UnixTime,
    },
    /// Over.
    #[error("expired at {expires}, and here it is {now}")]
    Expired {
        /// When it ceased to count.
        expires: UnixTime,
        /// The time here.
        now: UnixTime,
    },
}

impl Validity {
    /// From `now` on, for `life`.
    pub fn starting(now: UnixTime, life: Duration) -> Self {
        Self { issued: now, expires: now + life }
    }

    /// The same, but over at `limit` at the latest.
    #[must_use]
    pub fn until(self, limit: UnixTime) -> Self {
        Self { expires: self.expires.min(limit), ..self }
    }

    /// Whether `now` is inside, give or take [`CLOCK_TOLERANCE`].
    ///
    /// # Errors
    /// On which side `now` is outside.
    pub fn check(&self, now: UnixTime) -> Result<(), TimeError> {
        if now + CLOCK_TOLERANCE < self.issued {
            return Err(TimeError::NotYetValid { issued: self.issued, now });
        }
        if now > self.expires + CLOCK_TOLERANCE {
            return Err(TimeError::Expired { expires: self.expires, now });
        }
        Ok(())
    }

    /// Whether half of its life is over: time to renew.
    pub fn is_renewal_due(&self, now: UnixTime) -> bool {
        now.since(self.issued) >= self.expires.since(self.issued) / 2
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.issued, self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_the_tolerance_and_no_more() {
        let (issued, expires) = (UnixTime(10_000), UnixTime(20_000));
        let validity = Validity { issued, expires };
        for inside in [9_700, 10_000, 20_000, 20_300] {
            assert_eq!(validity.check(UnixTime(inside)), Ok(()), "{inside}");
        }
        let now = UnixTime(9_699);
        assert_eq!(validity.check(now), Err(TimeError::NotYetValid { issued, now }));
        let now = UnixTime(20_301);
        assert_eq!(validity.check(now), Err(TimeError::Expired { expires, now }));
    }

    #[test]
    fn renewal_is_due_from_half_of_its_life() {
        let validity = Validity::starting(UnixTime(100), Duration::from_secs(10));
        assert!(!validity.is_renewal_due(UnixTime(104)));
        assert!(validity.is_renewal_due(UnixTime(105)));
        assert!(!validity.is_renewal_due(UnixTime(0)));
    }
}
