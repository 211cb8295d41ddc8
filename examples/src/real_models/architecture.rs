//! The architectures that can be converted, behind one interface.

use anyhow::{Result, bail};
use serde::Serialize;

use super::gemma3::Gemma3Config;
use super::gguf::Gguf;
use super::llama::LlamaConfig;
use super::plan::TensorPlan;

/// `config.json`, and everything else that the conversion needs to know about a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ArchitectureConfig {
    /// A llama model.
    Llama(LlamaConfig),
    /// A text-only Gemma 3 model.
    Gemma3(Gemma3Config),
}

impl ArchitectureConfig {
    /// Takes the config from a GGUF file's metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        match gguf.string("general.architecture")? {
            "llama" => Ok(Self::Llama(LlamaConfig::from_gguf(gguf)?)),
            "gemma3" => Ok(Self::Gemma3(Gemma3Config::from_gguf(gguf)?)),
            other => bail!(
                "the GGUF file holds a model of architecture {other:?}; \
                 only \"llama\" and \"gemma3\" can be converted"
            ),
        }
    }

    /// The architecture's name for messages.
    pub fn architecture(&self) -> &'static str {
        match self {
            Self::Llama(_) => "llama",
            Self::Gemma3(_) => "gemma3",
        }
    }

    /// The longest sequence the model was made for.
    pub fn context_length(&self) -> usize {
        match self {
            Self::Llama(config) => config.context_length(),
            Self::Gemma3(config) => config.context_length(),
        }
    }

    /// The number of rows of the embedding matrix.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Llama(config) => config.vocab_size(),
            Self::Gemma3(config) => config.vocab_size(),
        }
    }

    /// All tensors of the model.
    pub fn tensors(&self) -> Vec<TensorPlan> {
        match self {
            Self::Llama(config) => config.tensors(),
            Self::Gemma3(config) => config.tensors(),
        }
    }
}
