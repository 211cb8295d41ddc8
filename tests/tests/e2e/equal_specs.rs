//! What the keys of a spec mean, through the real server: each way of saying something gives the log probabilities of the same
//! steering written out in positions and scales.

use serde_json::{Value, json};
use steermap_examples::traffic::client::{Answer, Client, CompletionOutcome, CompletionRequest, Reply, TokenReadout};
use steermap_tests::{project, with_keys};

use super::operator::{TestServer, start, start_with_default};

const PROMPT: &str = "Now, Mia goes to the cliff with many clever seals. They are mild in the sand, and she";

/// Rounding of float32 in a batch of another shape.
const CLOSE: f64 = 1e-4;

fn answer(tested: &TestServer, max_tokens: usize, steering: Value) -> Answer {
    let request = CompletionRequest {
        steering: Some(steering),
        ..CompletionRequest::new(&tested.model, PROMPT, max_tokens)
    };
    match Client::new(tested.server.url()).complete(&request).unwrap() {
        CompletionOutcome::Whole(answer) => answer,
        other => panic!("{request:?}: {other:?}"),
    }
}

/// The largest difference of log probabilities, infinite where the tokens differ.
fn apart(a: &Answer, b: &Answer) -> f64 {
    let (a, b) = (&a.first.tokens, &b.first.tokens);
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let differences = a.iter().zip(b).map(|(a, b)| {
        if a.text == b.text {
            (a.logprob - b.logprob).abs()
        } else {
            f64::INFINITY
        }
    });
    differences.fold(0.0, f64::max)
}

/// Compares answers to two ways of saying the same, and with the answer to neither.
fn same(tested: &TestServer, max_tokens: usize, a: &Value, b: &Value) {
    let of = |used: &Value| answer(tested, max_tokens, json!({"vectors": [used]}));
    let (first, second) = (of(a), of(b));
    let distance = apart(&first, &second);
    assert!(
        distance < CLOSE,
        "{a} and {b}: {distance}\n{:?}\n{:?}",
        first.first,
        second.first
    );
    let unsteered = answer(tested, max_tokens, json!({"mode": "off"}));
    assert!(apart(&first, &unsteered) > 10.0 * CLOSE, "{a} does nothing");
}

/// The vector `two` with other keys.
fn used(more: Value) -> Value {
    with_keys(json!({"vector": "two", "scale": 40, "layers": [4]}), &more)
}

/// The component of each token of the prompt along `one` after layer 3, without steering.
fn components(tested: &TestServer) -> Vec<f64> {
    let steering = json!({"mode": "off", "readout": [{"vector": "one", "layer": 3, "phase": "prompt"}]});
    let readouts: Vec<TokenReadout> = answer(tested, 1, steering).first.readout;
    let values: Vec<f64> = readouts.iter().map(|readout| readout.values[0].unwrap()).collect();
    assert!(values.len() > 15, "{values:?}");
    values
}

/// The middle between two neighbours of the sorted values, at this share of them: no value is near it.
fn between(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len() as f64) as usize;
    f64::midpoint(sorted[at], sorted[at + 1])
}

fn where_true(holds: impl IntoIterator<Item = bool>) -> Vec<usize> {
    let positions: Vec<usize> = holds
        .into_iter()
        .enumerate()
        .filter_map(|(position, holds)| holds.then_some(position))
        .collect();
    assert!(!positions.is_empty());
    positions
}

#[test]
fn schedules_are_windows_of_the_generation() {
    let tested = start(None, "", &[]);
    let generated = |more: Value| used(with_keys(json!({"apply": {"generation": "all"}}), &more));
    let windows = |places: Value| used(json!({"apply": {"generation": places}}));
    for (schedule, places) in [
        (json!({"factors": [1.0, 0.0]}), json!({"positions": [-1]})),
        (json!({"factors": [0.0, 1.0]}), json!({"windows": [[0]]})),
        (
            json!({"factors": [0.0, 1.0, 0.0], "repeat": true}),
            json!({"positions": [0, 3, 6]}),
        ),
        (json!({"factors": [0.0, 0.0, 1.0, 0.0]}), json!({"positions": [1]})),
    ] {
        same(&tested, 8, &generated(json!({"schedule": schedule})), &windows(places));
    }
    // A ramp of two tokens is a list of its ends.
    same(
        &tested,
        8,
        &generated(json!({"schedule": {"from": 1.0, "to": 0.0, "tokens": 4}})),
        &generated(json!({"schedule": {"factors": [1.0, 0.75, 0.5, 0.25, 0.0]}})),
    );
    // From a token on: the first that is generated, which is chosen without steering.
    let unsteered = answer(&tested, 8, json!({"mode": "off"}));
    let at = 2;
    let trigger = &unsteered.first.tokens[at].text;
    assert!(unsteered.first.tokens[..at].iter().all(|token| token.text != *trigger));
    same(
        &tested,
        8,
        &generated(json!({"schedule": {"factors": [1.0], "trigger": trigger}})),
        &windows(json!({"windows": [[at]]})),
    );
}

