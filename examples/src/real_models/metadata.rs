//! Metadata of a GGUF file that all architectures have, and metadata that none supports.

use anyhow::{Result, bail};
use serde::Serialize;

use super::gguf::Gguf;

/// `generation_config.json`: the ids that generation needs. It has no sampling settings, so they are up to the program
/// that loads the folder. `config.json` repeats the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GenerationConfig {
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_id: u32,
    /// Token that pads shorter sequences of a batch.
    pub pad_token_id: Option<u32>,
}

impl GenerationConfig {
    /// Takes the ids from a GGUF file's metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Ok(Self {
            bos_token_id: gguf.id_if_any("tokenizer.ggml.bos_token_id")?,
            eos_token_id: gguf.id("tokenizer.ggml.eos_token_id")?,
            pad_token_id: gguf.id_if_any("tokenizer.ggml.padding_token_id")?,
        })
    }
}

/// Returns an error if the model has any of these metadata keys, which would otherwise be ignored.
pub fn refuse(gguf: &Gguf, keys: &[&str]) -> Result<()> {
    match keys.iter().find(|key| gguf.has(key)) {
        Some(key) => bail!("GGUF metadata {key} is not supported"),
        None => Ok(()),
    }
}
