//! Builds the tokenizer files of a Hugging Face folder from a GGUF file's vocabulary.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use super::gguf::Gguf;

/// The tokenizer's part of a Hugging Face folder.
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
        // How text is cut before the merges apply is not in the file: only its name is.
        let model = gguf.string("tokenizer.ggml.model")?;
        let pre = gguf.string("tokenizer.ggml.pre")?;
        ensure!(
            (model, pre) == ("gpt2", "smollm"),
            "tokenizers of kind {model:?} with pre-tokenizer {pre:?} cannot be converted; \
             only \"gpt2\" with \"smollm\" can"
        );
        ensure!(
            gguf.flag_if_any("tokenizer.ggml.add_bos_token")? != Some(true),
            "a tokenizer that puts a token before every text is not supported"
        );

        let vocabulary = Vocabulary::new(
            &gguf.strings("tokenizer.ggml.tokens")?,
            &gguf.integers("tokenizer.ggml.token_type")?,
            &gguf.strings("tokenizer.ggml.merges")?,
        )?;
        let special_tokens = SpecialTokens {
            bos_token: vocabulary.named_by(gguf, "tokenizer.ggml.bos_token_id")?,
            eos_token: vocabulary
                .named_by(gguf, "tokenizer.ggml.eos_token_id")?
                .context("GGUF metadata tokenizer.ggml.eos_token_id is missing")?,
            pad_token: vocabulary.named_by(gguf, "tokenizer.ggml.padding_token_id")?,
            unk_token: vocabulary.named_by(gguf, "tokenizer.ggml.unknown_token_id")?,
        };
        let config = TokenizerConfig {
            // Under this name transformers reads tokenizer.json and makes no token type ids,
            // which a llama model would not take.
            tokenizer_class: "GPT2Tokenizer",
            model_max_length: context_length,
            add_bos_token: false,
            add_prefix_space: false,
            clean_up_tokenization_spaces: false,
            special_tokens: special_tokens.clone(),
            chat_template: gguf.string_if_any("tokenizer.chat_template")?.map(str::to_owned),
        };
        let vocab_size = vocabulary.tokens.len();
        let tokenizer_json = vocabulary
            .into_tokenizer()?
            .to_string(false)
            .map_err(|error| anyhow!("cannot write the tokenizer: {error}"))?;
        Ok(Self {
            tokenizer_json,
            config,
            special_tokens,
            vocab_size,
        })
    }

    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// A byte-level BPE vocabulary whose consistency has been checked.
struct Vocabulary {
    /// The tokens; the place of each is its id.
    tokens: Vec<String>,
    /// Those that are found in text before anything else.
    added: Vec<AddedToken>,
    /// The merges, the most urgent first.
    merges: Vec<(String, String)>,
}

impl Vocabulary {
    fn new(tokens: &[&str], kinds: &[i32], merges: &[&str]) -> Result<Self> {
        ensure!(
            tokens.len() == kinds.len(),
            "{} tokens, but {} token types",
            tokens.len(),
            kinds.len()
        );
        let known: HashSet<&str> = tokens.iter().copied().collect();
        ensure!(
            known.len() == tokens.len(),
            "{} tokens are there more than once",
            tokens.len() - known.len()
        );

        let mut added = Vec::new();
        for (id, (&token, &kind)) in tokens.iter().zip(kinds).enumerate() {
            // The numbers are `llama_token_type` of llama.cpp.
            match kind {
                1 | 5 => {} // normal, unused
                // Control tokens are left out of decoded text, user-defined ones are not.
                3 => added.push(AddedToken::from(token, true)),
                4 => added.push(AddedToken::from(token, false).normalized(false)),
                _ => bail!("token {id} ({token:?}) has type {kind}, unknown in byte-level BPE"),
            }
        }

        let mut pairs = Vec::with_capacity(merges.len());
        for &merge in merges {
            // A space inside a token is written as another character, so one space separates.
            let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
            let (left, right) = pair.with_context(|| format!("merge {merge:?} is not two tokens"))?;
            for part in [left, right, &format!("{left}{right}")] {
                ensure!(known.contains(part), "merge {merge:?}: {part:?} is no token");
            }
            pairs.push((left.to_owned(), right.to_owned()));
        }
        Ok(Self {
            tokens: tokens.iter().map(|&token| token.to_owned()).collect(),
            added,
            merges: pairs,
        })
    }

