//! The server for the traffic: one of the [models](super::models), its vectors, and its configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::models::{STORIES, ServedModel};

/// How far an answer may be from the one that its request gets alone: rounding of the dtype, carried through the blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// How near two tokens' log probabilities must be for batching to be allowed to swap them.
    pub near_tie: f64,
    /// Largest difference of readouts, relative to the largest readout of the answer if that is more than 1.
    pub readout: f64,
}

impl Tolerance {
    /// In float32.
    pub const F32: Self = Self {
        near_tie: 1e-4,
        readout: 1e-3,
    };
    /// In float16, which has three digits: every block rounds to it, relative to the whole stream.
    pub const F16: Self = Self {
        near_tie: 0.1,
        readout: 0.05,
    };
}

/// The dtype that a model runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServedDtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, at most 65504.
    F16,
}

impl ServedDtype {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// How far answers may be apart.
    pub fn tolerance(self) -> Tolerance {
        match self {
            Self::F32 => Tolerance::F32,
            Self::F16 => Tolerance::F16,
        }
    }
}

/// Settings of a configuration besides model, vectors and maps.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether the prefix cache is on.
    pub prefix_cache: bool,
    /// Number of sequences whose prefixes are cached; 16 if absent.
    pub cached_sequences: Option<usize>,
    /// The scale of the vector in the model's default spec; without it there is no default.
    pub default_scale: Option<f64>,
    /// Lines of `[steering.admin]`, if there is one.
    pub admin: Option<String>,
    /// The dtype that the model runs in.
    pub dtype: ServedDtype,
}

/// Default number of sequences whose prefixes are cached.
const CACHED_SEQUENCES: usize = 16;

/// The folder and the model of a server.
#[derive(Clone, Debug)]
pub struct Served {
    /// Folder of the configuration and the vectors.
    pub folder: PathBuf,
    /// The model's name in requests.
    pub model: String,
    /// The model.
    pub base: &'static ServedModel,
    checkout: PathBuf,
}

impl Served {
    /// Writes the vectors of [`STORIES`] to `folder`. `checkout` is the top folder of this project's checkout.
    ///
    /// # Errors
    ///
    /// If the checkout lacks files, or the folder cannot be written.
    pub fn prepare(checkout: &Path, folder: &Path) -> Result<Self> {
        Self::prepare_model(&STORIES, checkout, folder)
    }

    /// As [`prepare`](Self::prepare), for any model.
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare).
    pub fn prepare_model(base: &'static ServedModel, checkout: &Path, folder: &Path) -> Result<Self> {
        let checkout = checkout
            .canonicalize()
            .with_context(|| checkout.display().to_string())?;
        let own = base.vectors.iter().filter(|vector| vector.map.is_none());
        for (seed, vector) in own.enumerate() {
            let path = folder.join(format!("{}.toml", vector.name));
            base.random_vector(&checkout, seed as u64, vector.layers)?.save(&path)?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            model: checkout.join(base.folder).display().to_string(),
            base,
            checkout,
        })
    }

    /// The model's folder.
    pub fn model_folder(&self) -> PathBuf {
        self.checkout.join(self.base.folder)
    }

    /// The configuration, without `[server]`.
    pub fn config(&self, settings: &Settings) -> String {
        let Settings {
            prefix_cache,
            cached_sequences,
            default_scale,
            admin,
            dtype,
        } = settings;
        let kept = cached_sequences.unwrap_or(CACHED_SEQUENCES);
        let cached = if *prefix_cache { kept } else { 0 };
        let (model, kind, dtype) = (&self.model, self.base.kind, dtype.name());
        let within = |file: &str| self.checkout.join(file).display().to_string();
        let mut text = format!(
            "[runtime]\nmax_seqs = 64\nprefix_cache_n = {cached}\n\
             [[models]]\nkind = \"{kind}\"\nmodel_id = \"{model}\"\ndtype = \"{dtype}\"\ndevice = {{ cpu = true }}\n\
             [steering.maps]\n"
        );
        for (name, file) in self.base.maps {
            text += &format!("{name} = \"{}\"\n", within(file));
        }
        text += "[steering.vectors]\n";
        for (name, file) in self.base.shipped {
            text += &format!("{name} = \"{}\"\n", within(file));
        }
        for vector in self.base.vectors.iter().filter(|vector| vector.map.is_none()) {
            text += &format!("{0} = \"{0}.toml\"\n", vector.name);
        }
        if let Some(lines) = admin {
            text += &format!("[steering.admin]\n{lines}\n");
        }
        if let Some(scale) = default_scale {
            let default = &self.base.default;
            text += &format!(
                "[[steering.defaults]]\n[[steering.defaults.vectors]]\nvector = \"{}\"\nscale = {scale:?}\n",
                default.name
            );
            if let Some(map) = default.map {
                text += &format!("map = \"{map}\"\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use steermap_maps::VectorFile;

    use super::*;
    use crate::traffic::models::WINDOW;

    #[test]
    fn the_vectors_and_the_configuration_match_the_model() {
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
        assert!(
            config.contains("dtype = \"f32\"") && config.contains("map = \"across\""),
            "{config}"
        );
    }

    #[test]
    fn another_model_has_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let served = Served::prepare_model(&WINDOW, &checkout, dir.path()).unwrap();
        let config = served.config(&Settings {
            prefix_cache: true,
            cached_sequences: Some(5),
            default_scale: Some(2.0),
            dtype: ServedDtype::F16,
            ..Settings::default()
        });
        assert!(
            config.contains("prefix_cache_n = 5\n") && config.contains("dtype = \"f16\""),
            "{config}"
        );
        assert!(
            !config.contains("across") && config.contains("vector = \"two\""),
            "{config}"
        );
        assert!(dir.path().join("three.toml").exists());
    }
}
