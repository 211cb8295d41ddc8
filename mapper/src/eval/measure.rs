//! One task on the target model: every propensity, perplexity and text that its results come from.

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use steermap_maps::{MapFile, MappedLayer};

use super::analysis::Propensities;
use super::journal::Journal;
use super::perplexity::Documents;
use super::result::{Candidate, GeneratedText, Generation, Kind, Perplexity, Rate};
use super::vectors::TaskVectors;
use crate::behaviour::{Choices, random_direction, unit};
use crate::pairs::Text;
use crate::statistics::{mean, slope};
use crate::steerer::{LayerOffset, Steerer};
use crate::tasks::Task;

/// Layers, and random directions, that are measured in one unit of work: enough to fill batches, few enough to stop soon.
const LAYERS_TOGETHER: usize = 4;
/// See [`LAYERS_TOGETHER`].
const RANDOM_TOGETHER: usize = 5;

/// What all tasks are measured with.
pub struct Bench<'a> {
    /// The target model.
    pub steerer: &'a Steerer<'a>,
    /// The neutral text.
    pub documents: &'a Documents,
    /// Perplexity of it without steering.
    pub unsteered_perplexity: f64,
    /// What was measured so far.
    pub journal: &'a mut Journal,
    /// Moves on by one with each forward pass of a prompt.
    pub bar: &'a ProgressBar,
}

/// A task that is ready to be measured.
pub struct Prepared<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its place among the tasks, which decides its random directions.
    pub index: usize,
    /// The finding half.
    pub finding: Choices,
    /// The measuring half.
    pub measuring: Choices,
    /// Its vectors.
    pub vectors: TaskVectors,
}

/// A unit direction at a layer, and what alpha 1 is there.
#[derive(Clone, Debug)]
pub struct Direction {
    /// The layer.
    pub layer: usize,
    /// Norm 1.
    pub unit: Vec<f32>,
    /// Mean norm of the stream.
    pub mean_norm: f64,
}

impl Direction {
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

    /// What is added at `alpha`; nothing at 0.
    pub fn at(&self, alpha: f64) -> Option<LayerOffset> {
        (alpha != 0.0).then(|| LayerOffset::new(self.layer, &self.unit, alpha * self.mean_norm))
    }
}

impl Prepared<'_> {
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
    pub fn native(&self, layer: usize) -> Result<Direction> {
        let native = self.vectors.native.direction(layer);
        let native = native.with_context(|| format!("layer {layer}: the native vector lacks it"))?;
        Direction::of(layer, native, self.mapped_layer(layer)?.mean_norm)
    }

    /// The mapped vector's direction at a layer.
    ///
    /// # Errors
    ///
    /// A layer that the map doesn't reach.
    pub fn mapped(&self, layer: usize) -> Result<Direction> {
        let mapped = self.mapped_layer(layer)?;
        Direction::of(layer, &mapped.direction, mapped.mean_norm)
    }

    /// The source's own vector, used at the target's layer as it is; `None` where sizes differ.
    ///
    /// # Errors
    ///
    /// As [`mapped`](Self::mapped).
    pub fn unmapped(&self, layer: usize) -> Result<Option<Direction>> {
        let mapped = self.mapped_layer(layer)?;
        let found = mapped
            .source_layers
            .last()
            .and_then(|&layer| self.vectors.found.direction(layer));
        found
            .filter(|found| found.len() == mapped.direction.len())
            .map(|found| Direction::of(layer, found, mapped.mean_norm))
            .transpose()
    }

    /// Random direction number `number` at a layer.
    ///
    /// # Errors
    ///
    /// As [`mapped`](Self::mapped).
    pub fn random(&self, layer: usize, number: usize, seed: u64) -> Result<Direction> {
        let mapped = self.mapped_layer(layer)?;
        Ok(Direction {
            layer,
            unit: random_direction(mapped.direction.len(), self.seed(seed, number)),
            mean_norm: mapped.mean_norm,
        })
    }

    /// Cosines of `count` random directions of the source, mapped, with the native vector.
    ///
    /// # Errors
    ///
    /// A layer that the map doesn't reach, or weights that can't be read.
    pub fn random_cosines(&self, map: &MapFile, layer: usize, count: usize, seed: u64) -> Result<Vec<f64>> {
        let mapped = self.mapped_layer(layer)?;
        let pair = map
            .pairs()
            .iter()
            .find(|pair| pair.target_layer == layer && pair.source_layers == mapped.source_layers);
        let pair = pair.with_context(|| format!("layer {layer}: the map does not reach it"))?;
        let native = self.native(layer)?;
        let map = pair.map.load()?;
        let cosines = (0..count).map(|number| {
            let random = random_direction(map.columns(), self.seed(seed, number));
            crate::behaviour::cosine(&map.linear(&random), &native.unit)
        });
        Ok(cosines.collect())
    }

    /// Every task has directions of its own.
    fn seed(&self, seed: u64, number: usize) -> u64 {
        seed.wrapping_add((self.index as u64) << 32).wrapping_add(number as u64)
    }
}

