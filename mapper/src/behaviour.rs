//! Propensities of two-choice items under many offsets at once.

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use steermap_plugin::SteeredRequest;

use crate::align::TokenizedText;
use crate::pairs::Text;
use crate::session::Session;
use crate::statistics::mean;
use crate::steerer::{LayerOffset, Steerer};
use crate::tasks::{ItemChoice, Skipped, TaskItem, answered, choices_async};

/// Items as one model's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// Sorted by length, since the engine batches prompts of equal length.
    sorted: Vec<ItemChoice>,
    /// The index of each sorted choice in the given list.
    places: Vec<usize>,
}

impl Choices {
    /// Tokenizes `items` for the session's model. Items that can't be measured are returned separately.
    ///
    /// # Errors
    ///
    /// An error of the tokenizer or the chat template, or all items are skipped.
    pub async fn of(session: &Session, items: &[TaskItem]) -> Result<(Self, Vec<Skipped>)> {
        let tokenizer = session.tokenizer()?;
        let tokenize = async |prompt: &Text, answer: &str| match answered(prompt, answer) {
            Text::Plain(text) => TokenizedText::new(&tokenizer, &text),
            chat => Ok(TokenizedText {
                ids: session.tokenize(&chat).await?,
                ..TokenizedText::default()
            }),
        };
        let (choices, skipped) = choices_async(items, tokenize).await?;
        Ok((Self::new(choices), skipped))
    }

    /// These choices.
    pub fn new(choices: Vec<ItemChoice>) -> Self {
        let mut places: Vec<usize> = (0..choices.len()).collect();
        places.sort_by_key(|&i| (choices[i].prompt.len(), i));
        Self {
            sorted: places.iter().map(|&i| choices[i].clone()).collect(),
            places,
        }
    }

    /// Number of choices.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The tokens at which each choice's answers part, positive and negative, in the order of the list.
    pub fn answers(&self) -> Vec<(u32, u32)> {
        let mut answers = vec![(0, 0); self.len()];
        for (choice, &place) in self.sorted.iter().zip(&self.places) {
            answers[place] = (choice.positive, choice.negative);
        }
        answers
    }

    /// The first `count` choices of the given list.
    pub fn take(&self, count: usize) -> Self {
        let kept = |place: &&usize| **place < count;
        let sorted = self.sorted.iter().zip(&self.places).filter(|(_, place)| kept(place));
        Self {
            sorted: sorted.map(|(choice, _)| choice.clone()).collect(),
            places: self.places.iter().filter(kept).copied().collect(),
        }
    }

    /// The propensity of each choice, `logit(positive) - logit(negative)` of the next token, in the order of the list,
    /// with the installed hook.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub async fn propensities(&self, session: &Session) -> Result<Vec<f64>> {
        Ok(self.repeated(session, &[None], || ()).await?.remove(0))
    }

    /// The propensities under each of `offsets` (`None`: unsteered), `[offset][choice]`: all in the same batches, each
    /// row steered by the plugin as its request asks for. `done` is called after each forward pass of a prompt.
    ///
    /// # Errors
    ///
    /// A layer that can't be steered, or an error of the engine.
    pub async fn propensities_under(
        &self,
        steerer: &Steerer<'_>,
        offsets: impl IntoIterator<Item = Option<LayerOffset>>,
        done: impl FnMut(),
    ) -> Result<Vec<Vec<f64>>> {
        let steering = offsets
            .into_iter()
            .map(|offset| offset.map(|offset| steerer.adding(offset)).transpose());
        let steering: Vec<Option<SteeredRequest>> = steering.collect::<Result<_>>()?;
        self.repeated(steerer.session(), &steering, done).await
    }

    /// Mean propensity at each of `alphas`, with `alpha * direction` added after `layer` at every position.
    ///
    /// # Errors
    ///
    /// As [`propensities_under`](Self::propensities_under).
    pub async fn curve(&self, session: &Session, layer: usize, direction: &[f32], alphas: &[f64]) -> Result<Vec<f64>> {
        let steerer = Steerer::new(session)?;
        let offsets = alphas
            .iter()
            .map(|&alpha| Some(LayerOffset::new(layer, direction, alpha)));
        let propensities = self.propensities_under(&steerer, offsets, || ()).await?;
        Ok(propensities.iter().map(|items| mean(items)).collect())
    }

    /// Runs every choice under each of `steering`. `[steering][choice]`
    async fn repeated(
        &self,
        session: &Session,
        steering: &[Option<SteeredRequest>],
        mut done: impl FnMut(),
    ) -> Result<Vec<Vec<f64>>> {
        let count = steering.len();
        // Choice by choice: equal prompts have equal length and run in one batch.
        let prompts: Vec<&[u32]> = self
            .sorted
            .iter()
            .flat_map(|choice| std::iter::repeat_n(choice.prompt.as_slice(), count))
            .collect();
        let read = |index: usize, logits: &[f32]| {
            done();
            let choice = &self.sorted[index / count];
            let logit = |token: u32| logits.get(token as usize).copied().map(f64::from);
            let propensity = logit(choice.positive).zip(logit(choice.negative));
            let (positive, negative) =
                propensity.context("logits: found none for a token of the tokenizer, expected one for every token")?;
            let propensity = positive - negative;
            ensure!(
                propensity.is_finite(),
                "logits: found a value that is not finite, expected finite logits: steering may be too strong for the dtype"
            );
            Ok(propensity)
        };
        let values = session
            .next_token(&prompts, |index| steering[index % count].clone(), read)
            .await?;
        let mut propensities = vec![vec![0.0; self.len()]; count];
        for (index, value) in values.into_iter().enumerate() {
            propensities[index % count][self.places[index / count]] = value;
        }
        Ok(propensities)
    }
}

/// Cosine of the angle between two vectors; 0 if either has norm 0.
pub fn cosine<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(&x, &y)| x.into() * y.into()).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

/// The L2 norm, summed in f64.
pub fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// `v / ||v||`; `None` for a vector of norm 0.
pub fn unit(v: &[f32]) -> Option<Vec<f32>> {
    let norm = norm(v);
    (norm.is_finite() && norm > 0.0).then(|| v.iter().map(|&x| (f64::from(x) / norm) as f32).collect())
}

/// A direction of `size` numbers drawn uniformly from the unit sphere: the same for the same seed on every machine.
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

    fn choice(item: usize, length: usize) -> ItemChoice {
        ItemChoice {
            item,
            prompt: vec![7; length],
            positive: 1,
            negative: 2,
        }
    }

    #[test]
    fn choices_run_by_length_and_are_told_in_order() {
        let choices = Choices::new(vec![choice(0, 5), choice(1, 3), choice(4, 4), choice(5, 3)]);
        let lengths: Vec<usize> = choices.sorted.iter().map(|choice| choice.prompt.len()).collect();
        assert_eq!(lengths, [3, 3, 4, 5]);
        assert_eq!(choices.places, [1, 3, 2, 0]);
        let first = choices.take(3);
        assert_eq!((first.len(), &first.places[..]), (3, &[1, 2, 0][..]));
        let other = ItemChoice {
            positive: 9,
            ..choice(7, 1)
        };
        let answers = Choices::new(vec![choice(0, 5), choice(1, 3), other]).answers();
        assert_eq!(answers, [(1, 2), (1, 2), (9, 2)]);
    }

    #[test]
    fn cosines_by_hand() {
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
