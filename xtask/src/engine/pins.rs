//! plugin/engine/engine.toml: the published crates that the engine is made from.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    #[serde(rename = "crate")]
    pub crates: Vec<Pin>,
}

/// A published crate and the patch applied to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub name: String,
    pub version: String,
    /// SHA-256 of the published archive, as in Cargo.lock.
    pub checksum: String,
    /// [`super::tree::hash`] of the unpacked source.
    pub tree: String,
    /// File name of the patch, in the same folder.
    pub patch: String,
}

impl Pins {
    pub fn load(engine: &Path) -> Result<Self> {
        let path = engine.join("engine.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}
