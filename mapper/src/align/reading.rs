//! What a model reads of a text: runs a tokenizer's steps one by one, up to its post-processor.
//!
//! It is [`Tokenizer::encode`](tokenizers::TokenizerImpl::encode) taken apart, since an encoding's offsets are no
//! longer what they were when the tokens were made. The tokens are the same.

use std::iter::Peekable;
use std::vec::IntoIter;

use tokenizers::normalizer::Range;
use tokenizers::tokenizer::Result;
use tokenizers::{
    Model, NormalizedString, OffsetReferential, OffsetType, Offsets, PreTokenizedString, PreTokenizer, Token, Tokenizer,
};

use super::content::Content;
use super::cuts;

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

/// Characters that a model reads, one or more, which the tokenizer's alignment says are of one stretch of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Where the stretch begins in the text.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// Where the characters end in the content.
    pub(super) content_end: usize,
    /// Whether a piece of the pre-tokenizer begins with them.
    pub(super) first: bool,
    /// Whether they are an added token, which is found in the text before it is normalised.
    pub(super) added: bool,
}

/// All that a model reads of a text.
#[derive(Default)]
pub(super) struct Reading {
    /// The characters that the model reads.
    pub(super) content: String,
    /// The content, by where it comes from.
    pub(super) groups: Vec<Group>,
    tokens: Vec<Placed>,
}

/// A token with its place in the content.
struct Placed {
    id: u32,
    content_end: usize,
    /// Whether the model has read all the content up to there.
    whole: bool,
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
    Ok(reading.finish(text, &mut Content::new(tokenizer)))
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

impl Reading {
    fn add_added(&mut self, (start, end): Offsets, token: &Token) {
        self.content.push_str(&token.value);
        self.groups.push(Group {
            start,
            end,
            content_end: self.content.len(),
            first: true,
            added: true,
        });
        self.tokens.push(Placed {
            id: token.id,
            content_end: self.content.len(),
            whole: true,
        });
    }

    fn add(&mut self, piece: &NormalizedString, tokens: &[Token]) {
        let (content, base) = (piece.get(), self.content.len());
        let shift = piece.offsets_original().0;
        for (at, char) in content.char_indices() {
            let chars = at..at + char.len_utf8();
            let content_end = base + chars.end;
            let aligned = piece.convert_offsets(Range::Normalized(chars)).unwrap_or_default();
            let (start, end) = (shift + aligned.start, shift + aligned.end);
            match self.groups.last_mut() {
                Some(last) if !last.added && (last.start, last.end) == (start, end) => last.content_end = content_end,
                _ => self.groups.push(Group {
                    start,
                    end,
                    content_end,
                    first: at == 0,
                    added: false,
                }),
            }
        }
        self.content.push_str(content);

        let ends = token_ends(content, tokens);
        for (index, token) in tokens.iter().enumerate() {
            let end = ends.as_ref().map(|ends| ends[index]);
            self.tokens.push(Placed {
                id: token.id,
                content_end: base + end.unwrap_or(content.len()),
                whole: end.is_some(),
            });
        }
    }

    fn finish(self, text: &str, content: &mut Content<'_>) -> Vec<TokenRead> {
        let cuts = cuts::cuts(text, &self, content);
        let (mut cuts, mut groups) = (cuts.into_iter().peekable(), self.groups.iter().peekable());
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
        self.tokens.iter().map(read).collect()
    }
}

/// Where in `content` each token ends, if the tokens are all of it, one behind the other. Models drop characters that
/// they have no token for, and some then put offsets and unknown tokens in the wrong places.
fn token_ends(content: &str, tokens: &[Token]) -> Option<Vec<usize>> {
    let mut ends = Vec::with_capacity(tokens.len());
    let mut at = 0;
    // Tokens with the same offsets are the bytes of what lies between them.
    for run in tokens.chunk_by(|a, b| a.offsets == b.offsets) {
        let (start, end) = run[0].offsets;
        let bytes = content.as_bytes().get(start..end)?;
        let is_byte = |(token, byte): (&Token, &u8)| {
            token.value.as_bytes() == bytes || fallback_byte(&token.value).is_none_or(|value| value == *byte)
        };
        let alone = run.len() == 1;
        let tiled = start == at && end > start && (alone || run.len() == bytes.len());
        if !tiled || !run.iter().zip(bytes).all(is_byte) {
            return None;
        }
        ends.extend((1..=run.len()).map(|count| if alone { end } else { start + count }));
        at = end;
    }
    (at == content.len()).then_some(ends)
}

/// The byte that a token such as `<0xE2>` is.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}
