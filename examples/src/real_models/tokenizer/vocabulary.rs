//! A GGUF file's vocabulary, for any tokenization algorithm.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use tokenizers::models::bpe::Vocab;
use tokenizers::{AddedToken, Tokenizer};

use super::super::gguf::Gguf;

/// The type of a token: `llama_token_type` of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// Made from text by the tokenizer's algorithm.
    Normal,
    /// Stands for text without a token.
    Unknown,
    /// Found in text before the algorithm runs, and left out of decoded text.
    Control,
    /// Found in text before the algorithm runs.
    UserDefined,
    /// Never produced.
    Unused,
    /// A byte of a character without a token.
    Byte,
}

/// The tokens, all different. A token's index is its id.
#[derive(Debug)]
pub struct Vocabulary {
    texts: Vec<String>,
    kinds: Vec<TokenType>,
}

impl Vocabulary {
    /// Checks tokens and their types, given as numbers. `algorithm` is for messages.
    pub fn new(texts: Vec<String>, kinds: &[i32], allowed: &[TokenType], algorithm: &str) -> Result<Self> {
        ensure!(
            texts.len() == kinds.len(),
            "{} tokens, but {} token types",
            texts.len(),
            kinds.len()
        );
        ensure!(u32::try_from(texts.len()).is_ok(), "too many tokens");
        let distinct = texts.iter().collect::<HashSet<_>>().len();
        ensure!(
            distinct == texts.len(),
            "{} tokens are there more than once",
            texts.len() - distinct
        );
        let mut known = Vec::with_capacity(kinds.len());
        for (id, (text, &number)) in texts.iter().zip(kinds).enumerate() {
            match TokenType::from_number(number).filter(|kind| allowed.contains(kind)) {
                Some(kind) => known.push(kind),
                None => bail!("token {id} ({text:?}) has type {number}, unknown in {algorithm}"),
            }
        }
        Ok(Self { texts, kinds: known })
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Every token with its id and type.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenType)> {
        let both = self.texts.iter().zip(&self.kinds);
        (0..).zip(both).map(|(id, (text, &kind))| (id, text.as_str(), kind))
    }

    /// The text of a token.
    pub fn text(&self, id: u32) -> Option<&str> {
        let text = usize::try_from(id).ok().and_then(|id| self.texts.get(id));
        text.map(String::as_str)
    }

    /// The token whose id is the metadata value of `key`, if there is one.
    pub fn named_by(&self, gguf: &Gguf, key: &str) -> Result<Option<String>> {
        let Some(id) = gguf.id_if_any(key)? else {
            return Ok(None);
        };
        let text = self.text(id);
        let text = text.with_context(|| format!("GGUF metadata {key}: no token {id}"))?;
        Ok(Some(text.to_owned()))
    }

    /// The ids by their tokens.
    pub fn ids(&self) -> Vocab {
        self.iter().map(|(id, text, _)| (text.to_owned(), id)).collect()
    }

    /// Adds the tokens to `tokenizer` that it must find before its algorithm runs.
    pub fn add_to(&self, tokenizer: &mut Tokenizer) {
        let of_kind = |wanted: &[TokenType]| -> Vec<AddedToken> {
            let special = !wanted.contains(&TokenType::UserDefined);
            self.iter()
                .filter(|(_, _, kind)| wanted.contains(kind))
                .map(|(_, text, _)| AddedToken::from(text, special).normalized(false))
                .collect()
        };
        tokenizer.add_special_tokens(&of_kind(&[TokenType::Control, TokenType::Unknown]));
        tokenizer.add_tokens(&of_kind(&[TokenType::UserDefined]));
    }
}

impl TokenType {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}
