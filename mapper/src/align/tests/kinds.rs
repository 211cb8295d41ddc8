//! What offsets get wrong, case by case.

use serde_json::{Value, json};

use super::*;

/// A byte-level BPE with a normaliser and a post-processor.
fn bytes_with(merges: &[(&str, &str)], normalizer: Value, post_processor: Value) -> Tokenizer {
    let pre_tokenizer =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    build(
        byte_level_model(merges).0,
        normalizer,
        pre_tokenizer,
        post_processor,
        json!([]),
    )
}

fn normalized(form: &str) -> Tokenizer {
    bytes_with(&[], json!({"type": form}), Value::Null)
}

/// A WordPiece of single characters, which lower-cases and drops control characters.
fn words() -> Tokenizer {
    let tokens = ["[UNK]", "a", "##a", "b", "##b", "c", "##c"].map(String::from);
    build(
        json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
               "max_input_chars_per_word": 5, "vocab": vocabulary(&tokens)}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
               "lowercase": true}),
        json!({"type": "BertPreTokenizer"}),
        Value::Null,
        json!([]),
    )
}

fn ends(tokenizer: &Tokenizer, text: &str) -> Vec<Option<usize>> {
    TokenizedText::new(tokenizer, text).unwrap().ends
}

/// The texts between the pairs of two tokenizers.
fn pieces_of<'a>(a: &Tokenizer, b: &Tokenizer, text: &'a str) -> Vec<&'a str> {
    texts(text, &pair(a, b, text).2)
}

#[test]
fn composed_characters_end_behind_their_marks() {
    let (plain, composed) = (byte_level(&[], false), normalized("NFC"));
    assert_eq!(ends(&composed, "e\u{301}x"), [None, Some(3), Some(4)]);
    assert_eq!(
        pieces_of(&plain, &composed, "e\u{301}xe\u{301}"),
        ["e\u{301}", "x", "e\u{301}"]
    );
    // Conjoining jamo become one syllable, and a mark below is sorted before one above.
    assert_eq!(
        pieces_of(&plain, &composed, "\u{1100}\u{1161}\u{11a8}a"),
        ["\u{1100}\u{1161}\u{11a8}", "a"]
    );
    assert_eq!(
        pieces_of(&plain, &composed, "o\u{302}\u{323}a"),
        ["o\u{302}\u{323}", "a"]
    );
}

#[test]
fn a_token_that_ends_inside_a_character_has_no_end() {
    let (plain, decomposed) = (byte_level(&[], false), normalized("NFD"));
    assert_eq!(ends(&decomposed, "éx"), [None, None, Some(2), Some(3)]);
    assert_eq!(pieces_of(&plain, &decomposed, "éx각"), ["é", "x", "각"]);
    // Marks change places, so there is nothing to cut at between them.
    assert_eq!(
        ends(&decomposed, "a\u{301}\u{323}b"),
        [Some(1), None, None, None, Some(5), Some(6)]
    );
}

#[test]
fn compatible_forms_have_one_end() {
    let (plain, compatible) = (byte_level(&[], false), normalized("NFKC"));
    assert_eq!(pieces_of(&plain, &compatible, "ﬁ…Ａㄱㅏ"), ["ﬁ", "…", "Ａ", "ㄱㅏ"]);
}

#[test]
fn a_token_that_ends_inside_the_next_character_has_no_end() {
    // The end of one character and the beginning of the next.
    let merged = byte_level(&[("©", "Ã")], false);
    assert_eq!(ends(&merged, "éé"), [None, None, Some(4)]);
}

#[test]
fn trimmed_offsets_are_not_used() {
    let merges = [("Ċ", "Ġ"), ("ĊĠ", "Ġ")];
    let trim = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let trimmed = bytes_with(&merges, Value::Null, trim);
    let plain = byte_level(&merges, false);
    for text in ["a\n  b", "a  ", " \n a", "\n\n\n"] {
        assert_eq!(ends(&trimmed, text), ends(&plain, text), "{text:?}");
    }
}

