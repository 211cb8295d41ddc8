//! Specs that overflow, and ones that are never the same twice.

use rand::Rng;
use serde_json::{Value, json};

use super::draw::{Content, Draw};
use super::{Allowed, Kind};

/// Tokens of the prompt that a large spec acts on, more or less.
const PROMPT_TOKENS: usize = 400;
/// Positions that every such prompt has.
const POSITIONS: i64 = 250;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "ablate 3e38",
        allowed: Allowed::Refusal,
        content: |draw| steered(draw, &json!({"op": "ablate", "scale": 3e38})),
    },
    Kind {
        name: "ablate 1e12 at one layer",
        allowed: Allowed::Answer,
        content: |draw| at_one_layer(draw, &json!({"op": "ablate", "scale": 1e12}), "free"),
    },
    Kind {
        name: "add 1e6",
        allowed: Allowed::RefusalInF16,
        content: |draw| steered(draw, &json!({"scale": 1e6})),
    },
    Kind {
        name: "add 1e6, norm preserved",
        allowed: Allowed::Answer,
        content: |draw| at_one_layer(draw, &json!({"scale": 1e6}), "preserve"),
    },
    Kind {
        name: "add 1e18 at one layer",
        allowed: Allowed::RefusalInF16,
        content: |draw| at_one_layer(draw, &json!({"scale": 1e18}), "free"),
    },
    Kind {
        name: "set 3e38",
        allowed: Allowed::Refusal,
        content: |draw| steered(draw, &json!({"op": "set", "scale": 3e38})),
    },
    Kind {
        name: "relative_scale 1e30",
        allowed: Allowed::Refusal,
        content: |draw| steered(draw, &json!({"relative_scale": 1e30})),
    },
    Kind {
        name: "32 vectors at random positions",
        allowed: Allowed::Answer,
        content: |draw| {
            let vectors: Vec<Value> = (0..32).map(|_| scattered(draw)).collect();
            let prompt = draw.text(PROMPT_TOKENS);
            let steering = json!({"vectors": vectors});
            Content::Completion(json!({"prompt": prompt, "steering": steering, "max_tokens": 3}))
        },
    },
    Kind {
        name: "33 vectors",
        allowed: Allowed::Refusal,
        content: |draw| {
            let (vector, _) = draw.vector();
            let vectors = vec![json!({"vector": vector, "scale": 1}); 33];
            Content::Completion(json!({"steering": {"vectors": vectors}}))
        },
    },
    Kind {
        name: "positions beyond the prompt",
        allowed: Allowed::Refusal,
        content: |draw| steered(draw, &json!({"scale": 1, "apply": {"prompt": {"positions": [9999]}}})),
    },
    Kind {
        name: "a vector that is not there",
        allowed: Allowed::Refusal,
        content: |_| Content::Completion(json!({"steering": {"vectors": [{"vector": "nobody", "scale": 1}]}})),
    },
    Kind {
        name: "steering that is none",
        allowed: Allowed::Refusal,
        content: |draw| {
            let steering = draw.one_of(&[
                json!(7),
                json!("one"),
                json!([]),
                json!({"vectors": 1}),
                json!({"a": 1}),
            ]);
            Content::Completion(json!({"steering": steering}))
        },
    },
];

/// A completion steered with one of the vectors, used so.
fn steered(draw: &mut Draw, with: &Value) -> Content {
    let (vector, _) = draw.vector();
    let mut used = with.clone();
    used["vector"] = vector.into();
    Content::Completion(json!({"steering": {"vectors": [used]}}))
}

/// The same at one of its layers, with a rule for the stream's norm.
fn at_one_layer(draw: &mut Draw, with: &Value, norm: &str) -> Content {
    let (vector, layers) = draw.vector();
    let layer = layers[draw.rng().random_range(0..layers.len())];
    let mut used = with.clone();
    used["vector"] = vector.into();
    used["layers"] = json!([layer]);
    Content::Completion(json!({"steering": {"vectors": [used], "norm": norm}}))
}

/// A use of a vector at positions that no other has.
fn scattered(draw: &mut Draw) -> Value {
    let (vector, _) = draw.vector();
    let op = draw.one_of(&[json!("add"), json!("ablate"), json!("set")]);
    let rng = draw.rng();
    let scale = rng.random_range(0.01..0.5);
    let prompt: Vec<i64> = (0..60).map(|_| rng.random_range(-POSITIONS..POSITIONS)).collect();
    let generation: Vec<u32> = (0..30).map(|_| rng.random_range(0..512)).collect();
    let apply = json!({"prompt": {"positions": prompt}, "generation": {"positions": generation}});
    json!({"vector": vector, "op": op, "scale": scale, "apply": apply})
}
