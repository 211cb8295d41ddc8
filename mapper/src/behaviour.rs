//! What steering does to a model's choices: propensities of two-choice items, and how they move with alpha.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result, ensure};
use candle_core::{D, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use residual_hooks::{BatchView, ResidualHook};
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::align::TokenizedText;
use crate::jsonl;
use crate::session::Session;

/// A prompt and two words that could follow it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What the model reads.
    pub prompt: String,
    /// What would follow it if the concept held.
    pub positive: String,
    /// What would follow it otherwise.
    pub negative: String,
}

/// Reads items: JSON lines of `{"prompt": .., "positive": .., "negative": ..}`.
///
/// # Errors
///
/// A file that can't be read or has no item, a line that is no item.
pub fn read_items(path: &Path) -> Result<Vec<Item>> {
    let items: Vec<Item> = jsonl::read(
        path,
        "{\"prompt\": \"..\", \"positive\": \"..\", \"negative\": \"..\"}",
        |_| Ok(()),
    )?;
    ensure!(
        !items.is_empty(),
        "{}: found no item, expected one at least",
        path.display()
    );
    Ok(items)
}

/// Items as one model's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedItems {
    prompts: Vec<Vec<u32>>,
    /// By item: the first token of the positive and of the negative word.
    words: Vec<(u32, u32)>,
}

impl TokenizedItems {
    /// Tokenizes items. A word's token is the one that follows the prompt's when both are tokenized together, since
    /// tokenizers treat a word at the start of a text in their own way.
    ///
    /// # Errors
    ///
    /// An item whose words begin with the same token, or whose prompt's tokens depend on the word.
    pub fn new(tokenizer: &Tokenizer, items: &[Item]) -> Result<Self> {
        let mut all = Self {
            prompts: Vec::new(),
            words: Vec::new(),
        };
        for (index, item) in items.iter().enumerate() {
            let at = || format!("item {}, {:?}", index + 1, item.prompt);
            let (prompt, positive) = next_token(tokenizer, &item.prompt, &item.positive).with_context(at)?;
            let (other, negative) = next_token(tokenizer, &item.prompt, &item.negative).with_context(at)?;
            ensure!(
                prompt == other,
                "{}: found a prompt whose tokens depend on the word, expected one that ends a word",
                at()
            );
            ensure!(
                positive != negative,
                "{}: {:?} and {:?} begin with the same token",
                at(),
                item.positive,
                item.negative
            );
            all.prompts.push(prompt);
            all.words.push((positive, negative));
        }
        // By length: the engine runs prompts of one length together.
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| (all.prompts[i].len(), i));
        Ok(Self {
            prompts: order.iter().map(|&i| all.prompts[i].clone()).collect(),
            words: order.iter().map(|&i| all.words[i]).collect(),
        })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// The propensity of each item, `logit(positive) - logit(negative)` of the next token, in the order of the prompts'
    /// lengths, by whatever hook is installed.
    ///
    /// # Errors
    ///
    /// What the engine answers with.
    pub async fn propensities(&self, session: &Session) -> Result<Vec<f64>> {
        Ok(self.repeated(session, 1, |_, _| ()).await?.remove(0))
    }

    /// The propensities under each of `offsets`, `[offset][item]`: all in the same batches, row by row with an offset of its
    /// own at every position. What hook the model had is gone afterwards.
    ///
    /// # Errors
    ///
    /// A layer that can't be steered, or what the engine answers with.
    pub async fn propensities_under(&self, session: &Session, offsets: Vec<LayerOffset>) -> Result<Vec<Vec<f64>>> {
        let count = offsets.len();
        let hook = Arc::new(RowOffsets {
            offsets,
            by_request: Mutex::default(),
        });
        session.slot().install(hook.clone())?;
        let propensities = self
            .repeated(session, count, |offset, request| hook.steer(request, offset))
            .await;
        session.slot().remove();
        propensities
    }

    /// Mean propensity at each of `alphas`, with `alpha * direction` added after `layer` at every position. What hook
    /// the model had is gone afterwards.
    ///
    /// # Errors
    ///
    /// As [`propensities_under`](Self::propensities_under).
    pub async fn curve(&self, session: &Session, layer: usize, direction: &[f32], alphas: &[f64]) -> Result<Vec<f64>> {
        let offsets = alphas.iter().map(|&alpha| LayerOffset::new(layer, direction, alpha));
        let propensities = self.propensities_under(session, offsets.collect()).await?;
        Ok(propensities.iter().map(|items| mean(items)).collect())
    }

