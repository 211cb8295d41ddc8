//! The ordinary requests: prompts, specs, lengths, ways of sending and arrival times, all from one seed.

use std::time::Duration;

use anyhow::Result;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::client::{Cancel, CompletionRequest};
use super::prompts::{StoryPrompt, prompts};
use super::served::Served;
use super::specs::Specs;

/// Number of stories that prompts are beginnings of. It is small, so that many requests have a common beginning.
const STORIES: usize = 12;
/// Seed of the stories.
pub const STORIES_SEED: u64 = 71;
/// The most tokens that are requested.
pub const MAX_TOKENS: usize = 24;
/// Stop strings of some requests: within a word, at a word, across two tokens, and one that never occurs.
const STOPS: [&str; 6] = [".", "e", " the", "o t", "oo", "no such text"];
/// Grammars of some requests: lower-case words only, and few words.
const GRAMMARS: [&str; 2] = ["[ a-z]*", "( ?[a-z]+){1,6}"];
/// The longest pause between an answer and the next request on its connection.
const LONGEST_PAUSE: Duration = Duration::from_millis(12);

/// A request, and its properties.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request.
    pub ask: CompletionRequest,
    /// Whether it is steered, by its field or by the default.
    pub steered: bool,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// How long the connection waits before sending it.
    pub pause: Duration,
}

/// Makes exchanges, determined by the seed.
pub struct Exchanges {
    model: String,
    joins_messages: bool,
    prompts: Vec<StoryPrompt>,
    specs: Specs,
    rng: ChaCha8Rng,
}

impl Exchanges {
    /// A series for a served model.
    ///
    /// # Errors
    ///
    /// If the model has no tokenizer.
    pub fn new(served: &Served, seed: u64) -> Result<Self> {
        let folder = served.model_folder();
        let lengths = served.base.prompt_lengths;
        let all: Result<Vec<_>> = lengths
            .iter()
            .map(|&length| prompts(&folder, STORIES_SEED, length, STORIES))
            .collect();
        Ok(Self {
            model: served.model.clone(),
            joins_messages: served.base.joins_messages,
            prompts: all?.concat(),
            specs: Specs::new(served.base, seed),
            rng: ChaCha8Rng::seed_from_u64(seed.wrapping_add(1)),
        })
    }

    fn exchange(&mut self) -> Exchange {
        let rng = &mut self.rng;
        let prompt = self.prompts.choose(rng).expect("there are prompts");
        let turns = if self.joins_messages && rng.random_bool(0.2) {
            turns(&prompt.text, rng)
        } else {
            Vec::new()
        };
        let steering = self.specs.steering(prompt, turns.len());
        let stream = rng.random_bool(0.4);
        let cancel = match rng.random_range(0..20) {
            0 | 1 if stream => Some(Cancel::AfterEvents(rng.random_range(0..6))),
            2 => Some(Cancel::After(Duration::from_millis(rng.random_range(1..60)))),
            _ => None,
        };
        let choices = match rng.random_range(0..12) {
            0 => 3,
            1 => 2,
            _ => 1,
        };
        let stop = if rng.random_bool(0.15) {
            let count = rng.random_range(1..=2);
            let some = STOPS.choose_multiple(rng, count);
            some.map(|stop| (*stop).to_string()).collect()
        } else {
            Vec::new()
        };
        let grammar = rng
            .random_bool(0.1)
            .then(|| *GRAMMARS.choose(rng).expect("there are some"));
        Exchange {
            ask: CompletionRequest {
                turns,
                model: self.model.clone(),
                prompt: prompt.text.clone(),
                max_tokens: rng.random_range(1..=MAX_TOKENS),
                steering: steering.field(),
                stream,
                cancel,
                choices,
                stop,
                grammar: grammar.map(str::to_string),
            },
            steered: steering.steers(),
            prompt_tokens: prompt.tokens.len(),
            pause: rng.random_range(Duration::ZERO..LONGEST_PAUSE),
        }
    }
}

/// A text as the messages of a chat, at most five, alternately by a user and an assistant.
fn turns(text: &str, rng: &mut ChaCha8Rng) -> Vec<(&'static str, String)> {
    let words: Vec<&str> = text.split(' ').collect();
    let most = words.len().min(5);
    let count = rng.random_range(0..most);
    let mut cuts = (1..words.len()).choose_multiple(rng, count);
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([words.len()]);
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let roles = ["user", "assistant"].into_iter().cycle();
    let spans = starts.zip(ends).zip(roles);
    spans
        .map(|((start, end), role)| (role, words[start..end].join(" ")))
        .collect()
}

impl Iterator for Exchanges {
    type Item = Exchange;

    fn next(&mut self) -> Option<Exchange> {
        Some(self.exchange())
    }
}
