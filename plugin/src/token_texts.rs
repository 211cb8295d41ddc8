//! The text of each token of a model's vocabulary.

use std::sync::{Arc, OnceLock};

use tokenizers::Tokenizer;
use toktrie_hf_tokenizers::ByteTokenizer;

/// The engine's library writes this byte before the text of a special token. It never occurs in UTF-8.
const SPECIAL: u8 = 0xff;

/// The bytes of each token in answers. The list, as long as the vocabulary, is made when it is first used.
pub struct TokenTexts {
    tokenizer: Option<Arc<Tokenizer>>,
    bytes: OnceLock<Option<Vec<Vec<u8>>>>,
}

impl TokenTexts {
    /// The texts of a tokenizer's tokens, if the model has one.
    pub fn new(tokenizer: Option<Arc<Tokenizer>>) -> Self {
        Self {
            tokenizer,
            bytes: OnceLock::new(),
        }
    }

    /// Makes the list, which takes as long as copying a tokenizer.
    pub fn prepare(&self) -> Option<&Vec<Vec<u8>>> {
        let all = self.bytes.get_or_init(|| {
            let tokenizer = self.tokenizer.as_ref()?;
            // The library consumes its tokenizer. It does not support one that is neither byte-level nor has byte
            // fallback.
            let of_bytes = ByteTokenizer::from_tokenizer((**tokenizer).clone()).ok()?;
            Some(of_bytes.token_bytes())
        });
        all.as_ref()
    }

    /// The bytes of a token, which may be special or part of a character. Empty if they are not known.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        let all = self.prepare();
        if let Some(bytes) = all.and_then(|all| all.get(id as usize)) {
            return bytes.strip_prefix(&[SPECIAL]).unwrap_or(bytes).to_vec();
        }
        let decode = |tokenizer: &Arc<Tokenizer>| tokenizer.decode(&[id], false).ok();
        self.tokenizer
            .as_ref()
            .and_then(decode)
            .unwrap_or_default()
            .into_bytes()
    }
}
