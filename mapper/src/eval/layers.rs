//! Steering at each layer: how much of it the map keeps, and how much of it goes straight to the logits.

use anyhow::{Context, Result};
use steermap_report::result::{Candidate, Estimate, LayerResult, Protocol};

use super::analysis;
use super::measure::{Bench, Direction, Prepared};
use crate::behaviour::cosine;
use crate::statistics::{Resamples, mean};

/// What was measured at one layer: slopes by item.
pub struct LayerSlopes {
    /// The target's layer.
    pub layer: usize,
    /// On the measuring half, with the native vector.
    pub native: Vec<f64>,
    /// The same with the mapped one.
    pub mapped: Vec<f64>,
    /// The same with the native one's offset after the last block.
    direct: Option<Vec<f64>>,
}

impl Bench<'_> {
    /// Slopes of native and mapped vector at each of `layers` on the finding half, between two alphas.
    ///
    /// # Errors
    ///
    /// What the engine answers with, or a stop.
    pub async fn candidates(&mut self, task: &Prepared<'_>, layers: &[usize]) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::with_capacity(layers.len());
        for &layer in layers {
            let unit = format!("{}/finding/{layer}", task.task.name);
            let directions = [task.native(layer)?, task.mapped(layer)?];
            let slopes = self.slopes(&unit, &task.finding, &directions).await?;
            candidates.push(Candidate {
                source_layers: task.mapped_layer(layer)?.source_layers.clone(),
                target_layer: layer,
                native_slope: mean(&slopes[0]),
                mapped_slope: mean(&slopes[1]),
            });
        }
        Ok(candidates)
    }

    /// Slopes at each of `layers` on the measuring half, between two alphas.
    ///
    /// # Errors
    ///
    /// What the engine answers with, or a stop.
    pub async fn layer_slopes(&mut self, task: &Prepared<'_>, layers: &[usize]) -> Result<Vec<LayerSlopes>> {
        let last = self.steerer.last_layer();
        let mut all = Vec::with_capacity(layers.len());
        for &layer in layers {
            let native = task.native(layer)?;
            let mut directions = vec![native.clone(), task.mapped(layer)?];
            directions.extend(last.map(|last| Direction { layer: last, ..native }));
            let unit = format!("{}/measuring/{layer}", task.task.name);
            let slopes = self.slopes(&unit, &task.measuring, &directions).await?;
            let mut slopes = slopes.into_iter();
            all.push(LayerSlopes {
                layer,
                native: slopes.next().context("the native vector was not measured")?,
                mapped: slopes.next().context("the mapped vector was not measured")?,
                direct: slopes.next(),
            });
        }
        Ok(all)
    }
}

/// What slopes come to, and the mean retention over the layers that count.
///
/// # Errors
///
/// A layer that the task has no vector at.
pub fn layer_results(
    task: &Prepared<'_>,
    slopes: &[LayerSlopes],
    protocol: &Protocol,
    resamples: &Resamples,
    standard_error: f64,
) -> Result<(Vec<LayerResult>, Option<Estimate>)> {
    let mut results = Vec::with_capacity(slopes.len());
    for at in slopes {
        let native = analysis::estimate(&at.native, resamples);
        let direct_share = at.direct.as_ref().map(|direct| mean(direct) / native.value);
        let in_band = protocol.band.contains(&at.layer);
        let direct = protocol
            .most_direct
            .zip(direct_share)
            .is_some_and(|(most, share)| share > most);
        results.push(LayerResult {
            source_layers: task.mapped_layer(at.layer)?.source_layers.clone(),
            target_layer: at.layer,
            in_band,
            counts: in_band && !direct,
            native,
            mapped: analysis::estimate(&at.mapped, resamples),
            retention: analysis::retention(&at.native, &at.mapped, resamples, standard_error),
            direct_share: direct_share.filter(|share| share.is_finite()),
            cosine: cosine(&task.native(at.layer)?.unit, &task.mapped(at.layer)?.unit),
        });
    }
    let counted: Vec<(&[f64], &[f64])> = slopes
        .iter()
        .zip(&results)
        .filter(|(_, result)| result.counts)
        .map(|(at, _)| (&at.native[..], &at.mapped[..]))
        .collect();
    let band = (!counted.is_empty()).then(|| analysis::mean_retention(&counted, resamples, standard_error));
    Ok((results, band))
}