    /// The token whose id the metadata gives under `key`, if it does.
    fn named_by(&self, gguf: &Gguf, key: &str) -> Result<Option<String>> {
        let Some(id) = gguf.id_if_any(key)? else {
            return Ok(None);
        };
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        let token = token.with_context(|| format!("GGUF metadata {key}: no token {id}"))?;
        Ok(Some(token.clone()))
    }

    /// Makes the tokenizer that llama.cpp calls `smollm`: GPT-2's, but every digit stands alone.
    fn into_tokenizer(self) -> Result<Tokenizer> {
        let mut vocab = Vocab::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.into_iter().enumerate() {
            vocab.insert(token, u32::try_from(id).context("too many tokens")?);
        }
        let failed = |error| anyhow!("cannot build the tokenizer: {error}");
        let model = BPE::builder()
            .vocab_and_merges(vocab, self.merges)
            .build()
            .map_err(failed)?;

        let (prefix_space, trim_offsets, use_regex) = (false, true, true);
        let byte_level = ByteLevel::new(prefix_space, trim_offsets, use_regex);
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_pre_tokenizer(Some(Sequence::new(vec![
                PreTokenizerWrapper::Digits(Digits::new(true)),
                PreTokenizerWrapper::ByteLevel(byte_level),
            ])))
            .with_decoder(Some(byte_level));
        let (special, plain): (Vec<_>, Vec<_>) = self.added.into_iter().partition(|t| t.special);
        tokenizer.add_special_tokens(&special);
        tokenizer.add_tokens(&plain);
        Ok(tokenizer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Bytes outside printable ASCII have names of their own in GPT-2's alphabet: Ġ is a space,
    // Ċ a line feed, and é (bytes c3 a9) is written Ã ©.
    const TOKENS: [&str; 16] = [
        "<|end|>", "<tool>", "h", "i", "Ġ", "1", "2", "Ċ", "Ã", "©", "hi", "Ġhi", "12", "Ã©", "'", "s",
    ];
    const KINDS: [i32; 16] = [3, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    const MERGES: [&str; 4] = ["h i", "Ġ hi", "1 2", "Ã ©"];

    fn tokenizer() -> Tokenizer {
        let vocabulary = Vocabulary::new(&TOKENS, &KINDS, &MERGES).expect("consistent");
        let built = vocabulary.into_tokenizer().expect("built");
        // Through its JSON, since that is what others will load.
        let json = built.to_string(false).expect("written");
        json.parse().expect("read back")
    }

    fn encode(text: &str) -> Vec<u32> {
        let encoding = tokenizer().encode(text, true).expect("encoded");
        encoding.get_ids().to_vec()
    }

    #[test]
    fn text_becomes_the_expected_tokens() {
        assert_eq!(encode("hi hi"), [10, 11]);
        assert_eq!(encode(" hi"), [11], "a leading space is kept, and none is added");
        assert_eq!(encode("12"), [5, 6], "digits stay apart although 12 is a token");
        assert_eq!(encode("hi\né's"), [10, 7, 13, 14, 15]);
        assert_eq!(encode("hi<|end|>hi<tool>"), [10, 0, 10, 1]);
    }

    #[test]
    fn decoding_gives_the_text_back_and_leaves_control_tokens_out() {
        let text = "  hi 12\n\nhié<tool>";
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.decode(&encode(text), true).expect("decoded"), text);
        let ended = encode("hi<|end|>");
        assert_eq!(tokenizer.decode(&ended, true).expect("decoded"), "hi");
        assert_eq!(tokenizer.decode(&ended, false).expect("decoded"), "hi<|end|>");
    }

    #[test]
    fn inconsistent_vocabularies_are_refused() {
        let refused = |tokens: &[&str], kinds: &[i32], merges: &[&str]| match Vocabulary::new(tokens, kinds, merges) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        assert_eq!(refused(&["a"], &[1, 1], &[]), "1 tokens, but 2 token types");
        assert_eq!(refused(&["a", "a"], &[1, 1], &[]), "1 tokens are there more than once");
        let unknown = refused(&["a"], &[6], &[]);
        assert_eq!(unknown, "token 0 (\"a\") has type 6, unknown in byte-level BPE");
        assert_eq!(
            refused(&["a", "b"], &[1, 1], &["a b"]),
            "merge \"a b\": \"ab\" is no token"
        );
        assert_eq!(refused(&["a"], &[1], &["a"]), "merge \"a\" is not two tokens");
        assert_eq!(refused(&["a"], &[1], &["a a a"]), "merge \"a a a\" is not two tokens");
    }
}