#[test]
fn conditions_at_each_token_are_positions() {
    let tested = start(None, "", &[]);
    let values = components(&tested);
    let (low, middle, high) = (between(&values, 0.25), between(&values, 0.5), between(&values, 0.75));
    let when = |test: Value| used(json!({"apply": {"prompt": "all"}, "when": test}));
    let each = |more: Value| with_keys(json!({"vector": "one", "layer": 3, "each": "token"}), &more);
    let means: Vec<f64> = (0..values.len())
        .map(|at| {
            let last = &values[at.saturating_sub(2)..=at];
            last.iter().sum::<f64>() / last.len() as f64
        })
        .collect();
    let mean = between(&means, 0.5);
    let mut on = false;
    let kept: Vec<bool> = values
        .iter()
        .map(|value| {
            on = *value > high || (on && *value >= low);
            on
        })
        .collect();
    for (test, holds) in [
        (
            each(json!({"above": middle})),
            values.iter().map(|value| *value > middle).collect::<Vec<_>>(),
        ),
        (
            each(json!({"below": middle})),
            values.iter().map(|value| *value < middle).collect(),
        ),
        (
            json!({"any": [each(json!({"above": high})), each(json!({"below": low}))]}),
            values.iter().map(|value| *value > high || *value < low).collect(),
        ),
        (
            json!({"all": [each(json!({"above": low})), each(json!({"below": high}))]}),
            values.iter().map(|value| *value > low && *value < high).collect(),
        ),
        (
            each(json!({"above": mean, "window": 3})),
            means.iter().map(|value| *value > mean).collect(),
        ),
        (each(json!({"above": high, "release": low})), kept),
    ] {
        let positions = where_true(holds);
        assert!(positions.len() < values.len());
        same(
            &tested,
            1,
            &when(test),
            &used(json!({"apply": {"prompt": {"positions": positions}}})),
        );
    }
}

#[test]
fn a_clamp_beyond_all_components_sets_them_and_one_around_them_does_nothing() {
    let tested = start(None, "", &[]);
    let values = components(&tested);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let one = |more: Value| {
        with_keys(
            json!({"vector": "one", "layers": [3], "apply": {"prompt": "all"}}),
            &more,
        )
    };
    for (bound, value) in [("max", least - 20.0), ("min", most + 20.0)] {
        same(
            &tested,
            1,
            &one(json!({"op": "clamp", bound: value})),
            &one(json!({"op": "set", "scale": value})),
        );
    }
    let around = json!({"vectors": [one(json!({"op": "clamp", "min": least - 1.0, "max": most + 1.0}))]});
    let unsteered = answer(&tested, 4, json!({"mode": "off"}));
    assert!(apart(&answer(&tested, 4, around), &unsteered) < CLOSE);
}

#[test]
fn a_prompt_without_the_tokens_is_not_steered() {
    let tested = start(None, "", &[]);
    let steering = |more: Value| json!({"vectors": [used(json!({"apply": {"prompt": more}}))]});
    let unsteered = answer(&tested, 4, json!({"mode": "off"}));
    let missing = answer(&tested, 4, steering(json!({"tokens": [" gloomy"]})));
    assert!(
        missing
            .fingerprint
            .as_deref()
            .is_some_and(|fingerprint| fingerprint != "none")
    );
    assert!(apart(&missing, &unsteered) < CLOSE);
    let body = json!({
        "model": tested.model, "prompt": PROMPT, "steering": steering(json!({"tokens": [" gloomy"], "required": true})),
    });
    let refused = Client::new(tested.server.url()).post("/v1/completions", &body).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.body);
}

