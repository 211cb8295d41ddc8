//! The target `spec_toml`: bytes as a configuration file with `[[steering.defaults]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::spec::{Conflict, NormRule};
use crate::vector_source::VectorEntry;
use crate::{SteeringSpec, VectorUse, program};

/// The part of the `[steering]` table that has specs, as `config.rs` reads it. That module can't be included, since it
/// needs mistral.rs.
#[derive(Deserialize)]
struct SteeringFile {
    #[serde(default)]
    steering: SteeringTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct SteeringTable {
    #[serde(default)]
    vectors: BTreeMap<String, VectorEntry>,
    #[serde(default)]
    maps: BTreeMap<String, PathBuf>,
    #[serde(default)]
    defaults: Vec<DefaultEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`model` is only read")]
struct DefaultEntry {
    model: Option<String>,
    #[serde(default)]
    vectors: Vec<VectorUse>,
    #[serde(default)]
    conflict: Conflict,
    #[serde(default)]
    norm: NormRule,
}

/// Reads `bytes` as a configuration file, and checks invariants of its defaults.
///
/// # Panics
///
/// If an invariant is violated.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let SteeringFile { steering } = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            // The message for the user.
            let _ = error.to_string();
            return;
        }
    };
    for (index, entry) in steering.defaults.into_iter().enumerate() {
        let at = format!("steering.defaults[{index}].");
        let spec = SteeringSpec {
            vectors: entry.vectors,
            conflict: entry.conflict,
            norm: entry.norm,
        };
        if let Err(error) = spec.validate(&at) {
            assert!(error.to_string().starts_with(&at), "{error}");
            continue;
        }
        let written = toml::to_string(&spec).expect("TOML of a valid spec");
        let again: SteeringSpec = toml::from_str(&written).expect("what was written");
        assert_eq!(again, spec, "{written}");
        program::check(&spec, Some(&again));
    }
}
