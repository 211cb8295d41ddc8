//! Tokenizers of every kind, made here.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};
use tokenizers::NormalizedString;

use super::oracle::{ADDED, ALPHABET, FRAGMENTS, NamedTokenizer, Written};
use super::{build, byte_level_model, template, vocabulary};

/// All of them.
pub(super) static TOKENIZERS: LazyLock<Vec<NamedTokenizer>> =
    LazyLock::new(|| [byte_levels(), pieces(), words()].into_iter().flatten().collect());

/// One of these, all in a row, or none; `list` is the field of a sequence of them.
fn sequence(list: &str, parts: &[Value]) -> Value {
    match parts {
        [] => Value::Null,
        [one] => one.clone(),
        _ => json!({"type": "Sequence", list: parts}),
    }
}

fn forms() -> [(&'static str, Vec<Value>); 6] {
    let charsmap = include_str!("charsmap.txt").trim();
    [
        ("none", vec![]),
        ("NFC", vec![json!({"type": "NFC"})]),
        ("NFD", vec![json!({"type": "NFD"})]),
        ("NFKC", vec![json!({"type": "NFKC"})]),
        ("NFKD", vec![json!({"type": "NFKD"})]),
        (
            "charsmap",
            vec![json!({"type": "Precompiled", "precompiled_charsmap": charsmap})],
        ),
    ]
}

fn added(id: usize) -> Value {
    json!([{"id": id, "content": ADDED, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true}])
}

fn byte_levels() -> Vec<NamedTokenizer> {
    let letter = |byte: u8| *ALPHABET.iter().find(|(_, of)| **of == byte).unwrap().0;
    let spelt = |text: &[u8]| text.iter().map(|&byte| letter(byte)).collect::<String>();
    // Tokens that end inside characters and begin inside them, too.
    let merges: Vec<(String, String)> = [
        (&b"t"[..], &b"h"[..]),
        (b"th", b"e"),
        (b" ", b"the"),
        (b" ", b" "),
        (b"\r", b"\n"),
        (b"\n", b" "),
        (b"\n", b"\n"),
        (b"e", b"\xcc"),
        (b"\x81", b" "),
        (b"\xcc", b"\xa3"),
        (b"\xe1", b"\x84"),
        (b"\xe1\x84", b"\x80"),
        (b"\xea", b"\xb0"),
        (b"\xf0", b"\x9f"),
        (b"\x9f", b"\x91"),
        (b"\xe2", b"\x80"),
        (b"\x8d", b"\xf0\x9f"),
    ]
    .iter()
    .map(|(a, b)| (spelt(a), spelt(b)))
    .collect();
    let (model, bos) = byte_level_model(&merges);

    let level = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let split = json!({"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\
         \\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}});
    let pre_tokenizers = [
        ("bytes", vec![level(false, true)]),
        ("bytes, prefix", vec![level(true, true)]),
        ("split, bytes", vec![split, level(false, false)]),
        (
            "digits, bytes",
            vec![json!({"type": "Digits", "individual_digits": true}), level(true, true)],
        ),
    ];
    let trim =
        |trim: bool| json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": trim, "use_regex": true});
    let roberta = json!({"type": "RobertaProcessing", "sep": ["<s>", bos], "cls": ["<s>", bos], "trim_offsets": true,
                         "add_prefix_space": false});
    let posts = [
        ("no post", vec![]),
        ("trimmed", vec![trim(true)]),
        ("trimmed, BOS", vec![trim(true), template(bos)]),
        ("untrimmed, BOS", vec![trim(false), template(bos)]),
        ("roberta", vec![roberta]),
    ];
    let mut normalizers: Vec<(&str, Vec<Value>)> = forms().into();
    normalizers.push(("lower", vec![json!({"type": "Lowercase"})]));
    normalizers.push((
        "bytes as normaliser",
        vec![json!({"type": "NFC"}), json!({"type": "ByteLevel"})],
    ));
    let mut tokenizers = Vec::new();
    for (normalizer, parts) in &normalizers {
        for (pre_tokenizer, pre) in &pre_tokenizers {
            for (post_processor, post) in &posts {
                let none = *normalizer == "bytes as normaliser";
                if none && *pre_tokenizer != "bytes" {
                    continue;
                }
                let pre = if none { &[][..] } else { &pre[..] };
                tokenizers.push(NamedTokenizer {
                    name: format!("byte-level BPE, {normalizer}, {pre_tokenizer}, {post_processor}"),
                    tokenizer: build(
                        model.clone(),
                        sequence("normalizers", parts),
                        sequence("pretokenizers", pre),
                        sequence("processors", post),
                        added(bos + 1),
                    ),
                    written: Written::Bytes,
                    strips: false,
                    unknown: None,
                });
            }
        }
    }
    tokenizers
}

/// Every character that a normaliser makes of the fragments, alone or two side by side.
static CHARACTERS: LazyLock<BTreeSet<char>> = LazyLock::new(|| {
    let forms: [fn(&mut NormalizedString) -> &mut NormalizedString; 5] = [
        |text| text,
        |text| text.nfc(),
        |text| text.nfd(),
        |text| text.nfkc(),
        |text| text.nfkd(),
    ];
    let mut chars: BTreeSet<char> = ADDED.chars().collect();
    for form in forms {
        for pair in FRAGMENTS
            .iter()
            .flat_map(|a| FRAGMENTS.iter().map(move |b| format!("{a}{b}")))
        {
            let mut text = NormalizedString::from(pair);
            chars.extend(form(&mut text).get().chars());
            chars.extend(text.lowercase().get().chars());
        }
    }
    chars
});

static PIECES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    "▁t ▁th ▁the th the ▁▁ ▁▁▁ e\u{301} ▁e \u{1100}\u{1161} 日本 e\u{323}"
        .split(' ')
        .chain(["\n\n"])
        .collect()
});

fn pieces() -> Vec<NamedTokenizer> {
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let spaces = || replace(json!({"String": " "}), "▁");
    let prepend = || json!({"type": "Prepend", "prepend": "▁"});
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    let mut pipelines: Vec<(String, Vec<Value>, Vec<Value>, bool)> = Vec::new();
    for (form, parts) in forms() {
        let with = |more: &[Value]| [&parts[..], more].concat();
        let mut add = |name: &str, more: &[Value], pre: &[Value], strips: bool| {
            pipelines.push((format!("{form}, {name}"), with(more), pre.to_vec(), strips));
        };
        add("prepend and replace", &[prepend(), spaces()], &[], false);
        add("replace", &[spaces()], &[], false);
        add("metaspace always", &[], &[metaspace("always", true)], false);
        add("metaspace first, unsplit", &[], &[metaspace("first", false)], false);
        add("metaspace never", &[], &[metaspace("never", true)], false);
        let runs = replace(json!({"Regex": " {2,}"}), " ");
        add(
            "runs of spaces",
            std::slice::from_ref(&runs),
            &[metaspace("always", true)],
            false,
        );
        add(
            "runs of spaces to one ▁",
            &[replace(json!({"Regex": " {2,}"}), "▁")],
            &[metaspace("always", true)],
            false,
        );
        add(
            "nmt, strip and runs of spaces",
            &[
                json!({"type": "Nmt"}),
                json!({"type": "Strip", "strip_left": true, "strip_right": true}),
                runs,
            ],
            &[metaspace("always", true)],
            true,
        );
    }
    let mut tokens: Vec<String> = ["<unk>", "<s>", ADDED].map(String::from).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.push("▁".into());
    tokens.extend(
        CHARACTERS
            .iter()
            .filter(|char| **char != '▁' && **char != ' ')
            .map(char::to_string),
    );
    tokens.extend(PIECES.iter().map(|piece| piece.to_string()));
    let few: Vec<String> = tokens
        .iter()
        .filter(|token| token.is_ascii() || PIECES.contains(&token.as_str()) || token.as_str() == "▁")
        .cloned()
        .collect();
    let merges = |tokens: &[String]| -> Vec<[String; 2]> {
        let mut merges: Vec<[String; 2]> = Vec::new();
        for piece in PIECES.iter() {
            for (at, _) in piece.char_indices().skip(1) {
                let (a, b) = piece.split_at(at);
                if [a, b].iter().all(|part| tokens.iter().any(|token| token == part)) {
                    merges.push([a.into(), b.into()]);
                }
            }
        }
        merges
    };
    let bpe = |tokens: &[String], fallback: bool| {
        let vocab: serde_json::Map<String, Value> = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), json!(id)))
            .collect();
        json!({"type": "BPE", "vocab": vocab, "merges": merges(tokens), "unk_token": "<unk>", "byte_fallback": fallback,
               "fuse_unk": true})
    };
    let unigram = |tokens: &[String], fallback: bool| {
        let vocab: Vec<(&str, f64)> = tokens
            .iter()
            .map(|token| (token.as_str(), -(10.0 - token.chars().count() as f64)))
            .collect();
        json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback})
    };
    let models = [
        ("BPE", bpe(&tokens, false)),
        ("BPE, most by bytes", bpe(&few, true)),
        ("BPE, most unknown", bpe(&few, false)),
        ("Unigram", unigram(&tokens, false)),
        ("Unigram, most by bytes", unigram(&few, true)),
    ];
    let mut tokenizers = Vec::new();
    for (model, value) in &models {
        for (index, (pipeline, normalizer, pre, strips)) in pipelines.iter().enumerate() {
            let bos = index % 2 == 0;
            tokenizers.push(NamedTokenizer {
                name: format!("{model}, {pipeline}{}", if bos { ", BOS" } else { "" }),
                tokenizer: build(
                    value.clone(),
                    sequence("normalizers", normalizer),
                    sequence("pretokenizers", pre),
                    if bos { template(1) } else { Value::Null },
                    added(2),
                ),
                written: Written::Pieces,
                strips: *strips,
                unknown: Some(0),
            });
        }
    }
    tokenizers
}

