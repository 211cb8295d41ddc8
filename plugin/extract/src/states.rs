//! Reads the states of pairs in the engine that serves, with the same numerics.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steermap_maps::{LayerVector, TokenPosition};

use crate::capture::{LayerStates, StreamCapture};
use crate::position::{answer_tokens, read};
use crate::statistics::{Folds, RunningMean};
use crate::text::{Pair, Text};
use crate::{ExtractError, Method, Sign};

/// Most prompts whose states are in memory at the same time.
const PROMPTS_AT_A_TIME: usize = 64;

/// Most bytes of states in memory at the same time, unless one text has more.
const STATE_BYTES_AT_A_TIME: usize = 256 << 20;

/// A model whose residual stream can be read.
pub trait Reader {
    /// The tokens of a text, at least one: as [`Running::tokenize`](crate::Running::tokenize).
    ///
    /// # Errors
    ///
    /// The text can't be tokenized.
    fn tokenize(&self, text: &Text) -> impl Future<Output = Result<Vec<u32>, ExtractError>>;

    /// Longest text that can be read, in tokens.
    fn max_tokens(&self) -> usize;

    /// Width of a state.
    fn hidden_size(&self) -> usize;

    /// The states of each prompt: one [`LayerStates`] for each of the capture's layers, with all of the prompt's
    /// positions. `done` is called after each prompt.
    ///
    /// # Errors
    ///
    /// A layer can't be read, or the engine fails.
    fn streams(
        &self,
        capture: &Arc<StreamCapture>,
        prompts: &[&[u32]],
        done: &mut dyn FnMut(),
    ) -> impl Future<Output = Result<Vec<Vec<LayerStates>>, ExtractError>>;
}

/// The states of pairs at some layers of one model, from which any method finds vectors.
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
    /// Mean L2 norm of the stream over all positions of all texts except the first of each.
    pub mean_norm: f64,
}

impl LayerPairs {
    /// The direction that a method finds at this layer and, if there are `folds`, how well it separates held-out pairs.
    ///
    /// # Errors
    ///
    /// As [`Method::direction`], with the layer.
    pub fn vector(
        &self,
        method: Method,
        sign: Sign,
        seed: u64,
        folds: Option<&Folds>,
    ) -> Result<LayerVector, ExtractError> {
        let (positive, negative) = (rows(&self.positive), rows(&self.negative));
        let direction = method.direction(&positive, &negative, sign, seed);
        Ok(LayerVector {
            layer: self.layer,
            direction: direction.map_err(|error| error.at(format_args!("layer {}, {method}", self.layer)))?,
            mean_norm: self.mean_norm,
            auroc: folds.and_then(|folds| method.held_out_auroc(&positive, &negative, folds, sign, seed)),
            neutral: None,
        })
    }
}

fn rows(states: &[Vec<f32>]) -> Vec<&[f32]> {
    states.iter().map(Vec::as_slice).collect()
}

/// A text's tokens, and the index of the first token of its answer.
struct TextTokens {
    tokens: Vec<u32>,
    answer: usize,
}

impl PairStates {
    /// Runs the model over the pairs and reads the states at `layers`. Reports to `progress` once all texts are
    /// tokenized, and after each text.
    ///
    /// # Errors
    ///
    /// A text can't be tokenized or is longer than the model's context; for [`TokenPosition::Answer`], one text of a
    /// pair is a prefix of the other; or the engine fails.
    pub async fn read(
        reader: &impl Reader,
        pairs: &[Pair],
        layers: &[usize],
        position: TokenPosition,
        progress: &dyn ReadProgress,
    ) -> Result<Self, ExtractError> {
        let prompts = tokenized(reader, pairs, position).await?;
        progress.tokenized(&prompts.iter().map(|prompt| prompt.tokens.len()).collect::<Vec<_>>())?;
        // By length, since the engine runs prompts of equal length together.
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&index| (prompts[index].tokens.len(), index));

