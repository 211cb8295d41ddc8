//! Checks of all pairs together.

use std::collections::BTreeSet;

use super::fit::FitReport;
use super::header::MapHeader;
use super::layer_pair::spell_layers;
use crate::error::Problem;
use crate::model::ModelInfo;

/// Checks what is said of pairs (layers and fit), one after another.
#[derive(Debug, Default)]
pub(super) struct PairChecker {
    seen: BTreeSet<(Vec<usize>, usize)>,
}

impl PairChecker {
    /// Checks the next pair.
    pub(super) fn check(
        &mut self,
        header: &MapHeader,
        source_layers: &[usize],
        target_layer: usize,
        fit: &FitReport,
    ) -> Result<(), Problem> {
        let index = self.seen.len();
        let source_field = format!("pair.{index}.source_layers");
        Problem::unless_distinct(&source_field, source_layers)?;
        for layer in source_layers {
            check_layer(&source_field, *layer, &header.source)?;
        }
        check_layer(&format!("pair.{index}.target_layer"), target_layer, &header.target)?;
        let comparable = source_layers.len() == 1 && header.source.hidden_size == header.target.hidden_size;
        fit.check(&format!("pair.{index}.fit"), source_layers.len(), comparable)?;
        if !self.seen.insert((source_layers.to_vec(), target_layer)) {
            let layers = spell_layers(source_layers, target_layer);
            return Err(Problem::DuplicatePair { layers });
        }
        Ok(())
    }

    /// Checks that there was a pair.
    pub(super) fn end(&self) -> Result<(), Problem> {
        if self.seen.is_empty() {
            Err(Problem::NoPairs)
        } else {
            Ok(())
        }
    }
}

fn check_layer(field: &str, layer: usize, model: &ModelInfo) -> Result<(), Problem> {
    if layer < model.num_layers {
        return Ok(());
    }
    Err(Problem::PairLayerOutOfRange {
        field: field.to_owned(),
        layer,
        num_layers: model.num_layers,
    })
}
