//! The models that traffic is made for, with their vectors, maps and bounds for requests.

use std::path::Path;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use steermap_maps::{
    LayerVector, ModelInfo, Numerics, Provenance, Spread, TokenPosition, VectorFile, VectorHeader, fingerprint_folder,
};

/// A vector that requests may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steerable {
    /// Its name.
    pub name: &'static str,
    /// The map that it goes through, if any.
    pub map: Option<&'static str>,
    /// The layers of the served model that it reaches.
    pub layers: &'static [usize],
}

/// A model to be served. Paths are relative to the top of the checkout.
#[derive(Debug, PartialEq)]
pub struct ServedModel {
    /// Its name in reports.
    pub name: &'static str,
    /// Its folder.
    pub folder: &'static str,
    /// Its kind in mistral.rs's configuration.
    pub kind: &'static str,
    /// The vectors of the configuration. Those without a map are random vectors of the model itself.
    pub vectors: &'static [Steerable],
    /// The vectors that go through maps: name and file.
    pub shipped: &'static [(&'static str, &'static str)],
    /// The maps: name and file.
    pub maps: &'static [(&'static str, &'static str)],
    /// The vector of the default spec.
    pub default: Steerable,
    /// A scale at which it changes answers.
    pub default_scale: f64,
    /// The largest scale, of either sign, that ordinary requests ask for.
    pub scale: f64,
    /// The mean norm that the random vectors state: about the stream's norm.
    pub mean_norm: f64,
    /// All token ids below this exist.
    pub vocabulary: u32,
    /// Tokens that fit its context.
    pub context: usize,
    /// Approximate number of bytes of a story per token.
    pub token_bytes: usize,
    /// Whether its chat template only joins the texts of messages with spaces, so that a prompt may be sent as a chat.
    pub joins_messages: bool,
    /// Lengths of the prompts in tokens: few different ones, since the engine's scheduler batches only prompts of equal
    /// length.
    pub prompt_lengths: &'static [usize],
}

const MOOD: Steerable = Steerable {
    name: "mood",
    map: Some("across"),
    layers: &[4],
};

/// The family's stories-3m, with three random vectors and the mood vector through the shipped map.
pub static STORIES: ServedModel = ServedModel {
    name: "stories-3m",
    folder: "examples/family/stories-3m",
    kind: "text",
    vectors: &[
        Steerable {
            name: "one",
            map: None,
            layers: &[0, 1, 2, 3, 4, 5, 6, 7],
        },
        Steerable {
            name: "two",
            map: None,
            layers: &[1, 3, 4, 6],
        },
        Steerable {
            name: "three",
            map: None,
            layers: &[2, 5],
        },
        MOOD,
    ],
    shipped: &[("mood", "maps/stories-260k-mood.toml")],
    maps: &[("across", "maps/stories-260k--stories-3m.toml")],
    default: MOOD,
    default_scale: 136.0,
    scale: 60.0,
    mean_norm: 100.0,
    vocabulary: 1000,
    context: 512,
    token_bytes: 4,
    joins_messages: true,
    prompt_lengths: &[6, 12, 18, 36],
};

const TWO_OF_SIX: Steerable = Steerable {
    name: "two",
    map: None,
    layers: &[1, 3, 4],
};

/// A Gemma 3 with random weights and a token per byte. Five of its six blocks attend to 64 tokens. Prompts end well
/// below that window, just before its end and far beyond it, so that many answers cross it.
pub static WINDOW: ServedModel = ServedModel {
    name: "tiny-gemma3",
    folder: "tests/fixtures/tiny-gemma3",
    // mistral.rs loads all Gemma 3 models as multimodal ones.
    kind: "multimodal",
    vectors: &[
        Steerable {
            name: "one",
            map: None,
            layers: &[0, 1, 2, 3, 4, 5],
        },
        TWO_OF_SIX,
        Steerable {
            name: "three",
            map: None,
            layers: &[2, 5],
        },
    ],
    shipped: &[],
    maps: &[],
    default: TWO_OF_SIX,
    default_scale: 6.0,
    scale: 8.0,
    mean_norm: 14.0,
    vocabulary: 256,
    context: 512,
    token_bytes: 1,
    joins_messages: false,
    prompt_lengths: &[20, 48, 58, 64, 130, 240],
};

impl ServedModel {
    /// A vector of the model with random directions at `layers`.
    ///
    /// # Errors
    ///
    /// If the checkout lacks the model, or the model lacks a layer.
    pub fn random_vector(&self, checkout: &Path, seed: u64, layers: &[usize]) -> Result<VectorFile> {
        let model = self.info(&checkout.join(self.folder))?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layers = layers.iter().map(|&layer| LayerVector {
            layer,
            direction: (0..model.hidden_size).map(|_| rng.random_range(-1.0..1.0)).collect(),
            mean_norm: self.mean_norm,
            auroc: None,
            // The size of a random component of a stream of this norm.
            neutral: Some(Spread {
                mean: 0.0,
                std: self.mean_norm / 10.0,
            }),
        });
        let layers = layers.collect();
        let header = VectorHeader {
            concept: format!("random {seed}"),
            method: "random".into(),
            token_position: TokenPosition::Last,
            pairs: 0,
            model,
            numerics: Numerics {
                dtype: "f32".into(),
                quantization: None,
            },
            provenance: Provenance {
                tool: "steermap-examples".into(),
                date: "2026-01-01T00:00:00Z".into(),
                command: "random_vector".into(),
                seed: Some(seed),
                corpus: "none".into(),
                corpus_sha256: "0".repeat(64),
            },
        };
        Ok(VectorFile::new(header, layers)?)
    }

    /// The description of the model in `folder` for vector files.
    fn info(&self, folder: &Path) -> Result<ModelInfo> {
        let path = folder.join("config.json");
        let config = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let config: Value = serde_json::from_str(&config).with_context(|| path.display().to_string())?;
        let number = |key: &str| {
            let number = config[key].as_u64().and_then(|number| usize::try_from(number).ok());
            number.with_context(|| format!("{}: no {key}", path.display()))
        };
        Ok(ModelInfo {
            model: self.name.into(),
            fingerprint: fingerprint_folder(folder)?,
            hidden_size: number("hidden_size")?,
            num_layers: number("num_hidden_layers")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_matches_its_description() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for model in [&STORIES, &WINDOW] {
            let info = model.info(&checkout.join(model.folder)).unwrap();
            for vector in model.vectors {
                assert!(vector.layers.iter().all(|layer| *layer < info.num_layers), "{vector:?}");
                let shipped = model.shipped.iter().any(|(name, _)| *name == vector.name);
                assert_eq!(vector.map.is_some(), shipped, "{vector:?}");
            }
            assert!(model.vectors.contains(&model.default));
            let vector = model.random_vector(&checkout, 1, &[0, 1]).unwrap();
            assert_eq!(vector.layers()[1].direction.len(), info.hidden_size);
            assert!(model.random_vector(&checkout, 1, &[info.num_layers]).is_err());
        }
    }
}
