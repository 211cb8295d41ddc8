//! Prompts cut from the family's stories, with their tokens.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use tokenizers::Tokenizer;

use crate::stories::Story;

/// The beginning of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct StoryPrompt {
    /// The text.
    pub text: String,
    /// Its tokens, including the special one at the start.
    pub tokens: Vec<u32>,
    /// Those of its tokens, each once, that a text alone encodes to: token id and text.
    pub spelled: Vec<(u32, String)>,
}

/// `count` beginnings of `length` tokens each, from the stories of `seed`. Equal seeds give beginnings of the same
/// stories in the same order, so that a short one is usually the start of a long one.
///
/// # Errors
///
/// If the model's folder has no tokenizer, or the stories are too short.
pub fn prompts(model: &Path, seed: u64, length: usize, count: usize) -> Result<Vec<StoryPrompt>> {
    let path = model.join("tokenizer.json");
    let tokenizer = Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let found: Vec<StoryPrompt> = (0..20 * count as u64)
        .filter_map(|index| cut(&tokenizer, &Story::generate(seed, index).text(), length))
        .take(count)
        .collect();
    ensure!(
        found.len() == count,
        "stories: found {} with {length} tokens, expected {count}",
        found.len()
    );
    Ok(found)
}

/// The first `length` tokens of a text, if the tokenizer makes the same tokens from their text alone.
fn cut(tokenizer: &Tokenizer, text: &str, length: usize) -> Option<StoryPrompt> {
    let whole = tokenizer.encode(text, true).ok()?;
    let end = whole.get_offsets().get(length.checked_sub(1)?)?.1;
    let text = text.get(..end)?.to_string();
    let tokens = tokenizer.encode(text.as_str(), true).ok()?.get_ids().to_vec();
    if tokens.len() != length {
        return None;
    }
    let mut spelled: Vec<(u32, String)> = Vec::new();
    for &token in &tokens {
        if spelled.iter().any(|(known, _)| *known == token) {
            continue;
        }
        let Ok(text) = tokenizer.decode(&[token], false) else {
            continue;
        };
        let alone = tokenizer.encode(text.as_str(), false).ok()?;
        if alone.get_ids() == [token] {
            spelled.push((token, text));
        }
    }
    Some(StoryPrompt { text, tokens, spelled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_their_length_and_share_beginnings() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("family/stories-3m");
        let (short, long) = (prompts(&model, 5, 8, 6).unwrap(), prompts(&model, 5, 20, 6).unwrap());
        assert!(short.iter().all(|prompt| prompt.tokens.len() == 8));
        let shared = long
            .iter()
            .filter(|long| short.iter().any(|short| long.tokens.starts_with(&short.tokens)));
        assert!(shared.count() >= 4);
        assert!(long.iter().any(|prompt| prompt.spelled.len() >= 4), "{long:?}");
        assert!(prompts(&model, 5, 100_000, 1).is_err());
    }
}
