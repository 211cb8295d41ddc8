//! The vectors, map, model and tokenizer that specs are compiled with.

use nalgebra::{DMatrix, DVector};
use steermap_maps::digest::sha256;
use steermap_maps::{
    AffineMap, FitReport, LayerPair, LayerVector, MapFile, MapHeader, ModelInfo, Numerics, Provenance, Spread,
    TokenPosition, VectorFile, VectorHeader,
};

use crate::spec::{Apply, Selection, When, Where};
use crate::{Library, SteeringSpec, Target, VectorUse};

/// Width of the model's stream.
pub const HIDDEN: usize = 4;

/// Number of its blocks.
pub const LAYERS: usize = 6;

/// The tokenizer's tokens; a token's id is its index.
pub const WORDS: [&str; 5] = ["the", " cat", " sat", " on", " mat"];

/// The id of the token `text`; the error says what it is instead.
pub fn token(text: &str) -> Result<u32, String> {
    let id = WORDS.iter().position(|word| *word == text);
    id.map(|id| id as u32)
        .ok_or_else(|| format!("which is {} tokens", text.chars().count()))
}

/// The model that specs are compiled for.
pub fn target() -> Target {
    let model = model("large", HIDDEN, LAYERS);
    Target {
        model: model.model,
        hidden_size: model.hidden_size,
        num_layers: model.num_layers,
        fingerprint: Some(model.fingerprint),
        dtype: None,
    }
}

/// The default spec of that model.
pub fn default_spec() -> SteeringSpec {
    let last = Selection {
        positions: Some(vec![-1]),
        ..Selection::default()
    };
    SteeringSpec::from(vec![
        VectorUse::new("a", 2.0).at_layers([2]),
        VectorUse::relative("b", 0.5).apply(Apply::prompt(Where::Only(last))),
        VectorUse::ablate("a").when(When::above("b", 3, 0.5)),
    ])
}

/// Native vectors `a` (layers 1 and 2), `b` (2 and 3) and `c` (1, the stream's norm and spread not known), `small`
/// (found on a model of width 2, at layer 0), the map `up` from its model to layer 4, and `other`, which fits neither
/// model.
pub fn library() -> Library {
    let large = || model("large", HIDDEN, LAYERS);
    let a: &[f32] = &[3.0, 0.0, 4.0, 0.0];
    let b: [&[f32]; 2] = [&[0.0, 2.0, 0.0, 0.0], &[0.0, 0.0, 0.0, -2.0]];
    let c: &[f32] = &[0.0, 1e-30, 0.0, 0.0];
    let mut library = Library::default();
    let mut insert = |name, vector| library.insert(name, vector).expect("a name");
    insert("a", vector(large(), 10.0, &[(1, a), (2, a)]));
    insert("b", vector(large(), 10.0, &[(2, b[0]), (3, b[1])]));
    insert("c", vector(large(), 0.0, &[(1, c)]));
    insert("small", vector(model("small", 2, 3), 3.0, &[(0, &[1.0, 2.0])]));
    insert("other", vector(model("other", HIDDEN, LAYERS), 1.0, &[(1, a)]));
    library.insert_map("up", map()).expect("a name");
    library
}

fn model(name: &str, hidden_size: usize, num_layers: usize) -> ModelInfo {
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
        tool: "fuzz".into(),
        date: "2026-01-31".into(),
        command: "fuzz".into(),
        seed: None,
        corpus: "fuzz".into(),
        corpus_sha256: sha256(b"fuzz"),
    }
}

fn vector(model: ModelInfo, mean_norm: f64, layers: &[(usize, &[f32])]) -> VectorFile {
    let header = VectorHeader {
        concept: "fuzz".into(),
        method: "fuzz".into(),
        token_position: TokenPosition::Last,
        pairs: 1,
        model,
        numerics: numerics(),
        provenance: provenance(),
    };
    let layers = layers.iter().map(|&(layer, direction)| LayerVector {
        layer,
        direction: direction.to_vec(),
        mean_norm,
        auroc: None,
        neutral: (mean_norm > 0.0).then_some(Spread { mean: 1.5, std: 0.5 }),
    });
    VectorFile::new(header, layers.collect()).expect("a vector")
}

fn map() -> MapFile {
    let header = MapHeader {
        source: model("small", 2, 3),
        source_numerics: numerics(),
        target: model("large", HIDDEN, LAYERS),
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
    MapFile::new(header, vec![pair]).expect("a map")
}