        let capture = Arc::new(StreamCapture::new(layers.to_vec()));
        // By layer, then by text.
        let mut states = vec![vec![Vec::new(); prompts.len()]; layers.len()];
        let mut norms = vec![RunningMean::default(); layers.len()];
        let token_bytes = layers.len() * reader.hidden_size() * size_of::<f32>();
        for part in parts(&order, |index| prompts[index].tokens.len() * token_bytes) {
            let tokens: Vec<&[u32]> = part.iter().map(|&index| prompts[index].tokens.as_slice()).collect();
            let streams = reader.streams(&capture, &tokens, &mut || progress.read()).await?;
            for (&index, streams) in part.iter().zip(streams) {
                for ((states, norm), stream) in states.iter_mut().zip(&mut norms).zip(&streams) {
                    // The first position carries massive activations in many models.
                    (1..stream.len()).for_each(|position| norm.add(stream.norm(position)));
                    states[index] = read(stream, position, prompts[index].answer);
                }
            }
        }

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

    /// The layers, in the requested order.
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
    pub fn vectors(
        &self,
        method: Method,
        sign: Sign,
        seed: u64,
        folds: Option<&Folds>,
        progress: &dyn ReadProgress,
    ) -> Result<Vec<LayerVector>, ExtractError> {
        let vector = |layer: &LayerPairs| {
            let start = Instant::now();
            let vector = layer.vector(method, sign, seed, folds);
            progress.found(start.elapsed());
            vector
        };
        self.layers.iter().map(vector).collect()
    }
}

/// Receives the progress of reading pairs.
pub trait ReadProgress {
    /// All texts are tokenized, into `tokens` each. The model has not run yet.
    ///
    /// # Errors
    ///
    /// The caller's limit is exceeded. Reading stops with this error.
    fn tokenized(&self, tokens: &[usize]) -> Result<(), ExtractError> {
        let _ = tokens;
        Ok(())
    }

    /// The states of one more text have been read.
    fn read(&self) {}

    /// The direction of one more layer has been found, in the time `took`.
    fn found(&self, took: Duration) {
        let _ = took;
    }
}

/// Ignores all progress.
impl ReadProgress for () {}

/// Splits `order` into parts within [`PROMPTS_AT_A_TIME`] and [`STATE_BYTES_AT_A_TIME`], each with at least one entry.
fn parts(order: &[usize], bytes: impl Fn(usize) -> usize) -> Vec<&[usize]> {
    let (mut parts, mut start, mut held) = (Vec::new(), 0, 0usize);
    for (end, &index) in order.iter().enumerate() {
        let more = bytes(index);
        if end > start && (end - start == PROMPTS_AT_A_TIME || held.saturating_add(more) > STATE_BYTES_AT_A_TIME) {
            parts.push(&order[start..end]);
            (start, held) = (end, 0);
        }
        held = held.saturating_add(more);
    }
    if start < order.len() {
        parts.push(&order[start..]);
    }
    parts
}

/// The texts of the pairs, positive before negative.
async fn tokenized(
    reader: &impl Reader,
    pairs: &[Pair],
    position: TokenPosition,
) -> Result<Vec<TextTokens>, ExtractError> {
    let mut prompts = Vec::with_capacity(2 * pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        let at = |error: ExtractError| error.at(format_args!("pair {}", index + 1));
        let positive = reader.tokenize(&pair.positive).await.map_err(at)?;
        let negative = reader.tokenize(&pair.negative).await.map_err(at)?;
        let answer = match position {
            TokenPosition::Answer => answer_tokens(&positive, &negative).ok_or_else(|| {
                let reason = "the tokens of one text are a prefix of the other's, so there is no answer";
                at(ExtractError::Input(reason.to_string()))
            })?,
            _ => 0,
        };
        let (most, longest) = (reader.max_tokens(), positive.len().max(negative.len()));
        if longest > most {
            let message = format!("found a text of {longest} tokens, expected at most {most}, the model's context");
            return Err(at(ExtractError::Input(message)));
        }
        prompts.extend([positive, negative].map(|tokens| TextTokens { tokens, answer }));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_in_texts_and_in_bytes() {
        let order: Vec<usize> = (0..200).collect();
        let sizes = |bytes: fn(usize) -> usize| parts(&order, bytes).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(|_| 1), [64, 64, 64, 8]);
        assert_eq!(sizes(|_| STATE_BYTES_AT_A_TIME / 50), [50, 50, 50, 50]);
        let large = |index: usize| if index == 100 { usize::MAX } else { 1 };
        assert_eq!(sizes(large), [64, 36, 1, 64, 35]);
        assert!(parts(&[], |_| 1).is_empty());
    }
}
