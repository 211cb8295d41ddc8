//! What a model reads of a text: its content, by where that comes from, and its tokens' places in the content.

use tokenizers::normalizer::Range;
use tokenizers::{NormalizedString, Offsets, Token};

/// Characters that a model reads, one or more, which the tokenizer's alignment says are of one stretch of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlignedChars {
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
    pub(super) groups: Vec<AlignedChars>,
    pub(super) tokens: Vec<Placed>,
}

/// A token with its place in the content.
pub(super) struct Placed {
    pub(super) id: u32,
    pub(super) content_end: usize,
    /// Whether the model has read all the content up to there.
    pub(super) whole: bool,
}

impl Reading {
    /// Adds an added token, which stands for this stretch of the text.
    pub(super) fn add_added(&mut self, (start, end): Offsets, token: &Token) {
        self.content.push_str(&token.value);
        self.groups.push(AlignedChars {
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

    /// Adds a piece of the pre-tokenizer, with its tokens.
    pub(super) fn add(&mut self, piece: &NormalizedString, tokens: &[Token]) {
        let (content, base) = (piece.get(), self.content.len());
        let shift = piece.offsets_original().0;
        for (at, char) in content.char_indices() {
            let chars = at..at + char.len_utf8();
            let content_end = base + chars.end;
            let aligned = piece.convert_offsets(Range::Normalized(chars)).unwrap_or_default();
            let (start, end) = (shift + aligned.start, shift + aligned.end);
            match self.groups.last_mut() {
                Some(last) if !last.added && (last.start, last.end) == (start, end) => last.content_end = content_end,
                _ => self.groups.push(AlignedChars {
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
