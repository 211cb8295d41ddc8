//! The server that the traffic is for: the family's stories-3m, with vectors of its own and one that comes through the
//! map that ships.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steermap_maps::{LayerVector, MapFile, TokenPosition, VectorFile, VectorHeader};

/// The served model, seen from the top of the checkout.
pub const MODEL: &str = "examples/family/stories-3m";
/// The map that ships, which ends at it.
const MAP: &str = "maps/stories-260k--stories-3m.toml";
/// The vector that ships, which the map carries.
const MOOD: &str = "maps/stories-260k-mood.toml";

/// What a relative scale of 1 means for the vectors made here. They are random, so their streams' norms are nobody's
/// measurement.
pub const MEAN_NORM: f64 = 100.0;

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

/// The vectors of the configuration: random ones of the model itself, and the mapped mood.
pub const VECTORS: [Steerable; 4] = [
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
    Steerable {
        name: "mood",
        map: Some("across"),
        layers: &[7],
    },
];

/// What a configuration says beside model, vectors and map.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether computed prefixes are kept.
    pub prefix_cache: bool,
    /// The scale of the mapped mood in the model's default spec; absent, there is none.
    pub default_scale: Option<f64>,
    /// Lines of `[steering.admin]`, if there is one.
    pub admin: Option<String>,
}

/// The folder and the model of a server.
#[derive(Clone, Debug)]
pub struct Served {
    /// Where the configuration and the vectors are.
    pub folder: PathBuf,
    /// What requests call the model.
    pub model: String,
    checkout: PathBuf,
}

impl Served {
    /// Writes the vectors to `folder`. `checkout` is the top of this project's.
    ///
    /// # Errors
    ///
    /// Files of the checkout that are not there, or a folder that can't be written.
    pub fn prepare(checkout: &Path, folder: &Path) -> Result<Self> {
        let checkout = checkout
            .canonicalize()
            .with_context(|| checkout.display().to_string())?;
        for (seed, vector) in VECTORS.iter().filter(|vector| vector.map.is_none()).enumerate() {
            let path = folder.join(format!("{}.toml", vector.name));
            random_vector(&checkout, seed as u64, vector.layers)?.save(&path)?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            model: checkout.join(MODEL).display().to_string(),
            checkout,
        })
    }

    /// The model's folder.
    pub fn model_folder(&self) -> PathBuf {
        self.checkout.join(MODEL)
    }

    /// The configuration, without `[server]`.
    pub fn config(&self, settings: &Settings) -> String {
        let Settings {
            prefix_cache,
            default_scale,
            admin,
        } = settings;
        let (model, cached) = (&self.model, if *prefix_cache { 16 } else { 0 });
        let within = |file: &str| self.checkout.join(file).display().to_string();
        let mut text = format!(
            "[runtime]\nmax_seqs = 64\nprefix_cache_n = {cached}\n\
             [[models]]\nkind = \"text\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
             [steering.maps]\nacross = \"{}\"\n[steering.vectors]\nmood = \"{}\"\n",
            within(MAP),
            within(MOOD)
        );
        for vector in VECTORS.iter().filter(|vector| vector.map.is_none()) {
            text += &format!("{0} = \"{0}.toml\"\n", vector.name);
        }
        if let Some(lines) = admin {
            text += &format!("[steering.admin]\n{lines}\n");
        }
        if let Some(scale) = default_scale {
            text += &format!(
                "[[steering.defaults]]\n[[steering.defaults.vectors]]\n\
                 vector = \"mood\"\nmap = \"across\"\nscale = {scale:?}\n"
            );
        }
        text
    }
}

/// A vector of stories-3m with random directions at `layers`.
///
/// # Errors
///
/// A checkout without the map that ships, which says what the model is.
pub fn random_vector(checkout: &Path, seed: u64, layers: &[usize]) -> Result<VectorFile> {
    let map = MapFile::load(&checkout.join(MAP))?;
    let mood = VectorFile::load(&checkout.join(MOOD))?;
    let model = map.header().target.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let layers = layers.iter().map(|&layer| LayerVector {
        layer,
        direction: (0..model.hidden_size).map(|_| rng.random_range(-1.0..1.0)).collect(),
        mean_norm: MEAN_NORM,
        auroc: None,
    });
    let layers = layers.collect();
    let header = VectorHeader {
        concept: format!("random {seed}"),
        method: "random".into(),
        token_position: TokenPosition::Last,
        pairs: 0,
        model,
        ..mood.header().clone()
    };
    Ok(VectorFile::new(header, layers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_are_what_requests_may_expect() {
        let dir = tempfile::tempdir().unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let served = Served::prepare(&checkout, dir.path()).unwrap();
        let three = VectorFile::load(&dir.path().join("three.toml")).unwrap();
        assert_eq!(
            three.layers().iter().map(|layer| layer.layer).collect::<Vec<_>>(),
            [2, 5]
        );
        assert!(served.model_folder().join("tokenizer.json").exists());
        let config = served.config(&Settings {
            default_scale: Some(9.0),
            ..Settings::default()
        });
        assert!(
            config.contains("prefix_cache_n = 0\n") && config.contains("scale = 9.0\n"),
            "{config}"
        );
    }
}