impl Bench<'_> {
    /// Slopes of native and mapped vector at each of `layers`, on the finding half, between `-alpha` and `alpha`, which is
    /// half of the largest of the layer's `alphas`.
    ///
    /// # Errors
    ///
    /// What the engine answers with, or a stop; so all of these methods.
    pub async fn candidates(
        &mut self,
        prepared: &Prepared<'_>,
        layers: &[usize],
        alphas_at: impl Fn(f64) -> Vec<f64>,
    ) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::with_capacity(layers.len());
        for layers in layers.chunks(LAYERS_TOGETHER) {
            let mut steered = Vec::with_capacity(2 * layers.len());
            for &layer in layers {
                let alphas = alphas_at(prepared.mapped_layer(layer)?.mean_norm);
                let alpha = alphas.iter().fold(0.0, |most: f64, alpha| most.max(alpha.abs())) / 2.0;
                let alphas = vec![-alpha, alpha];
                steered.push((prepared.native(layer)?, alphas.clone()));
                steered.push((prepared.mapped(layer)?, alphas));
            }
            let of: Vec<String> = layers.iter().map(usize::to_string).collect();
            let unit = format!("{}/layers/{}", prepared.task.name, of.join("+"));
            let propensities = self.together(&unit, &prepared.finding, &steered, &[]).await?;
            let slopes = steered.iter().zip(&propensities).map(|((_, alphas), propensities)| {
                let means: Vec<f64> = propensities.iter().map(|items| mean(items)).collect();
                slope(alphas, &means).context("alphas: found one, expected several")
            });
            let slopes: Vec<f64> = slopes.collect::<Result<_>>()?;
            for (&layer, slopes) in layers.iter().zip(slopes.chunks_exact(2)) {
                candidates.push(Candidate {
                    source_layers: prepared.mapped_layer(layer)?.source_layers.clone(),
                    target_layer: layer,
                    native_slope: slopes[0],
                    mapped_slope: slopes[1],
                });
            }
        }
        Ok(candidates)
    }

    /// Propensities without steering.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn unsteered(&mut self, unit: &str, choices: &Choices) -> Result<Vec<f64>> {
        let (steerer, bar) = (self.steerer, self.bar);
        let work = async {
            let mut propensities = choices.propensities_under(steerer, [None], || bar.inc(1)).await?;
            Ok(propensities.remove(0))
        };
        self.journal.unit(unit, work).await
    }

    /// Propensities by alpha; at alpha 0 those that are known.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn propensities(
        &mut self,
        unit: &str,
        choices: &Choices,
        direction: &Direction,
        alphas: &[f64],
        unsteered: &[f64],
    ) -> Result<Propensities> {
        let steered = [(direction.clone(), alphas.to_vec())];
        Ok(self.together(unit, choices, &steered, unsteered).await?.remove(0))
    }

    /// As [`propensities`](Self::propensities), of random directions: a few in each unit.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn random(
        &mut self,
        prepared: &Prepared<'_>,
        directions: &[Direction],
        alphas: &[f64],
        unsteered: &[f64],
    ) -> Result<Vec<Propensities>> {
        let mut all = Vec::with_capacity(directions.len());
        for (number, directions) in directions.chunks(RANDOM_TOGETHER).enumerate() {
            let steered: Vec<_> = directions
                .iter()
                .map(|direction| (direction.clone(), alphas.to_vec()))
                .collect();
            let unit = format!("{}/random/{number}", prepared.task.name);
            all.extend(self.together(&unit, &prepared.measuring, &steered, unsteered).await?);
        }
        Ok(all)
    }

    /// Propensities of several directions, each by its alphas, all in the same batches.
    async fn together(
        &mut self,
        unit: &str,
        choices: &Choices,
        steered: &[(Direction, Vec<f64>)],
        unsteered: &[f64],
    ) -> Result<Vec<Propensities>> {
        let (steerer, bar) = (self.steerer, self.bar);
        let work = async {
            let offsets = steered
                .iter()
                .flat_map(|(direction, alphas)| alphas.iter().filter_map(|&alpha| direction.at(alpha)).map(Some));
            let measured = choices.propensities_under(steerer, offsets, || bar.inc(1)).await?;
            let mut measured = measured.into_iter();
            let mut at = |alpha: &f64| match *alpha == 0.0 {
                true => Some(unsteered.to_vec()),
                false => measured.next(),
            };
            let all = steered.iter().map(|(_, alphas)| alphas.iter().map(&mut at).collect());
            all.collect::<Option<Vec<Propensities>>>()
                .context("an alpha was not measured")
        };
        self.journal.unit(unit, work).await
    }

    /// Perplexity at `alpha`.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn perplexity(&mut self, unit: &str, direction: &Direction, alpha: f64) -> Result<f64> {
        let Some(offset) = direction.at(alpha) else {
            return Ok(self.unsteered_perplexity);
        };
        let (steerer, bar, documents) = (self.steerer, self.bar, self.documents);
        let work = async { documents.perplexity(steerer, Some(offset), || bar.inc(1)).await };
        self.journal.unit(&format!("{unit}/{alpha}"), work).await
    }

    /// Perplexity at all `alphas`, with the native and with the mapped vector.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn perplexities(&mut self, prepared: &Prepared<'_>, layer: usize, alphas: &[f64]) -> Result<Perplexity> {
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

    /// Change of another task's mean propensity from `-alpha` to `alpha` of this task's vectors: native, mapped.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn side_effect(
        &mut self,
        prepared: &Prepared<'_>,
        other: &Prepared<'_>,
        items: &Choices,
        layer: usize,
        alpha: f64,
    ) -> Result<[f64; 2]> {
        let alphas = vec![-alpha, alpha];
        let steered = [
            (prepared.native(layer)?, alphas.clone()),
            (prepared.mapped(layer)?, alphas),
        ];
        let unit = format!("{}/on/{}", prepared.task.name, other.task.name);
        let ends = self.together(&unit, items, &steered, &[]).await?;
        let change = |ends: &Propensities| mean(&ends[1]) - mean(&ends[0]);
        Ok([change(&ends[0]), change(&ends[1])])
    }

    /// Greedy continuations of the task's prompts: unsteered, and at `-alpha` and `alpha` of the native and the mapped
    /// vector.
    ///
    /// # Errors
    ///
    /// See [`candidates`](Self::candidates).
    pub async fn generation(
        &mut self,
        prepared: &Prepared<'_>,
        layer: usize,
        alpha: f64,
        max_tokens: usize,
    ) -> Result<Option<Generation>> {
        let Some(generation) = &prepared.task.generation else {
            return Ok(None);
        };
        let (native, mapped) = (prepared.native(layer)?, prepared.mapped(layer)?);
        let steered = [(Kind::Native, &native), (Kind::Mapped, &mapped)];
        let variants: Vec<(Kind, f64, Option<&Direction>)> = std::iter::once((Kind::Unsteered, 0.0, None))
            .chain(
                steered
                    .iter()
                    .flat_map(|(kind, direction)| [-alpha, alpha].map(|alpha| (*kind, alpha, Some(*direction)))),
            )
            .collect();
        let steerer = self.steerer;
        let mut texts = Vec::new();
        for (number, prompt) in generation.prompts.iter().enumerate() {
            let work = async {
                let tokens = steerer.session().tokenize(prompt).await?;
                let requests = variants.iter().map(|(_, alpha, direction)| {
                    let offset = direction.and_then(|direction| direction.at(*alpha));
                    offset.map(|offset| steerer.adding(offset)).transpose()
                });
                let requests: Vec<_> = requests.collect::<Result<_>>()?;
                steerer.session().continuations(&tokens, max_tokens, &requests).await
            };
            let unit = format!("{}/text/{number}", prepared.task.name);
            let continued: Vec<String> = self.journal.unit(&unit, work).await?;
            for ((kind, alpha, _), text) in variants.iter().zip(continued) {
                texts.push(GeneratedText {
                    prompt: number,
                    prompt_text: shown(prompt),
                    kind: *kind,
                    alpha: *alpha,
                    positive: generation.rule.is_positive(&text),
                    text,
                });
            }
        }
        let rates = variants.iter().map(|(kind, alpha, _)| {
            let of = || texts.iter().filter(|text| text.kind == *kind && text.alpha == *alpha);
            Rate {
                kind: *kind,
                alpha: *alpha,
                positive: of().filter(|text| text.positive).count(),
                texts: of().count(),
            }
        });
        Ok(Some(Generation {
            rule: generation.rule.describe(),
            max_tokens,
            rates: rates.collect(),
            texts,
        }))
    }
}

/// A prompt for people: of a chat, `role: text` lines.
fn shown(prompt: &Text) -> String {
    match prompt {
        Text::Plain(text) => text.clone(),
        Text::Chat(messages) => {
            let lines = messages
                .iter()
                .map(|message| format!("{}: {}", message.role, message.content));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}
