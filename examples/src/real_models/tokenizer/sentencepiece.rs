//! SentencePiece's BPE tokenizer, as in Gemma: two neighbours are merged if the result is a token, the best score
//! first; a character without a token is spelled in bytes.
//!
//! The tokenizers crate merges by a list of pairs instead of by scores. So every way to cut a token into two tokens
//! becomes a merge, in the order of the scores. transformers' converter makes the same list, except that it also has
//! merges for tokens that are found before merging, which need none.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::Replace;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use super::vocabulary::{TokenType, Vocabulary};

/// SentencePiece's character for a space.
const SPACE: &str = "\u{2581}";

/// A SentencePiece vocabulary whose consistency has been checked.
#[derive(Debug)]
pub struct SentencePieceBpe {
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// The merges, in order of priority.
    merges: Vec<(String, String)>,
}

impl SentencePieceBpe {
    /// Checks tokens, their types and their scores.
    pub fn new(tokens: &[&str], kinds: &[i32], scores: &[f32]) -> Result<Self> {
        let allowed = [
            TokenType::Normal,
            TokenType::Unknown,
            TokenType::Control,
            TokenType::UserDefined,
            TokenType::Byte,
        ];
        // llama.cpp searches for user-defined tokens in plain text, so they contain plain spaces.
        let texts = tokens.iter().map(|token| token.replace(' ', SPACE)).collect();
        let vocabulary = Vocabulary::new(texts, kinds, &allowed, "SentencePiece's BPE")?;
        ensure!(
            tokens.len() == scores.len(),
            "{} tokens, but {} scores",
            tokens.len(),
            scores.len()
        );
        check_bytes(&vocabulary)?;
        let mut merges = merges_of_spaces(&vocabulary)?;
        merges.extend(merges_by_score(&vocabulary, scores)?);
        Ok(Self { vocabulary, merges })
    }

    /// Makes the tokenizer; `bos` goes before every text.
    pub fn into_tokenizer(self, bos: u32, unknown: u32) -> Result<Tokenizer> {
        let text = |id| {
            self.vocabulary
                .text(id)
                .with_context(|| format!("there is no token {id}"))
        };
        let (bos_text, unknown) = (text(bos)?.to_owned(), text(unknown)?.to_owned());
        let failed = |error| anyhow!("cannot build the tokenizer: {error}");
        let model = BPE::builder()
            .vocab_and_merges(self.vocabulary.ids(), self.merges)
            .unk_token(unknown)
            .fuse_unk(true)
            .byte_fallback(true)
            .build()
            .map_err(failed)?;

        let with_bos = before_every_text(&bos_text, bos)
            .map_err(|error| anyhow!("cannot put {bos_text:?} before every text: {error}"))?;
        let spaces = |from, to| Replace::new(from, to).map_err(failed);
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(spaces(" ", SPACE)?))
            .with_post_processor(Some(with_bos))
            .with_decoder(Some(Sequence::new(vec![
                DecoderWrapper::Replace(spaces(SPACE, " ")?),
                DecoderWrapper::ByteFallback(ByteFallback::new()),
                DecoderWrapper::Fuse(Fuse::new()),
            ])));
        self.vocabulary.add_to(&mut tokenizer);
        Ok(tokenizer)
    }
}

fn before_every_text(token: &str, id: u32) -> tokenizers::Result<TemplateProcessing> {
    let piece = |name: &str, sequence: u32| format!("{name}:{sequence}");
    let first = [piece(token, 0), piece("$A", 0)];
    let both = [first.clone(), [piece(token, 1), piece("$B", 1)]].concat();
    let special = SpecialToken::new(token.to_owned(), vec![id], vec![token.to_owned()])?;
    let template = TemplateProcessing::builder()
        .try_single(first.to_vec())?
        .try_pair(both)?
        .special_tokens(vec![special])
        .build()?;
    Ok(template)
}

/// Every byte needs a token, or some texts could not be tokenized.
fn check_bytes(vocabulary: &Vocabulary) -> Result<()> {
    let of_kind = vocabulary.iter().filter(|(_, _, kind)| *kind == TokenType::Byte);
    let found: HashSet<&str> = of_kind.map(|(_, text, _)| text).collect();
    for byte in 0..=u8::MAX {
        let name = format!("<0x{byte:02X}>");
        ensure!(found.contains(name.as_str()), "there is no byte token {name}");
    }
    match found.len() {
        256 => Ok(()),
        more => bail!("there are {more} byte tokens"),
    }
}

