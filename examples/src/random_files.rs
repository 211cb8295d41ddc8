//! Vectors and maps of random numbers, for benchmarks, whose costs do not depend on the values, and for comparisons.

use anyhow::Result;
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use steermap_mapper::behaviour::random_direction;
use steermap_maps::digest::sha256;
use steermap_maps::{
    AffineMap, FitReport, LayerPair, LayerVector, MapFile, MapHeader, ModelInfo, Numerics, Provenance, TokenPosition,
    VectorFile, VectorHeader,
};

/// A vector of `model` with a random direction at each of `layers`, and a mean norm of 1 there.
///
/// # Errors
///
/// If the model lacks one of the layers.
pub fn vector(model: &ModelInfo, layers: impl Iterator<Item = usize>, rng: &mut ChaCha8Rng) -> Result<VectorFile> {
    let header = VectorHeader {
        concept: "random".into(),
        method: "random".into(),
        token_position: TokenPosition::Last,
        pairs: 1,
        model: model.clone(),
        numerics: numerics(),
        provenance: provenance(),
    };
    let layers = layers.map(|layer| LayerVector {
        layer,
        direction: (0..model.hidden_size).map(|_| rng.random_range(-1.0..1.0)).collect(),
        mean_norm: 1.0,
        auroc: None,
        neutral: None,
    });
    Ok(VectorFile::new(header, layers.collect())?)
}

/// A copy of `vector` with a random direction at each layer.
///
/// # Errors
///
/// None if `vector` is valid.
pub fn like(vector: &VectorFile, seed: u64) -> Result<VectorFile> {
    let mut header = vector.header().clone();
    header.concept = "nothing: a random direction".to_string();
    header.method = "random".to_string();
    header.provenance.seed = Some(seed);
    let layers = vector.layers().iter().map(|layer| LayerVector {
        direction: random_direction(layer.direction.len(), seed),
        auroc: None,
        neutral: None,
        ..layer.clone()
    });
    Ok(VectorFile::new(header, layers.collect())?)
}

/// A map from `source` to `target` whose weights are random numbers up to `largest`. `pairs` are layers of the source
/// and of the target; `target_mean_norm` is the stated mean norm at the latter.
///
/// # Errors
///
/// If a model lacks one of the layers.
pub fn map(
    source: &ModelInfo,
    target: &ModelInfo,
    pairs: impl Iterator<Item = (usize, usize)>,
    largest: f32,
    target_mean_norm: f64,
    rng: &mut ChaCha8Rng,
) -> Result<MapFile> {
    let header = MapHeader {
        source: source.clone(),
        source_numerics: numerics(),
        target: target.clone(),
        target_numerics: numerics(),
        positions: None,
        provenance: provenance(),
    };
    let pairs = pairs.map(|(source_layer, target_layer)| LayerPair {
        source_layers: vec![source_layer],
        target_layer,
        map: AffineMap {
            weight: DMatrix::from_fn(target.hidden_size, source.hidden_size, |_, _| {
                rng.random_range(-largest..largest)
            }),
            bias: DVector::zeros(target.hidden_size),
        }
        .into(),
        fit: FitReport {
            method: "random".into(),
            lambda: 1.0,
            rows: 1,
            validation_rows: 1,
            test_rows: 1,
            r2: 0.5,
            r2_median: 0.5,
            r2_mean_baseline: 0.0,
            r2_mean_baseline_median: 0.0,
            r2_identity_baseline: None,
            r2_identity_baseline_median: None,
            cosine: 0.5,
            source_mean_norms: vec![1.0],
            target_mean_norm,
            r2_by_rank: Vec::new(),
        },
    });
    Ok(MapFile::new(header, pairs.collect())?)
}

fn numerics() -> Numerics {
    Numerics {
        dtype: "f32".into(),
        quantization: None,
    }
}

fn provenance() -> Provenance {
    Provenance {
        tool: "a benchmark".into(),
        date: "2026-01-01".into(),
        command: "cargo xtask bench".into(),
        seed: None,
        corpus: "none".into(),
        corpus_sha256: sha256(b""),
    }
}
