//! GPT-2's tokenizer: merges of byte pairs, in an alphabet in which every byte is a character.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use super::vocabulary::{TokenType, Vocabulary};

/// A byte-level BPE vocabulary whose consistency has been checked.
pub struct ByteLevelBpe {
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// The merges, in order of priority.
    merges: Vec<(String, String)>,
}

impl ByteLevelBpe {
    /// Checks tokens, their types and the merges (two tokens separated by a space).
    pub fn new(tokens: &[&str], kinds: &[i32], merges: &[&str]) -> Result<Self> {
        let allowed = [
            TokenType::Normal,
            TokenType::Unused,
            TokenType::Control,
            TokenType::UserDefined,
        ];
        let texts = tokens.iter().map(|&token| token.to_owned()).collect();
        let vocabulary = Vocabulary::new(texts, kinds, &allowed, "byte-level BPE")?;

        let known: HashSet<&str> = tokens.iter().copied().collect();
        let mut pairs = Vec::with_capacity(merges.len());
        for &merge in merges {
            // A space inside a token is written as another character, so the first space separates the tokens.
            let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
            let (left, right) = pair.with_context(|| format!("merge {merge:?} is not two tokens"))?;
            for part in [left, right, &format!("{left}{right}")] {
                ensure!(known.contains(part), "merge {merge:?}: {part:?} is not a token");
            }
            pairs.push((left.to_owned(), right.to_owned()));
        }
        Ok(Self {
            vocabulary,
            merges: pairs,
        })
    }

    /// Makes the tokenizer that llama.cpp calls `smollm`: GPT-2's with every digit separate.
    pub fn into_tokenizer(self) -> Result<Tokenizer> {
        let model = BPE::builder()
            .vocab_and_merges(self.vocabulary.ids(), self.merges)
            .build()
            .map_err(|error| anyhow!("cannot build the tokenizer: {error}"))?;

        let (prefix_space, trim_offsets, use_regex) = (false, true, true);
        let byte_level = ByteLevel::new(prefix_space, trim_offsets, use_regex);
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_pre_tokenizer(Some(Sequence::new(vec![
                PreTokenizerWrapper::Digits(Digits::new(true)),
                PreTokenizerWrapper::ByteLevel(byte_level),
            ])))
            .with_decoder(Some(byte_level));
        self.vocabulary.add_to(&mut tokenizer);
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
        let bpe = ByteLevelBpe::new(&TOKENS, &KINDS, &MERGES).expect("consistent");
        let built = bpe.into_tokenizer().expect("built");
        // Read from its JSON, as other programs will.
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
        let refused = |tokens: &[&str], kinds: &[i32], merges: &[&str]| match ByteLevelBpe::new(tokens, kinds, merges) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        assert_eq!(refused(&["a"], &[1, 1], &[]), "1 tokens, but 2 token types");
        assert_eq!(refused(&["a", "a"], &[1, 1], &[]), "1 tokens are there more than once");
        let unknown = refused(&["a"], &[6], &[]);
        assert_eq!(unknown, "token 0 (\"a\") has type 6, unknown in byte-level BPE");
        assert_eq!(
            refused(&["a", "b"], &[1, 1], &["a b"]),
            "merge \"a b\": \"ab\" is not a token"
        );
        assert_eq!(refused(&["a"], &[1], &["a"]), "merge \"a\" is not two tokens");
        assert_eq!(refused(&["a"], &[1], &["a a a"]), "merge \"a a a\" is not two tokens");
    }
}
