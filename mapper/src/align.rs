//! Pairs positions of two models by the text that they end.
//!
//! A state of the residual stream at a position has seen all text up to that position's token, so states of two models
//! can be compared where their tokens end at the same character, whatever the tokenizers. Equal tokenizers pair one to
//! one.

use anyhow::{Result, anyhow, ensure};
use tokenizers::Tokenizer;

/// A text's tokens, and where each ends in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedText {
    /// Token ids, with what the tokenizer adds by itself.
    pub ids: Vec<u32>,
    /// By token: the byte of the text behind the token's last; `None` for tokens that stand for no text, such as BOS.
    pub ends: Vec<Option<usize>>,
}

impl TokenizedText {
    /// Tokenizes `text`, special tokens included.
    ///
    /// # Errors
    ///
    /// What the tokenizer says.
    pub fn new(tokenizer: &Tokenizer, text: &str) -> Result<Self> {
        let encoding = tokenizer
            .encode(text, true)
            .map_err(|error| anyhow!("could not tokenize {text:?}: {error}"))?;
        let ends = encoding
            .get_offsets()
            .iter()
            .zip(encoding.get_special_tokens_mask())
            .map(|(&(_, end), &special)| (special == 0 && end > 0).then_some(end))
            .collect();
        Ok(Self {
            ids: encoding.get_ids().to_vec(),
            ends,
        })
    }

    /// Cuts off what lies behind the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
        self.ends.truncate(length);
    }

    /// The positions that end a stretch of text, with its end, ascending in both. Where several tokens end at one byte
    /// (the bytes of one character, each a token of its own, all get the character's end), only the last of them has
    /// seen all of the text.
    fn marks(&self) -> Vec<(usize, usize)> {
        let mut marks: Vec<(usize, usize)> = Vec::with_capacity(self.ends.len());
        for (position, end) in self.ends.iter().enumerate() {
            let Some(end) = *end else { continue };
            match marks.last_mut() {
                Some((_, last)) if *last == end => marks.last_mut().expect("not empty").0 = position,
                Some((_, last)) if *last > end => {}
                _ => marks.push((position, end)),
            }
        }
        marks
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
    /// Tokens of the source model that end where no token of the target does, or in the middle of a character.
    pub unmatched_source: usize,
    /// The same of the target model.
    pub unmatched_target: usize,
    /// Tokens of either model that stand for no text.
    pub special: usize,
}

/// Pairs the positions of one text in two tokenizations.
pub fn pair_positions(source: &TokenizedText, target: &TokenizedText) -> Pairing {
    let (a, b) = (source.marks(), target.marks());
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::with_capacity(a.len().min(b.len()));
    while i < a.len() && j < b.len() {
        match a[i].1.cmp(&b[j].1) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                pairs.push(PositionPair {
                    source: a[i].0,
                    target: b[j].0,
                    end: a[i].1,
                });
                i += 1;
                j += 1;
            }
        }
    }
    let special = |text: &TokenizedText| text.ends.iter().filter(|end| end.is_none()).count();
    Pairing {
        unmatched_source: source.ids.len() - special(source) - pairs.len(),
        unmatched_target: target.ids.len() - special(target) - pairs.len(),
        special: special(source) + special(target),
        pairs,
    }
}

/// Cuts `text` into pieces of at most `window` tokens of `tokenizer`, at white space where there is some. A text that
/// fits is one piece, as it is.
///
/// # Errors
///
/// What the tokenizer says; a window of no use.
pub fn windows<'a>(tokenizer: &Tokenizer, text: &'a str, window: usize) -> Result<Vec<&'a str>> {
    ensure!(window >= 2, "window: found {window}, expected 2 tokens at least");
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let tokens = TokenizedText::new(tokenizer, rest)?;
        if tokens.ids.len() <= window {
            pieces.push(rest);
            break;
        }
        let limit = tokens.ends[..window].iter().flatten().copied().max().unwrap_or(0);
        let limit = floor_char_boundary(rest, limit);
        let space = rest[..limit].rfind(char::is_whitespace).filter(|&at| at > limit / 2);
        // One character at least, or this would never end.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let cut = space.unwrap_or(limit).max(first);
        let piece = rest[..cut].trim();
        if !piece.is_empty() {
            pieces.push(piece);
        }
        rest = rest[cut..].trim_start();
    }
    Ok(pieces)
}

fn floor_char_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
pub(crate) mod tests;