#[test]
fn conditions_that_are_known_late_are_reported() {
    let tested = start(None, "", &[]);
    let late = |layer: usize| {
        let when = json!({"vector": "one", "layer": layer, "above": -1e6});
        let body = json!({
            "model": tested.model, "prompt": PROMPT, "max_tokens": 2,
            "steering": {"vectors": [used(json!({"when": when}))]},
        });
        let reply: Reply = Client::new(tested.server.url()).post("/v1/completions", &body).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json().unwrap()["usage"]["steering"]["late_layers"].clone()
    };
    assert_eq!(late(6), json!([4]));
    assert_eq!(late(3), Value::Null);
}

#[test]
fn a_changed_default_is_the_spec_with_the_change() {
    let tested = start_with_default(136.0, None, "");
    let whole = |more: Value| {
        let used = with_keys(json!({"vector": "mood", "map": "across"}), &more);
        json!({"vectors": [used]})
    };
    let change = |more: Value| {
        let change = with_keys(json!({"vector": "mood"}), &more);
        json!({"mode": "extend", "change": [change]})
    };
    for (changed, spec) in [
        (json!({"scale": 30.0}), json!({"scale": 30.0})),
        (json!({"relative_scale": 0.2}), json!({"relative_scale": 0.2})),
        (json!({"layers": [4]}), json!({"scale": 136.0, "layers": [4]})),
    ] {
        let (a, b) = (
            answer(&tested, 6, change(changed.clone())),
            answer(&tested, 6, whole(spec)),
        );
        assert_eq!(a.fingerprint, b.fingerprint, "{changed}");
        assert!(apart(&a, &b) < CLOSE, "{changed}");
    }
    let dropped = answer(&tested, 6, change(json!({"drop": true})));
    assert!(apart(&dropped, &answer(&tested, 6, json!({"mode": "off"}))) < CLOSE);

    let tested = start_with_default(136.0, None, "[steering]\nper_request = \"extend\"\n");
    let body = json!({"model": tested.model, "prompt": PROMPT, "steering": change(json!({"scale": 30.0}))});
    let refused = Client::new(tested.server.url()).post("/v1/completions", &body).unwrap();
    assert_eq!(refused.status, 403, "{}", refused.body);
}

#[test]
fn scales_in_standard_deviations_and_the_best_layer_are_those_of_the_file() {
    let tested = start(Some("open_on_loopback = true\nuploads = true"), "", &[]);
    let client = Client::new(tested.server.url());
    let pairs = std::fs::read_to_string(project("examples/family/concepts/topic.pairs.jsonl")).unwrap();
    let pairs: Vec<Value> = pairs
        .lines()
        .take(24)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let body = json!({
        "name": "sea", "model": "default", "pairs": pairs, "position": "mean", "neutral": true,
    });
    let found = client.post("/v1/steering/vectors", &body).unwrap();
    assert_eq!(found.status, 200, "{}", found.body);
    let best = found.json().unwrap()["found"]["proposed"].clone();
    let layer = best[0].as_u64().unwrap();
    let toml = client.get("/v1/steering/vectors/sea").unwrap().body;
    let file: toml::Table = toml.parse().unwrap();
    let std = file["layer"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["layer"].as_integer() == Some(layer as i64))
        .unwrap()["neutral_std"]
        .as_float()
        .unwrap();
    let of = |more: Value| with_keys(json!({"vector": "sea"}), &more);
    same(
        &tested,
        6,
        &of(json!({"std_scale": 3.0, "layers": "best"})),
        &of(json!({"scale": 3.0 * std, "layers": [layer]})),
    );
    let check = |layers: &str| {
        let body = json!({"model": "default", "steering": {"vectors": [of(json!({"scale": 1, "layers": layers}))]}});
        let checked = client.post("/v1/steering/check", &body).unwrap();
        assert_eq!(checked.status, 200, "{}", checked.body);
        let layers = checked.json().unwrap()["vectors"][0]["layers"].clone();
        let layers = layers
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["layer"].as_u64().unwrap());
        layers.collect::<Vec<_>>()
    };
    assert_eq!(check("best"), [layer]);
    assert_eq!(check("0.0"), [0]);
    assert_eq!(check("1.0"), [7]);
    assert_eq!(check("2-3,1.0"), [2, 3, 7]);
}
