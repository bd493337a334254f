//! Figures, what they should be, and what a run reports.

use std::fmt;
use std::time::Duration;

/// A figure of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What it is a figure of; the same text in all runs.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
    /// What it should be, where something was promised.
    pub target: Option<Target>,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Number,
    /// Hops.
    Hops,
    /// A part of all, shown in percent.
    Part,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes per second.
    BytesPerSecond,
    /// So many times as much.
    Times,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Numbers of which a mean and percentiles are wanted.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Measure {
    /// A figure without a target.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, target: None }
    }

    /// The same with a target.
    pub fn with_target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Whether the target is met; a figure without one always is.
    pub fn is_met(&self) -> bool {
        self.target.is_none_or(|target| target.is_met(self.value))
    }
}

impl Target {
    /// The target of these [`parts`](Self::parts).
    pub fn of_parts(sign: &str, value: f64) -> Option<Self> {
        [Self::AtMost(value), Self::AtLeast(value)].into_iter().find(|one| one.parts().0 == sign)
    }

    /// Whether a value meets it. What is not a number meets nothing.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    /// The worse of two values.
    pub fn worse(self, a: f64, b: f64) -> f64 {
        match self {
            _ if a.is_nan() || b.is_nan() => f64::NAN,
            Self::AtMost(_) => a.max(b),
            Self::AtLeast(_) => a.min(b),
        }
    }
}

impl Samples {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mean; not a number without samples.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The value that `percent` of all do not exceed; not a number without samples.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).copied().unwrap_or(f64::NAN)
    }

    /// The largest; not a number without samples.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().reduce(f64::max).unwrap_or(f64::NAN)
    }

    /// All of them.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// `part / whole`; not a number of nothing.
pub fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// A duration in milliseconds.
pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.unit.show(self.value))?;
        if let Some(target) = self.target {
            let (sign, value) = target.parts();
            let verdict = if self.is_met() { "met" } else { "MISSED" };
            write!(f, " (target {sign} {}, {verdict})", self.unit.show(value))?;
        }
        Ok(())
    }
}

impl Target {
    /// How it is written, and its number.
    pub fn parts(self) -> (&'static str, f64) {
        match self {
            Self::AtMost(most) => ("<=", most),
            Self::AtLeast(least) => (">=", least),
        }
    }
}

impl Unit {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Number,
        Self::Hops,
        Self::Part,
        Self::Seconds,
        Self::Milliseconds,
        Self::BytesPerSecond,
        Self::Times,
    ];

    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        if value.is_nan() {
            return "none".to_owned();
        }
        match self {
            Self::Number => format!("{value:.2}").trim_end_matches(".00").to_owned(),
            Self::Hops => format!("{value:.2} hops"),
            Self::Part => format!("{:.3} %", value * 100.0),
            Self::Seconds => format!("{value:.1} s"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::BytesPerSecond => format!("{value:.1} B/s"),
            Self::Times => format!("{value:.2}x"),
        }
    }

    /// The unit of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// The unit's name in machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Hops => "hops",
            Self::Part => "part",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::BytesPerSecond => "bytes_per_second",
            Self::Times => "times",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let samples: Samples = (1..=100).rev().map(f64::from).collect();
        assert_eq!((samples.percentile(95), samples.percentile(100)), (95.0, 100.0));
        assert_eq!((samples.mean(), samples.max()), (50.5, 100.0));
        assert!(Samples::default().percentile(50).is_nan());
    }

    #[test]
    fn a_figure_that_could_not_be_taken_misses_its_target() {
        let measure = Measure::new("x", f64::NAN, Unit::Hops).with_target(Target::AtMost(9.0));
        assert!(!measure.is_met());
        assert_eq!(measure.to_string(), "x: none (target <= 9.00 hops, MISSED)");
        assert!(Target::AtLeast(1.0).worse(2.0, f64::NAN).is_nan());
        assert_eq!(Target::AtLeast(1.0).worse(2.0, 3.0), 2.0);
    }
}
