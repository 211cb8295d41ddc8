//! Specs that overflow, and specs that never repeat.

use rand::Rng;
use serde_json::{Value, json};

use super::draw::{HostileBody, HostileDraw};
use super::kind::{AllowedReply, HostileKind};

/// Approximate number of prompt tokens that a large spec acts on.
const PROMPT_TOKENS: usize = 400;
/// Positions that every such prompt has.
const POSITIONS: i64 = 250;

pub(super) const KINDS: &[HostileKind] = &[
    HostileKind {
        name: "ablate 3e38",
        allowed: AllowedReply::Refusal,
        content: |draw| steered(draw, &json!({"op": "ablate", "scale": 3e38})),
    },
    HostileKind {
        name: "ablate 1e12 at one layer",
        allowed: AllowedReply::Answer,
        content: |draw| at_one_layer(draw, &json!({"op": "ablate", "scale": 1e12}), "free"),
    },
    HostileKind {
        name: "add 1e6",
        allowed: AllowedReply::RefusalInF16,
        content: |draw| steered(draw, &json!({"scale": 1e6})),
    },
    HostileKind {
        name: "add 1e6, norm preserved",
        allowed: AllowedReply::Answer,
        content: |draw| at_one_layer(draw, &json!({"scale": 1e6}), "preserve"),
    },
    HostileKind {
        name: "add 1e18 at one layer",
        allowed: AllowedReply::RefusalInF16,
        content: |draw| at_one_layer(draw, &json!({"scale": 1e18}), "free"),
    },
    HostileKind {
        name: "set 3e38",
        allowed: AllowedReply::Refusal,
        content: |draw| steered(draw, &json!({"op": "set", "scale": 3e38})),
    },
    HostileKind {
        name: "relative_scale 1e30",
        allowed: AllowedReply::Refusal,
        content: |draw| steered(draw, &json!({"relative_scale": 1e30})),
    },
    HostileKind {
        name: "32 vectors at random positions",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let vectors: Vec<Value> = (0..32).map(|_| scattered(draw)).collect();
            let prompt = draw.text(PROMPT_TOKENS);
            let steering = json!({"vectors": vectors});
            HostileBody::Completion(json!({"prompt": prompt, "steering": steering, "max_tokens": 3}))
        },
    },
    HostileKind {
        name: "33 vectors",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let (vector, _) = draw.vector();
            let vectors = vec![json!({"vector": vector, "scale": 1}); 33];
            HostileBody::Completion(json!({"steering": {"vectors": vectors}}))
        },
    },
    HostileKind {
        name: "all readouts of a long prompt",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let readouts: Vec<Value> = (0..32).map(|_| readout(draw)).collect();
            let prompt = draw.text(PROMPT_TOKENS);
            let steering = json!({"mode": "off", "readout": readouts});
            HostileBody::Completion(json!({"prompt": prompt, "steering": steering, "max_tokens": 3}))
        },
    },
    HostileKind {
        name: "33 readouts",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let readouts: Vec<Value> = (0..33).map(|_| readout(draw)).collect();
            HostileBody::Completion(json!({"steering": {"mode": "off", "readout": readouts}}))
        },
    },
    HostileKind {
        name: "states that the operator does not allow",
        allowed: AllowedReply::Refusal,
        content: |_| {
            let states = json!({"layers": [0, 1, 2, 3, 4], "positions": "all"});
            HostileBody::Completion(json!({"steering": {"mode": "off", "states": states}}))
        },
    },
    HostileKind {
        name: "64 conditions at every token",
        allowed: AllowedReply::Answer,
        content: |draw| conditional(draw, 64),
    },
    HostileKind {
        name: "65 conditions",
        allowed: AllowedReply::Refusal,
        content: |draw| conditional(draw, 65),
    },
    HostileKind {
        name: "nested conditions",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let mut when = test(draw);
            for _ in 0..200 {
                when = json!({"any": [when]});
            }
            steered(draw, &json!({"scale": 1, "when": when}))
        },
    },
    HostileKind {
        name: "a schedule that jumps at every token",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let factors: Vec<f64> = (0..1024).map(|_| draw.rng().random_range(-1.0..1.0)).collect();
            steered(
                draw,
                &json!({"scale": 1, "schedule": {"factors": factors, "repeat": true}}),
            )
        },
    },
    HostileKind {
        name: "a schedule beyond its bounds",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let tokens = draw.one_of(&[json!(-1), json!(1e18), json!(i64::MAX)]);
            steered(
                draw,
                &json!({"scale": 1, "schedule": {"from": 0, "to": 1e300, "tokens": tokens}}),
            )
        },
    },
    HostileKind {
        name: "roles of hundreds of messages",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let roles = ["user", "assistant"];
            let messages: Vec<Value> = (0..200)
                .map(|turn| json!({"role": roles[turn % 2], "content": draw.one_of(&[json!("a"), json!(" "), json!("so")])}))
                .collect();
            let (vector, _) = draw.vector();
            let apply = json!({"prompt": {"roles": ["assistant"], "exclude_roles": ["tool"]}, "generation": "all"});
            let steering = json!({"vectors": [{"vector": vector, "scale": 1, "apply": apply}]});
            HostileBody::Chat(json!({"messages": messages, "steering": steering, "max_tokens": 3}))
        },
    },
    HostileKind {
        name: "roles of a text",
        allowed: AllowedReply::Refusal,
        content: |draw| steered(draw, &json!({"scale": 1, "apply": {"prompt": {"roles": ["user"]}}})),
    },
    HostileKind {
        name: "a change of an unused vector",
        allowed: AllowedReply::Refusal,
        content: |_| {
            let change = json!([{"vector": "nobody", "scale": 1}]);
            HostileBody::Completion(json!({"steering": {"mode": "extend", "change": change}}))
        },
    },
    HostileKind {
        name: "positions beyond the prompt",
        allowed: AllowedReply::Refusal,
        content: |draw| steered(draw, &json!({"scale": 1, "apply": {"prompt": {"positions": [9999]}}})),
    },
    HostileKind {
        name: "a vector that is not there",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Completion(json!({"steering": {"vectors": [{"vector": "nobody", "scale": 1}]}})),
    },
    HostileKind {
        name: "steering of another type",
        allowed: AllowedReply::Refusal,
        content: |draw| {
            let steering = draw.one_of(&[
                json!(7),
                json!("one"),
                json!([]),
                json!({"vectors": 1}),
                json!({"a": 1}),
            ]);
            HostileBody::Completion(json!({"steering": steering}))
        },
    },
];

