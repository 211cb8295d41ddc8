//! Bodies that are not JSON, values of other types, odd characters.

use serde_json::json;

use super::draw::{COMPLETIONS, HostileBody, HostileDraw};
use super::kind::{AllowedReply, HostileKind};

pub(super) const KINDS: &[HostileKind] = &[
    HostileKind {
        name: "a body that ends early",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let mut body = draw.completion().to_string().into_bytes();
            body.truncate(body.len() - 3);
            HostileBody::Raw(COMPLETIONS, body)
        },
    },
    HostileKind {
        name: "no body",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Raw(COMPLETIONS, Vec::new()),
    },
    HostileKind {
        name: "a body that nests",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Raw(COMPLETIONS, "[".repeat(100_000).into_bytes()),
    },
    HostileKind {
        name: "bytes that are not UTF-8",
        allowed: AllowedReply::Refusal,
        content: |draw| with_prompt(draw, b"\"One \xff\xfe day\""),
    },
    HostileKind {
        name: "half a surrogate",
        allowed: AllowedReply::Refusal,
        content: |draw| with_prompt(draw, b"\"One \\ud800 day\""),
    },
    HostileKind {
        name: "a prompt of another type",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let prompt = draw.one_of(&[json!(7), json!({}), json!(null), json!([["x"]])]);
            HostileBody::Completion(json!({"prompt": prompt}))
        },
    },
    HostileKind {
        name: "fields of other types",
        allowed: AllowedReply::Refusal,
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
            HostileBody::Completion(fields)
        },
    },
    HostileKind {
        name: "numbers beyond a double",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let number = draw.one_of(&[json!("1e999"), json!("-1e999"), json!("9".repeat(10_000)), json!("NaN")]);
            let number = number.as_str().unwrap_or_default();
            let mut fields = draw.completion();
            fields["temperature"] = "@".into();
            let body = fields.to_string().replace("\"@\"", number);
            HostileBody::Raw(COMPLETIONS, body.into_bytes())
        },
    },
    HostileKind {
        name: "a model that is not served",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let model = draw.one_of(&[json!("nobody"), json!(""), json!("\u{0}"), json!("../..")]);
            HostileBody::Completion(json!({"model": model}))
        },
    },
    HostileKind {
        name: "a prompt of odd characters",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let prompt = draw.one_of(&[
                json!("\u{0}\u{1}\u{7f}\r\n"),
                json!("\u{fffd}\u{feff}\u{202e}\u{10ffff}"),
                json!("👩‍👩‍👧‍👦🏴‍☠️"),
                json!(format!("e{}", "\u{301}".repeat(150))),
                json!("<s></s><pad><|im_end|>"),
                json!(" \n\t "),
            ]);
            HostileBody::Completion(json!({"prompt": prompt}))
        },
    },
    HostileKind {
        name: "an empty prompt",
        allowed: AllowedReply::Answer,
        content: |_| HostileBody::Completion(json!({"prompt": ""})),
    },
];

/// A completion whose prompt has these raw bytes.
fn with_prompt(draw: &mut HostileDraw, written: &[u8]) -> HostileBody {
    let mut fields = draw.completion();
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("prompt");
    }
    let mut body = b"{\"prompt\":".to_vec();
    body.extend(written);
    body.push(b',');
    body.extend(fields.to_string().bytes().skip(1));
    HostileBody::Raw(COMPLETIONS, body)
}
