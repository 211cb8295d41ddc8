//! Tokenizers made here, so that every case is known: bytes with merges as GPT-2 has them, and pieces with byte fallback
//! as SentencePiece has them.

use serde_json::json;

use super::*;

mod kinds;
mod oracle;
mod reads;
mod recipes;

/// A byte-level BPE with these merges beside the 256 bytes; a BOS if asked.
pub(crate) fn byte_level(merges: &[(&str, &str)], bos: bool) -> Tokenizer {
    let (model, bos_id) = byte_level_model(merges);
    tokenizer(
        model,
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true}),
        serde_json::Value::Null,
        bos.then_some(bos_id),
    )
}

/// The model of a byte-level BPE, and the id of a BOS. The id behind it is free for an added token.
fn byte_level_model<S: AsRef<str>>(merges: &[(S, S)]) -> (serde_json::Value, usize) {
    let mut alphabet: Vec<String> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .map(String::from)
        .collect();
    alphabet.sort();
    let joined = |(a, b): &(S, S)| format!("{}{}", a.as_ref(), b.as_ref());
    alphabet.extend(merges.iter().map(joined));
    let bos = alphabet.len();
    alphabet.push("<s>".into());
    let spaced: Vec<String> = merges
        .iter()
        .map(|(a, b)| format!("{} {}", a.as_ref(), b.as_ref()))
        .collect();
    (
        json!({"type": "BPE", "vocab": vocabulary(&alphabet), "merges": spaced}),
        bos,
    )
}

/// Tokens with their ids, from 0 on.
fn vocabulary(tokens: &[String]) -> serde_json::Map<String, serde_json::Value> {
    tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect()
}

/// Pieces with a `▁` before every word, the rest by bytes.
pub(crate) fn pieces(pieces: &[&str], merges: &[(&str, &str)], bos: bool) -> Tokenizer {
    let mut tokens = vec!["<unk>".to_string(), "<s>".into()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(pieces.iter().map(|piece| piece.to_string()));
    let merges: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
    tokenizer(
        json!({"type": "BPE", "vocab": vocabulary(&tokens), "merges": merges, "unk_token": "<unk>",
               "byte_fallback": true, "fuse_unk": true}),
        serde_json::Value::Null,
        json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]}),
        bos.then_some(1),
    )
}

fn tokenizer(
    model: serde_json::Value,
    pre_tokenizer: serde_json::Value,
    normalizer: serde_json::Value,
    bos: Option<usize>,
) -> Tokenizer {
    let post = bos.map(template).unwrap_or_default();
    build(model, normalizer, pre_tokenizer, post, json!([]))
}

/// A post-processor that puts a BOS before a text.
fn template(bos: usize) -> serde_json::Value {
    json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}},
    })
}

/// A tokenizer of these parts, each as `tokenizer.json` has it.
fn build(
    model: serde_json::Value,
    normalizer: serde_json::Value,
    pre_tokenizer: serde_json::Value,
    post_processor: serde_json::Value,
    added_tokens: serde_json::Value,
) -> Tokenizer {
    let text = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": null,
        "model": model,
    });
    text.to_string().parse().unwrap()
}

fn texts<'a>(text: &'a str, pairing: &Pairing) -> Vec<&'a str> {
    let mut start = 0;
    pairing
        .pairs
        .iter()
        .map(|pair| {
            let part = &text[start..pair.end];
            start = pair.end;
            part
        })
        .collect()
}

fn pair(a: &Tokenizer, b: &Tokenizer, text: &str) -> (TokenizedText, TokenizedText, Pairing) {
    let (a, b) = (
        TokenizedText::new(a, text).unwrap(),
        TokenizedText::new(b, text).unwrap(),
    );
    let pairing = pair_positions(&a, &b);
    // What always holds: ends agree, both sides ascend, and every token is accounted for.
    for p in &pairing.pairs {
        assert_eq!((a.ends[p.source], b.ends[p.target]), (Some(p.end), Some(p.end)));
        assert!(text.is_char_boundary(p.end));
    }
    assert!(
        pairing
            .pairs
            .windows(2)
            .all(|w| w[0].source < w[1].source && w[0].target < w[1].target)
    );
    let total = 2 * pairing.pairs.len() + pairing.unmatched_source + pairing.unmatched_target + pairing.special;
    assert_eq!(total, a.ids.len() + b.ids.len());
    (a, b, pairing)
}