#[test]
fn a_prefix_space_has_read_nothing() {
    let spm = pieces(&["▁", "a", "b"], &[], true);
    let tokens = TokenizedText::new(&spm, "ab a").unwrap();
    // BOS, the prefix, a, b, a space, a: the prefix isn't special, and has no end.
    assert_eq!(tokens.ends, [None, None, Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(tokens.reach, [None, Some(1), Some(1), Some(2), Some(3), Some(4)]);
    let pairing = pair_positions(&tokens, &TokenizedText::new(&byte_level(&[], false), "ab a").unwrap());
    assert_eq!(
        (pairing.pairs.len(), pairing.unmatched_source, pairing.special),
        (4, 1, 1)
    );
}

#[test]
fn white_space_that_is_dropped_belongs_to_no_token() {
    let plain = byte_level(&[], false);
    assert_eq!(ends(&words(), " ab \n C"), [Some(2), Some(3), Some(7)]);
    assert_eq!(pieces_of(&plain, &words(), "a b "), ["a", " b"]);
}

#[test]
fn it_is_open_what_the_token_before_dropped_characters_has_read() {
    assert_eq!(ends(&words(), "a\u{1}bc"), [None, Some(3), Some(4)]);
    assert_eq!(ends(&words(), "a\u{301}bc"), [None, Some(4), Some(5)]);
    // Composed, there is only one place.
    assert_eq!(ends(&words(), "ábc"), [Some(2), Some(3), Some(4)]);
}

#[test]
fn an_alignment_that_lost_count_is_not_used() {
    // SentencePiece's normaliser, as it is here, aligns all behind a character that it drops at the start one too early.
    let charsmap = json!({"type": "Precompiled", "precompiled_charsmap": include_str!("charsmap.txt").trim()});
    let bytes = bytes_with(&[], charsmap.clone(), Value::Null);
    assert_eq!(ends(&bytes, "abc"), [Some(1), Some(2), Some(3)]);
    assert_eq!(ends(&bytes, "\u{1}aaab"), [None, None, None, Some(5)]);
    // Longer than what is tried as one: nothing is known from the start, and nothing from the end.
    let long = format!("\u{1}{}", "a".repeat(40));
    assert_eq!(ends(&bytes, &long), [None; 40]);
    assert_eq!(ends(&bytes, &format!("{long}b")), [None; 41]);
    let tokens = ["<unk>", "▁", "a"].map(String::from);
    let pieces = build(
        json!({"type": "BPE", "vocab": vocabulary(&tokens), "merges": [], "unk_token": "<unk>"}),
        charsmap,
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false}),
        Value::Null,
        json!([]),
    );
    // The first space is the text's own: no prefix was put before it.
    assert_eq!(ends(&pieces, "\u{1}   "), [None, None, Some(4)]);
    assert_eq!(ends(&pieces, &format!("\u{1}{}", " ".repeat(40))), [None; 40]);
}

#[test]
fn what_a_normaliser_does_by_context_is_not_cut() {
    let normalizer = json!({"type": "Replace", "pattern": {"Regex": "(?<=a)b"}, "content": "c"});
    let tokenizer = bytes_with(&[], normalizer, Value::Null);
    assert_eq!(ends(&tokenizer, "xbabx"), [Some(1), Some(2), None, None, Some(5)]);
}

#[test]
fn an_unknown_token_ends_where_its_text_does() {
    assert_eq!(ends(&words(), "ab xyz a"), [Some(1), Some(2), Some(6), Some(8)]);
    assert_eq!(ends(&words(), "aaaaaa b"), [Some(6), Some(8)]);
}

#[test]
fn tokens_in_the_wrong_order_are_in_no_pair() {
    // A BPE puts an unknown token behind the bytes of the character that follows it.
    let tokens = ["<unk>", "a", "b", "<0xC3>", "<0xA9>"].map(String::from);
    let model = json!({"type": "BPE", "vocab": vocabulary(&tokens), "merges": [], "unk_token": "<unk>",
                       "byte_fallback": true});
    let split = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false});
    let tokenizer = build(model, Value::Null, split, Value::Null, json!([]));
    let tokens = TokenizedText::new(&tokenizer, "a☃éb").unwrap();
    assert_eq!(tokens.ids, [1, 3, 4, 0, 2]);
    assert_eq!(tokens.ends, [None; 5]);
    // What the pre-tokenizer has cut off is not concerned.
    let tokens = TokenizedText::new(&tokenizer, "é ☃é b").unwrap();
    assert_eq!(tokens.ids, [3, 4, 0, 3, 4, 0, 0, 2]);
    assert_eq!(
        tokens.ends,
        [None, Some(2), Some(3), None, None, None, Some(9), Some(10)]
    );
}

#[test]
fn characters_that_the_model_drops_take_their_piece_along() {
    let tokens = ["a", "b"].map(String::from);
    let model = json!({"type": "BPE", "vocab": vocabulary(&tokens), "merges": []});
    let split = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false});
    let tokenizer = build(model, Value::Null, split, Value::Null, json!([]));
    assert_eq!(ends(&tokenizer, "ab acb b"), [Some(1), Some(2), None, None, Some(8)]);
}

#[test]
fn added_tokens_have_the_text_that_they_take() {
    let added = |special: bool, strips: bool, normalized: bool| {
        json!([{"id": 257, "content": "<End>", "single_word": false, "lstrip": strips, "rstrip": strips,
                "normalized": normalized, "special": special}])
    };
    let lower = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]});
    let pre_tokenizer =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let model = || byte_level_model::<&str>(&[]).0;
    for (added, text, expected) in [
        (
            added(true, false, false),
            "a <End>b",
            vec![Some(1), Some(2), Some(7), Some(8)],
        ),
        (added(true, true, false), "a <End>  b", vec![Some(1), Some(9), Some(10)]),
        // The text is lower-cased before it is looked for.
        (
            added(false, false, true),
            "a <END>b",
            vec![Some(1), Some(2), Some(7), Some(8)],
        ),
        // What stands at an added token isn't composed with what is behind it.
        (
            added(true, false, false),
            "e<End>\u{301}",
            vec![Some(1), Some(6), None, Some(8)],
        ),
    ] {
        let tokenizer = build(model(), lower.clone(), pre_tokenizer.clone(), Value::Null, added);
        let tokens = TokenizedText::new(&tokenizer, text).unwrap();
        assert!(tokens.ids.contains(&257), "{tokens:?}");
        assert_eq!(tokens.ends, expected, "{text:?}");
    }
}

