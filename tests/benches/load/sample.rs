//! Medians, percentiles and intervals of a few figures.

/// Figures of one kind, one per round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// # Panics
    /// When there is no figure.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        }
    }

    /// The figure below which `percent` of all are.
    ///
    /// # Panics
    /// When there is no figure.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }

    /// Of each round, this figure over the other's. Their median is steadier than the ratio of two
    /// medians, since what disturbs the machine disturbs both of a round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// Where the true median lies with a probability of 95 %, whatever the distribution: the order
    /// statistics that the binomial distribution gives (normal approximation). All figures for fewer
    /// than six.
    ///
    /// # Panics
    /// When there is no figure.
    pub(crate) fn interval(&self) -> (f64, f64) {
        let sorted = self.sorted();
        #[expect(clippy::cast_precision_loss, reason = "a few dozen rounds")]
        let count = sorted.len() as f64;
        let below = (count / 2.0 - 1.96 * count.sqrt() / 2.0).floor().max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut above")]
        let below = below as usize;
        (sorted[below], sorted[sorted.len() - 1 - below])
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(!sorted.is_empty(), "at least one figure");
        sorted
    }
}
