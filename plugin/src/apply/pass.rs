//! One forward pass.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use residual_hooks::Row;

use super::gains::Gains;
use super::plan::{PassPlan, captured};
use super::sequence::SequenceState;

/// What a forward pass does and reads.
pub struct Pass {
    /// The plan as far as it is known. Conditions are decided in the course of the pass.
    plan: RefCell<Arc<PassPlan>>,
    gains: Option<Gains>,
    /// By layer, whether conditions of some row are decided there.
    decides: Vec<bool>,
    /// By layer, whether some row is read there.
    reads: Vec<bool>,
    /// Whether the stream of some row's prompt is captured.
    captures: bool,
}

impl Pass {
    /// The pass of `rows` in a stream of `width` positions; `plan` makes its first plan.
    pub fn new(rows: &[Row], width: usize, plan: impl FnOnce() -> Arc<PassPlan>) -> Self {
        let (mut decides, mut reads) = (Vec::new(), Vec::new());
        for row in rows {
            let Some(state) = SequenceState::of(row) else { continue };
            state.note_triggers(row);
            state.decides_at(row).for_each(|layer| mark(&mut decides, layer));
            let layers = state.reader().map_or(&[][..], |reader| reader.layers());
            layers.iter().for_each(|layer| mark(&mut reads, *layer));
        }
        Self {
            plan: RefCell::new(plan()),
            gains: Gains::new(rows, width),
            decides,
            reads,
            captures: rows.iter().any(|row| captured(row).is_some()),
        }
    }

    /// The plan as far as it is known.
    pub fn plan(&self) -> Arc<PassPlan> {
        self.plan.borrow().clone()
    }

    /// The factors of schedules, if there are any.
    pub fn gains(&self) -> Option<&Gains> {
        self.gains.as_ref()
    }

    /// Replaces the plan. Returns the previous one.
    pub fn replace_plan(&self, plan: Arc<PassPlan>) -> Arc<PassPlan> {
        self.plan.replace(plan)
    }

    /// Shows `stream`, `[rows, width, hidden]` after `layer` and before it is steered there, to all readers and
    /// conditions. Returns whether conditions were decided, so that a new plan is needed.
    ///
    /// # Errors
    ///
    /// Errors of candle.
    pub fn observe(&self, layer: usize, stream: &Tensor, rows: &[Row]) -> Result<bool> {
        let at = |layers: &[bool]| layers.get(layer).copied().unwrap_or(false);
        let (decides, reads) = (at(&self.decides), at(&self.reads));
        if !(decides || reads || self.captures) {
            return Ok(false);
        }
        for (index, row) in rows.iter().enumerate() {
            if let Some(capture) = captured(row) {
                capture.keep(layer, row, &stream.get(index)?)?;
            }
            let Some(state) = SequenceState::of(row) else { continue };
            let reader = state.reader().filter(|reader| reader.reads_at(layer));
            let decides = state.decides_at(row).any(|decided| decided == layer);
            if reader.is_none() && !decides {
                continue;
            }
            let states = stream.get(index)?;
            if let Some(reader) = reader {
                reader.read(layer, row, &states)?;
            }
            if decides {
                state.observe(layer, row, &states)?;
            }
        }
        Ok(decides)
    }
}

fn mark(layers: &mut Vec<bool>, layer: usize) {
    if layers.len() <= layer {
        layers.resize(layer + 1, false);
    }
    layers[layer] = true;
}
