//! Slopes of the propensity against alpha at one layer: a mapped vector against the native one, with random directions
//! as the control. A small part of what `mapper eval` measures.

use anyhow::{Context, Result};
use steermap_mapper::behaviour::{Choices, cosine, random_direction, unit};
use steermap_mapper::session::Session;
use steermap_mapper::statistics::{mean, slope, standard_deviation};
use steermap_mapper::steerer::{LayerOffset, Steerer};

/// Alphas of the slopes, in units of the layer's mean stream norm: small enough for the propensity to be nearly linear.
pub const ALPHAS: [f64; 4] = [-0.1, -0.05, 0.05, 0.1];

/// The outer two of [`ALPHAS`], for random directions, which are many.
const OUTER_ALPHAS: [f64; 2] = [ALPHAS[0], ALPHAS[3]];

/// Number of random directions of the control.
pub const RANDOM: usize = 24;

/// A steered model and the items on which it is measured.
pub struct SlopeBench<'a> {
    /// The model that is steered.
    pub session: &'a Session,
    /// The items whose propensities are measured.
    pub items: &'a Choices,
}

/// A direction at a layer.
pub struct DirectionProbe<'a> {
    /// The layer that is steered.
    pub layer: usize,
    /// Mean norm of the stream there.
    pub mean_norm: f64,
    /// The direction; its length doesn't matter.
    pub direction: &'a [f32],
}

/// Slopes of a mapped vector, the native one and random directions, at one layer of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct SlopeComparison {
    /// Slope of the mean propensity against alpha (in units of the mean norm) with the native vector.
    pub native: f64,
    /// Slope with the mapped vector.
    pub mapped: f64,
    /// Slope with each random direction.
    pub random: Vec<f64>,
    /// Cosine of mapped and native vector.
    pub cosine: f64,
}

impl SlopeBench<'_> {
    /// The slope of the mean propensity against alpha for each probe, in units of the layer's mean norm.
    ///
    /// # Errors
    ///
    /// If a vector is zero, a layer cannot be steered, or the engine fails.
    pub async fn slopes(&self, probes: &[DirectionProbe<'_>], alphas: &[f64]) -> Result<Vec<f64>> {
        let mut offsets = Vec::with_capacity(probes.len() * alphas.len());
        for probe in probes {
            let unit = unit(probe.direction).context("the vector has no direction")?;
            let offset = |alpha: &f64| Some(LayerOffset::new(probe.layer, &unit, alpha * probe.mean_norm));
            offsets.extend(alphas.iter().map(offset));
        }
        let steerer = Steerer::new(self.session)?;
        let propensities = self.items.propensities_under(&steerer, offsets, || ()).await?;
        let means: Vec<f64> = propensities.iter().map(|items| mean(items)).collect();
        let slopes = means.chunks_exact(alphas.len()).map(|means| slope(alphas, means));
        slopes
            .collect::<Option<_>>()
            .context("alphas: found equal ones, expected at least two different ones")
    }

    /// Measures a mapped vector against the native one, and random directions, at one layer.
    ///
    /// # Errors
    ///
    /// As [`slopes`](Self::slopes).
    pub async fn measure(
        &self,
        layer: usize,
        mean_norm: f64,
        native: &[f32],
        mapped: &[f32],
    ) -> Result<SlopeComparison> {
        let random: Vec<Vec<f32>> = (0..RANDOM as u64)
            .map(|seed| random_direction(native.len(), seed))
            .collect();
        let probe = |direction| DirectionProbe {
            layer,
            mean_norm,
            direction,
        };
        let slopes = self.slopes(&[native, mapped].map(probe), &ALPHAS).await?;
        let probes: Vec<DirectionProbe<'_>> = random.iter().map(|direction| probe(direction.as_slice())).collect();
        let random = self.slopes(&probes, &OUTER_ALPHAS).await?;
        Ok(SlopeComparison {
            native: slopes[0],
            mapped: slopes[1],
            random,
            cosine: cosine(native, mapped),
        })
    }
}

impl SlopeComparison {
    /// Ratio of the slope with the mapped vector to that with the native one.
    pub fn retention(&self) -> f64 {
        self.mapped / self.native
    }

    /// Mean slope of the random directions relative to the native slope, and half the width of its 95% interval (normal
    /// approximation: 1.96 standard errors).
    pub fn random_share(&self) -> (f64, f64) {
        let error = standard_deviation(&self.random).unwrap_or(f64::NAN) / (self.random.len() as f64).sqrt();
        (mean(&self.random) / self.native, 1.96 * error / self.native.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_relative_to_the_native_slope() {
        let measured = SlopeComparison {
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