    /// Runs every item `count` times, and tells `known` which time each request is. `[time][item]`
    async fn repeated(
        &self,
        session: &Session,
        count: usize,
        mut known: impl FnMut(usize, usize),
    ) -> Result<Vec<Vec<f64>>> {
        // Item by item: equal prompts are of equal length and run in one batch.
        let prompts: Vec<&[u32]> = self
            .prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt.as_slice(), count))
            .collect();
        let told = |index: usize, request: usize| known(index % count, request);
        let logits = session.next_token_logits(&prompts, told).await?;
        let mut propensities = vec![Vec::with_capacity(self.len()); count];
        for (index, logits) in logits.iter().enumerate() {
            let (p, n) = self.words[index / count];
            let logit = |token: u32| logits.get(token as usize).copied().map(f64::from);
            let propensity = logit(p).zip(logit(n)).map(|(p, n)| p - n);
            let propensity = propensity.context("the model has no logit for a token of its tokenizer")?;
            propensities[index % count].push(propensity);
        }
        Ok(propensities)
    }
}

/// What is added to the stream after one layer: `[hidden_size]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerOffset {
    /// The layer, 0-based.
    pub layer: usize,
    /// The offset.
    pub values: Vec<f32>,
}

impl LayerOffset {
    /// `alpha * direction`
    pub fn new(layer: usize, direction: &[f32], alpha: f64) -> Self {
        Self {
            layer,
            values: direction.iter().map(|&x| (f64::from(x) * alpha) as f32).collect(),
        }
    }
}

/// Adds to each row of a batch the offset of its request.
struct RowOffsets {
    offsets: Vec<LayerOffset>,
    by_request: Mutex<HashMap<usize, usize>>,
}

