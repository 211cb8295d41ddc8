//! Does a vector still work after it went through a map? Slopes of the propensity against alpha, mapped against native,
//! with random directions as the control.

use anyhow::{Context, Result};
use steermap_mapper::behaviour::{TokenizedItems, cosine, random_direction, slope, unit};
use steermap_mapper::session::Session;

/// Alphas that slopes are taken over, in units of the layer's mean stream norm: small enough for the propensity to be
/// nearly a line.
pub const ALPHAS: [f64; 4] = [-0.1, -0.05, 0.05, 0.1];

/// Random directions of the control.
pub const RANDOM: usize = 24;

/// Where and on what steering is measured.
pub struct Bench<'a> {
    /// The model that is steered.
    pub session: &'a Session,
    /// The items whose propensities are taken.
    pub items: &'a TokenizedItems,
    /// The layer that is steered.
    pub layer: usize,
    /// Mean norm of the stream there.
    pub mean_norm: f64,
}

/// A mapped vector beside the native one, at one layer of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Slope of the mean propensity against alpha (in units of the mean norm) with the native vector.
    pub native: f64,
    /// The same with the mapped vector.
    pub mapped: f64,
    /// The same with each random direction.
    pub random: Vec<f64>,
    /// Cosine of mapped and native vector.
    pub cosine: f64,
}

impl Bench<'_> {
    /// Slope of the mean propensity against alpha, in units of the layer's mean norm.
    ///
    /// # Errors
    ///
    /// A vector without direction, a layer that can't be steered, or what the engine answers with.
    pub async fn slope(&self, direction: &[f32], alphas: &[f64]) -> Result<f64> {
        let direction = unit(direction).context("the vector has no direction")?;
        let absolute: Vec<f64> = alphas.iter().map(|alpha| alpha * self.mean_norm).collect();
        let means = self
            .items
            .curve(self.session, self.layer, &direction, &absolute)
            .await?;
        slope(alphas, &means).context("alphas that are all the same")
    }

    /// Measures a mapped vector against the native one.
    ///
    /// # Errors
    ///
    /// As [`slope`](Self::slope).
    pub async fn measure(&self, native: &[f32], mapped: &[f32]) -> Result<Measured> {
        let mut random = Vec::with_capacity(RANDOM);
        for seed in 0..RANDOM {
            let direction = random_direction(native.len(), seed as u64);
            random.push(self.slope(&direction, &ALPHAS).await?);
        }
        Ok(Measured {
            native: self.slope(native, &ALPHAS).await?,
            mapped: self.slope(mapped, &ALPHAS).await?,
            random,
            cosine: cosine(native, mapped),
        })
    }
}

impl Measured {
    /// Slope with the mapped vector over that with the native one.
    pub fn retention(&self) -> f64 {
        self.mapped / self.native
    }

    /// Mean slope of the random directions over the native slope, and half the width of its 95% interval (normal
    /// approximation: 1.96 standard errors).
    pub fn random_share(&self) -> (f64, f64) {
        let count = self.random.len() as f64;
        let mean = self.random.iter().sum::<f64>() / count;
        let variance = self.random.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean / self.native, 1.96 * (variance / count).sqrt() / self.native.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_native_slope() {
        let measured = Measured {
            native: 2.0,
            mapped: 1.5,
            random: vec![-1.0, 1.0, -1.0, 1.0],
            cosine: 0.7,
        };
        assert_eq!(measured.retention(), 0.75);
        let (mean, half) = measured.random_share();
        // Variance 4/3, standard error sqrt(1/3).
        assert_eq!(mean, 0.0);
        assert!((half - 1.96 * (1.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    }
}
