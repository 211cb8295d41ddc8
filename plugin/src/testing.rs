//! Helpers for the tests of several modules.

use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::de::DeserializeOwned;
use steermap_maps::digest::sha256;
use steermap_maps::{
    AffineMap, FitReport, LayerPair, LayerVector, MapFile, MapHeader, ModelInfo, Numerics, Provenance, TokenPosition,
    VectorFile, VectorHeader,
};

use crate::spec::{Role, Selection, TokenRef, Where, Window, json};
use crate::{Library, Target};

/// Reads JSON as the server does. `at` is the path of the value, ending with a dot or empty, for messages.
pub(crate) fn from_json<T: DeserializeOwned>(value: &serde_json::Value, at: &str) -> Result<T, String> {
    json::read(value.to_string().as_bytes(), at.trim_end_matches('.')).map_err(|error| error.message)
}

/// Width of the target's stream.
pub(crate) const HIDDEN: usize = 4;

/// A deterministic configuration: the same cases in every run.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) fn model(name: &str, hidden_size: usize, num_layers: usize) -> ModelInfo {
    ModelInfo {
        model: name.into(),
        fingerprint: format!("sm1:{}", &sha256(name.as_bytes())[..32]),
        hidden_size,
        num_layers,
    }
}

fn numerics() -> Numerics {
    Numerics {
        dtype: "f32".into(),
        quantization: None,
    }
}

fn provenance() -> Provenance {
    Provenance {
        tool: "test".into(),
        date: "2026-01-31".into(),
        command: "test".into(),
        seed: None,
        corpus: "test".into(),
        corpus_sha256: sha256(b"test"),
    }
}

/// A vector of `model` with a mean norm of 10 at each layer, or 0 where `known` is false.
pub(crate) fn vector(model: ModelInfo, known: bool, layers: &[(usize, &[f32])]) -> VectorFile {
    let header = VectorHeader {
        concept: "test".into(),
        method: "test".into(),
        token_position: TokenPosition::Last,
        pairs: 1,
        model,
        numerics: numerics(),
        provenance: provenance(),
    };
    let layers = layers.iter().map(|&(layer, direction)| LayerVector {
        layer,
        direction: direction.to_vec(),
        mean_norm: if known { 10.0 } else { 0.0 },
        auroc: None,
        neutral: None,
    });
    VectorFile::new(header, layers.collect()).unwrap()
}

/// The model that specs are compiled for: 6 layers of [`HIDDEN`].
pub(crate) fn target() -> Target {
    let model = model("large", HIDDEN, 6);
    Target {
        model: model.model,
        hidden_size: model.hidden_size,
        num_layers: model.num_layers,
        fingerprint: Some(model.fingerprint),
        dtype: None,
    }
}

/// Native vectors `a` (norm 5 at layers 1 and 2), `b` (norm 2 at layers 2 and 3) and `c` (norm 1 at 1, its mean norm not
/// known), `small` (found on a model of width 2 with 3 layers, at layer 0), and the map `up` from there to layer 4.
pub(crate) fn library() -> Library {
    let large = || model("large", HIDDEN, 6);
    let mut library = Library::default();
    let a: &[f32] = &[3.0, 0.0, 4.0, 0.0];
    let mut insert = |name, vector| library.insert(name, vector).unwrap();
    insert("a", vector(large(), true, &[(1, a), (2, a)]));
    insert(
        "b",
        vector(
            large(),
            true,
            &[(2, &[0.0, 2.0, 0.0, 0.0]), (3, &[0.0, 0.0, 0.0, -2.0])],
        ),
    );
    insert("c", vector(large(), false, &[(1, &[0.0, 1.0, 0.0, 0.0])]));
    insert("small", vector(model("small", 2, 3), true, &[(0, &[1.0, 2.0])]));
    library.insert_map("up", map()).unwrap();
    library
}

/// `[x, y]` to `[2x, 0, y, 0]`, with the bias `[0, 0, 0, 1]` and a mean norm of 8.
fn map() -> MapFile {
    let header = MapHeader {
        source: model("small", 2, 3),
        source_numerics: numerics(),
        target: model("large", HIDDEN, 6),
        target_numerics: numerics(),
        positions: None,
        provenance: provenance(),
    };
    let pair = LayerPair {
        source_layers: vec![0],
        target_layer: 4,
        map: AffineMap {
            weight: DMatrix::from_row_slice(HIDDEN, 2, &[2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
            bias: DVector::from_row_slice(&[0.0, 0.0, 0.0, 1.0]),
        }
        .into(),
        fit: FitReport {
            method: "ridge".into(),
            lambda: 0.001,
            rows: 100,
            validation_rows: 10,
            test_rows: 10,
            r2: 0.9,
            r2_median: 0.9,
            r2_mean_baseline: 0.0,
            r2_mean_baseline_median: 0.0,
            r2_identity_baseline: None,
            r2_identity_baseline_median: None,
            cosine: 0.9,
            source_mean_norms: vec![3.0],
            target_mean_norm: 8.0,
            r2_by_rank: Vec::new(),
        },
    };
    MapFile::new(header, vec![pair]).unwrap()
}

/// A tokenizer of five words.
pub(crate) fn token(text: &str) -> Result<u32, String> {
    let words = ["the", " cat", " sat", " on", " mat"];
    let id = words.iter().position(|word| *word == text);
    id.map(|id| id as u32)
        .ok_or_else(|| format!("which is {} tokens", text.len()))
}

/// Positions and bounds are within 9, token ids below 5 (as those of [`token`]).
pub(crate) fn selections(generation: bool) -> impl Strategy<Value = Selection> {
    let least = if generation { -1 } else { -9 };
    let position = move || least..9i64;
    let window = move || {
        (position(), prop::option::of(position()))
            .prop_map(|(start, end)| Window { start, end })
            .prop_filter("empty", move |window| {
                let apart = |end: i64| end != 0 && ((window.start < 0) != (end < 0) || window.start < end);
                let least = |end: i64| if generation { window.start < end } else { apart(end) };
                window.end.is_none_or(least)
            })
    };
    let token = || {
        prop_oneof![
            (0..5u32).prop_map(TokenRef::Id),
            prop::sample::select(vec!["the", " cat"]).prop_map(|text| TokenRef::Text(text.into())),
        ]
    };
    let positions = move || prop::option::weighted(0.3, prop::collection::vec(position(), 1..4));
    let windows = move || prop::option::weighted(0.3, prop::collection::vec(window(), 1..4));
    let tokens = move || prop::option::weighted(0.3, prop::collection::vec(token(), 1..3));
    let roles = move || {
        let names = prop::sample::subsequence(vec![Role::User, Role::Assistant, Role::Tool], 1..3);
        prop_oneof![
            4 => Just(None),
            // (What is generated is the assistant's.)
            1 => names.prop_map(move |names| Some(names).filter(|_| !generation)),
        ]
    };
    let include = (positions(), windows(), tokens(), roles());
    let exclude = (positions(), windows(), tokens(), roles());
    (include, exclude)
        .prop_map(|(include, exclude)| Selection {
            positions: include.0,
            windows: include.1,
            tokens: include.2,
            roles: include.3,
            exclude_positions: exclude.0,
            exclude_windows: exclude.1,
            exclude_tokens: exclude.2,
            exclude_roles: exclude.3,
            required: false,
        })
        .prop_filter("no key", |selection| *selection != Selection::default())
}

pub(crate) fn places(generation: bool) -> impl Strategy<Value = Where> {
    prop_oneof![
        1 => Just(Where::All),
        1 => Just(Where::None),
        6 => selections(generation).prop_map(Where::Only),
    ]
}
