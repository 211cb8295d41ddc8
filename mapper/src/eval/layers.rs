//! Steering at each layer: the slopes, their retention by the map, and the direct share.

use anyhow::{Context, Result};
use steermap_report::result::{Candidate, Estimate, LayerResult, Protocol};

use super::analysis;
use super::measure::{Bench, PreparedTask, ScaledDirection};
use crate::behaviour::cosine;
use crate::statistics::{Resamples, mean};

/// A half of a task's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The half that decisions are made on.
    Finding,
    /// The half that results are measured on.
    Measuring,
}

/// The slopes at one layer on one half, by item.
pub struct LayerSlopes {
    /// The target's layer.
    pub layer: usize,
    /// With the native vector.
    pub native: Vec<f64>,
    /// With the mapped one.
    pub mapped: Vec<f64>,
    /// On the measuring half: with the native vector's offset after the last block.
    pub(super) direct: Option<Vec<f64>>,
}

impl LayerSlopes {
    /// The slopes at a layer.
    ///
    /// # Errors
    ///
    /// A layer that was not measured.
    pub fn at(all: &[Self], layer: usize) -> Result<&Self> {
        let found = all.iter().find(|slopes| slopes.layer == layer);
        found.with_context(|| format!("layer {layer}: it was not measured"))
    }

    /// The mean slopes on the finding half.
    ///
    /// # Errors
    ///
    /// A layer that the task has no vector at.
    pub fn candidate(&self, task: &PreparedTask<'_>) -> Result<Candidate> {
        Ok(Candidate {
            source_layers: task.mapped_layer(self.layer)?.source_layers.clone(),
            target_layer: self.layer,
            native_slope: mean(&self.native),
            mapped_slope: mean(&self.mapped),
        })
    }
}

impl Bench<'_> {
    /// Slopes at each of `layers` on a half, between two alphas.
    ///
    /// # Errors
    ///
    /// An error of the engine, or a stop.
    pub async fn layer_slopes(
        &mut self,
        task: &PreparedTask<'_>,
        half: Half,
        layers: &[usize],
    ) -> Result<Vec<LayerSlopes>> {
        let (choices, spelled, last) = match half {
            Half::Finding => (&task.finding, "finding", None),
            Half::Measuring => (&task.measuring, "measuring", self.steerer.last_layer()),
        };
        let mut all = Vec::with_capacity(layers.len());
        for &layer in layers {
            let native = task.native(layer)?;
            let mut directions = vec![native.clone(), task.mapped(layer)?];
            directions.extend(last.map(|last| ScaledDirection { layer: last, ..native }));
            let unit = format!("{}/{spelled}/{layer}", task.task.name);
            let mut slopes = self.slopes(&unit, choices, &directions).await?.into_iter();
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

/// The results by layer, and the mean retention over the layers that count.
///
/// # Errors
///
/// A layer that the task has no vector at.
pub fn layer_results(
    task: &PreparedTask<'_>,
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
