//! The models that traffic is made for, each with vectors of its own: what requests may name, and how much of it.

use std::path::Path;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use steermap_maps::{
    LayerVector, ModelInfo, Numerics, Provenance, TokenPosition, VectorFile, VectorHeader, fingerprint_folder,
};

/// A vector that requests may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steerable {
    /// Its name.
    pub name: &'static str,
    /// The map it goes through, if any.
    pub map: Option<&'static str>,
    /// The layers of the served model that it reaches.
    pub layers: &'static [usize],
}

/// A model to be served. Files are seen from the top of the checkout.
#[derive(Debug, PartialEq)]
pub struct ServedModel {
    /// What people call it.
    pub name: &'static str,
    /// Its folder.
    pub folder: &'static str,
    /// What mistral.rs's configuration calls its kind.
    pub kind: &'static str,
    /// The vectors of the configuration: those without a map are random ones of the model itself.
    pub vectors: &'static [Steerable],
    /// The vectors that go through maps: name and file.
    pub shipped: &'static [(&'static str, &'static str)],
    /// The maps: name and file.
    pub maps: &'static [(&'static str, &'static str)],
    /// The vector of the default spec.
    pub default: Steerable,
    /// A scale at which it changes answers.
    pub default_scale: f64,
    /// The largest scale that ordinary requests ask for, either way.
    pub scale: f64,
    /// What a relative scale of 1 means for the random vectors: about what the stream's norm is.
    pub mean_norm: f64,
    /// Token ids below this are all there.
    pub vocabulary: u32,
    /// Tokens that fit its context.
    pub context: usize,
    /// About how many bytes of a story are a token.
    pub token_bytes: usize,
    /// Whether its chat template joins the texts of messages with spaces, and does nothing else: then a prompt may come as a chat.
    pub joins_messages: bool,
    /// Tokens of the prompts: few different numbers, since the engine's scheduler batches prompts of equal length alone.
    pub prompt_lengths: &'static [usize],
}

const MOOD: Steerable = Steerable {
    name: "mood",
    map: Some("across"),
    layers: &[4],
};

/// The family's stories-3m, with three random vectors and the mood that comes through the map that ships.
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

/// A Gemma 3 with random weights and a token per byte, of whose six blocks five see 64 tokens alone. Prompts end below that
/// window, just before it and far beyond it, so that many answers cross it.
pub static WINDOW: ServedModel = ServedModel {
    name: "tiny-gemma3",
    folder: "tests/fixtures/tiny-gemma3",
    // Of Gemma 3 there is one loader, that of models that see.
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
    /// A checkout without the model, or a layer that it lacks.
    pub fn random_vector(&self, checkout: &Path, seed: u64, layers: &[usize]) -> Result<VectorFile> {
        let model = self.info(&checkout.join(self.folder))?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let layers = layers.iter().map(|&layer| LayerVector {
            layer,
            direction: (0..model.hidden_size).map(|_| rng.random_range(-1.0..1.0)).collect(),
            mean_norm: self.mean_norm,
            auroc: None,
            neutral: None,
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

    /// What vector files say of the model in `folder`.
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
    fn each_model_is_what_is_said_of_it() {
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
