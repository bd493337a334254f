//! Medians and percentiles of a few figures.

/// Figures of one kind, one per round or per request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The figure below which `percent` of all are.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).expect("at least one figure");
        sorted[(sorted.len() * percent / 100).min(last)]
    }

    /// Of each round, this figure over the other's. Their median is steadier than the ratio of two
    /// medians, since what disturbs the machine disturbs both of a round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }
}
