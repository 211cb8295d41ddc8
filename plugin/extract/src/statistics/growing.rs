//! A running mean.

/// A running mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunningMean {
    sum: f64,
    count: u64,
}

impl RunningMean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean; 0 without values.
    pub fn value(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}
