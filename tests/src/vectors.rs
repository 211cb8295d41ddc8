//! Vector files made from reference vectors.

use std::path::{Path, PathBuf};

use steermap_maps::{
    LayerVector, ModelInfo, Numerics, Provenance, TokenPosition, VectorFile, VectorHeader, fingerprint_folder,
};

use crate::fixture;
use crate::reference::Reference;

/// A vector of `model` (such as `tiny-llama`) with the reference's vectors at all layers.
pub fn reference_vector(model: &str) -> VectorFile {
    let reference = Reference::load(model);
    let layers: Vec<LayerVector> = (0..reference.num_layers())
        .map(|layer| LayerVector {
            layer,
            direction: reference.vector(&format!("vector.{layer}")),
            mean_norm: 1.0,
            auroc: None,
            neutral: None,
        })
        .collect();
    let header = VectorHeader {
        concept: "a test".into(),
        method: "random".into(),
        token_position: TokenPosition::Last,
        pairs: 0,
        model: ModelInfo {
            model: model.into(),
            fingerprint: fingerprint_folder(&fixture(model)).expect("the fixture has weights"),
            hidden_size: layers[0].direction.len(),
            num_layers: layers.len(),
        },
        numerics: Numerics {
            dtype: "f32".into(),
            quantization: None,
        },
        provenance: Provenance {
            tool: "test".into(),
            date: "2026-01-01T00:00:00Z".into(),
            command: "test".into(),
            seed: None,
            corpus: "none".into(),
            corpus_sha256: "0".repeat(64),
        },
    };
    VectorFile::new(header, layers).expect("a valid vector")
}

/// Saves [`reference_vector`] as `folder/test.toml`.
pub fn save_reference_vector(model: &str, folder: &Path) -> PathBuf {
    let path = folder.join("test.toml");
    reference_vector(model).save(&path).expect("the folder can be written");
    path
}
