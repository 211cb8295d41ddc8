//! What a model has read with its tokens, found without any offsets.

use std::collections::HashMap;
use std::sync::LazyLock;

use tokenizers::Tokenizer;

/// What texts are made of.
pub(super) static FRAGMENTS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let kinds = [
        "a¦e¦the¦cat¦o¦u¦ing¦Hello¦don't¦x1¦12¦3.5¦€¦—¦,¦.¦'s",
        // White space.
        " ¦ ¦  ¦   ¦\t¦\n¦\r\n¦\n\n¦ \n ¦\u{a0}¦\u{3000}¦\u{2009}",
        // Marks that compose, that are sorted, and that stay; letters that are composed already.
        "e\u{301}¦\u{301}¦\u{323}¦\u{302}¦\u{308}¦é¦o\u{302}\u{323}¦ộ¦ô\u{323}¦u\u{308}\u{304}¦ǖ¦\u{212b}",
        "a\u{301}\u{301}¦x\u{301}¦\u{344}¦İ¦ß¦Σ¦q\u{323}\u{307}",
        // Hangul: conjoining, half composed, composed, compatible, half width.
        "\u{1100}¦\u{1161}¦\u{11a8}¦\u{1112}\u{1161}\u{11ab}¦가¦각¦가\u{11a8}¦한글¦ㄱ¦ㅏ¦\u{ffa1}¦\u{ffc2}",
        // Kana and ideographs.
        "カ¦\u{3099}¦ガ¦ｶ¦ﾞ¦日本¦語¦\u{f900}",
        // What compatibility changes the length of.
        "ﬁ¦Ａｂ¦①¦½¦…¦㎏¦\u{fdfa}¦\u{fb2e}¦ſ¦\u{fe0f}",
        // Emoji with joiners, skin tones, flags.
        "👩¦\u{200d}¦👩\u{200d}👩\u{200d}👧¦🙂¦👍🏽¦🇩🇪",
        // Right to left, with points.
        "שלום¦ב\u{5bc}\u{5b0}¦ב\u{5b0}\u{5bc}¦مرحبا¦\u{651}\u{64b}¦\u{64b}\u{651}¦\u{200f}",
        // What tokenizers write themselves, and what normalisers drop.
        "▁¦Ġ¦<0xE2>¦##e¦<s>¦<|end|>¦\u{1}¦\u{200b}¦\u{feff}¦\u{fffd}¦\u{ad}",
    ];
    kinds.iter().flat_map(|kind| kind.split('¦')).collect()
});

/// The added token of the tokenizers that have one.
pub(super) const ADDED: &str = "<|end|>";

/// How tokens are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// In the byte-level alphabet.
    Bytes,
    /// With `▁` for a space and `<0xE2>` for a byte.
    Pieces,
    /// Words, and what goes on in a word behind `##`.
    Words,
}

/// A tokenizer, and how to read it.
pub(super) struct NamedTokenizer {
    /// What it is made of, for messages.
    pub(super) name: String,
    pub(super) tokenizer: Tokenizer,
    pub(super) written: Written,
    /// Whether white space at the ends of a text is taken off.
    pub(super) strips: bool,
    /// The id of the token for what is unknown.
    pub(super) unknown: Option<u32>,
}

impl NamedTokenizer {
    /// The content of tokens: what the model has read, as bytes of normalised text. `None` if that isn't known.
    pub(super) fn content(&self, ids: &[u32]) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        for id in ids {
            if Some(*id) == self.unknown {
                return None;
            }
            let token = self.tokenizer.id_to_token(*id)?;
            match self.written {
                _ if token == ADDED => content.extend(token.bytes()),
                Written::Bytes => content.extend(token.chars().map(|char| ALPHABET[&char])),
                Written::Pieces => match token.strip_prefix("<0x").and_then(|digits| digits.strip_suffix('>')) {
                    Some(digits) => content.push(u8::from_str_radix(digits, 16).unwrap()),
                    None => content.extend(token.replace('▁', " ").bytes()),
                },
                Written::Words => match token.strip_prefix("##") {
                    Some(rest) => content.extend(rest.bytes()),
                    None => content.extend(format!("\n{token}").bytes()),
                },
            }
        }
        Some(content)
    }

    fn content_of(&self, text: &str) -> Option<Vec<u8>> {
        self.content(self.tokenizer.encode_fast(text, false).unwrap().get_ids())
    }

    /// Whether the model has read exactly `text[..end]` with `read`, when `unread` is what it will read behind. `None` if
    /// that can't be told.
    pub(super) fn has_read(&self, text: &str, end: usize, read: &[u32], unread: &[u32]) -> Option<bool> {
        if self.written == Written::Words && text.contains("##") {
            return None;
        }
        let (read, unread) = (self.content(read)?, self.content(unread)?);
        let (left, right) = (self.content_of(&text[..end])?, self.content_of(&text[end..])?);
        let stripped = |content: &[u8]| -> Vec<u8> {
            let text = String::from_utf8_lossy(content);
            if self.strips {
                text.trim().into()
            } else {
                content.to_vec()
            }
        };
        let prefix: &[u8] = if self.written == Written::Words { b"\n" } else { b" " };
        // The rest is a text of its own here, so it may get a prefix.
        let same_rest = stripped(&right) == stripped(&unread) || right.strip_prefix(prefix) == Some(&unread);
        Some(stripped(&left) == stripped(&read) && same_rest)
    }
}

/// GPT-2's alphabet, backwards: bytes that can be printed are themselves, the others follow from 256 on.
pub(super) static ALPHABET: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let mut next = 256;
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => (char::from(byte), byte),
        _ => {
            next += 1;
            (char::from_u32(next - 1).unwrap(), byte)
        }
    };
    (0..=255).map(letter).collect()
});