impl RowOffsets {
    fn steer(&self, request: usize, offset: usize) {
        self.lock().insert(request, offset);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, usize>> {
        self.by_request.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl ResidualHook for RowOffsets {
    fn layers(&self) -> Vec<usize> {
        self.offsets.iter().map(|offset| offset.layer).collect()
    }

    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> candle_core::Result<Option<Tensor>> {
        let hidden = stream.dim(D::Minus1)?;
        let mut values = vec![0f32; batch.rows().len() * hidden];
        {
            let by_request = self.lock();
            for (row, values) in batch.rows().iter().zip(values.chunks_exact_mut(hidden)) {
                let offset = by_request.get(&row.request).map(|&offset| &self.offsets[offset]);
                if let Some(offset) = offset.filter(|offset| offset.layer == layer) {
                    if offset.values.len() != hidden {
                        candle_core::bail!("an offset of {} values for a stream of {hidden}", offset.values.len());
                    }
                    values.copy_from_slice(&offset.values);
                }
            }
        }
        let offsets = Tensor::from_vec(values, (batch.rows().len(), 1, hidden), stream.device())?;
        stream.broadcast_add(&offsets.to_dtype(stream.dtype())?).map(Some)
    }
}

/// Mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The tokens of `prompt`, and the token that follows them in `prompt` + `word`.
fn next_token(tokenizer: &Tokenizer, prompt: &str, word: &str) -> Result<(Vec<u32>, u32)> {
    let TokenizedText { ids, ends } = TokenizedText::new(tokenizer, &format!("{prompt}{word}"))?;
    let next = ends.iter().position(|end| end.is_some_and(|end| end > prompt.len()));
    let next = next.with_context(|| format!("{word:?} has no token of its own"))?;
    ensure!(next > 0, "found a prompt without tokens");
    Ok((ids[..next].to_vec(), ids[next]))
}

/// Slope of the least-squares line through `(alphas[i], values[i])`, intercept free. `None` if all alphas are equal.
pub fn slope(alphas: &[f64], values: &[f64]) -> Option<f64> {
    let (a, v) = (mean(alphas), mean(values));
    let (mut up, mut down) = (0.0, 0.0);
    for (alpha, value) in alphas.iter().zip(values) {
        up += (alpha - a) * (value - v);
        down += (alpha - a).powi(2);
    }
    (down > 0.0).then(|| up / down)
}

/// Cosine of the angle between two directions; 0 if either has none.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

/// `v / ||v||`; `None` for a vector without direction.
pub fn unit(v: &[f32]) -> Option<Vec<f32>> {
    let norm = v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    (norm.is_finite() && norm > 0.0).then(|| v.iter().map(|&x| (f64::from(x) / norm) as f32).collect())
}

/// `size` numbers of a direction drawn evenly from all, at norm 1: the same for the same seed on every machine.
pub fn random_direction(size: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let normal: Vec<f32> = (0..size).map(|_| StandardNormal.sample(&mut rng)).collect();
        if let Some(direction) = unit(&normal) {
            return direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::tests::{byte_level, pieces};

    fn item(prompt: &str, positive: &str, negative: &str) -> Item {
        Item {
            prompt: prompt.into(),
            positive: positive.into(),
            negative: negative.into(),
        }
    }

    #[test]
    fn the_word_is_the_token_behind_the_prompt() {
        // With pieces, " a" alone would begin with a piece of white space, but behind a prompt it is one token.
        let pieces = pieces(&["▁", "a", "b", "▁a", "▁b"], &[("▁", "a"), ("▁", "b")], true);
        let items = TokenizedItems::new(&pieces, &[item("a b", " a", " b")]).unwrap();
        let id = |token: &str| pieces.token_to_id(token).unwrap();
        assert_eq!(items.prompts, [[id("<s>"), id("▁a"), id("▁b")]]);
        assert_eq!(items.words, [(id("▁a"), id("▁b"))]);
    }

    #[test]
    fn items_that_measure_nothing_are_refused() {
        let bytes = byte_level(&[("a", "b")], false);
        let error = |item: Item| format!("{:#}", TokenizedItems::new(&bytes, &[item]).unwrap_err());
        assert!(error(item("x", " a", " b")).contains("begin with the same token"));
        assert!(error(item("xa", "b", "c")).contains("depend on the word"));
        assert!(error(item("x", "", "a")).contains("no token of its own"));
        assert!(error(item("", "a", "c")).contains("without tokens"));
    }

    #[test]
    fn every_row_gets_the_offset_of_its_request_at_its_layer() {
        use residual_hooks::{HookSlot, Row, Support, before_block};
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        let offsets = vec![
            LayerOffset::new(0, &[1.0, 2.0], 1.0),
            LayerOffset::new(1, &[1.0, 2.0], -3.0),
        ];
        let hook = Arc::new(RowOffsets {
            offsets,
            by_request: Mutex::default(),
        });
        hook.steer(7, 0);
        hook.steer(8, 1);
        slot.install(hook).unwrap();
        let row = |request| Row::prompt(request, vec![0]);
        let at = |layer: usize| -> Vec<f32> {
            let stream = Tensor::zeros((3, 1, 2), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
            let rows = || vec![row(8), row(9), row(7)];
            let steered = slot.scope(rows, || before_block(stream, layer + 1)).unwrap();
            steered.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(at(0), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(at(1), [-3.0, -6.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn slopes_and_cosines_by_hand() {
        assert_eq!(slope(&[-1.0, 0.0, 1.0], &[1.0, 3.0, 5.0]), Some(2.0));
        // Off the line by 1 down, 2 up, 1 down: no slope.
        assert_eq!(slope(&[1.0, 2.0, 3.0], &[4.0, 7.0, 4.0]), Some(0.0));
        assert_eq!(slope(&[2.0, 2.0], &[1.0, 5.0]), None);
        assert!((cosine(&[1.0, 0.0], &[3.0, 4.0]) - 0.6).abs() < 1e-12);
        assert_eq!(cosine(&[0.0, 0.0], &[3.0, 4.0]), 0.0);
    }

    #[test]
    fn random_directions_are_seeded_and_of_norm_1() {
        let (a, b) = (random_direction(300, 1), random_direction(300, 2));
        assert_eq!(a, random_direction(300, 1));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert!((dot(&a, &a) - 1.0).abs() < 1e-5);
        // The standard deviation of this cosine is 1 / sqrt(300).
        assert!(dot(&a, &b).abs() < 5.0 / 300f32.sqrt());
        assert_eq!(unit(&[0.0, 0.0]), None);
        assert_eq!(unit(&[3.0, 4.0]).unwrap(), [0.6, 0.8]);
    }
}
