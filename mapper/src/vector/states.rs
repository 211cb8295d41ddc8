//! The states of pairs, read in the engine that serves, at the numerics that will be served.

use std::sync::Arc;

use anyhow::{Context, Result};
use steermap_maps::{LayerVector, TokenPosition};

use super::position::{answer_tokens, read};
use super::{Method, Sign};
use crate::capture::StreamCapture;
use crate::pairs::Pair;
use crate::progress::{Progress, Unit};
use crate::session::Session;
use crate::statistics::{Folds, Mean};

/// Prompts whose states are held in memory together.
const PROMPTS_AT_A_TIME: usize = 64;

/// The states of pairs at some layers of one model: vectors by any method follow from them.
#[derive(Clone, Debug)]
pub struct PairStates {
    layers: Vec<LayerPairs>,
    dtype: String,
}

/// The states of pairs at one layer.
#[derive(Clone, Debug)]
pub struct LayerPairs {
    /// The layer, 0-based.
    pub layer: usize,
    /// By pair, the positive text's state: `[hidden_size]`.
    pub positive: Vec<Vec<f32>>,
    /// By pair, the negative text's state: `[hidden_size]`.
    pub negative: Vec<Vec<f32>>,
    /// Mean L2 norm of the stream over all positions of all texts but their first.
    pub mean_norm: f64,
}

impl LayerPairs {
    /// The direction that a method finds at this layer, and how well it separates pairs that it was not found from;
    /// without `folds`, this is not measured.
    ///
    /// # Errors
    ///
    /// As [`Method::direction`], with the layer.
    pub fn vector(&self, method: Method, sign: Sign, seed: u64, folds: Option<&Folds>) -> Result<LayerVector> {
        let (positive, negative) = (rows(&self.positive), rows(&self.negative));
        let direction = method.direction(&positive, &negative, sign, seed);
        Ok(LayerVector {
            layer: self.layer,
            direction: direction.with_context(|| format!("layer {}, {method}", self.layer))?,
            mean_norm: self.mean_norm,
            auroc: folds.and_then(|folds| method.held_out_auroc(&positive, &negative, folds, sign, seed)),
        })
    }
}

fn rows(states: &[Vec<f32>]) -> Vec<&[f32]> {
    states.iter().map(Vec::as_slice).collect()
}

impl PairStates {
    /// Runs the model over the pairs. What hook it had is gone afterwards.
    ///
    /// # Errors
    ///
    /// A text that can't be tokenized; for [`TokenPosition::Answer`], a pair one of whose texts begins the other; what
    /// the engine answers with.
    pub async fn read(
        session: &Session,
        pairs: &[Pair],
        layers: &[usize],
        position: TokenPosition,
        progress: bool,
    ) -> Result<Self> {
        let mut prompts = Vec::new();
        for (index, pair) in pairs.iter().enumerate() {
            let at = || format!("pair {}", index + 1);
            let positive = session.tokenize(&pair.positive).await.with_context(at)?;
            let negative = session.tokenize(&pair.negative).await.with_context(at)?;
            let answer = match position {
                TokenPosition::Answer => answer_tokens(&positive, &negative).with_context(|| {
                    format!(
                        "{}: the tokens of one text begin the other's, so neither has an answer",
                        at()
                    )
                })?,
                _ => 0,
            };
            prompts.extend([positive, negative].map(|tokens| (tokens, answer)));
        }
        // By length: the engine runs prompts of one length together.
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&index| (prompts[index].0.len(), index));

        let capture = Arc::new(StreamCapture::new(layers.to_vec()));
        let bar = Progress::new(progress, "reading pairs", Unit::Of("texts"), prompts.len() as u64);
        // By layer, then by text.
        let mut states = vec![vec![Vec::new(); prompts.len()]; layers.len()];
        let mut norms = vec![Mean::default(); layers.len()];
        for part in order.chunks(PROMPTS_AT_A_TIME) {
            let tokens: Vec<&[u32]> = part.iter().map(|&index| prompts[index].0.as_slice()).collect();
            let streams = session.streams(&capture, &tokens, || bar.add(1)).await?;
            for (&index, streams) in part.iter().zip(streams) {
                for ((states, norm), stream) in states.iter_mut().zip(&mut norms).zip(&streams) {
                    // The first position carries massive activations in many models.
                    (1..stream.len()).for_each(|position| norm.add(stream.norm(position)));
                    states[index] = read(stream, position, prompts[index].1);
                }
            }
        }
        bar.finish();

        let layers = layers.iter().zip(states).zip(norms).map(|((&layer, states), norm)| {
            let mut sides = [Vec::new(), Vec::new()];
            let texts = states.into_iter().enumerate();
            texts.for_each(|(index, state)| sides[index % 2].push(state));
            let [positive, negative] = sides;
            LayerPairs {
                layer,
                positive,
                negative,
                mean_norm: norm.value(),
            }
        });
        Ok(Self {
            layers: layers.collect(),
            dtype: capture.dtype().map_or("unknown", |dtype| dtype.as_str()).to_string(),
        })
    }

    /// The layers, in the order asked for.
    pub fn layers(&self) -> &[LayerPairs] {
        &self.layers
    }

    /// The stream's dtype, such as `bf16`.
    pub fn dtype(&self) -> &str {
        &self.dtype
    }

    /// The direction that a method finds at each layer.
    ///
    /// # Errors
    ///
    /// As [`LayerPairs::vector`].
    pub fn vectors(&self, method: Method, sign: Sign, seed: u64, folds: Option<&Folds>) -> Result<Vec<LayerVector>> {
        let vector = |layer: &LayerPairs| layer.vector(method, sign, seed, folds);
        self.layers.iter().map(vector).collect()
    }
}
