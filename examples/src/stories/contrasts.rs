//! Contrast pairs and two-choice items made from stories, to find a steering vector and to measure it.

use std::collections::HashSet;

use clap::ValueEnum;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::concepts::Concept;
use super::story::{Piece, Story};

/// One story told twice, with one label flipped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct StoryPair {
    /// The version whose label is true.
    pub positive: String,
    /// The version whose label is false.
    pub negative: String,
}

/// The beginning of a story that does not reveal a concept's label, and the next word under each label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Item {
    /// The text so far.
    pub prompt: String,
    /// The next word if the label is true, with the space before it.
    pub positive: String,
    /// The next word if the label is false.
    pub negative: String,
}

/// Where the two sides of a pair end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PairEnd {
    /// In the middle of a sentence, before a word that reveals the label.
    Word,
    /// At the end of a sentence.
    Sentence,
    /// At the end of the story.
    Story,
}

/// How many words must have revealed the label before a pair's end.
const MIN_REVEALED: usize = 3;

/// Least number of words in an item's prompt.
const PROMPT_WORDS: usize = 3;

/// `count` different pairs for `concept` from the series of stories that belongs to `seed`.
pub fn pairs(concept: Concept, cut: PairEnd, count: usize, seed: u64) -> Vec<StoryPair> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0c07);
    let made = (0..).filter_map(|index| pair(concept, cut, seed, index, &mut rng));
    distinct(made, count)
}

fn pair(concept: Concept, cut: PairEnd, seed: u64, index: u64, rng: &mut ChaCha8Rng) -> Option<StoryPair> {
    let (positive, negative) = tellings(concept, seed, index);
    let tells = |piece: &Piece| piece.tells.contains(concept);
    let revealed_before = |end: usize| positive.pieces[..end].iter().filter(|piece| tells(piece)).count();
    let length = positive.pieces.len();
    let allowed = |&end: &usize| match cut {
        PairEnd::Word => {
            end < length
                && tells(&positive.pieces[end])
                && positive.pieces[end].spaced
                && !tells(&positive.pieces[end - 1])
        }
        PairEnd::Sentence => positive.pieces[end - 1].ends_sentence,
        PairEnd::Story => end == length,
    };
    let ends: Vec<usize> = (1..=length)
        .filter(allowed)
        .filter(|&end| revealed_before(end) >= MIN_REVEALED)
        .collect();
    if ends.is_empty() {
        return None;
    }
    let end = ends[rng.random_range(0..ends.len() as u32) as usize];
    Some(StoryPair {
        positive: positive.text_before(end),
        negative: negative.text_before(end),
    })
}

/// `count` items with different prompts for `concept` from the series of stories that belongs to `seed`.
pub fn items(concept: Concept, count: usize, seed: u64) -> Vec<Item> {
    let mut prompts = HashSet::new();
    let made = (0..).filter_map(|index| item(concept, seed, index));
    made.filter(|item| prompts.insert(item.prompt.clone()))
        .take(count)
        .collect()
}

fn item(concept: Concept, seed: u64, index: u64) -> Option<Item> {
    let (positive, negative) = tellings(concept, seed, index);
    let first = positive.pieces.iter().position(|piece| piece.tells.contains(concept))?;
    let prompt = positive.text_before(first);
    let word = |story: &Story| {
        story.pieces[first]
            .text
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let (positive_word, negative_word) = (word(&positive), word(&negative));
    let differ = initial(&positive_word) != initial(&negative_word);
    let whole = positive.pieces[first].spaced && prompt.split(' ').count() >= PROMPT_WORDS;
    (differ && whole).then(|| Item {
        prompt,
        positive: format!(" {positive_word}"),
        negative: format!(" {negative_word}"),
    })
}

/// The story with the label of `concept` true and with it false.
fn tellings(concept: Concept, seed: u64, index: u64) -> (Story, Story) {
    let (story, flipped) = (
        Story::generate(seed, index),
        Story::generate_flipped(seed, index, concept),
    );
    if story.labels.contains(concept) {
        (story, flipped)
    } else {
        (flipped, story)
    }
}

/// Words with different initials differ in their first token in any tokenizer.
fn initial(word: &str) -> Option<char> {
    word.chars().next().map(|first| first.to_ascii_lowercase())
}

fn distinct(made: impl Iterator<Item = StoryPair>, count: usize) -> Vec<StoryPair> {
    let mut seen = HashSet::new();
    made.filter(|pair| seen.insert(pair.clone())).take(count).collect()
}
