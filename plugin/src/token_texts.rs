//! What each token of a model's vocabulary spells.

use std::sync::{Arc, OnceLock};

use tokenizers::Tokenizer;
use toktrie_hf_tokenizers::ByteTokenizer;

/// Stands before the text of a special token in what the engine's library says of it. No UTF-8 has it.
const SPECIAL: u8 = 0xff;

/// The bytes of tokens, as the engine spells answers with. Made when they are first asked for: a list as long as the vocabulary.
pub struct TokenTexts {
    tokenizer: Option<Arc<Tokenizer>>,
    bytes: OnceLock<Option<Vec<Vec<u8>>>>,
}

impl TokenTexts {
    /// Those of a tokenizer, where the model has one.
    pub fn new(tokenizer: Option<Arc<Tokenizer>>) -> Self {
        Self {
            tokenizer,
            bytes: OnceLock::new(),
        }
    }

    /// Makes the list, which takes as long as copying a tokenizer does.
    pub fn prepare(&self) -> Option<&Vec<Vec<u8>>> {
        let all = self.bytes.get_or_init(|| {
            let tokenizer = self.tokenizer.as_ref()?;
            // It takes its tokenizer apart. One that is neither of bytes nor falls back to them is none of its.
            let of_bytes = ByteTokenizer::from_tokenizer((**tokenizer).clone()).ok()?;
            Some(of_bytes.token_bytes())
        });
        all.as_ref()
    }

    /// The bytes that a token spells, special ones included; a part of a character may be one. Empty where they are not known.
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
