//! Durations and sizes as people write them in a configuration file: `"24h"`, `"4MiB"`.

/// Serde form of a [`std::time::Duration`]: a whole number with `ms`, `s`, `m`, `h` or `d`.
pub mod duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer};

    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// The duration that `text` says, or `None`.
    pub fn parse(text: &str) -> Option<Duration> {
        let (digits, millis) = UNITS.iter().find_map(|(unit, millis)| {
            let digits = text.strip_suffix(unit)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then_some((digits, *millis))
        })?;
        digits.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// A text that is not one.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(
                "not a duration: write a whole number with s, m, h or d, as in \"24h\"",
            )
        })
    }
}

/// Serde form of a [`cloak_base::ByteSize`].
pub mod byte_size {
    use cloak_base::ByteSize;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer};

    /// Reads a size.
    ///
    /// # Errors
    /// A text that is not one.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration::parse;

    #[test]
    fn durations_read_as_written() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("5m", 300), ("24h", 86_400), ("2d", 172_800)]
        {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "h", "24", "-1h", "1.5h", "1 h", "99999999999999999999d"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
