//! Prompts that continue from answers to others, as conversations do, so that a prefix cache has their beginnings.

use std::collections::HashSet;

use anyhow::{Result, anyhow, ensure};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::client::{Answer, CompletionRequest};
use super::exchanges::Exchange;
use super::served::Served;

/// Texts after an answer, or in its place.
const CONTINUATIONS: [&str; 8] = [
    " Then",
    " and the",
    ". The soft whisper",
    " In the morning, they sleep",
    "!",
    " a",
    " << Look at the sun",
    " By the lake, the little boy sees the boat and goes home",
];
/// The most tokens that are requested.
const MAX_TOKENS: usize = 16;
/// Number of attempts to find a new text before giving up.
const MAX_ATTEMPTS: usize = 50;

/// Makes prompts that continue from answered ones, determined by the answers and the seed.
pub struct Continuations {
    tokenizer: Tokenizer,
    context: usize,
    rng: ChaCha8Rng,
}

impl Continuations {
    /// A series for a served model.
    ///
    /// # Errors
    ///
    /// If the model has no tokenizer.
    pub fn new(served: &Served, seed: u64) -> Result<Self> {
        let path = served.model_folder().join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        Ok(Self {
            tokenizer,
            context: served.base.context,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// `count` different requests that continue from these, in their order: from the whole answer, from its first half,
    /// or from the prompt. Each is steered as the request that it continues from, so only requests whose steering fits
    /// every prompt are used.
    ///
    /// # Errors
    ///
    /// If there are too few answers.
    pub fn after(&mut self, answered: &[(&Exchange, &Answer)], count: usize) -> Result<Vec<Exchange>> {
        let usable: Vec<_> = answered
            .iter()
            .filter(|(exchange, answer)| fits_every_prompt(&exchange.ask) && !answer.first.text.is_empty())
            .collect();
        ensure!(
            !usable.is_empty(),
            "answered: found none whose steering fits every prompt, expected some"
        );
        let (mut made, mut seen) = (Vec::new(), HashSet::new());
        for (exchange, answer) in usable.iter().cycle().take(usable.len() * MAX_ATTEMPTS) {
            if made.len() == count {
                break;
            }
            let next = self.next(exchange, answer)?;
            let identity = (next.ask.prompt.clone(), format!("{:?}", next.ask.steering));
            if next.prompt_tokens + MAX_TOKENS < self.context && seen.insert(identity) {
                made.push(next);
            }
        }
        ensure!(
            made.len() == count,
            "{} answers: found {} continuations, expected {count}",
            usable.len(),
            made.len()
        );
        Ok(made)
    }

    fn next(&mut self, exchange: &Exchange, answer: &Answer) -> Result<Exchange> {
        let said: &str = match self.rng.random_range(0..4) {
            0 => "",
            1 => first_half(&answer.first.text),
            _ => &answer.first.text,
        };
        let mut prompt = exchange.ask.prompt.clone();
        if !said.is_empty() {
            prompt = format!("{prompt} {said}");
        }
        prompt += CONTINUATIONS.choose(&mut self.rng).expect("there are some");
        let tokens = self.tokenizer.encode(prompt.as_str(), true);
        let tokens = tokens.map_err(|error| anyhow!("{prompt:?} cannot be tokenized: {error}"))?;
        let (max_tokens, stream) = (self.rng.random_range(1..=MAX_TOKENS), self.rng.random_bool(0.3));
        Ok(Exchange {
            ask: CompletionRequest {
                steering: exchange.ask.steering.clone(),
                stream,
                ..CompletionRequest::new(&exchange.ask.model, &prompt, max_tokens)
            },
            steered: exchange.steered,
            prompt_tokens: tokens.len(),
            pause: exchange.pause,
        })
    }
}

/// Whether a request's steering selects no positions, windows or tokens of its prompt, which other prompts may lack.
fn fits_every_prompt(ask: &CompletionRequest) -> bool {
    let vectors = ask.steering.as_ref().and_then(|steering| steering.get("vectors"));
    let mut vectors = vectors.and_then(Value::as_array).into_iter().flatten();
    vectors.all(|used| !used.pointer("/apply/prompt").is_some_and(Value::is_object))
}

fn first_half(text: &str) -> &str {
    let middle = text.char_indices().nth(text.chars().count() / 2);
    middle.map_or("", |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::traffic::client::Choice;
    use crate::traffic::models::WINDOW;

    fn exchange(steering: Option<Value>) -> Exchange {
        Exchange {
            ask: CompletionRequest {
                steering,
                stream: true,
                choices: 2,
                stop: vec!["x".into()],
                ..CompletionRequest::new("m", "One day", 3)
            },
            steered: true,
            prompt_tokens: 7,
            pause: Duration::ZERO,
        }
    }

    #[test]
    fn texts_continue_answers_whose_steering_fits() {
        let dir = tempfile::tempdir().unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let served = Served::prepare_model(&WINDOW, &checkout, dir.path()).unwrap();
        let anywhere = exchange(Some(
            json!({"vectors": [{"vector": "one", "apply": {"prompt": "all"}}]}),
        ));
        let somewhere = exchange(Some(
            json!({"vectors": [{"vector": "one", "apply": {"prompt": {"positions": [-1]}}}]}),
        ));
        let answer = Answer {
            first: Choice {
                text: "Tom sleeps".into(),
                ..Choice::default()
            },
            ..Answer::default()
        };
        let mut series = Continuations::new(&served, 1).unwrap();
        let made = series
            .after(&[(&anywhere, &answer), (&somewhere, &answer)], 12)
            .unwrap();
        assert!(made.iter().all(|next| next.ask.steering == anywhere.ask.steering));
        assert!(made.iter().all(|next| next.prompt_tokens == next.ask.prompt.len()));
        assert!(
            made.iter()
                .any(|next| next.ask.prompt.starts_with("One day Tom sleeps"))
        );
        let texts: HashSet<_> = made.iter().map(|next| &next.ask.prompt).collect();
        assert_eq!(texts.len(), 12);
        assert!(series.after(&[(&somewhere, &answer)], 1).is_err());
        assert!(series.after(&[(&anywhere, &answer)], 1000).is_err());
        assert_eq!((first_half("héél"), first_half("x"), first_half("")), ("hé", "", ""));
    }
}
