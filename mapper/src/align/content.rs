//! The content of a stretch of text: what a tokenizer's steps make of it before its model reads it.

use std::collections::HashMap;
use std::sync::LazyLock;

use tokenizers::normalizers::{ByteLevel, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{NormalizedString, Normalizer, Tokenizer};
use unicode_segmentation::GraphemeCursor;

/// The steps of a tokenizer that change characters: its normaliser, and the alphabets of its pre-tokenizer. Left out is
/// what depends on where a stretch stands: what is put before a text or taken off its ends.
pub(super) struct Content<'a> {
    steps: Vec<ContentStep<'a>>,
    /// How many of the steps are the normaliser's.
    normalizers: usize,
    /// What may stand before a text's own content, such as a prefix space.
    prefixes: Vec<String>,
    /// Whether the content is written in the byte-level alphabet.
    bytes: bool,
    /// Whether the normaliser looks at user-perceived characters (grapheme clusters), as SentencePiece's does here.
    by_grapheme: bool,
    /// What characters become, of those that change.
    known: HashMap<char, Option<String>>,
}

enum ContentStep<'a> {
    Normalize(&'a NormalizerWrapper),
    /// Every byte becomes a character of the byte-level alphabet.
    Bytes,
    /// Every space becomes this character.
    Space(char),
}

impl<'a> Content<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        let (mut steps, mut prefixes) = (Vec::new(), Vec::new());
        if let Some(normalizer) = tokenizer.get_normalizer() {
            add_normalizer(normalizer, &mut steps, &mut prefixes);
        }
        let normalizers = steps.len();
        let by_grapheme =
            |step: &ContentStep<'_>| matches!(step, ContentStep::Normalize(NormalizerWrapper::Precompiled(_)));
        let by_grapheme = steps.iter().any(by_grapheme);
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            add_pre_tokenizer(pre_tokenizer, &mut steps, &mut prefixes);
        }
        let is_bytes = |step: &ContentStep<'_>| {
            matches!(
                step,
                ContentStep::Bytes | ContentStep::Normalize(NormalizerWrapper::ByteLevel(_))
            )
        };
        let mut content = Self {
            bytes: steps.iter().any(is_bytes),
            steps,
            normalizers,
            prefixes: Vec::new(),
            by_grapheme,
            known: HashMap::new(),
        };
        content.prefixes = prefixes
            .iter()
            .filter_map(|prefix| apply(&content.steps, prefix))
            .collect();
        content
    }

    /// Whether `content` is what `text` becomes. Before it there may be a prefix of less than `prefix` bytes.
    pub(super) fn is(&mut self, text: &str, content: &str, prefix: usize) -> bool {
        // Most characters stay as they are.
        let unchanged = if self.bytes {
            text.bytes().map(|byte| ALPHABET[usize::from(byte)]).eq(content.chars())
        } else {
            text == content
        };
        if unchanged {
            return true;
        }
        let steps = &self.steps;
        let made;
        let single = single(text);
        let expected = match single {
            Some(char) => self.known.entry(char).or_insert_with(|| apply(steps, text)).as_deref(),
            None => {
                made = apply(steps, text);
                made.as_deref()
            }
        };
        let Some(expected) = expected else { return false };
        // A normaliser may have put white space around or into a character (ideographs, ligatures) that is dropped
        // then.
        let dropped = |content: &str| {
            content
                .chars()
                .eq(expected.chars().filter(|char| !char.is_whitespace()))
        };
        let is = |content: &str| content == expected || single.is_some() && dropped(content);
        let mut prefixes = self.prefixes.iter().filter(|found| found.len() < prefix);
        is(content) || prefixes.any(|prefix| content.strip_prefix(prefix.as_str()).is_some_and(is))
    }

    /// Whether what `text` becomes may be cut at `at`, as far as that depends on the characters around it.
    pub(super) fn may_cut(&self, text: &str, at: usize) -> bool {
        let boundary = || GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0);
        !self.by_grapheme || boundary().unwrap_or(false)
    }

    /// Whether `value` is what `text` becomes as an added token, which no pre-tokenizer sees.
    pub(super) fn is_added(&self, text: &str, value: &str) -> bool {
        let normalized = || apply(&self.steps[..self.normalizers], text);
        let is = |normalized: String| {
            let prefixes = self
                .prefixes
                .iter()
                .filter_map(|prefix| value.strip_prefix(prefix.as_str()));
            std::iter::once(value).chain(prefixes).any(|value| value == normalized)
        };
        text == value || normalized().is_some_and(is)
    }

    /// Whether nothing is left of `text`, or only white space, which pre-tokenizers drop.
    pub(super) fn drops(&self, text: &str) -> bool {
        text.trim().is_empty() || apply(&self.steps, text).is_some_and(|content| content.trim().is_empty())
    }
}

/// The byte-level alphabet, by byte: what the library writes for characters that have all bytes of texts between them.
pub(super) static ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut alphabet = ['\0'; 256];
    let two = (0..0x800).step_by(0x40);
    let three = (0x800..0x1_0000).step_by(0x800);
    let four = (0x1_0000..0x11_0000).step_by(0x1_0000);
    for char in (0..0xc0).chain(two).chain(three).chain(four).filter_map(char::from_u32) {
        let text = String::from(char);
        let letters = apply(&[ContentStep::Bytes], &text).unwrap_or_default();
        text.bytes()
            .zip(letters.chars())
            .for_each(|(byte, letter)| alphabet[usize::from(byte)] = letter);
    }
    alphabet
});

/// What `text` becomes by `steps`; `None` if one of them fails.
fn apply(steps: &[ContentStep<'_>], text: &str) -> Option<String> {
    let mut content = NormalizedString::from(text);
    for step in steps {
        match step {
            ContentStep::Normalize(normalizer) => normalizer.normalize(&mut content),
            ContentStep::Bytes => ByteLevel::new().normalize(&mut content),
            ContentStep::Space(replacement) => content.replace(' ', replacement.encode_utf8(&mut [0; 4])),
        }
        .ok()?;
    }
    Some(content.get().to_owned())
}

fn add_normalizer<'a>(normalizer: &'a NormalizerWrapper, steps: &mut Vec<ContentStep<'a>>, prefixes: &mut Vec<String>) {
    match normalizer {
        NormalizerWrapper::Sequence(sequence) => {
            sequence
                .as_ref()
                .iter()
                .for_each(|normalizer| add_normalizer(normalizer, steps, prefixes));
        }
        NormalizerWrapper::Prepend(prepend) => prefixes.push(prepend.prepend.clone()),
        NormalizerWrapper::StripNormalizer(_) => {}
        other => steps.push(ContentStep::Normalize(other)),
    }
}

fn add_pre_tokenizer(
    pre_tokenizer: &PreTokenizerWrapper,
    steps: &mut Vec<ContentStep<'_>>,
    prefixes: &mut Vec<String>,
) {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => {
            sequence
                .as_ref()
                .iter()
                .for_each(|part| add_pre_tokenizer(part, steps, prefixes));
        }
        PreTokenizerWrapper::ByteLevel(byte_level) => {
            if byte_level.add_prefix_space {
                prefixes.push(" ".into());
            }
            steps.push(ContentStep::Bytes);
        }
        PreTokenizerWrapper::Metaspace(metaspace) => {
            if metaspace.prepend_scheme != PrependScheme::Never {
                prefixes.push(metaspace.get_replacement().into());
            }
            steps.push(ContentStep::Space(metaspace.get_replacement()));
        }
        // The others only cut.
        _ => {}
    }
}

/// The only character of `text`.
fn single(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}