/// Merges that make the longest user-defined run of spaces, before anything else is merged.
///
/// Other user-defined tokens are found in the plain text, these only after spaces are replaced. One merge per length
/// suffices: a run grows from its left end, since longer runs have priority.
fn merges_of_spaces(vocabulary: &Vocabulary) -> Result<Vec<(String, String)>> {
    let mut lengths = Vec::new();
    for (id, text, kind) in vocabulary.iter() {
        if kind == TokenType::UserDefined && text.contains(SPACE) {
            let rest = text.replace(SPACE, "");
            ensure!(
                rest.is_empty(),
                "token {id} ({text:?}): a user-defined token of spaces and other characters is not supported"
            );
            lengths.push(text.chars().count());
        }
    }
    lengths.sort_unstable();
    ensure!(
        lengths.iter().copied().eq(2..lengths.len() + 2),
        "user-defined tokens of {lengths:?} spaces are not supported: a length is missing"
    );
    let merge = |length: usize| (SPACE.repeat(length - 1), SPACE.to_owned());
    Ok(lengths.into_iter().rev().map(merge).collect())
}

/// Merges that make the normal tokens from each other, the best score first.
fn merges_by_score(vocabulary: &Vocabulary, scores: &[f32]) -> Result<Vec<(String, String)>> {
    let mut normal: Vec<(u32, &str, f32)> = Vec::new();
    for ((id, text, kind), &score) in vocabulary.iter().zip(scores) {
        ensure!(score.is_finite(), "token {id} ({text:?}) has the score {score}");
        if kind == TokenType::Normal {
            normal.push((id, text, score));
        }
    }
    normal.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
    let known: HashSet<&str> = normal.iter().map(|&(_, text, _)| text).collect();

    let mut merges = Vec::new();
    let mut last: Option<(u32, f32)> = None;
    for &(id, text, score) in &normal {
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
        if cuts.is_empty() {
            continue;
        }
        // For equal scores SentencePiece takes the leftmost, which a list of pairs cannot express.
        if let Some((other, _)) = last.filter(|&(_, other)| other == score) {
            bail!("tokens {other} and {id} have the same score, {score}");
        }
        last = Some((id, score));
        if let Some(single) = text
            .chars()
            .find(|c| !known.contains(c.encode_utf8(&mut [0; 4]) as &str))
        {
            bail!("token {id} ({text:?}) cannot be merged: {single:?} is not a normal token");
        }
        // Among the merges for one token, the one with the longest left part comes first.
        for at in cuts.into_iter().rev() {
            let (left, right) = text.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
    }
    Ok(merges)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOS: u32 = 1;
    const UNKNOWN: u32 = 2;
    /// The control tokens and the user-defined ones, followed by the bytes.
    const FIRST: [(&str, i32); 7] = [
        ("<eos>", 3),
        ("<bos>", 3),
        ("<unk>", 2),
        ("\n", 4),
        ("\n\n", 4),
        ("  ", 4),
        ("   ", 4),
    ];
    /// The id of the byte 0.
    const BYTES: u32 = 7;
    /// The id of the first of the normal tokens, which are given with the best score first.
    const NORMAL: u32 = BYTES + 256;

    /// Tokens, types and scores of a vocabulary with these normal tokens.
    fn parts(normal: &[&str]) -> (Vec<String>, Vec<i32>, Vec<f32>) {
        let (mut tokens, mut kinds): (Vec<String>, Vec<i32>) =
            FIRST.iter().map(|&(text, kind)| (text.to_owned(), kind)).unzip();
        let mut scores = vec![-1000.0; FIRST.len()];
        for byte in 0..=u8::MAX {
            tokens.push(format!("<0x{byte:02X}>"));
            kinds.push(6);
            scores.push(0.0);
        }
        for (rank, &text) in normal.iter().enumerate() {
            tokens.push(text.to_owned());
            kinds.push(1);
            scores.push(-1.0 - rank as f32);
        }
        (tokens, kinds, scores)
    }

    fn new(tokens: &[String], kinds: &[i32], scores: &[f32]) -> Result<SentencePieceBpe> {
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        SentencePieceBpe::new(&tokens, kinds, scores)
    }

    fn tokenizer(normal: &[&str]) -> Tokenizer {
        let (tokens, kinds, scores) = parts(normal);
        let bpe = new(&tokens, &kinds, &scores).expect("consistent");
        let built = bpe.into_tokenizer(BOS, UNKNOWN).expect("built");
        // Read from its JSON, as other programs will.
        let json = built.to_string(false).expect("written");
        json.parse().expect("read back")
    }

    /// The tokens of `text`, by name, without the initial one.
    fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        let encoding = tokenizer.encode(text, true).expect("encoded");
        let (first, rest) = encoding.get_tokens().split_first().expect("not empty");
        assert_eq!(first, "<bos>");
        rest.to_vec()
    }

    #[test]
    fn the_best_score_is_merged_first() {
        let tokenizer = tokenizer(&["bc", "ab", "abc", "▁a", "a", "b", "c", "▁"]);
        assert_eq!(pieces(&tokenizer, "abc"), ["abc"], "a and bc");
        assert_eq!(pieces(&tokenizer, "abab"), ["ab", "ab"]);
        assert_eq!(
            pieces(&tokenizer, " abc"),
            ["▁", "abc"],
            "bc, then abc, then no ▁a is left"
        );
        assert_eq!(pieces(&tokenizer, " ac a"), ["▁a", "c", "▁a"]);
        assert_eq!(pieces(&tokenizer, "ca"), ["c", "a"], "no space is put before a text");
        let ids = tokenizer.encode("abc", true).expect("encoded");
        assert_eq!(ids.get_ids(), [BOS, NORMAL + 2]);
        let pair = tokenizer.encode(("a", "b"), true).expect("encoded");
        assert_eq!(pair.get_tokens(), ["<bos>", "a", "<bos>", "b"]);
    }

    #[test]
    fn characters_without_a_token_are_spelled_in_bytes() {
        let tokenizer = tokenizer(&["hi", "h", "i", "▁"]);
        assert_eq!(pieces(&tokenizer, "hié"), ["hi", "<0xC3>", "<0xA9>"]);
        assert_eq!(pieces(&tokenizer, "\t"), ["<0x09>"]);
        let ids = tokenizer.encode("😀", false).expect("encoded");
        let bytes: Vec<u32> = "😀".bytes().map(|byte| BYTES + u32::from(byte)).collect();
        assert_eq!(ids.get_ids(), bytes);
        assert!(
            !pieces(&tokenizer, "<0x41>").contains(&"<0x41>".to_owned()),
            "not by name"
        );
    }

    #[test]
    fn added_tokens_are_found_first_and_the_longest_of_them() {
        let tokenizer = tokenizer(&["▁hi", "hi", "h", "i", "▁"]);
        assert_eq!(pieces(&tokenizer, "hi\n\n\nhi"), ["hi", "\n\n", "\n", "hi"]);
        assert_eq!(pieces(&tokenizer, "hi<eos>"), ["hi", "<eos>"]);
        for (spaces, expected) in [
            (1, vec!["▁hi"]),
            (2, vec!["▁▁", "hi"]),
            (3, vec!["▁▁▁", "hi"]),
            (4, vec!["▁▁▁", "▁hi"]),
            (5, vec!["▁▁▁", "▁▁", "hi"]),
            (6, vec!["▁▁▁", "▁▁▁", "hi"]),
        ] {
            let text = format!("{}hi", " ".repeat(spaces));
            assert_eq!(pieces(&tokenizer, &text), expected, "{spaces} spaces");
        }
    }

    #[test]
    fn decoding_gives_the_text_back_and_leaves_control_tokens_out() {
        let text = "  hi é\n\n 😀    hi";
        let tokenizer = tokenizer(&["▁hi", "hi", "h", "i", "▁"]);
        let encoding = tokenizer.encode(text, true).expect("encoded");
        assert_eq!(tokenizer.decode(encoding.get_ids(), true).expect("decoded"), text);
        let all = tokenizer.decode(encoding.get_ids(), false).expect("decoded");
        assert_eq!(all, format!("<bos>{text}"));
    }

    #[test]
    fn inconsistent_vocabularies_are_refused() {
        type Parts = (Vec<String>, Vec<i32>, Vec<f32>);
        let refused = |normal: &[&str], spoil: &dyn Fn(&mut Parts)| {
            let mut parts = parts(normal);
            spoil(&mut parts);
            new(&parts.0, &parts.1, &parts.2).expect_err("refused").to_string()
        };
        let error = refused(&["a"], &|parts| parts.2.truncate(3));
        assert_eq!(error, "264 tokens, but 3 scores");
        let error = refused(&["a"], &|parts| parts.1[263] = 5);
        assert_eq!(error, "token 263 (\"a\") has type 5, unknown in SentencePiece's BPE");
        let error = refused(&["a"], &|parts| parts.2[263] = f32::NAN);
        assert_eq!(error, "token 263 (\"a\") has the score NaN");
        let error = refused(&["ab", "aa", "a", "b"], &|parts| parts.2[264] = -1.0);
        assert_eq!(error, "tokens 263 and 264 have the same score, -1");
        let error = refused(&["ab", "a"], &|_| {});
        assert_eq!(error, "token 263 (\"ab\") cannot be merged: 'b' is not a normal token");
        let error = refused(&["a"], &|parts| parts.1[7 + 0x41] = 1);
        assert_eq!(error, "there is no byte token <0x41>");
        let error = refused(&["a"], &|parts| parts.1[263] = 6);
        assert_eq!(error, "there are 257 byte tokens");
        let error = refused(&["a"], &|parts| parts.0[5] = "    ".to_owned());
        assert!(error.contains("of [3, 4] spaces"), "{error}");
        let error = refused(&["a"], &|parts| parts.0[5] = " x".to_owned());
        assert!(
            error.contains("a user-defined token of spaces and other characters"),
            "{error}"
        );
    }
}