const CASES: [&str; 8] = [
    "the cat",
    "  two leading spaces",
    "naïve café — 12€",
    "日本語のテキスト",
    "a👩‍👩‍👧b 🙂",
    "line\n\nbreaks\tand tabs \n",
    "e\u{301}xtra combining",
    "x",
];

#[test]
fn equal_tokenizers_pair_one_to_one() {
    for text in CASES {
        let ascii = text.is_ascii();
        let tokenizer = byte_level(&[("t", "h"), ("th", "e"), ("Ġ", "c")], false);
        let (a, _, pairing) = pair(&tokenizer, &tokenizer, text);
        let expected: Vec<usize> = (0..a.ids.len())
            .filter(|&i| ascii || a.reach.get(i + 1) != Some(&a.reach[i]))
            .collect();
        assert_eq!(
            pairing.pairs.iter().map(|p| p.source).collect::<Vec<_>>(),
            expected,
            "{text}"
        );
        assert!(pairing.pairs.iter().all(|p| p.source == p.target));
    }
}

#[test]
fn a_bos_on_one_side_shifts_the_pairs() {
    let (plain, bos) = (byte_level(&[], false), byte_level(&[], true));
    let (_, _, pairing) = pair(&plain, &bos, "abc");
    let positions: Vec<_> = pairing.pairs.iter().map(|p| (p.source, p.target)).collect();
    assert_eq!(positions, [(0, 1), (1, 2), (2, 3)]);
    assert_eq!(
        (pairing.special, pairing.unmatched_source, pairing.unmatched_target),
        (1, 0, 0)
    );
}

#[test]
fn merged_tokens_pair_at_their_end() {
    let merged = byte_level(&[("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t")], false);
    let (_, _, pairing) = pair(&byte_level(&[], false), &merged, "the cat");
    assert_eq!(texts("the cat", &pairing), ["the", " cat"]);
    assert_eq!(pairing.unmatched_source, 5);
}

#[test]
fn the_bytes_of_a_character_pair_at_the_last() {
    // The euro sign is three bytes: positions 0 to 2 on the left, one token on the right.
    let right = pieces(&["▁", "€", "▁€", "a"], &[("▁", "€")], true);
    let (left, right, pairing) = pair(&byte_level(&[], false), &right, "€a");
    assert_eq!(left.ids.len(), 4);
    assert_eq!(right.ids.len(), 3);
    let positions: Vec<_> = pairing.pairs.iter().map(|p| (p.source, p.target, p.end)).collect();
    assert_eq!(positions, [(2, 1, 3), (3, 2, 4)]);
    assert_eq!((pairing.unmatched_source, pairing.special), (2, 1));
}

#[test]
fn byte_fallback_pairs_at_the_last_byte() {
    let fallback = pieces(&["▁", "a", "b"], &[], false);
    let (_, right, pairing) = pair(&byte_level(&[], false), &fallback, "a🙂b");
    // The emoji is four bytes on both sides.
    assert_eq!(texts("a🙂b", &pairing), ["a", "🙂", "b"]);
    assert!(right.ids.len() >= 6, "{right:?}");
}

#[test]
fn leading_spaces_belong_to_the_word_that_ends() {
    let spm = pieces(
        &["▁", "t", "h", "e", "▁t", "▁th", "▁the"],
        &[("▁", "t"), ("▁t", "h"), ("▁th", "e")],
        true,
    );
    let gpt = byte_level(&[("t", "h"), ("th", "e"), ("Ġ", "the")], false);
    let (_, _, pairing) = pair(&gpt, &spm, "the the");
    assert_eq!(texts("the the", &pairing), ["the", " the"]);
}

#[test]
fn all_cases_pair_between_all_tokenizers() {
    let all = [
        byte_level(&[], false),
        byte_level(&[("t", "h"), ("th", "e"), ("Ġ", "c")], true),
        pieces(&["▁", "a", "b", "c", "e", "t", "n"], &[], false),
        pieces(&["▁", "a", "n", "x", "▁x", "é", "本"], &[("▁", "x")], true),
    ];
    for text in CASES {
        for a in &all {
            for b in &all {
                let (_, _, pairing) = pair(a, b, text);
                // The whole text always ends in both.
                assert_eq!(pairing.pairs.last().map(|p| p.end), Some(text.len()), "{text}");
            }
        }
    }
}
