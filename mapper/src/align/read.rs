//! Reads a text as a model does: runs a tokenizer's steps one by one, up to its post-processor.
//!
//! It is [`Tokenizer::encode`](tokenizers::TokenizerImpl::encode) taken apart, since an encoding's offsets are no
//! longer what they were when the tokens were made. The tokens are the same.

use std::iter::Peekable;
use std::vec::IntoIter;

use tokenizers::tokenizer::Result;
use tokenizers::{
    Model, NormalizedString, OffsetReferential, OffsetType, Offsets, PreTokenizedString, PreTokenizer, Token, Tokenizer,
};

use super::content::Content;
use super::cuts::cuts;
use super::reading::{Placed, Reading};

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenRead {
    /// The token's id.
    pub(super) id: u32,
    /// As [`TokenizedText::ends`](super::TokenizedText::ends).
    pub(super) end: Option<usize>,
    /// As [`TokenizedText::reach`](super::TokenizedText::reach).
    pub(super) reach: usize,
}

/// The tokens of `text`, without what a post-processor adds.
///
/// # Errors
///
/// An error of a step of the tokenizer.
pub(super) fn read(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenRead>> {
    let vocabulary = tokenizer.get_added_vocabulary();
    let mut pieces = vocabulary.extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces)?;
    }
    let mut reading = Reading::default();
    let mut added = AddedTokens::of(&pieces);
    // The pieces that are not added tokens. The closure only reads them and returns no split.
    pieces.split(|index, piece| {
        added.before(index, &mut reading);
        let tokens = tokenizer.get_model().tokenize(piece.get())?;
        reading.add(&piece, &tokens);
        Ok(None::<NormalizedString>)
    })?;
    added.before(usize::MAX, &mut reading);
    Ok(finish(&reading, text, &mut Content::new(tokenizer)))
}

/// The added tokens of a text, by their index among the pieces.
struct AddedTokens(Peekable<IntoIter<(usize, Offsets, Token)>>);

impl AddedTokens {
    fn of(pieces: &PreTokenizedString) -> Self {
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let added = |(index, (_, offsets, tokens)): (usize, (_, Offsets, &Option<Vec<Token>>))| {
            let token = tokens.as_ref()?.first()?.clone();
            Some((index, offsets, token))
        };
        let added: Vec<_> = splits.into_iter().enumerate().filter_map(added).collect();
        Self(added.into_iter().peekable())
    }

    /// Adds those that come before the piece of this index.
    fn before(&mut self, index: usize, reading: &mut Reading) {
        while let Some((_, offsets, token)) = self.0.next_if(|(added, ..)| *added < index) {
            reading.add_added(offsets, &token);
        }
    }
}

/// The tokens of a text whose pieces have all been added.
fn finish(reading: &Reading, text: &str, content: &mut Content<'_>) -> Vec<TokenRead> {
    let cuts = cuts(text, reading, content);
    let (mut cuts, mut groups) = (cuts.into_iter().peekable(), reading.groups.iter().peekable());
    let (mut last_end, mut reach) = (0, 0);
    let read = |token: &Placed| {
        while cuts.next_if(|cut| cut.content < token.content_end).is_some() {}
        while groups.next_if(|group| group.content_end < token.content_end).is_some() {}
        let cut = cuts
            .peek()
            .filter(|cut| token.whole && cut.content == token.content_end);
        let end = cut.map(|cut| cut.text).filter(|&end| end > last_end);
        last_end = end.unwrap_or(last_end);
        let furthest = groups.peek().map_or(text.len(), |group| group.end);
        reach = end.unwrap_or(furthest).max(reach);
        TokenRead {
            id: token.id,
            end,
            reach,
        }
    };
    reading.tokens.iter().map(read).collect()
}
