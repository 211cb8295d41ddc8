//! A map's TOML file, key by key.

use serde::{Deserialize, Serialize};

use super::affine::{bias_name, weight_name};
use super::{FitReport, MapFile, MapHeader, Positions};
use crate::error::Problem;
use crate::model::ModelTable;
use crate::provenance::Provenance;
use crate::store::Weights;

/// The only kind of map so far.
const AFFINE: &str = "affine";

/// The TOML file, key by key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MapTable {
    format: String,
    source: ModelTable,
    target: ModelTable,
    pub(super) weights: Weights,
    /// None at all is a [`Problem::NoPairs`], with a better message than a missing key's.
    #[serde(default)]
    pub(super) pair: Vec<PairTable>,
    provenance: Provenance,
    positions: Option<Positions>,
}

/// One `[[pair]]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairTable {
    pub(super) source_layers: Vec<usize>,
    pub(super) target_layer: usize,
    kind: String,
    pub(super) weight: String,
    pub(super) bias: String,
    pub(super) fit: FitReport,
}

impl MapTable {
    pub(super) fn new(file: &MapFile, weights: Weights) -> Self {
        let MapHeader {
            source,
            source_numerics,
            target,
            target_numerics,
            positions,
            provenance,
        } = file.header.clone();
        let pairs = file.pairs.iter().enumerate().map(|(index, pair)| PairTable {
            source_layers: pair.source_layers.clone(),
            target_layer: pair.target_layer,
            kind: AFFINE.to_owned(),
            weight: weight_name(index),
            bias: bias_name(index),
            fit: pair.fit.clone(),
        });
        Self {
            format: MapFile::FORMAT.to_owned(),
            source: ModelTable::new(source, source_numerics),
            target: ModelTable::new(target, target_numerics),
            weights,
            pair: pairs.collect(),
            provenance,
            positions,
        }
    }

    pub(super) fn split(self) -> (MapHeader, Vec<PairTable>, Weights) {
        let Self {
            format: _,
            source,
            target,
            weights,
            pair,
            provenance,
            positions,
        } = self;
        let (source, source_numerics) = source.split();
        let (target, target_numerics) = target.split();
        let header = MapHeader {
            source,
            source_numerics,
            target,
            target_numerics,
            positions,
            provenance,
        };
        (header, pair, weights)
    }
}

impl PairTable {
    /// Checks that the pair at this index names its own tensors.
    pub(super) fn check_names(&self, index: usize) -> Result<(), Problem> {
        for (found, expected) in [(&self.weight, weight_name(index)), (&self.bias, bias_name(index))] {
            if *found != expected {
                let found = found.clone();
                return Err(Problem::PairTensorName { expected, found });
            }
        }
        Ok(())
    }
}

/// Checks that all pairs are of the one kind known. To be called before the keys are judged: a map of a later kind has
/// others, and they are not what is wrong with it.
pub(super) fn check_kinds(text: &str) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Pairs {
        #[serde(default)]
        pair: Vec<Pair>,
    }
    #[derive(Deserialize)]
    struct Pair {
        kind: Option<toml::Value>,
    }

    // What can't be read even so is wrong in a way that reading all of it says better.
    let Ok(Pairs { pair: pairs }) = toml::from_str(text) else {
        return Ok(());
    };
    for (index, pair) in pairs.into_iter().enumerate() {
        match pair.kind {
            Some(kind) if kind.as_str() != Some(AFFINE) => {
                return Err(Problem::Kind {
                    pair: index,
                    found: kind.to_string(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}
