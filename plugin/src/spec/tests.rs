use proptest::prelude::*;
use serde_json::json;
use steermap_maps::OffsetRule;

use super::*;
use crate::testing::{cases, from_json, places};

/// One spec with every key.
const FULL: &str = r#"
conflict = "first"
norm = "preserve"

[[vectors]]
vector = "happy"
map = "small-to-large"
offset = "affine"
op = "set"
scale = -1.5
normalize = true
layers = [3, 1]

[vectors.apply]
generation = "all"

[vectors.apply.prompt]
positions = [0, -1]
windows = [[2, -3], [-2]]
tokens = [17, " cat"]
exclude_positions = [5]
exclude_windows = [[7, 9]]
exclude_tokens = ["\n"]
roles = ["user", "tool"]
exclude_roles = ["assistant"]
required = true

[[vectors]]
vector = "polite"
relative_scale = 0.25
when = { vector = "rude", map = "small-to-large", layer = 4, token = "mean", below = 0.5 }
schedule = { shape = "cosine", from = 1.0, to = -0.5, tokens = 40, trigger = "</think>", before = 0.25 }

[[vectors]]
vector = "dry"
std_scale = 1.5
when = { any = [{ all = [{ vector = "a", layer = 1, each = "token", above = 1.5, release = 0.5, window = 4 }] }, { vector = "b", layer = 2, above = 0.0 }] }
schedule = { factors = [1.0, 0.0], repeat = true }

[[vectors]]
vector = "loud"
op = "clamp"
min = -0.5
max = 2.0
layers = "best,3-5,0.5-0.75"
"#;

fn full() -> SteeringSpec {
    let selection = Selection {
        positions: Some(vec![0, -1]),
        windows: Some(vec![
            Window {
                start: 2,
                end: Some(-3),
            },
            Window { start: -2, end: None },
        ]),
        tokens: Some(vec![TokenRef::Id(17), TokenRef::Text(" cat".into())]),
        exclude_positions: Some(vec![5]),
        exclude_windows: Some(vec![Window { start: 7, end: Some(9) }]),
        exclude_tokens: Some(vec![TokenRef::Text("\n".into())]),
        roles: Some(vec![Role::User, Role::Tool]),
        exclude_roles: Some(vec![Role::Assistant]),
        required: true,
    };
    let apply = Apply {
        prompt: Some(selection.into()),
        generation: Some(Where::All),
    };
    let happy = VectorUse::new("happy", -1.5)
        .through("small-to-large")
        .offset(OffsetRule::Affine)
        .op(Op::Set)
        .at_layers([3, 1])
        .apply(apply);
    let when = Test::below("rude", 4, 0.5).mean().through("small-to-large");
    let fades = Schedule {
        before: Some(0.25),
        ..Schedule::ramp(Shape::Cosine, 1.0, -0.5, 40).after(TokenRef::Text("</think>".into()))
    };
    let polite = VectorUse::relative("polite", 0.25).when(when).schedule(fades);
    let each = Test {
        release: Some(0.5),
        window: Some(4),
        ..Test::above("a", 1, 1.5).each_token()
    };
    let any = When::Any(vec![When::All(vec![each.into()]), When::above("b", 2, 0.0)]);
    let pulses = Schedule {
        repeat: true,
        ..Schedule::listed([1.0, 0.0])
    };
    let dry = VectorUse::deviations("dry", 1.5).when(any).schedule(pulses);
    let mut loud = VectorUse::clamp("loud", Some(-0.5), Some(2.0));
    loud.layers = Some(serde_json::from_value(json!("best,3-5,0.5-0.75")).unwrap());
    SteeringSpec::from(vec![happy, polite, dry, loud])
        .conflict(Conflict::First)
        .norm(NormRule::Preserve)
}

