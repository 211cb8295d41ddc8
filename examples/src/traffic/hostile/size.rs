//! More answers, tokens and text than fit.

use rand::Rng;
use serde_json::json;

use super::draw::{Content, Draw};
use super::{Allowed, Kind};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "n = 400",
        allowed: Allowed::Refusal,
        content: |_| Content::Completion(json!({"n": 400})),
    },
    Kind {
        name: "n = 0",
        allowed: Allowed::Refusal,
        content: |_| Content::Completion(json!({"n": 0, "stream": false})),
    },
    Kind {
        name: "n = 16, one of which may fail",
        allowed: Allowed::Answer,
        content: |draw| {
            let penalty = draw.one_of(&[json!(1e-38), json!(1)]);
            Content::Completion(json!({"n": 16, "temperature": 3, "repetition_penalty": penalty}))
        },
    },
    Kind {
        name: "many prompts",
        allowed: Allowed::Answer,
        content: |draw| {
            let prompts: Vec<_> = (0..12).map(|_| draw.text(40)).collect();
            Content::Completion(json!({"prompt": prompts, "n": 4, "seed": 3, "temperature": 1}))
        },
    },
    Kind {
        name: "prompts, one of which may fail",
        allowed: Allowed::Answer,
        content: |draw| {
            let last = draw.one_of(&[json!(""), json!("Once"), json!("word ".repeat(4000))]);
            Content::Completion(json!({"prompt": ["One day", "Tom", last], "max_tokens": 40}))
        },
    },
    Kind {
        name: "100 prompts",
        allowed: Allowed::Refusal,
        content: |_| Content::Completion(json!({"prompt": vec!["One day"; 100]})),
    },
    Kind {
        name: "tokens that no model has",
        allowed: Allowed::Refusal,
        content: |draw| {
            let prompt = draw.one_of(&[json!([1_000_000]), json!([[1, 2], [4_294_967_295u32]])]);
            Content::Completion(json!({"prompt": prompt, "stream": false}))
        },
    },
    Kind {
        name: "best_of",
        allowed: Allowed::Answer,
        content: |draw| {
            let best_of = draw.one_of(&[json!(0), json!(1), json!(3), json!(400)]);
            Content::Completion(json!({"best_of": best_of, "n": 2}))
        },
    },
    Kind {
        name: "max_tokens = 0",
        allowed: Allowed::Answer,
        content: |_| Content::Completion(json!({"max_tokens": 0})),
    },
    Kind {
        name: "max_tokens = 1e9",
        allowed: Allowed::Answer,
        content: |draw| {
            let prompt = draw.text(draw.context() / 2);
            Content::Completion(json!({"prompt": prompt, "max_tokens": 1_000_000_000}))
        },
    },
    Kind {
        name: "a prompt that fills the context",
        allowed: Allowed::Answer,
        content: |draw| {
            let context = draw.context();
            let tokens = draw.rng().random_range(context - 30..=context + 5);
            Content::Completion(json!({"prompt": draw.text(tokens), "max_tokens": 60}))
        },
    },
    Kind {
        name: "a prompt beyond the context",
        allowed: Allowed::Refusal,
        content: |draw| Content::Completion(json!({"prompt": beyond(draw), "stream": false})),
    },
    Kind {
        name: "a prompt beyond the context, cut",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"prompt": beyond(draw), "truncate_sequence": true})),
    },
    Kind {
        name: "a prompt that is cut to nothing",
        allowed: Allowed::Answer,
        content: |draw| {
            let prompt = beyond(draw);
            Content::Completion(json!({"prompt": prompt, "truncate_sequence": true, "max_tokens": 1_000_000_000}))
        },
    },
    Kind {
        name: "a prompt of 3 MB",
        allowed: Allowed::Refusal,
        content: |draw| {
            let prompt = megabytes(draw);
            Content::Completion(json!({"prompt": prompt}))
        },
    },
    Kind {
        name: "a message of 3 MB",
        allowed: Allowed::Refusal,
        content: |draw| {
            let text = megabytes(draw);
            Content::Chat(json!({"messages": [{"role": "user", "content": text}]}))
        },
    },
    Kind {
        name: "suffix and echo",
        allowed: Allowed::Answer,
        content: |draw| {
            let suffix = draw.text(40);
            Content::Completion(json!({"suffix": suffix, "echo": true, "logprobs": 3}))
        },
    },
];

/// A prompt of several times the context, which is not too long to be tokenised.
fn beyond(draw: &mut Draw) -> String {
    draw.text(5 * draw.context())
}

fn megabytes(draw: &mut Draw) -> String {
    let text = draw.text(500);
    text.repeat(3_000_000 / text.len())
}