#[test]
fn what_is_cut_off_or_padded_is_followed() {
    for (direction, expected) in [("Right", [Some(1), Some(2)]), ("Left", [Some(3), Some(4)])] {
        let mut tokenizer = byte_level(&[], true);
        let json: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
        let mut json = json.as_object().unwrap().clone();
        json["truncation"] = json!({"direction": direction, "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 5}, "direction": "Right", "pad_to_multiple_of": null,
                                 "pad_id": 7, "pad_type_id": 0, "pad_token": "<pad>"});
        tokenizer = Value::from(json).to_string().parse().unwrap();
        let tokens = TokenizedText::new(&tokenizer, "abcd").unwrap();
        assert_eq!(tokens.ids, tokenizer.encode("abcd", true).unwrap().get_ids());
        assert_eq!(tokens.ends, [None, expected[0], expected[1], None, None], "{direction}");
        assert_eq!(tokens.special(), 3);
    }
}

#[test]
fn a_text_that_brings_its_bos_gets_no_second() {
    let (model, bos) = byte_level_model::<&str>(&[]);
    let added = json!([{"id": bos, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": true}]);
    let pre_tokenizer =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = build(model, Value::Null, pre_tokenizer, template(bos), added);
    let bos = bos as u32;
    let tokens = TokenizedText::new(&tokenizer, "<s>a").unwrap();
    assert_eq!((tokens.ids[0], tokens.ids.len()), (bos, 2));
    assert_eq!(tokens.ends, [Some(3), Some(4)]);
    assert_eq!(TokenizedText::new(&tokenizer, "a<s>").unwrap().ids.len(), 3);
}

#[test]
fn recorded_tokens_pair_as_new_ones_do() {
    let text = "naïve 🙂 e\u{301}";
    let (plain, composed) = (byte_level(&[], true), normalized("NFC"));
    let (a, b, pairing) = pair(&plain, &composed, text);
    let recorded = |tokens: &TokenizedText| {
        let special: Vec<bool> = tokens.reach.iter().map(|reach| reach.is_none()).collect();
        TokenizedText::recorded(tokens.ids.clone(), tokens.ends.clone(), &special)
    };
    assert_eq!(pair_positions(&recorded(&a), &recorded(&b)), pairing);
    // Offsets as they come: a BOS at 0, three tokens for one character, one that goes back.
    let ends = [0, 1, 4, 4, 4, 6, 5].map(Some).to_vec();
    let others = TokenizedText::recorded(vec![0; 7], ends, &[true, false, false, false, false, false, false]);
    assert_eq!(others.ends, [None, Some(1), None, None, Some(4), None, Some(5)]);
    assert_eq!(others.special(), 1);
}

#[test]
fn an_empty_text_has_no_ends() {
    assert_eq!(
        TokenizedText::new(&byte_level(&[], false), "").unwrap(),
        TokenizedText::default()
    );
    let bos = TokenizedText::new(&byte_level(&[], true), "").unwrap();
    assert_eq!((bos.ends, bos.reach), (vec![None], vec![None]));
}

#[test]
fn an_error_names_the_beginning_of_the_text() {
    let model = json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"});
    let tokenizer = build(model, Value::Null, Value::Null, Value::Null, json!([]));
    let error = TokenizedText::new(&tokenizer, &"b".repeat(1000))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("{:?}", "b".repeat(60))) && error.len() < 200,
        "{error}"
    );
}

#[test]
fn long_runs_of_marks_and_of_composed_characters_are_read() {
    let composed = normalized("NFC");
    // 40 marks on a letter are more than are joined one by one.
    let stacked = format!("a{}b", "\u{323}\u{301}".repeat(20));
    let last = TokenizedText::new(&composed, &stacked).unwrap().ends.split_off(1);
    assert_eq!(last.last(), Some(&Some(stacked.len())));
    assert_eq!(last[last.len() - 2], Some(stacked.len() - 1));
    let syllables = "\u{1112}\u{1161}\u{11ab}".repeat(5000);
    let ends: Vec<usize> = ends(&composed, &syllables).into_iter().flatten().collect();
    assert_eq!(ends, (1..=5000).map(|count| count * 9).collect::<Vec<_>>());
}

#[test]
fn every_byte_of_a_text_has_its_letter() {
    for (letter, byte) in oracle::ALPHABET.iter() {
        // These are in no text.
        if !matches!(byte, 0xc0 | 0xc1 | 0xf5..) {
            assert_eq!(content::ALPHABET[usize::from(*byte)], *letter, "{byte}");
        }
    }
    assert_eq!(oracle::ALPHABET.len(), 256);
}
