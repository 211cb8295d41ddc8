//! A map into one target layer, with its layers.

use super::fit::FitReport;
use super::header::MapHeader;
use super::pair_map::PairMap;
use crate::error::Problem;

/// A map into one target layer.
#[derive(Debug, Clone)]
pub struct LayerPair {
    /// The source's layers, 0-based, one at least and none twice. Their states are concatenated in this order.
    pub source_layers: Vec<usize>,
    /// The target's layer, 0-based.
    pub target_layer: usize,
    /// The map, whose `A` is `[hidden_T, source_layers.len() * hidden_S]`.
    pub map: PairMap,
    /// How it was fitted and how good it is.
    pub fit: FitReport,
}

impl LayerPair {
    /// The layers as people write them: `14->11`, or `13+14->11` for several source layers.
    pub fn layers(&self) -> String {
        spell_layers(&self.source_layers, self.target_layer)
    }

    pub(super) fn check_shape(&self, index: usize, header: &MapHeader) -> Result<(), Problem> {
        let (rows, columns) = header.shape(self.source_layers.len());
        self.map.check_shape(index, rows, columns)
    }
}

/// A pair's layers as people write them.
pub(super) fn spell_layers(source_layers: &[usize], target_layer: usize) -> String {
    format!("{}->{target_layer}", spell_source_layers(source_layers))
}

/// A pair's source layers as people write them: `14`, or `13+14` for several.
pub fn spell_source_layers(layers: &[usize]) -> String {
    let layers: Vec<_> = layers.iter().map(usize::to_string).collect();
    layers.join("+")
}
