//! Short stories from a grammar, for training small language models with known concepts.
//!
//! A story has seven [labels](Labels), independent of each other and true in half of all stories. Its sentences come
//! from templates (`templates.rs`); most of their slots hold words that depend on one or two labels (`words.rs`), so
//! every sentence reveals several labels and no label is revealed by every sentence. Names, animals, things and persons
//! are chosen once and referred to later, by name or by pronoun. All choices are uniform and drawn from a seeded ChaCha
//! stream in an order that does not depend on the labels. So a story can be generated again with one label flipped
//! ([`Story::generate_flipped`]), and the two versions differ only in that concept's words.
//!
//! [`Story::nats`] adds up `ln(choices)` over all choices, and `ln 2` for each label that at least one word reveals.
//! Since different derivations make different texts, this is the negative log-probability of the text, and its mean
//! over stories is the generator's entropy, below which no model's loss can fall.

mod concepts;
mod contrasts;
mod story;
mod task;
mod templates;
#[cfg(test)]
mod tests;
mod words;

pub use concepts::{Concept, Labels};
pub use contrasts::{Item, PairEnd, StoryPair, items, pairs};
pub use story::{Piece, Story};
pub use task::{TaskFile, task};
