//! Builds the tokenizer files of a Hugging Face folder from a GGUF file's vocabulary.

mod byte_level;
mod sentencepiece;
mod vocabulary;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use tokenizers::Tokenizer;

use self::byte_level::ByteLevelBpe;
use self::sentencepiece::SentencePieceBpe;
use self::vocabulary::Vocabulary;
use super::gguf::Gguf;

/// The tokenizer files of a Hugging Face folder.
pub struct TokenizerFiles {
    /// `tokenizer.json`, as text.
    pub tokenizer_json: String,
    /// `tokenizer_config.json`.
    pub config: TokenizerConfig,
    /// `special_tokens_map.json`.
    pub special_tokens: SpecialTokens,
    vocab_size: usize,
}

/// `tokenizer_config.json`.
#[derive(Debug, Serialize)]
pub struct TokenizerConfig {
    tokenizer_class: &'static str,
    model_max_length: usize,
    add_bos_token: bool,
    add_prefix_space: bool,
    clean_up_tokenization_spaces: bool,
    #[serde(flatten)]
    special_tokens: SpecialTokens,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template: Option<String>,
}

/// `special_tokens_map.json`: the tokens with a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecialTokens {
    #[serde(skip_serializing_if = "Option::is_none")]
    bos_token: Option<String>,
    eos_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unk_token: Option<String>,
}

impl TokenizerFiles {
    /// Takes the tokenizer from a GGUF file's metadata.
    pub fn from_gguf(gguf: &Gguf, context_length: usize) -> Result<Self> {
        // The file only has the name of the rule that cuts text before the merges apply.
        let model = gguf.string("tokenizer.ggml.model")?;
        let pre = gguf.string("tokenizer.ggml.pre")?;
        match (model, pre) {
            ("gpt2", "smollm") => Self::byte_level(gguf, context_length),
            ("llama", "default") => Self::sentencepiece(gguf, context_length),
            _ => bail!(
                "tokenizers of kind {model:?} with pre-tokenizer {pre:?} cannot be converted; \
                 only \"gpt2\" with \"smollm\" and \"llama\" with \"default\" can"
            ),
        }
    }

    fn byte_level(gguf: &Gguf, context_length: usize) -> Result<Self> {
        ensure!(
            gguf.flag_if_any("tokenizer.ggml.add_bos_token")? != Some(true),
            "a byte-level tokenizer that puts a token before every text is not supported"
        );
        let bpe = ByteLevelBpe::new(
            &gguf.strings("tokenizer.ggml.tokens")?,
            &gguf.integers("tokenizer.ggml.token_type")?,
            &gguf.strings("tokenizer.ggml.merges")?,
        )?;
        let mut config = TokenizerConfig::from_gguf(gguf, &bpe.vocabulary, context_length)?;
        // With this class, transformers reads tokenizer.json and makes no token type ids, which a llama model does not
        // accept.
        config.tokenizer_class = "GPT2Tokenizer";
        Self::new(bpe.vocabulary.len(), config, &bpe.into_tokenizer()?)
    }

    fn sentencepiece(gguf: &Gguf, context_length: usize) -> Result<Self> {
        // Gemma's settings. Others would need other normalizers and templates.
        for (key, needed) in [
            ("tokenizer.ggml.add_bos_token", true),
            ("tokenizer.ggml.add_space_prefix", false),
        ] {
            ensure!(
                gguf.flag_if_any(key)? == Some(needed),
                "a SentencePiece tokenizer is supported only if its GGUF metadata {key} is {needed}"
            );
        }
        for key in [
            "tokenizer.ggml.add_eos_token",
            "tokenizer.ggml.remove_extra_whitespaces",
        ] {
            ensure!(
                gguf.flag_if_any(key)? != Some(true),
                "a SentencePiece tokenizer is supported only if its GGUF metadata {key} is not true"
            );
        }
        let bpe = SentencePieceBpe::new(
            &gguf.strings("tokenizer.ggml.tokens")?,
            &gguf.integers("tokenizer.ggml.token_type")?,
            &gguf.floats("tokenizer.ggml.scores")?,
        )?;
        let mut config = TokenizerConfig::from_gguf(gguf, &bpe.vocabulary, context_length)?;
        config.tokenizer_class = "GemmaTokenizer";
        config.add_bos_token = true;
        let bos = gguf.id("tokenizer.ggml.bos_token_id")?;
        let unknown = gguf.id("tokenizer.ggml.unknown_token_id")?;
        Self::new(bpe.vocabulary.len(), config, &bpe.into_tokenizer(bos, unknown)?)
    }

    fn new(vocab_size: usize, config: TokenizerConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let json = tokenizer.to_string(false);
        Ok(Self {
            tokenizer_json: json.map_err(|error| anyhow!("cannot write the tokenizer: {error}"))?,
            special_tokens: config.special_tokens.clone(),
            config,
            vocab_size,
        })
    }

    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

impl TokenizerConfig {
    /// The settings common to all kinds of tokenizers.
    fn from_gguf(gguf: &Gguf, vocabulary: &Vocabulary, context_length: usize) -> Result<Self> {
        Ok(Self {
            tokenizer_class: "PreTrainedTokenizerFast",
            model_max_length: context_length,
            add_bos_token: false,
            add_prefix_space: false,
            clean_up_tokenization_spaces: false,
            special_tokens: SpecialTokens {
                bos_token: vocabulary.named_by(gguf, "tokenizer.ggml.bos_token_id")?,
                eos_token: vocabulary
                    .named_by(gguf, "tokenizer.ggml.eos_token_id")?
                    .context("GGUF metadata tokenizer.ggml.eos_token_id is missing")?,
                pad_token: vocabulary.named_by(gguf, "tokenizer.ggml.padding_token_id")?,
                unk_token: vocabulary.named_by(gguf, "tokenizer.ggml.unknown_token_id")?,
            },
            chat_template: gguf.string_if_any("tokenizer.chat_template")?.map(str::to_owned),
        })
    }
}
