//! Does a vector still work after it went through a map? Slopes of the propensity against alpha, mapped against native,
//! with random directions as the control.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use steermap_mapper::behaviour::{Item, LayerOffset, TokenizedItems, cosine, mean, random_direction, slope, unit};
use steermap_mapper::session::Session;
use steermap_maps::{LayerPair, MapFile, VectorFile};

/// Alphas that slopes are taken over, in units of the layer's mean stream norm: small enough for the propensity to be
/// nearly a line.
pub const ALPHAS: [f64; 4] = [-0.1, -0.05, 0.05, 0.1];

/// The outer two of [`ALPHAS`]: for random directions, of which there are many.
pub const OUTER_ALPHAS: [f64; 2] = [ALPHAS[0], ALPHAS[3]];

/// Random directions of the control.
pub const RANDOM: usize = 24;

/// Where and on what steering is measured.
pub struct Bench<'a> {
    /// The model that is steered.
    pub session: &'a Session,
    /// The items whose propensities are taken.
    pub items: &'a TokenizedItems,
}

/// A direction at a layer.
pub struct Probe<'a> {
    /// The layer that is steered.
    pub layer: usize,
    /// Mean norm of the stream there.
    pub mean_norm: f64,
    /// The direction; its length doesn't matter.
    pub direction: &'a [f32],
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
    /// For each probe the slope of the mean propensity against alpha, in units of the layer's mean norm.
    ///
    /// # Errors
    ///
    /// A vector without direction, a layer that can't be steered, or what the engine answers with.
    pub async fn slopes(&self, probes: &[Probe<'_>], alphas: &[f64]) -> Result<Vec<f64>> {
        let mut offsets = Vec::with_capacity(probes.len() * alphas.len());
        for probe in probes {
            let unit = unit(probe.direction).context("the vector has no direction")?;
            let offset = |alpha: &f64| LayerOffset::new(probe.layer, &unit, alpha * probe.mean_norm);
            offsets.extend(alphas.iter().map(offset));
        }
        let propensities = self.items.propensities_under(self.session, offsets).await?;
        let means: Vec<f64> = propensities.iter().map(|items| mean(items)).collect();
        let slopes = means.chunks_exact(alphas.len()).map(|means| slope(alphas, means));
        slopes.collect::<Option<_>>().context("alphas that are all the same")
    }

    /// Measures a mapped vector against the native one, and random directions, at one layer.
    ///
    /// # Errors
    ///
    /// As [`slopes`](Self::slopes).
    pub async fn measure(&self, layer: usize, mean_norm: f64, native: &[f32], mapped: &[f32]) -> Result<Measured> {
        let random: Vec<Vec<f32>> = (0..RANDOM as u64)
            .map(|seed| random_direction(native.len(), seed))
            .collect();
        let probe = |direction| Probe {
            layer,
            mean_norm,
            direction,
        };
        let slopes = self.slopes(&[native, mapped].map(probe), &ALPHAS).await?;
        let probes: Vec<Probe<'_>> = random.iter().map(|direction| probe(direction.as_slice())).collect();
        let random = self.slopes(&probes, &OUTER_ALPHAS).await?;
        Ok(Measured {
            native: slopes[0],
            mapped: slopes[1],
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

/// How well one vector goes through one map: the layer pair chosen on half of the items, all else measured on the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// The source's layers, as a map file has them.
    pub source_layers: Vec<usize>,
    /// The target's layer.
    pub target_layer: usize,
    /// Held-out R² of the map there.
    pub r2: f64,
    /// Cosine of mapped and native vector.
    pub cosine: f64,
    /// Slope of the mean propensity against alpha with the native vector.
    pub native_slope: f64,
    /// The same with the mapped vector.
    pub mapped_slope: f64,
    /// The latter over the former.
    pub retention: f64,
    /// Mean slope of random directions over the native slope.
    pub random_share: f64,
    /// Half the width of its 95% interval.
    pub random_half_width: f64,
    /// Slopes of the random directions.
    pub random_slopes: Vec<f64>,
}

impl Transfer {
    /// Chooses the layer pair of `map` at which the mapped vector steers most on the first half of `items`, and measures
    /// there on the second half.
    ///
    /// # Errors
    ///
    /// Items that can't be measured, a vector without a layer of the map, or what the engine answers with.
    pub async fn measure(
        session: &Session,
        map: &MapFile,
        items: &[Item],
        found: &VectorFile,
        native: &VectorFile,
    ) -> Result<Self> {
        ensure!(items.len() >= 2, "items: found {}, expected two at least", items.len());
        let tokenizer = session.tokenizer()?;
        let (finding, measuring) = items.split_at(items.len() / 2);
        let finding = TokenizedItems::new(&tokenizer, finding)?;
        let measuring = TokenizedItems::new(&tokenizer, measuring)?;
        let mut candidates: Vec<(&LayerPair, Vec<f32>)> = Vec::new();
        for pair in map.pairs() {
            let directions = pair.source_layers.iter().map(|&layer| found.direction(layer));
            let directions: Option<Vec<&[f32]>> = directions.collect();
            let directions = directions.with_context(|| format!("the vector lacks a layer of {}", pair.layers()))?;
            candidates.push((pair, pair.map.linear(&directions.concat())));
        }
        let probes: Vec<Probe<'_>> = candidates
            .iter()
            .map(|(pair, mapped)| Probe {
                layer: pair.target_layer,
                mean_norm: pair.fit.target_mean_norm,
                direction: mapped,
            })
            .collect();
        let bench = |items| Bench { session, items };
        let slopes = bench(&finding).slopes(&probes, &OUTER_ALPHAS).await?;
        let best = slopes
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(index, _)| index);
        let (pair, mapped) = &candidates[best.context("a map without pairs")?];
        let layer = pair.target_layer;
        let native = native
            .direction(layer)
            .with_context(|| format!("the native vector lacks layer {layer}"))?;
        let mean_norm = pair.fit.target_mean_norm;
        let measured = bench(&measuring).measure(layer, mean_norm, native, mapped).await?;
        let (random_share, random_half_width) = measured.random_share();
        Ok(Self {
            source_layers: pair.source_layers.clone(),
            target_layer: layer,
            r2: pair.fit.r2,
            cosine: measured.cosine,
            native_slope: measured.native,
            mapped_slope: measured.mapped,
            retention: measured.retention(),
            random_share,
            random_half_width,
            random_slopes: measured.random,
        })
    }

    /// As cells of a table: layers, R², cosine, native slope, mapped slope, retention, random.
    pub fn cells(&self) -> String {
        format!(
            "{} | {:.3} | {:.3} | {:.2} | {:.2} | {:.3} | {:+.3} ± {:.3}",
            self.layers(),
            self.r2,
            self.cosine,
            self.native_slope,
            self.mapped_slope,
            self.retention,
            self.random_share,
            self.random_half_width
        )
    }

    fn layers(&self) -> String {
        let sources: Vec<String> = self.source_layers.iter().map(usize::to_string).collect();
        format!("{} -> {}", sources.join("+"), self.target_layer)
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<8} R² {:.3}  cosine {:.3}  slope {:+.3} of native {:+.3}  retention {:.3}  random {:+.3} ± {:.3}",
            self.layers(),
            self.r2,
            self.cosine,
            self.mapped_slope,
            self.native_slope,
            self.retention,
            self.random_share,
            self.random_half_width
        )
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
