//! Version 1, which is read but no longer written: one weights file, all pairs affine and in `f32`, and no hashes of
//! single pairs.

use serde::Deserialize;

use super::kinds::{AFFINE, VersionKinds};
use crate::dtype::FloatDtype;
use crate::error::Problem;
use crate::map::fit::FitReport;
use crate::map::header::MapHeader;
use crate::map::linear::{MapKind, bias_name, check_tensor_name, tensor_name};
use crate::map::listing::{ListedPair, MapListing};
use crate::map::positions::Positions;
use crate::model::ModelTable;
use crate::provenance::Provenance;
use crate::store::Weights;

/// The value of the key `format`.
pub(in crate::map) const FORMAT_1: &str = "steermap-map/1";

pub(super) const KINDS: VersionKinds = VersionKinds {
    known: &[AFFINE],
    expected: "\"affine\", the only kind of steermap-map/1",
};

/// The TOML file, key by key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MapTable {
    #[serde(rename = "format")]
    _format: String,
    source: ModelTable,
    target: ModelTable,
    weights: Weights,
    #[serde(default)]
    pair: Vec<PairTable>,
    provenance: Provenance,
    positions: Option<Positions>,
}

/// One `[[pair]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairTable {
    source_layers: Vec<usize>,
    target_layer: usize,
    kind: String,
    weight: String,
    bias: String,
    fit: FitReport,
}

impl MapTable {
    pub(super) fn list(self) -> Result<MapListing, Problem> {
        let pairs = self.pair.into_iter().enumerate();
        Ok(MapListing {
            pairs: pairs.map(|(index, pair)| pair.list(index)).collect::<Result<_, _>>()?,
            header: MapHeader::of_tables(self.source, self.target, self.provenance, self.positions),
            weights: vec![self.weights],
        })
    }
}

impl PairTable {
    fn list(self, index: usize) -> Result<ListedPair, Problem> {
        if self.kind != AFFINE {
            return Err(KINDS.unknown(index, format!("{:?}", self.kind)));
        }
        check_tensor_name(&tensor_name(index, "weight"), &self.weight)?;
        check_tensor_name(&bias_name(index), &self.bias)?;
        if !self.fit.r2_by_rank.is_empty() {
            return Err(Problem::UnknownKey {
                message: format!("pair.{index}.fit: unknown field `r2_by_rank` in {}", FORMAT_1),
            });
        }
        Ok(ListedPair {
            source_layers: self.source_layers,
            target_layer: self.target_layer,
            kind: MapKind::Affine,
            dtype: FloatDtype::F32,
            file: 0,
            sha256: None,
            fit: self.fit,
        })
    }
}
