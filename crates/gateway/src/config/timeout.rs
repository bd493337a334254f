//! Times in the configuration: `10s`, `500ms`, `2m`.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A time that something may take: more than nothing, at most ten minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Timeout(Duration);

impl Timeout {
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The time.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

/// A text that is not a time in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time: write a whole number with ms, s or m, above zero and at most \"10m\"")]
pub struct BadTime;

impl FromStr for Timeout {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let (digits, unit_ms) = UNITS
            .iter()
            .find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)))
            .ok_or(BadTime)?;
        let number: u64 = digits.parse().map_err(|_| BadTime)?;
        let time = Duration::from_millis(number.checked_mul(unit_ms).ok_or(BadTime)?);
        if time.is_zero() || time > MAX { Err(BadTime) } else { Ok(Self(time)) }
    }
}

impl TryFrom<String> for Timeout {
    type Error = BadTime;

    fn try_from(text: String) -> Result<Self, BadTime> {
        text.parse()
    }
}

/// Longest suffix first, since `ms` ends in `s`.
const UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1_000), ("m", 60_000)];
const MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_written() {
        for (text, ms) in [("1ms", 1), ("10s", 10_000), ("2m", 120_000)] {
            assert_eq!(text.parse::<Timeout>().unwrap().as_duration(), Duration::from_millis(ms));
        }
        for bad in ["", "10", "0s", "-1s", "11m", "99999999999999999999m", "1h"] {
            assert_eq!(bad.parse::<Timeout>(), Err(BadTime), "{bad}");
        }
    }
}
