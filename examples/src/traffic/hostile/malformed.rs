//! Bodies that are no JSON, values of other types, odd characters.

use serde_json::json;

use super::draw::{COMPLETIONS, Content, Draw};
use super::{Allowed, Kind};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "a body that ends early",
        allowed: Allowed::Refusal,
        content: |draw| {
            let mut body = draw.completion().to_string().into_bytes();
            body.truncate(body.len() - 3);
            Content::Raw(COMPLETIONS, body)
        },
    },
    Kind {
        name: "no body",
        allowed: Allowed::Refusal,
        content: |_| Content::Raw(COMPLETIONS, Vec::new()),
    },
    Kind {
        name: "a body that nests",
        allowed: Allowed::Refusal,
        content: |_| Content::Raw(COMPLETIONS, "[".repeat(100_000).into_bytes()),
    },
    Kind {
        name: "bytes that are no UTF-8",
        allowed: Allowed::Refusal,
        content: |draw| with_prompt(draw, b"\"One \xff\xfe day\""),
    },
    Kind {
        name: "half a surrogate",
        allowed: Allowed::Refusal,
        content: |draw| with_prompt(draw, b"\"One \\ud800 day\""),
    },
    Kind {
        name: "a prompt of another type",
        allowed: Allowed::Refusal,
        content: |draw| {
            let prompt = draw.one_of(&[json!(7), json!({}), json!(null), json!([["x"]])]);
            Content::Completion(json!({"prompt": prompt}))
        },
    },
    Kind {
        name: "fields of other types",
        allowed: Allowed::Refusal,
        content: |draw| {
            let fields = draw.one_of(&[
                json!({"n": "many"}),
                json!({"n": -1}),
                json!({"max_tokens": -1}),
                json!({"max_tokens": 1.5}),
                json!({"stop": 7}),
                json!({"stream": "yes"}),
                json!({"top_k": -1}),
                json!({"temperature": "hot"}),
                json!({"model": 7}),
                json!({"grammar": "x"}),
            ]);
            Content::Completion(fields)
        },
    },
    Kind {
        name: "numbers that no double holds",
        allowed: Allowed::Refusal,
        content: |draw| {
            let number = draw.one_of(&[json!("1e999"), json!("-1e999"), json!("9".repeat(10_000)), json!("NaN")]);
            let number = number.as_str().unwrap_or_default();
            let mut fields = draw.completion();
            fields["temperature"] = "@".into();
            let body = fields.to_string().replace("\"@\"", number);
            Content::Raw(COMPLETIONS, body.into_bytes())
        },
    },
    Kind {
        name: "a model that is not served",
        allowed: Allowed::Answer,
        content: |draw| {
            let model = draw.one_of(&[json!("nobody"), json!(""), json!("\u{0}"), json!("../..")]);
            Content::Completion(json!({"model": model}))
        },
    },
    Kind {
        name: "a prompt of odd characters",
        allowed: Allowed::Answer,
        content: |draw| {
            let prompt = draw.one_of(&[
                json!("\u{0}\u{1}\u{7f}\r\n"),
                json!("\u{fffd}\u{feff}\u{202e}\u{10ffff}"),
                json!("👩‍👩‍👧‍👦🏴‍☠️"),
                json!(format!("e{}", "\u{301}".repeat(150))),
                json!("<s></s><pad><|im_end|>"),
                json!(" \n\t "),
            ]);
            Content::Completion(json!({"prompt": prompt}))
        },
    },
    Kind {
        name: "an empty prompt",
        allowed: Allowed::Answer,
        content: |_| Content::Completion(json!({"prompt": ""})),
    },
];

/// A completion whose prompt is written so.
fn with_prompt(draw: &mut Draw, written: &[u8]) -> Content {
    let mut fields = draw.completion();
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("prompt");
    }
    let mut body = b"{\"prompt\":".to_vec();
    body.extend(written);
    body.push(b',');
    body.extend(fields.to_string().bytes().skip(1));
    Content::Raw(COMPLETIONS, body)
}
