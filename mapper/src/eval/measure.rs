//! Measures one task on the target model: all propensities and perplexities that its results are computed from.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use steermap_maps::{MapFile, MappedLayer, OffsetRule};
use steermap_report::result::Perplexity;

use super::alphas::Alphas;
use super::analysis::Propensities;
use super::halves::DrawnVectors;
use super::journal::Journal;
use super::perplexity::PerplexityText;
use super::vectors::TaskVectors;
use crate::behaviour::{Choices, norm, random_direction, unit};
use crate::progress::Progress;
use crate::steerer::{LayerOffset, Steerer};
use crate::tasks::Task;

/// Directions in one unit of work at two alphas: enough to fill batches, few enough to stop soon.
const SLOPES_TOGETHER: usize = 16;
/// The same at many alphas.
const CURVES_TOGETHER: usize = 4;

/// The model, text, alphas and journal that all tasks are measured with.
pub struct Bench<'a> {
    /// The target model.
    pub steerer: &'a Steerer<'a>,
    /// The neutral text.
    pub documents: &'a PerplexityText,
    /// Perplexity of it without steering.
    pub unsteered_perplexity: f64,
    /// The strengths to steer at.
    pub alphas: &'a Alphas,
    /// The measurements so far.
    pub journal: &'a mut Journal,
    /// Counts forward passes of prompts.
    pub progress: &'a Progress,
    /// Notes for the report on what was not measured.
    pub notes: Vec<String>,
}

/// A task that is ready to be measured.
pub struct PreparedTask<'a> {
    /// The task.
    pub task: &'a Task,
    /// The finding half.
    pub finding: Choices,
    /// The measuring half.
    pub measuring: Choices,
    /// Items of the measuring half that share their deciding words have the same number.
    pub clusters: Vec<usize>,
    /// The same of the finding half.
    pub finding_clusters: Vec<usize>,
    /// Its vectors.
    pub vectors: TaskVectors,
    /// Vectors from halves of its pairs and with sides drawn anew, of the source's layers that lead to the layer at
    /// which controls are measured.
    pub drawn: DrawnVectors,
    /// The same of the target, at that layer.
    pub native_drawn: DrawnVectors,
    /// The map that carries the source's vectors.
    pub map: &'a MapFile,
    /// How the map carries them.
    pub offset: OffsetRule,
}

/// A direction at a layer, and what alpha 1 is there.
#[derive(Clone, Debug)]
pub struct ScaledDirection {
    /// The layer.
    pub layer: usize,
    /// The direction at norm 1; controls that keep their own length have another norm.
    pub unit: Vec<f32>,
    /// Mean norm of the stream.
    pub mean_norm: f64,
}

impl ScaledDirection {
    /// The direction of `vector`.
    ///
    /// # Errors
    ///
    /// A vector without direction.
    pub fn of(layer: usize, vector: &[f32], mean_norm: f64) -> Result<Self> {
        Ok(Self {
            layer,
            unit: unit(vector).with_context(|| format!("layer {layer}: found a vector without direction"))?,
            mean_norm,
        })
    }

    /// The offset at `alpha`; `None` at 0.
    pub fn at(&self, alpha: f64) -> Option<LayerOffset> {
        (alpha != 0.0).then(|| LayerOffset::new(self.layer, &self.unit, alpha * self.mean_norm))
    }
}

