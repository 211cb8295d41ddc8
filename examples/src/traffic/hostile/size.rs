//! More answers, tokens and text than fit.

use rand::Rng;
use serde_json::json;

use super::draw::{HostileBody, HostileDraw};
use super::kind::{AllowedReply, HostileKind};

pub(super) const KINDS: &[HostileKind] = &[
    HostileKind {
        name: "n = 400",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Completion(json!({"n": 400})),
    },
    HostileKind {
        name: "n = 0",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Completion(json!({"n": 0, "stream": false})),
    },
    HostileKind {
        name: "n = 16, one of which may fail",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let penalty = draw.one_of(&[json!(1e-38), json!(1)]);
            HostileBody::Completion(json!({"n": 16, "temperature": 3, "repetition_penalty": penalty}))
        },
    },
    HostileKind {
        name: "many prompts",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let prompts: Vec<_> = (0..12).map(|_| draw.text(40)).collect();
            HostileBody::Completion(json!({"prompt": prompts, "n": 4, "seed": 3, "temperature": 1}))
        },
    },
    HostileKind {
        name: "prompts, one of which may fail",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let last = draw.one_of(&[json!(""), json!("Once"), json!("word ".repeat(4000))]);
            HostileBody::Completion(json!({"prompt": ["One day", "Tom", last], "max_tokens": 40}))
        },
    },
    HostileKind {
        name: "100 prompts",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Completion(json!({"prompt": vec!["One day"; 100]})),
    },
    HostileKind {
        name: "unknown token ids",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let prompt = draw.one_of(&[json!([1_000_000]), json!([[1, 2], [4_294_967_295u32]])]);
            HostileBody::Completion(json!({"prompt": prompt, "stream": false}))
        },
    },
    HostileKind {
        name: "best_of",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let best_of = draw.one_of(&[json!(0), json!(1), json!(3), json!(400)]);
            HostileBody::Completion(json!({"best_of": best_of, "n": 2}))
        },
    },
    HostileKind {
        name: "max_tokens = 0",
        allowed: AllowedReply::Answer,
        content: |_| HostileBody::Completion(json!({"max_tokens": 0})),
    },
    HostileKind {
        name: "max_tokens = 1e9",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let prompt = draw.text(draw.context() / 2);
            HostileBody::Completion(json!({"prompt": prompt, "max_tokens": 1_000_000_000}))
        },
    },
    HostileKind {
        name: "a prompt that fills the context",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let context = draw.context();
            let tokens = draw.rng().random_range(context - 30..=context + 5);
            HostileBody::Completion(json!({"prompt": draw.text(tokens), "max_tokens": 60}))
        },
    },
    HostileKind {
        name: "a prompt beyond the context",
        allowed: AllowedReply::Refusal,
        content: |draw| HostileBody::Completion(json!({"prompt": beyond(draw), "stream": false})),
    },
    HostileKind {
        name: "a prompt beyond the context, cut",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"prompt": beyond(draw), "truncate_sequence": true})),
    },
    HostileKind {
        name: "a prompt that is cut to nothing",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let prompt = beyond(draw);
            HostileBody::Completion(json!({"prompt": prompt, "truncate_sequence": true, "max_tokens": 1_000_000_000}))
        },
    },
    HostileKind {
        name: "a prompt of 3 MB",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let prompt = megabytes(draw);
            HostileBody::Completion(json!({"prompt": prompt}))
        },
    },
    HostileKind {
        name: "a message of 3 MB",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let text = megabytes(draw);
            HostileBody::Chat(json!({"messages": [{"role": "user", "content": text}]}))
        },
    },
    HostileKind {
        name: "suffix and echo",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let suffix = draw.text(40);
            HostileBody::Completion(json!({"suffix": suffix, "echo": true, "logprobs": 3}))
        },
    },
];

/// A prompt of several times the context, short enough to be tokenized.
fn beyond(draw: &mut HostileDraw) -> String {
    draw.text(5 * draw.context())
}

fn megabytes(draw: &mut HostileDraw) -> String {
    let text = draw.text(500);
    text.repeat(3_000_000 / text.len())
}