fn words() -> Vec<NamedTokenizer> {
    let kind = |kind: &str| json!({"type": kind});
    let bert = |chinese: bool, accents: Option<bool>, lower: bool| {
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": chinese, "strip_accents": accents,
               "lowercase": lower})
    };
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    let normalizers = [
        ("none", vec![]),
        ("BERT uncased", vec![bert(true, None, true)]),
        ("BERT cased", vec![bert(true, Some(false), false)]),
        (
            "NFD, lower, accents",
            vec![kind("NFD"), kind("Lowercase"), kind("StripAccents")],
        ),
        ("NFC", vec![kind("NFC")]),
        ("NFKC, lower", vec![kind("NFKC"), kind("Lowercase")]),
        ("NFC, strip", vec![kind("NFC"), strip]),
    ];
    let pre_tokenizers = [
        ("BERT's", kind("BertPreTokenizer")),
        ("words", kind("Whitespace")),
        ("white space", kind("WhitespaceSplit")),
    ];
    let mut tokens: Vec<String> = ["[UNK]", "[CLS]", "[SEP]", ADDED].map(String::from).to_vec();
    for char in CHARACTERS.iter().filter(|char| !char.is_whitespace()) {
        tokens.extend([char.to_string(), format!("##{char}")]);
    }
    tokens.extend(["the", "##the", "th", "cat", "##e\u{301}", "don", "hello"].map(String::from));
    let model = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 100, "vocab": vocabulary(&tokens)});
    let mut tokenizers = Vec::new();
    for (normalizer, parts) in &normalizers {
        for (index, (pre_tokenizer, pre)) in pre_tokenizers.iter().enumerate() {
            let post = json!({"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]});
            tokenizers.push(NamedTokenizer {
                name: format!("WordPiece, {normalizer}, {pre_tokenizer}"),
                tokenizer: build(
                    model.clone(),
                    sequence("normalizers", parts),
                    pre.clone(),
                    if index == 0 { post } else { Value::Null },
                    added(3),
                ),
                written: Written::Words,
                strips: false,
                unknown: Some(0),
            });
        }
    }
    tokenizers
}