impl PreparedTask<'_> {
    /// The mapped vector at a layer.
    ///
    /// # Errors
    ///
    /// A layer that the map doesn't reach.
    pub fn mapped_layer(&self, layer: usize) -> Result<&MappedLayer> {
        let mapped = self.vectors.mapped.iter().find(|mapped| mapped.target_layer == layer);
        mapped.with_context(|| format!("layer {layer}: the map does not reach it"))
    }

    /// The native vector's direction at a layer.
    ///
    /// # Errors
    ///
    /// A layer that it doesn't have.
    pub fn native(&self, layer: usize) -> Result<ScaledDirection> {
        let native = self.vectors.native.direction(layer);
        let native = native.with_context(|| format!("layer {layer}: the native vector lacks it"))?;
        ScaledDirection::of(layer, native, self.mapped_layer(layer)?.mean_norm)
    }

    /// The mapped vector's direction at a layer.
    ///
    /// # Errors
    ///
    /// A layer that the map doesn't reach.
    pub fn mapped(&self, layer: usize) -> Result<ScaledDirection> {
        let mapped = self.mapped_layer(layer)?;
        ScaledDirection::of(layer, &mapped.direction, mapped.mean_norm)
    }

    /// The source's own vector, used at the target's layer as it is; `None` where sizes differ.
    ///
    /// # Errors
    ///
    /// As [`mapped`](Self::mapped).
    pub fn unmapped(&self, layer: usize) -> Result<Option<ScaledDirection>> {
        let mapped = self.mapped_layer(layer)?;
        let found = mapped
            .source_layers
            .last()
            .and_then(|&layer| self.vectors.found.direction(layer));
        found
            .filter(|found| found.len() == mapped.direction.len())
            .map(|found| ScaledDirection::of(layer, found, mapped.mean_norm))
            .transpose()
    }

    /// Random direction number `number` at a layer.
    ///
    /// # Errors
    ///
    /// As [`mapped`](Self::mapped).
    pub fn random(&self, layer: usize, number: usize, seed: u64) -> Result<ScaledDirection> {
        let mapped = self.mapped_layer(layer)?;
        Ok(ScaledDirection {
            layer,
            unit: random_direction(mapped.direction.len(), self.seed(seed, "isotropic", number)),
            mean_norm: mapped.mean_norm,
        })
    }

    /// A vector of the source's layers that lead to `layer`, one behind the other, carried over.
    fn carried(&self, layer: usize, vector: &[f32]) -> Result<Vec<f32>> {
        let source_layers = &self.mapped_layer(layer)?.source_layers;
        let mut pairs = self.map.pairs().iter();
        let pair = pairs.find(|pair| pair.target_layer == layer && pair.source_layers == *source_layers);
        let pair = pair.with_context(|| format!("layer {layer}: the map does not reach it"))?;
        Ok(pair.map.load()?.carry(vector, self.offset))
    }

    /// The direction of [`carried`](Self::carried).
    fn carry(&self, layer: usize, vector: &[f32]) -> Result<ScaledDirection> {
        ScaledDirection::of(
            layer,
            &self.carried(layer, vector)?,
            self.mapped_layer(layer)?.mean_norm,
        )
    }

    /// The source's own vector at the layers that lead to `layer`, one behind the other.
    fn found(&self, layer: usize) -> Result<Vec<f32>> {
        let layers = &self.mapped_layer(layer)?.source_layers;
        let directions = layers.iter().map(|&layer| self.vectors.found.direction(layer));
        let directions = directions.collect::<Option<Vec<_>>>();
        Ok(directions.context("the source's vector lacks a layer")?.concat())
    }

    /// `count` random directions of the source, as long as its own vector, carried over.
    ///
    /// # Errors
    ///
    /// A layer that the map doesn't reach, weights that can't be read.
    pub fn mapped_random(&self, layer: usize, count: usize, seed: u64) -> Result<Vec<ScaledDirection>> {
        let found = self.found(layer)?;
        let norm = norm(&found) as f32;
        let directions = (0..count).map(|number| {
            let random = random_direction(found.len(), self.seed(seed, "source", number));
            self.carry(layer, &random.iter().map(|x| x * norm).collect::<Vec<_>>())
        });
        directions.collect()
    }

    /// The task's vector, carried over by another map.
    ///
    /// # Errors
    ///
    /// A layer that the map doesn't reach, weights that can't be read.
    pub fn through(&self, map: &MapFile, layer: usize) -> Result<ScaledDirection> {
        let reach = map.reach(&self.vectors.found, false)?;
        let mapped = reach.direction(layer, self.offset);
        let mapped = mapped.with_context(|| format!("layer {layer}: the map does not reach it"))??;
        ScaledDirection::of(layer, &mapped.direction, self.mapped_layer(layer)?.mean_norm)
    }

    /// Mapped vectors from the task's own pairs with random sides. They keep their length relative to the mapped
    /// vector: scaled to its length, each would be the same contrast again, with either sign.
    ///
    /// # Errors
    ///
    /// As [`mapped_random`](Self::mapped_random).
    pub fn shuffled(&self, layer: usize) -> Result<Vec<ScaledDirection>> {
        let mapped = self.mapped_layer(layer)?;
        let whole = norm(&mapped.direction);
        let drawn = self.drawn.shuffled.iter().filter(|drawn| !drawn.is_empty());
        let directions = drawn.map(|drawn| {
            let carried = self.carried(layer, drawn)?;
            Ok(ScaledDirection {
                layer,
                unit: carried.iter().map(|&x| (f64::from(x) / whole) as f32).collect(),
                mean_norm: mapped.mean_norm,
            })
        });
        directions.collect()
    }

    /// Vectors from halves of the pairs: native, mapped.
    ///
    /// # Errors
    ///
    /// As [`mapped_random`](Self::mapped_random).
    pub fn halves(&self, layer: usize) -> Result<Vec<[ScaledDirection; 2]>> {
        let mean_norm = self.mapped_layer(layer)?.mean_norm;
        let both = self.native_drawn.halves.iter().zip(&self.drawn.halves);
        let both = both.filter(|(native, found)| !native.is_empty() && !found.is_empty());
        both.map(|(native, found)| {
            Ok([
                ScaledDirection::of(layer, native, mean_norm)?,
                self.carry(layer, found)?,
            ])
        })
        .collect()
    }

    /// The seed of draw `number`, different for each task, purpose and seed of the run.
    pub(super) fn seed(&self, seed: u64, purpose: &str, number: usize) -> u64 {
        let drawn = Sha256::digest(format!("{seed}/{}/{purpose}/{number}", self.task.name));
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = drawn.into();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl Bench<'_> {
    /// The alphas between which slopes are taken: half of the largest, to either side.
    pub fn steps(&self, direction: &ScaledDirection) -> [f64; 2] {
        let alphas = self.alphas.relative_to(direction.mean_norm);
        let most = alphas.iter().fold(0.0, |most: f64, alpha| most.max(alpha.abs()));
        [-most / 2.0, most / 2.0]
    }

    /// By direction and item: the slope between the two alphas of [`steps`](Self::steps).
    ///
    /// # Errors
    ///
    /// An error of the engine, or [`Stopped`](super::Stopped); the same holds for all of these methods.
    pub async fn slopes(
        &mut self,
        unit: &str,
        choices: &Choices,
        directions: &[ScaledDirection],
    ) -> Result<Vec<Vec<f64>>> {
        let mut slopes = Vec::with_capacity(directions.len());
        for (number, directions) in directions.chunks(SLOPES_TOGETHER).enumerate() {
            let steered: Vec<_> = directions
                .iter()
                .map(|direction| (direction.clone(), self.steps(direction).to_vec()))
                .collect();
            let measured = self
                .together(&format!("{unit}/{number}"), choices, &steered, &[])
                .await?;
            slopes.extend(measured.iter().zip(&steered).map(|(propensities, (_, alphas))| {
                let ends = propensities[0].iter().zip(&propensities[1]);
                ends.map(|(low, high)| (high - low) / (alphas[1] - alphas[0])).collect()
            }));
        }
        Ok(slopes)
    }

    /// Propensities without steering.
    ///
    /// # Errors
    ///
    /// See [`slopes`](Self::slopes).
    pub async fn unsteered(&mut self, unit: &str, choices: &Choices) -> Result<Vec<f64>> {
        let (steerer, progress) = (self.steerer, self.progress);
        let work = async {
            let mut propensities = choices.propensities_under(steerer, [None], || progress.add(1)).await?;
            Ok(propensities.remove(0))
        };
        self.journal.unit(unit, work).await
    }

    /// Propensities by alpha; at alpha 0 the given unsteered ones.
    ///
    /// # Errors
    ///
    /// See [`slopes`](Self::slopes).
    pub async fn propensities(
        &mut self,
        unit: &str,
        choices: &Choices,
        direction: &ScaledDirection,
        alphas: &[f64],
        unsteered: &[f64],
    ) -> Result<Propensities> {
        let steered = [(direction.clone(), alphas.to_vec())];
        Ok(self.together(unit, choices, &steered, unsteered).await?.remove(0))
    }

    /// As [`propensities`](Self::propensities), for several directions, a few in each unit.
    ///
    /// # Errors
    ///
    /// See [`slopes`](Self::slopes).
    pub async fn curves(
        &mut self,
        unit: &str,
        choices: &Choices,
        directions: &[ScaledDirection],
        alphas: &[f64],
        unsteered: &[f64],
    ) -> Result<Vec<Propensities>> {
        let mut all = Vec::with_capacity(directions.len());
        for (number, directions) in directions.chunks(CURVES_TOGETHER).enumerate() {
            let steered: Vec<_> = directions
                .iter()
                .map(|direction| (direction.clone(), alphas.to_vec()))
                .collect();
            let unit = format!("{unit}/{number}");
            all.extend(self.together(&unit, choices, &steered, unsteered).await?);
        }
        Ok(all)
    }

    /// Propensities of several directions, each by its alphas, all in the same batches.
    async fn together(
        &mut self,
        unit: &str,
        choices: &Choices,
        steered: &[(ScaledDirection, Vec<f64>)],
        unsteered: &[f64],
    ) -> Result<Vec<Propensities>> {
        let (steerer, progress) = (self.steerer, self.progress);
        let work = async {
            let offsets = steered
                .iter()
                .flat_map(|(direction, alphas)| alphas.iter().filter_map(|&alpha| direction.at(alpha)).map(Some));
            let measured = choices.propensities_under(steerer, offsets, || progress.add(1)).await?;
            let mut measured = measured.into_iter();
            let mut at = |alpha: &f64| {
                if *alpha == 0.0 {
                    Some(unsteered.to_vec())
                } else {
                    measured.next()
                }
            };
            let all = steered.iter().map(|(_, alphas)| alphas.iter().map(&mut at).collect());
            all.collect::<Option<Vec<Propensities>>>()
                .context("an alpha was not measured")
        };
        let measured = self.journal.unit(unit, work).await?;
        progress.step(unit);
        Ok(measured)
    }

    /// Perplexity at `alpha`.
    ///
    /// # Errors
    ///
    /// See [`slopes`](Self::slopes).
    pub async fn perplexity(&mut self, unit: &str, direction: &ScaledDirection, alpha: f64) -> Result<f64> {
        let Some(offset) = direction.at(alpha) else {
            return Ok(self.unsteered_perplexity);
        };
        let (steerer, progress, documents) = (self.steerer, self.progress, self.documents);
        let work = async { documents.perplexity(steerer, Some(offset), || progress.add(1)).await };
        self.journal.unit(&format!("{unit}/{alpha}"), work).await
    }

    /// Perplexity at all `alphas`, with the native and with the mapped vector.
    ///
    /// # Errors
    ///
    /// See [`slopes`](Self::slopes).
    pub async fn perplexities(
        &mut self,
        prepared: &PreparedTask<'_>,
        layer: usize,
        alphas: &[f64],
    ) -> Result<Perplexity> {
        let mut curves = [Vec::new(), Vec::new()];
        let directions = [("native", prepared.native(layer)?), ("mapped", prepared.mapped(layer)?)];
        for (curve, (kind, direction)) in curves.iter_mut().zip(directions) {
            for &alpha in alphas {
                let unit = format!("{}/perplexity/{layer}/{kind}", prepared.task.name);
                curve.push(self.perplexity(&unit, &direction, alpha).await?);
            }
        }
        let [native, mapped] = curves;
        Ok(Perplexity {
            tokens: self.documents.predicted(),
            unsteered: self.unsteered_perplexity,
            alphas: alphas.to_vec(),
            native,
            mapped,
        })
    }
}
