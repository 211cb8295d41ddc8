//! Numbers that make logits infinite, or leave nothing to sample from.

use serde_json::{Value, json};

use super::draw::{HostileBody, HostileDraw};
use super::kind::{AllowedReply, HostileKind};
use crate::traffic::client::merged;

pub(super) const KINDS: &[HostileKind] = &[
    HostileKind {
        name: "frequency_penalty",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"frequency_penalty": penalty(draw)})),
    },
    HostileKind {
        name: "presence_penalty",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"presence_penalty": penalty(draw)})),
    },
    HostileKind {
        name: "repetition_penalty",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"repetition_penalty": repetition(draw)})),
    },
    HostileKind {
        name: "temperature 100 with stop strings",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let stop = stop(draw);
            HostileBody::Completion(json!({"temperature": 100, "stop": stop, "max_tokens": 30}))
        },
    },
    HostileKind {
        name: "temperature",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"temperature": temperature(draw)})),
    },
    HostileKind {
        name: "top_p",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"temperature": 1, "top_p": share(draw)})),
    },
    HostileKind {
        name: "top_k",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(json!({"temperature": 1, "top_k": top_k(draw)})),
    },
    HostileKind {
        name: "min_p",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let min_p = share(draw);
            HostileBody::Completion(json!({"temperature": 1, "min_p": min_p, "top_p": 0.5}))
        },
    },
    HostileKind {
        name: "dry_multiplier",
        allowed: AllowedReply::Answer,
        content: |draw| HostileBody::Completion(dry(draw)),
    },
    HostileKind {
        name: "all sampling parameters at once",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let fields = json!({
                "frequency_penalty": penalty(draw), "presence_penalty": penalty(draw),
                "repetition_penalty": repetition(draw), "temperature": temperature(draw), "top_p": share(draw),
                "top_k": top_k(draw), "min_p": share(draw), "stop": stop(draw), "logprobs": 20,
            });
            HostileBody::Completion(merged(&fields, &dry(draw)))
        },
    },
    HostileKind {
        name: "logprobs of tokens that are ruled out",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let logprobs = draw.one_of(&[json!(0), json!(20)]);
            HostileBody::Completion(json!({"logprobs": logprobs, "top_k": 1, "temperature": 1}))
        },
    },
    HostileKind {
        name: "top_logprobs of a chat",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let top = draw.one_of(&[json!(0), json!(20)]);
            HostileBody::Chat(json!({"logprobs": true, "top_logprobs": top}))
        },
    },
    HostileKind {
        name: "100,000 logprobs",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Completion(json!({"logprobs": 100_000})),
    },
    HostileKind {
        name: "logit_bias",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let bias = draw.one_of(&[
                json!({"999999999": 100.0}),
                json!({"5": 1e39}),
                json!({"5": -3.4e38, "6": -3.4e38}),
                json!({"x": 1}),
            ]);
            HostileBody::Completion(json!({"logit_bias": bias}))
        },
    },
    HostileKind {
        name: "unknown stop_token_ids",
        allowed: AllowedReply::Answer,
        content: |_| HostileBody::Completion(json!({"stop_token_ids": [999_999_999, 0]})),
    },
    HostileKind {
        name: "a thousand stop strings",
        allowed: AllowedReply::Answer,
        content: |_| {
            let stop: Vec<_> = (0..1000).map(|n| format!("{n} é")).collect();
            HostileBody::Completion(json!({"stop": stop, "temperature": 100}))
        },
    },
];

fn penalty(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[json!(-3.4e38), json!(3.4e38), json!(1e39), json!(-2)])
}

fn repetition(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[json!(0), json!(1e-40), json!(3.4e38), json!(-1), json!(1e39)])
}

fn temperature(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[json!(1e-40), json!(1e38), json!(-1), json!(1e308), json!(1e-320)])
}

fn share(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[json!(2), json!(-1), json!(0), json!(5), json!(1e-300)])
}

fn top_k(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[json!(0), json!(1_000_000_000), json!(u64::MAX)])
}

fn stop(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[
        json!(["q"]),
        json!(["é"]),
        json!([""]),
        json!("q"),
        json!([]),
        json!(["q", "é", "z", "\u{fffd}", "\u{1f600}", "e", " the ", "\n"]),
    ])
}

fn dry(draw: &mut HostileDraw) -> Value {
    json!({
        "dry_multiplier": draw.one_of(&[json!(3e38), json!(-3e38), json!(0.8)]),
        "dry_base": draw.one_of(&[json!(3e38), json!(0), json!(-1), json!(1.75)]),
        "dry_allowed_length": draw.one_of(&[json!(0), json!(1), json!(1_000_000_000)]),
        "dry_sequence_breakers": draw.one_of(&[json!([]), json!([""]), json!(["é"]), json!(["\n", "the"])]),
    })
}
