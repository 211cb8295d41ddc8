//! What the TOML file of a map says, in whichever version of the format.

use super::fit::FitReport;
use super::header::MapHeader;
use super::linear::MapKind;
use crate::dtype::FloatDtype;
use crate::store::Weights;

/// The content of a TOML file of any version.
pub(super) struct MapListing {
    pub(super) header: MapHeader,
    /// The files of weights.
    pub(super) weights: Vec<Weights>,
    pub(super) pairs: Vec<ListedPair>,
}

/// A pair in a TOML file of any version.
pub(super) struct ListedPair {
    pub(super) source_layers: Vec<usize>,
    pub(super) target_layer: usize,
    pub(super) kind: MapKind,
    pub(super) dtype: FloatDtype,
    /// Index of its weights file.
    pub(super) file: usize,
    /// The hash of its tensors; version 1 has none.
    pub(super) sha256: Option<String>,
    pub(super) fit: FitReport,
}
