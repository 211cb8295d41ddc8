//! All of a map file but its pairs.

use super::positions::Positions;
use crate::error::Problem;
use crate::model::{ModelInfo, ModelTable, Numerics};
use crate::provenance::Provenance;

/// All of a map file but its pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct MapHeader {
    /// The model that vectors come from.
    pub source: ModelInfo,
    /// The numerics it ran at.
    pub source_numerics: Numerics,
    /// The model that vectors go to.
    pub target: ModelInfo,
    /// The numerics it ran at.
    pub target_numerics: Numerics,
    /// How the two models' positions were paired, if the fitter says.
    pub positions: Option<Positions>,
    /// How the file came to be.
    pub provenance: Provenance,
}

impl MapHeader {
    /// The header of a TOML file of any version.
    pub(super) fn of_tables(
        source: ModelTable,
        target: ModelTable,
        provenance: Provenance,
        positions: Option<Positions>,
    ) -> Self {
        let (source, source_numerics) = source.split();
        let (target, target_numerics) = target.split();
        Self {
            source,
            source_numerics,
            target,
            target_numerics,
            positions,
            provenance,
        }
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        self.source.check("source")?;
        self.source_numerics.check("source")?;
        self.target.check("target")?;
        self.target_numerics.check("target")?;
        self.provenance.check()?;
        match &self.positions {
            Some(positions) => positions.check(),
            None => Ok(()),
        }
    }

    /// Rows and columns of the weight of a pair with this many source layers.
    pub(super) fn shape(&self, source_layers: usize) -> (usize, usize) {
        // Sizes and layers are 31 bits each, so this fits 64.
        (self.target.hidden_size, source_layers * self.source.hidden_size)
    }
}