/// What is wrong with a spec of one vector, given as JSON without its name.
fn wrong(vector: serde_json::Value) -> String {
    let mut vector = vector;
    vector["vector"] = json!("v");
    match from_json::<SteeringSpec>(&json!({"vectors": [vector]}), "s.") {
        Ok(spec) => spec.validate("s.").unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

/// As [`wrong`], for a selector of the prompt.
fn wrong_place(selection: serde_json::Value) -> String {
    wrong(json!({"scale": 1, "apply": {"prompt": selection}}))
}

#[test]
fn the_default_is_normalised_and_everywhere() {
    let spec: SteeringSpec = toml::from_str("[[vectors]]\nvector = \"happy\"\nscale = 4").unwrap();
    assert_eq!(spec, VectorUse::new("happy", 4.0).into());
    assert!(spec.validate("").is_ok());
    let used = &spec.vectors[0];
    assert_eq!((used.in_prompt(), used.in_generation()), (&Where::All, &Where::All));
    let used = VectorUse::new("v", 1.0).when(When::above("c", 1, 0.0));
    assert_eq!((used.in_prompt(), used.in_generation()), (&Where::None, &Where::All));
    let used = VectorUse::new("v", 1.0).apply(Apply::prompt(Where::All));
    assert_eq!((used.in_prompt(), used.in_generation()), (&Where::All, &Where::None));
}

#[test]
fn every_key_is_read() {
    let spec: SteeringSpec = toml::from_str(FULL).unwrap();
    assert_eq!(spec, full());
    assert_eq!(spec.validate("").map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn json_and_toml_are_one_schema() {
    let used = VectorUse::new("happy", -1.5).unnormalized().at_layers([3, 1]);
    for spec in [
        full(),
        used.into(),
        VectorUse::ablate("v").into(),
        SteeringSpec::default(),
    ] {
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(from_json::<SteeringSpec>(&json, "").unwrap(), spec);
        let toml = toml::to_string(&spec).unwrap();
        assert_eq!(toml::from_str::<SteeringSpec>(&toml).unwrap(), spec);
        // Read as the other's values, which is what decides whether the two are one.
        assert_eq!(toml::from_str::<serde_json::Value>(&toml).unwrap(), json);
    }
}

#[test]
fn unknown_and_missing_keys_are_errors() {
    for text in [
        "[[vectors]]\nvector = \"happy\"\nscale = 4\nlayer = 3",
        "[[vectors]]\nscale = 4",
        "[[vectors]]\nvector = \"happy\"\nscale = \"4\"",
        "[[vectors]]\nvector = \"happy\"\nscale = 4\nlayers = [-1]",
        "[[vectors]]\nvector = \"happy\"\nscale = 4\nmap = \"m\"\noffset = \"sideways\"",
        "vector = 1",
        "conflict = \"last\"",
        "norm = true",
        "surprise = 1",
    ] {
        assert!(toml::from_str::<SteeringSpec>(text).is_err(), "{text}");
    }
}

#[test]
fn values_of_the_wrong_type_name_their_field() {
    let expected = "expected \"all\", \"none\" or a table of positions, windows, tokens and roles";
    for (vector, message) in [
        (
            json!({"scale": "4"}),
            "s.vectors[0].scale: found string \"4\", expected a number".to_string(),
        ),
        (
            json!({"scale": 1, "apply": {"prompt": "some"}}),
            format!("s.vectors[0].apply.prompt: found string \"some\", {expected}"),
        ),
        (
            json!({"scale": 1, "apply": {"generation": [1]}}),
            format!("s.vectors[0].apply.generation: found a list, {expected}"),
        ),
        (
            json!({"scale": 1, "apply": {"prompt": {"positions": [1.5]}}}),
            "s.vectors[0].apply.prompt.positions[0]: found floating point `1.5`, expected a whole number".to_string(),
        ),
        (
            json!({"scale": 1, "apply": {"prompt": {"tokens": [3, -1]}}}),
            "s.vectors[0].apply.prompt.tokens[1]: found integer `-1`, expected a token's id (0 to 4294967295) or its \
             text"
                .to_string(),
        ),
        (
            json!({"scale": 1, "apply": {"prompt": {"tokens": [4_294_967_296_u64]}}}),
            "s.vectors[0].apply.prompt.tokens[0]: found integer `4294967296`, expected a token's id (0 to 4294967295) \
             or its text"
                .to_string(),
        ),
    ] {
        assert_eq!(wrong(vector), message);
    }
    for windows in [json!([[]]), json!([[1, 2, 3]]), json!([7]), json!([["a"]])] {
        let message = wrong_place(json!({"windows": windows}));
        assert!(message.starts_with("s.vectors[0].apply.prompt.windows[0]"), "{message}");
    }
    let message = wrong_place(json!({"windows": [[1, 2, 3]]}));
    assert!(
        message.ends_with("expected a window of positions: [start, end] or [start]"),
        "{message}"
    );
    let message = wrong_place(json!({"position": [1]}));
    assert!(
        message.starts_with(
            "s.vectors[0].apply.prompt.position: found the unknown key `position`, expected one of `positions`"
        ),
        "{message}"
    );
    let message = from_json::<SteeringSpec>(&json!({"vectors": [{"scale": 1}]}), "s.").unwrap_err();
    assert_eq!(message.to_string(), "s.vectors[0]: found no key `vector`, expected one");
    for list in [json!([]), json!(["off"]), json!("off"), json!(null), json!(7)] {
        let message = from_json::<RequestSteering>(&list, "steering.")
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("steering: found ") && message.ends_with("expected a steering spec: a table"),
            "{message}"
        );
    }
    let lists = json!({"vectors": [["v", null, null, "add", 1.0]]});
    assert_eq!(
        from_json::<SteeringSpec>(&lists, "s.").unwrap_err().to_string(),
        "s.vectors[0]: found a list, expected a vector: a table"
    );
    assert_eq!(
        wrong(json!({"scale": 1, "apply": ["all"]})),
        "s.vectors[0].apply: found a list, expected a table of prompt and generation"
    );
    assert!(toml::from_str::<SteeringSpec>("vectors = [['v']]").is_err());
}

#[test]
fn values_that_can_not_be_right_name_their_field() {
    let bad = |vector: VectorUse| SteeringSpec::from(vector).validate("s.").unwrap_err().to_string();
    assert_eq!(
        bad(VectorUse::new("v", f64::NAN)),
        "s.vectors[0].scale: found NaN, expected a finite 32-bit number"
    );
    assert!(bad(VectorUse::new("v", f64::INFINITY)).contains("scale"));
    assert!(bad(VectorUse::new("v", 1e300)).contains("scale"));
    assert!(bad(VectorUse::relative("v", f64::NEG_INFINITY)).contains("[0].relative_scale: found -inf"));
    assert!(bad(VectorUse::new("v", 1.0).at_layers([])).contains("vectors[0].layers"));
    assert!(bad(VectorUse::new("v", 1.0).at_layers([2, 3, 2])).contains("2 twice"));
    assert!(bad(VectorUse::new("v", 1.0).at_layers(0..4097)).contains("found 4097 layers, expected at most 4096"));
    assert_eq!(
        bad(VectorUse::new("v", 1.0).offset(OffsetRule::Affine)),
        "s.vectors[0].offset: found \"affine\" without a map, expected a map beside it, or no such key"
    );
    for name in ["", "../v", "a/b", ".v", "ä"] {
        assert!(bad(VectorUse::new(name, 1.0)).starts_with("s.vectors[0].vector: found the name"));
        assert!(bad(VectorUse::new("v", 1.0).through(name)).starts_with("s.vectors[0].map: found the name"));
    }
    let long = bad(VectorUse::new("x".repeat(100_000), 1.0));
    assert!(long.contains("(100000 bytes)") && long.len() < 300, "{long}");
    let many = SteeringSpec::from(vec![VectorUse::new("v", 1.0); 33]).validate("s.");
    assert_eq!(
        many.unwrap_err().to_string(),
        "s.vectors: found 33 vectors, expected at most 32"
    );
    assert!(
        SteeringSpec::from(vec![VectorUse::new("v", 1.0); 32])
            .validate("")
            .is_ok()
    );
}

#[test]
fn scales_are_one_of_two_and_fit_the_op() {
    for (vector, message) in [
        (
            json!({}),
            "scale: found neither, expected scale, relative_scale or std_scale",
        ),
        (
            json!({"scale": 1, "relative_scale": 1}),
            "relative_scale: found both, expected either scale, relative_scale or std_scale",
        ),
        (
            json!({"op": "set"}),
            "scale: found neither, expected scale, relative_scale or std_scale",
        ),
        (
            json!({"op": "ablate", "relative_scale": 0.5}),
            "relative_scale: found 0.5 for op = \"ablate\", expected scale, the share that is removed",
        ),
        (
            json!({"relative_scale": 1, "normalize": false}),
            "normalize: found false beside relative_scale, which is that of a direction, expected true or no such key",
        ),
        (
            json!({"op": "ablate", "normalize": false}),
            "normalize: found false beside op = \"ablate\", which uses only the direction, expected true or no \
             such key",
        ),
        (
            json!({"op": "set", "scale": 1, "normalize": false}),
            "normalize: found false beside op = \"set\", which uses only the direction, expected true or no such \
             key",
        ),
    ] {
        assert_eq!(wrong(vector), format!("s.vectors[0].{message}"));
    }
    for vector in [
        VectorUse::ablate("v"),
        VectorUse::new("v", 0.5).op(Op::Ablate),
        VectorUse::new("v", 0.0).op(Op::Set),
        VectorUse::relative("v", 0.5).op(Op::Set),
    ] {
        assert!(SteeringSpec::from(vector).validate("").is_ok());
    }
    assert!(wrong(json!({"op": "cap", "scale": 1})).starts_with("s.vectors[0].op: found `cap`"));
}

#[test]
fn clamps_have_bounds_and_no_scale() {
    for (vector, message) in [
        (json!({"op": "clamp"}), "min: found neither, expected min, max or both"),
        (
            json!({"op": "clamp", "min": 1, "scale": 1}),
            "scale: found 1 for op = \"clamp\", expected min, max or both",
        ),
        (
            json!({"op": "clamp", "min": 1, "relative_scale": 1}),
            "relative_scale: found 1 for op = \"clamp\", expected min, max or both",
        ),
        (
            json!({"op": "clamp", "min": 2, "max": 1}),
            "min: found 2, above max, 1, expected at most 1",
        ),
        (
            json!({"op": "clamp", "max": 1e39}),
            "max: found 1000000000000000000000000000000000000000, expected a finite 32-bit number",
        ),
        (
            json!({"op": "clamp", "max": 1, "normalize": false}),
            "normalize: found false beside op = \"clamp\", which uses only the direction, expected true or no such key",
        ),
        (
            json!({"scale": 1, "max": 1}),
            "max: found 1 beside another op than \"clamp\", expected no such key",
        ),
    ] {
        assert_eq!(wrong(vector), format!("s.vectors[0].{message}"));
    }
    for (min, max) in [(Some(-1.0), None), (None, Some(0.0)), (Some(2.0), Some(2.0))] {
        let spec = SteeringSpec::from(VectorUse::clamp("v", min, max));
        assert!(spec.validate("").is_ok());
        assert_eq!(
            from_json::<SteeringSpec>(&serde_json::to_value(&spec).unwrap(), "").unwrap(),
            spec
        );
    }
}

#[test]
fn layers_are_listed_or_described() {
    for (layers, message) in [
        (
            json!("5-3"),
            "layers: found string \"5-3\", expected a list of layers, ranges such as",
        ),
        (json!("1.5"), "layers: found string \"1.5\""),
        (json!(3), "layers: found integer `3`"),
        (json!([1, 1]), "layers: found 1 twice"),
        (json!([]), "layers: found []"),
        (json!([-1]), "layers[0]: found integer `-1`"),
    ] {
        let found = wrong(json!({"scale": 1, "layers": layers}));
        assert!(found.starts_with(&format!("s.vectors[0].{message}")), "{found}");
    }
}

#[test]
fn selectors_that_select_nothing_are_refused() {
    let at = "s.vectors[0].apply.prompt";
    for name in [
        "positions",
        "windows",
        "tokens",
        "exclude_positions",
        "exclude_windows",
        "exclude_tokens",
    ] {
        let message = wrong_place(json!({name: []}));
        assert_eq!(
            message,
            format!("{at}.{name}: found [], expected at least one entry, or no such key")
        );
    }
    assert!(wrong_place(json!({})).starts_with(&format!("{at}: found {{}}, expected positions")));
    for apply in [
        json!({}),
        json!({"prompt": "none"}),
        json!({"generation": "none", "prompt": "none"}),
    ] {
        let message = wrong(json!({"scale": 1, "apply": apply}));
        assert!(
            message.starts_with("s.vectors[0].apply: found tokens of neither phase"),
            "{message}"
        );
    }
    for window in [[3, 3], [4, 3], [-1, -1], [-1, -2], [-3, 0], [0, 0]] {
        assert_eq!(
            wrong_place(json!({"windows": [[1], window]})),
            format!("{at}.windows[1]: found {window:?}, expected a window with an end after its start")
        );
    }
    assert_eq!(
        wrong_place(json!({"exclude_tokens": [""]})),
        format!("{at}.exclude_tokens[0]: found \"\", expected a token's id or its text")
    );
}

#[test]
fn selectors_have_limits() {
    let message = wrong_place(json!({"positions": vec![1; 1025]}));
    assert!(
        message.contains("positions: found 1025 entries, expected at most 1024"),
        "{message}"
    );
    let message = wrong_place(json!({"tokens": ["x".repeat(1025)]}));
    assert!(message.contains("tokens[0]: found 1025 bytes"), "{message}");
    let message = wrong_place(json!({"positions": [0, 1_i64 << 31]}));
    assert!(
        message.contains("positions[1]: found 2147483648, expected -2147483647 to 2147483647"),
        "{message}"
    );
    let message = wrong_place(json!({"exclude_windows": [[0, i64::MIN]]}));
    assert!(
        message.contains("exclude_windows[0]: found [0, -9223372036854775808]"),
        "{message}"
    );
}

#[test]
fn generated_positions_have_no_end_to_count_from() {
    let generation = |selection| wrong(json!({"scale": 1, "apply": {"generation": selection}}));
    for selection in [json!({"positions": [-2]}), json!({"exclude_positions": [-2]})] {
        let message = generation(selection);
        assert!(
            message.contains("positions[0]: found -2, expected -1, the prompt's last token, or more"),
            "{message}"
        );
    }
    for window in [json!([-2]), json!([1, -2])] {
        let message = generation(json!({"windows": [window]}));
        assert!(
            message.contains("apply.generation.windows[0]: found [") && message.contains("expected -1, the prompt's"),
            "{message}"
        );
    }
    for window in [json!([1, -1]), json!([-1, -1]), json!([0, 0])] {
        let message = generation(json!({"windows": [window]}));
        assert!(
            message.contains("expected a window with an end after its start"),
            "{message}"
        );
    }
    let message = generation(json!({"tokens": [1], "required": true}));
    assert_eq!(
        message,
        "s.vectors[0].apply.generation.required: found true, expected tokens or roles of the prompt beside it, or no such key"
    );
    assert!(wrong_place(json!({"positions": [1], "required": true})).contains(".prompt.required: found true"));
}

#[test]
fn a_generation_may_reach_back_to_the_choice_of_its_first_token() {
    let of = |value: serde_json::Value| {
        let tokens: Where = serde_json::from_value(value).unwrap();
        (tokens.reaches_back(), serde_json::to_value(tokens.generated()).unwrap())
    };
    assert_eq!(of(json!("all")), (true, json!("all")));
    assert_eq!(of(json!("none")), (false, json!("none")));
    assert_eq!(of(json!({"windows": [[0]]})), (false, json!({"windows": [[0]]})));
    assert_eq!(of(json!({"windows": [[-1, 3]]})), (true, json!({"windows": [[0, 3]]})));
    assert_eq!(of(json!({"windows": [[-1, 0]]})), (true, json!("none")));
    assert_eq!(of(json!({"positions": [-1, 2]})), (true, json!({"positions": [2]})));
    assert_eq!(of(json!({"tokens": [5]})), (false, json!({"tokens": [5]})));
    assert_eq!(
        of(json!({"exclude_tokens": [5]})),
        (true, json!({"exclude_tokens": [5]}))
    );
    assert_eq!(
        of(json!({"exclude_positions": [-1, 2]})),
        (false, json!({"exclude_positions": [2]}))
    );
    assert_eq!(of(json!({"exclude_windows": [[-1, 0]]})), (false, json!({})));
}

#[test]
fn conditions_are_decided_after_the_prompt() {
    let when = json!({"vector": "c", "layer": 1, "above": 0});
    let message = wrong(json!({"scale": 1, "when": when, "apply": {"prompt": "all", "generation": "all"}}));
    assert_eq!(
        message,
        "s.vectors[0].apply.prompt: found tokens of the prompt beside `when`, which is decided after the prompt, expected \"none\" \
         or no such key"
    );
    let spec = json!({"vectors": [{"vector": "v", "scale": 1, "when": when, "apply": {"prompt": "none",
        "generation": {"positions": [0]}}}]});
    let spec: SteeringSpec = from_json(&spec, "").unwrap();
    assert!(spec.validate("").is_ok());
    for (when, message) in [
        (
            json!({"vector": "c", "layer": 1}),
            "above: found neither, expected above or below",
        ),
        (
            json!({"vector": "c", "layer": 1, "above": 1, "below": 2}),
            "below: found both, expected either above or below",
        ),
        (
            json!({"vector": "c", "layer": 1, "below": 1e39}),
            "below: found 1000000000000000000000000000000000000000, expected a finite 32-bit number",
        ),
        (
            json!({"vector": "c", "layer": 1, "above": 1, "release": 0}),
            "release: found this key of a test that is decided once, expected each = \"token\" beside it",
        ),
        (
            json!({"vector": "c", "layer": 1, "each": "token", "above": 1, "release": 1.5}),
            "release: found 1.5, expected at most 1, the value of above",
        ),
        (
            json!({"vector": "c", "layer": 1, "each": "token", "below": 1, "release": 0.5}),
            "release: found 0.5, expected at least 1, the value of below",
        ),
        (
            json!({"vector": "c", "layer": 1, "each": "token", "below": 1, "window": 0}),
            "window: found 0, expected 1 to 4096",
        ),
        (
            json!({"vector": "c", "layer": 1, "each": "token", "below": 1, "token": "mean"}),
            "token: found \"mean\" beside each = \"token\", expected no such key; use window for a mean",
        ),
        (json!({"all": []}), "all: found [], expected at least one condition"),
        (
            json!({"any": [{"vector": "c", "layer": 1, "above": 1}, {"all": [{"vector": "c", "layer": 1}]}]}),
            "any[1].all[0].above: found neither, expected above or below",
        ),
        (
            json!({"vector": "c", "layer": -1, "above": 1}),
            "layer: found integer `-1`, expected a whole number, 0 or more",
        ),
    ] {
        assert_eq!(
            wrong(json!({"scale": 1, "when": when})),
            format!("s.vectors[0].when.{message}")
        );
    }
    let deep = (0..9).fold(
        json!({"vector": "c", "layer": 1, "above": 1}),
        |when, _| json!({"all": [when]}),
    );
    let message = wrong(json!({"scale": 1, "when": deep}));
    assert!(
        message.ends_with("found 9 nested lists, expected at most 8"),
        "{message}"
    );
    let many = vec![json!({"vector": "c", "layer": 1, "above": 1}); 65];
    let message = wrong(json!({"scale": 1, "when": {"any": many}}));
    assert_eq!(
        message,
        "s.vectors: found more than 64 tests in `when`, expected at most 64"
    );
    let both = wrong(json!({"scale": 1, "when": {"all": [{"vector": "c", "layer": 1, "above": 1}], "any": []}}));
    assert!(
        both.contains("found the key \"any\" beside all or any, expected no other key"),
        "{both}"
    );
    let message = wrong(json!({"scale": 1, "when": {"vector": "/c", "layer": 1, "above": 1}}));
    assert!(
        message.starts_with("s.vectors[0].when.vector: found the name"),
        "{message}"
    );
}

#[test]
fn schedules_are_a_ramp_or_a_list() {
    let schedule = |value: serde_json::Value| wrong(json!({"scale": 1, "schedule": value}));
    for (value, message) in [
        (
            json!({}),
            "from: found no such key, expected from, to and tokens, or factors",
        ),
        (
            json!({"from": 0, "to": 1}),
            "tokens: found no such key, expected from, to and tokens, or factors",
        ),
        (
            json!({"from": 0, "to": 1.5, "tokens": 3}),
            "to: found 1.5, expected a factor of -1 to 1; for more, raise the scale",
        ),
        (
            json!({"from": 0, "to": 1, "tokens": 0}),
            "tokens: found 0, expected 1 to 2147483647",
        ),
        (
            json!({"factors": []}),
            "factors: found [], expected at least one factor",
        ),
        (
            json!({"factors": [1, -2]}),
            "factors[1]: found -2, expected a factor of -1 to 1; for more, raise the scale",
        ),
        (
            json!({"factors": vec![1; 1025]}),
            "factors: found 1025 factors, expected at most 1024",
        ),
        (
            json!({"factors": [1], "to": 1}),
            "to: found this key beside factors, expected either a ramp or factors",
        ),
        (
            json!({"from": 0, "to": 1, "tokens": 3, "repeat": true}),
            "repeat: found true without factors, expected factors, or no such key",
        ),
        (
            json!({"factors": [1], "before": 0}),
            "before: found this key without trigger, expected a trigger beside it, or no such key",
        ),
        (
            json!({"factors": [1], "trigger": ""}),
            "trigger: found \"\", expected a token's id or its text",
        ),
        (
            json!({"factors": [1], "trigger": 5, "before": 2}),
            "before: found 2, expected a factor of -1 to 1; for more, raise the scale",
        ),
        (
            json!({"shape": "square"}),
            "shape: found `square`, expected `linear` or `cosine`",
        ),
    ] {
        assert_eq!(schedule(value), format!("s.vectors[0].schedule.{message}"));
    }
}

#[test]
fn deviations_are_a_scale_of_their_own() {
    for (used, message) in [
        (
            json!({"scale": 1, "std_scale": 1}),
            "std_scale: found both, expected either scale, relative_scale or std_scale",
        ),
        (
            json!({"op": "ablate", "std_scale": 1}),
            "std_scale: found 1 for op = \"ablate\", expected scale, the share that is removed",
        ),
        (
            json!({"op": "clamp", "max": 1, "std_scale": 1}),
            "std_scale: found 1 for op = \"clamp\", expected min, max or both",
        ),
        (
            json!({"std_scale": 1, "normalize": false}),
            "normalize: found false beside std_scale, which is that of a direction, expected true or no such key",
        ),
    ] {
        assert_eq!(wrong(used), format!("s.vectors[0].{message}"));
    }
}

#[test]
fn only_additions_may_be_turned_round() {
    let schedule = json!({"from": 1, "to": -0.5, "tokens": 3});
    let message = wrong(json!({"op": "ablate", "schedule": schedule}));
    assert_eq!(
        message,
        "s.vectors[0].schedule.to: found -0.5, expected a factor of 0 to 1; for more, raise the scale"
    );
}

#[test]
fn requests_change_and_read() {
    let wrong = |request: serde_json::Value| match from_json::<RequestSteering>(&request, "steering.") {
        Ok(request) => request.validate("steering.").unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    for (request, message) in [
        (
            json!({"readout": []}),
            "readout: found [], expected at least one readout, or no such key",
        ),
        (
            json!({"readout": [{"vector": "/", "layer": 1}]}),
            "readout[0].vector: found the name \"/\"",
        ),
        (
            json!({"readout": [{"vector": "a"}]}),
            "readout[0]: found no key `layer`",
        ),
        (
            json!({"readout": [{"vector": "a", "layer": 1, "of": "angle"}]}),
            "readout[0].of: found `angle`",
        ),
        (
            json!({"readout": vec![json!({"vector": "a", "layer": 1}); 33]}),
            "readout: found 33 readouts, expected at most 32",
        ),
        (
            json!({"states": {"layers": [], "positions": "all"}}),
            "states.layers: found [], expected at least one layer",
        ),
        (
            json!({"states": {"layers": [1, 1], "positions": "all"}}),
            "states.layers: found 1 twice, expected every layer once",
        ),
        (
            json!({"states": {"layers": [1], "positions": []}}),
            "states.positions: found [], expected at least one position",
        ),
        (
            json!({"states": {"layers": [1], "positions": "some"}}),
            "states.positions: found string \"some\", expected \"all\"",
        ),
        (
            json!({"states": {"layers": [1], "positions": [0, i64::MAX]}}),
            "states.positions[1]: found 9223372036854775807",
        ),
        (json!({"states": {"layers": [1]}}), "states: found no key `positions`"),
        (
            json!({"change": [{"vector": "a", "scale": 1}]}),
            "change: found changes to a default that the request replaces",
        ),
        (
            json!({"mode": "extend", "change": []}),
            "change: found [], expected at least one change",
        ),
        (
            json!({"mode": "extend", "change": [{"vector": "a"}]}),
            "change[0]: found no other key than vector, expected scale",
        ),
        (
            json!({"mode": "extend", "change": [{"vector": "a", "drop": true, "scale": 1}]}),
            "change[0].scale: found this key beside drop = true",
        ),
        (
            json!({"mode": "extend", "change": [{"vector": "a", "scale": 1, "relative_scale": 1}]}),
            "change[0].relative_scale: found both",
        ),
        (
            json!({"mode": "extend", "change": [{"vector": "a", "layers": []}]}),
            "change[0].layers: found []",
        ),
        (
            json!({"mode": "extend", "change": [{"vector": "a", "scale": 1e39}]}),
            "change[0].scale: found 1000000000000000000000000000000000000000",
        ),
        (
            json!({"mode": "off", "change": [{"vector": "a", "scale": 1}]}),
            "change: found this key beside mode",
        ),
    ] {
        let found = wrong(request);
        assert!(found.starts_with(&format!("steering.{message}")), "{found}");
    }
    let read = |request: serde_json::Value| from_json::<RequestSteering>(&request, "").unwrap();
    let reads = json!([{"vector": "a", "layer": 1}]);
    let alone = read(json!({"readout": reads}));
    assert!(alone.only_reads() && alone.validate("").is_ok());
    let off = read(json!({"mode": "off", "readout": reads}));
    assert!(!off.only_reads() && off.validate("").is_ok());
    assert!(!read(json!({"readout": reads, "vectors": []})).only_reads());

    let mut used = VectorUse::new("a", 1.0);
    used.layers = Some(Layers::List(vec![1]));
    let default = SteeringSpec::from(vec![VectorUse::new("b", 1.0), used, VectorUse::ablate("c")]);
    let changed = read(json!({"mode": "extend", "change": [
        {"vector": "a", "relative_scale": 0.5, "layers": "2-3"}, {"vector": "c", "drop": true},
    ]}));
    changed.validate("").unwrap();
    assert_eq!(
        changed
            .check_changes(Some(&default), "")
            .map_err(|error| error.to_string()),
        Ok(())
    );
    let spec = changed.resolve(Some(&default));
    let expected: VectorUse =
        serde_json::from_value(json!({"vector": "a", "relative_scale": 0.5, "layers": "2-3"})).unwrap();
    assert_eq!(spec, SteeringSpec::from(vec![VectorUse::new("b", 1.0), expected]));
    // What is not changed is the default's own still.
    assert_eq!(changed.kept_of(&default), 0b1);
    let of_a = read(
        json!({"mode": "extend", "change": [{"vector": "a", "scale": 2}], "vectors": [{"vector": "b", "scale": 1}]}),
    );
    assert_eq!(of_a.kept_of(&default), 0b101);
    let twice = json!([{"vector": "a", "scale": 2}, {"vector": "b", "scale": 1}, {"vector": "a", "drop": true}]);
    assert!(
        wrong(json!({"mode": "extend", "change": twice})).starts_with("steering.change[2].vector: found \"a\" twice")
    );
    let of_clamp = read(json!({"mode": "extend", "change": [{"vector": "c", "relative_scale": 2}]}));
    let message = of_clamp
        .check_changes(Some(&default), "steering.")
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("steering.change[0].relative_scale: found 2 for op = \"ablate\""),
        "{message}"
    );
    let unknown = read(json!({"mode": "extend", "change": [{"vector": "z", "drop": true}]}));
    let message = unknown
        .check_changes(Some(&default), "steering.")
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "steering.change[0].vector: found \"z\", expected the name of a vector of the model's default"
    );
    let message = unknown.check_changes(None, "").unwrap_err().to_string();
    assert!(message.contains("expected none: the model has no default"), "{message}");
}

#[test]
fn requests_replace_extend_or_switch_off_the_default() {
    let default = SteeringSpec::from(VectorUse::new("a", 1.0))
        .conflict(Conflict::First)
        .norm(NormRule::Preserve);
    let resolve = |request: serde_json::Value, default| {
        let request: RequestSteering = from_json(&request, "steering.").unwrap();
        request.validate("steering.").unwrap();
        request.resolve(default)
    };
    let b = json!([{"vector": "b", "scale": 2}]);
    let (a, only_b) = (VectorUse::new("a", 1.0), VectorUse::new("b", 2.0));
    let replaced = resolve(json!({"vectors": b}), Some(&default));
    assert_eq!(replaced, only_b.clone().into());
    let extended = resolve(json!({"mode": "extend", "vectors": b, "norm": "free"}), Some(&default));
    let both = SteeringSpec::from(vec![a, only_b.clone()]);
    assert_eq!(extended, both.conflict(Conflict::First));
    let extended = resolve(json!({"mode": "extend", "vectors": b, "conflict": "error"}), None);
    assert_eq!(extended, SteeringSpec::from(only_b).conflict(Conflict::Error));
    let extended = resolve(json!({"mode": "extend", "conflict": "sequential"}), Some(&default));
    assert_eq!(extended, default.clone().conflict(Conflict::Sequential));
    assert_eq!(resolve(json!({"mode": "off"}), Some(&default)), SteeringSpec::default());
    assert_eq!(resolve(json!({"vectors": []}), Some(&default)), SteeringSpec::default());
    assert_eq!(RequestSteering::from(default.clone()).resolve(None), default);
}

#[test]
fn requests_that_say_nothing_are_refused() {
    let wrong = |request: serde_json::Value| match from_json::<RequestSteering>(&request, "steering.") {
        Ok(request) => request.validate("steering.").unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        wrong(json!({})),
        "steering.vectors: found no such key, expected vectors, or mode = \"off\" for none"
    );
    assert!(wrong(json!({"mode": "extend"})).starts_with("steering.vectors: found no such key"));
    assert!(wrong(json!({"norm": "preserve"})).starts_with("steering.vectors: found no such key"));
    assert_eq!(
        wrong(json!({"mode": "off", "vectors": []})),
        "steering.vectors: found this key beside mode = \"off\", expected no other key than readout and states"
    );
    assert!(wrong(json!({"mode": "off", "norm": "free"})).starts_with("steering.norm: "));
    assert!(wrong(json!({"mode": "on"})).starts_with("steering.mode: found `on`"));
    assert!(wrong(json!({"vectors": [{"vector": "v"}]})).starts_with("steering.vectors[0].scale: found neither"));
}

#[test]
fn the_schema_that_ships_is_that_of_the_code() {
    let shipped: serde_json::Value = serde_json::from_str(include_str!("../../steering.schema.json")).unwrap();
    assert_eq!(
        shipped,
        schema(),
        "steering.schema.json should be:\n{}",
        serde_json::to_string_pretty(&schema()).unwrap()
    );
}

#[test]
fn the_schema_has_every_key_and_no_other() {
    let schema = schema();
    let definitions = &schema["$defs"];
    let keys = |name: &str| -> Vec<String> {
        let table = &definitions[name];
        assert_eq!(table["additionalProperties"], json!(false), "{name}");
        table["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let of_json = |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let json = serde_json::to_value(full()).unwrap();
    let vectors = &json["vectors"];
    let same = |name: &str, mut expected: Vec<String>| {
        let mut found = keys(name);
        found.sort();
        expected.sort();
        expected.dedup();
        assert_eq!(found, expected, "{name}");
    };
    same("SteeringSpec", of_json(&json));
    same("Apply", of_json(&vectors[0]["apply"]));
    same("Selection", of_json(&vectors[0]["apply"]["prompt"]));
    let mut used = of_json(&vectors[0]);
    used.extend(of_json(&vectors[1]));
    used.extend(of_json(&vectors[2]));
    used.extend(of_json(&vectors[3]));
    // A default, which is not written.
    used.push("normalize".into());
    same("VectorUse", used);
    let mut test = of_json(&vectors[1]["when"]);
    test.extend(of_json(&vectors[2]["when"]["any"][0]["all"][0]));
    same("Test", test);
    let mut schedule = of_json(&vectors[1]["schedule"]);
    schedule.extend(of_json(&vectors[2]["schedule"]));
    same("Schedule", schedule);
    assert_eq!(definitions["VectorUse"]["required"], json!(["vector"]));
    same(
        "RequestSteering",
        ["mode", "vectors", "conflict", "norm", "change", "readout", "states"]
            .map(String::from)
            .into(),
    );
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn places_survive_json_and_toml(prompt in places(false), generation in places(true)) {
        let apply = Apply { prompt: Some(prompt), generation: Some(generation) };
        let json = serde_json::to_string(&apply).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Apply>(&json).unwrap(), &apply);
        let toml = toml::to_string(&apply).unwrap();
        prop_assert_eq!(&toml::from_str::<Apply>(&toml).unwrap(), &apply);
        let nothing = (apply.prompt.as_ref(), apply.generation.as_ref()) == (Some(&Where::None), Some(&Where::None));
        let spec = SteeringSpec::from(VectorUse::new("v", 1.0).apply(apply));
        prop_assert_eq!(spec.validate("").is_err(), nothing);
    }
}

/// The corpus that fuzzing left behind (plugin/fuzz), read once more.
#[test]
fn what_fuzzing_found_is_read_or_refused() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
    let files = |target: &str| {
        let folder = std::fs::read_dir(format!("{corpus}/{target}")).unwrap();
        folder.map(|file| std::fs::read(file.unwrap().path()).unwrap())
    };
    let (mut read, mut refused) = (0, 0);
    let mut count = |sound: bool| *if sound { &mut read } else { &mut refused } += 1;
    for bytes in files("spec_json") {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
            count(false);
            continue;
        };
        let asked = from_json::<RequestSteering>(&value, "steering.");
        count(asked.is_ok_and(|asked| asked.validate("steering.").is_ok()));
    }
    for bytes in files("spec_toml") {
        let table = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse::<toml::Table>().ok());
        let defaults = table
            .as_ref()
            .and_then(|table| table.get("steering")?.get("defaults")?.as_array());
        for default in defaults.into_iter().flatten() {
            let spec = default.clone().try_into::<SteeringSpec>();
            count(spec.is_ok_and(|spec| spec.validate("").is_ok()));
        }
    }
    assert!(read > 20 && refused > 20, "{read} read, {refused} refused");
}
