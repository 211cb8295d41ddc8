//! The origin of a mapped vector: the table `[mapped]` of a vector file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::error::Problem;
use crate::offset::OffsetRule;

/// The vector and the map that a mapped vector was made from. A vector found on the model itself has no such origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Name of the map.
    pub map: String,
    /// SHA-256 of the map's TOML file (which states that of its tensors), as [`digest::sha256`] spells it.
    pub map_sha256: String,
    /// The model that the vector was found on, for people.
    pub source_model: String,
    /// That model's fingerprint.
    pub source_fingerprint: String,
    /// How the directions went through the map.
    pub offset: OffsetRule,
    /// For every layer of the vector, the source layers that its direction was made from: at least one, none twice, in
    /// the map's order.
    pub source_layers: BTreeMap<usize, Vec<usize>>,
}

/// `[mapped]`. The source layers stand in the `[[layer]]` tables.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MappedTable {
    map: String,
    map_sha256: String,
    source_model: String,
    source_fingerprint: String,
    offset: OffsetRule,
}

impl Mapped {
    /// Checks all values; `layers` are those of the vector.
    pub(super) fn check(&self, layers: impl IntoIterator<Item = usize>) -> Result<(), Problem> {
        Problem::unless_said("mapped.map", &self.map)?;
        digest::check("mapped.map_sha256", &self.map_sha256)?;
        Problem::unless_said("mapped.source_model", &self.source_model)?;
        Problem::unless_said("mapped.source_fingerprint", &self.source_fingerprint)?;
        let mut left = self.source_layers.clone();
        for layer in layers {
            let field = format!("source_layers of layer {layer}");
            match left.remove(&layer) {
                Some(source_layers) => Problem::unless_distinct(field, &source_layers)?,
                None => return Err(Problem::value(field, "nothing", "a list, as there is a [mapped] table")),
            }
        }
        match left.keys().next() {
            Some(layer) => Err(Problem::value(
                "mapped.source_layers",
                format!("those of layer {layer}"),
                "those of the vector's layers alone",
            )),
            None => Ok(()),
        }
    }

    pub(super) fn table(&self) -> MappedTable {
        MappedTable {
            map: self.map.clone(),
            map_sha256: self.map_sha256.clone(),
            source_model: self.source_model.clone(),
            source_fingerprint: self.source_fingerprint.clone(),
            offset: self.offset,
        }
    }
}

impl MappedTable {
    pub(super) fn with(self, source_layers: BTreeMap<usize, Vec<usize>>) -> Mapped {
        Mapped {
            map: self.map,
            map_sha256: self.map_sha256,
            source_model: self.source_model,
            source_fingerprint: self.source_fingerprint,
            offset: self.offset,
            source_layers,
        }
    }
}
