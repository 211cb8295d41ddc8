//! Numbers that make logits infinite, or leave nothing to sample from.

use serde_json::{Value, json};

use super::draw::{Content, Draw};
use super::{Allowed, Kind};
use crate::traffic::client::merged;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "frequency_penalty",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"frequency_penalty": penalty(draw)})),
    },
    Kind {
        name: "presence_penalty",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"presence_penalty": penalty(draw)})),
    },
    Kind {
        name: "repetition_penalty",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"repetition_penalty": repetition(draw)})),
    },
    Kind {
        name: "temperature 100 with stop strings",
        allowed: Allowed::Answer,
        content: |draw| {
            let stop = stop(draw);
            Content::Completion(json!({"temperature": 100, "stop": stop, "max_tokens": 30}))
        },
    },
    Kind {
        name: "temperature",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"temperature": temperature(draw)})),
    },
    Kind {
        name: "top_p",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"temperature": 1, "top_p": share(draw)})),
    },
    Kind {
        name: "top_k",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(json!({"temperature": 1, "top_k": top_k(draw)})),
    },
    Kind {
        name: "min_p",
        allowed: Allowed::Answer,
        content: |draw| {
            let min_p = share(draw);
            Content::Completion(json!({"temperature": 1, "min_p": min_p, "top_p": 0.5}))
        },
    },
    Kind {
        name: "dry_multiplier",
        allowed: Allowed::Answer,
        content: |draw| Content::Completion(dry(draw)),
    },
    Kind {
        name: "all of sampling at once",
        allowed: Allowed::Answer,
        content: |draw| {
            let fields = json!({
                "frequency_penalty": penalty(draw), "presence_penalty": penalty(draw),
                "repetition_penalty": repetition(draw), "temperature": temperature(draw), "top_p": share(draw),
                "top_k": top_k(draw), "min_p": share(draw), "stop": stop(draw), "logprobs": 20,
            });
            Content::Completion(merged(&fields, &dry(draw)))
        },
    },
    Kind {
        name: "logprobs of all that is ruled out",
        allowed: Allowed::Answer,
        content: |draw| {
            let logprobs = draw.one_of(&[json!(0), json!(20)]);
            Content::Completion(json!({"logprobs": logprobs, "top_k": 1, "temperature": 1}))
        },
    },
    Kind {
        name: "top_logprobs of a chat",
        allowed: Allowed::Answer,
        content: |draw| {
            let top = draw.one_of(&[json!(0), json!(20)]);
            Content::Chat(json!({"logprobs": true, "top_logprobs": top}))
        },
    },
    Kind {
        name: "100,000 logprobs",
        allowed: Allowed::Refusal,
        content: |_| Content::Completion(json!({"logprobs": 100_000})),
    },
    Kind {
        name: "logit_bias",
        allowed: Allowed::Answer,
        content: |draw| {
            let bias = draw.one_of(&[
                json!({"999999999": 100.0}),
                json!({"5": 1e39}),
                json!({"5": -3.4e38, "6": -3.4e38}),
                json!({"x": 1}),
            ]);
            Content::Completion(json!({"logit_bias": bias}))
        },
    },
    Kind {
        name: "stop_token_ids that no model has",
        allowed: Allowed::Answer,
        content: |_| Content::Completion(json!({"stop_token_ids": [999_999_999, 0]})),
    },
    Kind {
        name: "a thousand stop strings",
        allowed: Allowed::Answer,
        content: |_| {
            let stop: Vec<_> = (0..1000).map(|n| format!("{n} é")).collect();
            Content::Completion(json!({"stop": stop, "temperature": 100}))
        },
    },
];

fn penalty(draw: &mut Draw) -> Value {
    draw.one_of(&[json!(-3.4e38), json!(3.4e38), json!(1e39), json!(-2)])
}

fn repetition(draw: &mut Draw) -> Value {
    draw.one_of(&[json!(0), json!(1e-40), json!(3.4e38), json!(-1), json!(1e39)])
}

fn temperature(draw: &mut Draw) -> Value {
    draw.one_of(&[json!(1e-40), json!(1e38), json!(-1), json!(1e308), json!(1e-320)])
}

fn share(draw: &mut Draw) -> Value {
    draw.one_of(&[json!(2), json!(-1), json!(0), json!(5), json!(1e-300)])
}

fn top_k(draw: &mut Draw) -> Value {
    draw.one_of(&[json!(0), json!(1_000_000_000), json!(u64::MAX)])
}

fn stop(draw: &mut Draw) -> Value {
    draw.one_of(&[
        json!(["q"]),
        json!(["é"]),
        json!([""]),
        json!("q"),
        json!([]),
        json!(["q", "é", "z", "\u{fffd}", "\u{1f600}", "e", " the ", "\n"]),
    ])
}

fn dry(draw: &mut Draw) -> Value {
    json!({
        "dry_multiplier": draw.one_of(&[json!(3e38), json!(-3e38), json!(0.8)]),
        "dry_base": draw.one_of(&[json!(3e38), json!(0), json!(-1), json!(1.75)]),
        "dry_allowed_length": draw.one_of(&[json!(0), json!(1), json!(1_000_000_000)]),
        "dry_sequence_breakers": draw.one_of(&[json!([]), json!([""]), json!(["é"]), json!(["\n", "the"])]),
    })
}
