//! Pairs positions at which two models have read the same text.
//!
//! # The rule
//!
//! A pair of positions means: both tokens end at the same place of the original text, and both models have read the
//! same span of the original up to there, whatever their normalisers make of it.
//!
//! So a position has an end only where its tokens up to it are what the text before that place becomes for the model,
//! and the tokens behind it are what the text behind it becomes. Positions of two models that have the same end are a
//! pair, whatever the tokenizers; equal tokenizers pair one to one. Where an end isn't certain, the position has none
//! and is in no pair.
//!
//! The offsets of a tokenizer don't say this. A normaliser may compose characters that another model reads one after
//! the other ("e" and an accent, Hangul jamo); offsets then name the first of them. One that decomposes characters or
//! sorts marks has tokens that end inside a character, with the character's end. Byte-level post-processors trim white
//! space off the offsets. A prefix space has the offsets of the character behind it. So offsets are taken before they
//! are trimmed (`read`), and an end is taken only where the text around it is found to become what the model reads
//! there (`cuts`).
//!
//! White space that a tokenizer drops belongs to no token: the position before it ends where the white space begins. Of
//! other characters that a normaliser drops (control characters, accents) it isn't certain to which side they belong,
//! so the position before them has no end. An unknown token ends where the text that it stands for does.

use anyhow::{Result, anyhow};
use tokenizers::{Encoding, Tokenizer};

mod content;
mod cuts;
mod read;
mod reading;
mod stretches;

use read::{TokenRead, read};

/// Longest beginning of a text in an error, in characters.
const QUOTED: usize = 60;

/// A text's tokens, and what each has read of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedText {
    /// Token ids, with what the tokenizer adds by itself.
    pub ids: Vec<u32>,
    /// By token: the byte of the text up to which the model has read at its position, no more and no less. `None` for
    /// tokens that stand for no text, such as BOS, and where there is no such byte: the token ends inside a character
    /// or inside characters that the normaliser composes, or it isn't certain. Strictly ascending.
    pub ends: Vec<Option<usize>>,
    /// By token: the byte behind the last character of which the token has a part, as far as that is known; `None` for
    /// tokens that stand for no text. Ascending, and never less than the token's end.
    pub reach: Vec<Option<usize>>,
}

impl TokenizedText {
    /// Tokenizes `text`, special tokens included. A text that begins with the special tokens itself, as one out of a
    /// chat template does, doesn't get them twice. Takes little longer than the tokenizer does, and as that does, time
    /// in proportion to the text's length.
    ///
    /// # Errors
    ///
    /// An error of the tokenizer.
    pub fn new(tokenizer: &Tokenizer, text: &str) -> Result<Self> {
        let failed = |error| {
            let start: String = text.chars().take(QUOTED).collect();
            anyhow!("could not tokenize the text that begins with {start:?}: {error}")
        };
        let reads = read(tokenizer, text).map_err(failed)?;
        // Post-processors add, cut off and pad. Each token's word, which they carry along, is its index here.
        let indexed = |(index, read): (usize, &TokenRead)| (read.id, String::new(), (0, 0), Some(index as u32), 0);
        let encoding: Encoding = reads.iter().enumerate().map(indexed).collect();
        let encoding = tokenizer.post_process(encoding, None, true).map_err(failed)?;

        let words = encoding.get_word_ids().iter().zip(encoding.get_special_tokens_mask());
        let read = |(word, &special): (&Option<u32>, &u32)| word.filter(|_| special == 0).map(|at| &reads[at as usize]);
        let of_text: Vec<Option<&TokenRead>> = words.map(read).collect();
        let added = of_text.iter().take_while(|read| read.is_none()).count();
        let doubled = doubled(encoding.get_ids(), added);
        let of_text = &of_text[doubled..];
        Ok(Self {
            ids: encoding.get_ids()[doubled..].to_vec(),
            ends: of_text.iter().map(|read| read.and_then(|read| read.end)).collect(),
            reach: of_text.iter().map(|read| read.map(|read| read.reach)).collect(),
        })
    }

    /// Tokens as they were recorded, by us or by others, with the byte behind each as far as there is one, and whether
    /// it stands for no text: three lists of one length. Offsets give all bytes of one character its end; of tokens
    /// with the same end only the last has read up to there.
    pub fn recorded(ids: Vec<u32>, mut ends: Vec<Option<usize>>, special: &[bool]) -> Self {
        let mut next = usize::MAX;
        for (end, &special) in ends.iter_mut().zip(special).rev() {
            *end = end.filter(|&end| !special && end < next);
            next = end.unwrap_or(next);
        }
        let mut read = 0;
        let mut reach = |(end, &special): (&Option<usize>, &bool)| {
            read = end.unwrap_or(read);
            (!special).then_some(read)
        };
        Self {
            reach: ends.iter().zip(special).map(&mut reach).collect(),
            ids,
            ends,
        }
    }

    /// Cuts off what lies behind the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
        self.ends.truncate(length);
        self.reach.truncate(length);
    }

    /// The positions that have an end, with it.
    fn marks(&self) -> impl Iterator<Item = (usize, usize)> {
        let ends = self.ends.iter().enumerate();
        ends.filter_map(|(position, end)| Some((position, (*end)?)))
    }

    /// Number of tokens that stand for no text.
    fn special(&self) -> usize {
        self.reach.iter().filter(|reach| reach.is_none()).count()
    }
}

/// `added` if the first `added` tokens are there twice.
fn doubled(ids: &[u32], added: usize) -> usize {
    match ids.split_at_checked(added) {
        Some((start, rest)) if rest.starts_with(start) => added,
        _ => 0,
    }
}

/// Two positions that end the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionPair {
    /// Position in the source model's tokens.
    pub source: usize,
    /// Position in the target model's tokens.
    pub target: usize,
    /// The byte of the text behind both.
    pub end: usize,
}

/// The pairs of one text, and what was left over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// Ascending.
    pub pairs: Vec<PositionPair>,
    /// Tokens of the source model that end where no token of the target does, or that have no end.
    pub unmatched_source: usize,
    /// The same of the target model.
    pub unmatched_target: usize,
    /// Tokens of either model that stand for no text.
    pub special: usize,
}

/// Pairs the positions of one text in two tokenizations, by the rule above.
pub fn pair_positions(source: &TokenizedText, target: &TokenizedText) -> Pairing {
    let (mut a, mut b) = (source.marks().peekable(), target.marks().peekable());
    let mut pairs = Vec::with_capacity(source.ids.len().min(target.ids.len()));
    while let (Some(&(of_source, end)), Some(&(of_target, other_end))) = (a.peek(), b.peek()) {
        if end == other_end {
            pairs.push(PositionPair {
                source: of_source,
                target: of_target,
                end,
            });
        }
        if end <= other_end {
            a.next();
        }
        if other_end <= end {
            b.next();
        }
    }
    let unmatched = |text: &TokenizedText| text.ids.len() - text.special() - pairs.len();
    Pairing {
        unmatched_source: unmatched(source),
        unmatched_target: unmatched(target),
        special: source.special() + target.special(),
        pairs,
    }
}

#[cfg(test)]
pub(crate) mod tests;