/// A completion steered with one of the vectors, with these fields.
fn steered(draw: &mut HostileDraw, with: &Value) -> HostileBody {
    let (vector, _) = draw.vector();
    let mut used = with.clone();
    used["vector"] = vector.into();
    HostileBody::Completion(json!({"steering": {"vectors": [used]}}))
}

/// A readout at one of a vector's layers.
fn readout(draw: &mut HostileDraw) -> Value {
    let (vector, layers) = draw.vector();
    let of = draw.one_of(&[json!("projection"), json!("cosine")]);
    let layer = layers[draw.rng().random_range(0..layers.len())];
    json!({"vector": vector, "layer": layer, "of": of})
}

/// A condition at every token, at the first layer of a vector.
fn test(draw: &mut HostileDraw) -> Value {
    let (vector, layers) = draw.vector();
    let above = draw.rng().random_range(-1.0..1.0);
    let first = layers.iter().min();
    json!({"vector": vector, "layer": first, "above": above, "each": "token", "window": 4096, "release": above - 1.0})
}

/// A vector under this many conditions. It acts at its last layer, which is not before any of theirs.
fn conditional(draw: &mut HostileDraw, count: usize) -> HostileBody {
    let tests: Vec<Value> = (0..count).map(|_| test(draw)).collect();
    let (vector, layers) = draw.vector();
    let last = layers.iter().max();
    let used = json!({"vector": vector, "scale": 1, "layers": [last], "when": {"any": tests}});
    HostileBody::Completion(json!({"steering": {"vectors": [used]}}))
}

/// A completion steered at one layer, with a rule for the stream's norm.
fn at_one_layer(draw: &mut HostileDraw, with: &Value, norm: &str) -> HostileBody {
    let (vector, layers) = draw.vector();
    let layer = layers[draw.rng().random_range(0..layers.len())];
    let mut used = with.clone();
    used["vector"] = vector.into();
    used["layers"] = json!([layer]);
    HostileBody::Completion(json!({"steering": {"vectors": [used], "norm": norm}}))
}

/// A use of a vector at positions that no other has.
fn scattered(draw: &mut HostileDraw) -> Value {
    let (vector, _) = draw.vector();
    let op = draw.one_of(&[json!("add"), json!("ablate"), json!("set")]);
    let rng = draw.rng();
    let scale = rng.random_range(0.01..0.5);
    let prompt: Vec<i64> = (0..60).map(|_| rng.random_range(-POSITIONS..POSITIONS)).collect();
    let generation: Vec<u32> = (0..30).map(|_| rng.random_range(0..512)).collect();
    let apply = json!({"prompt": {"positions": prompt}, "generation": {"positions": generation}});
    json!({"vector": vector, "op": op, "scale": scale, "apply": apply})
}
