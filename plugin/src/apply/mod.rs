//! Steers a batch: what each row's program does at each of its positions, a gather and an add for each step.
//!
//! | module | role |
//! | --- | --- |
//! | [`sequence`] | what a sequence carries: its program, and what its conditions decided |
//! | [`plan`] | once a forward pass: which steps act at which position |
//! | [`table`] | what that means at a layer, as tensors: a line a direction, gathered across the batch |

pub mod plan;
pub mod sequence;
pub mod table;

use std::sync::Mutex;

use candle_core::{Result, Tensor};
use residual_hooks::BatchView;

use plan::Plan;
use sequence::SequenceState;
use table::Tables;

/// Steers the forward passes of one model.
#[derive(Default)]
pub struct Applier {
    tables: Tables,
}

impl Applier {
    /// The stream after block `layer`, steered as the rows' programs say; `None` where none of them does anything there.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn after_block(
        &self,
        layer: usize,
        stream: &Tensor,
        batch: &BatchView,
        planned: impl FnOnce(&Plan),
    ) -> Result<Option<Tensor>> {
        let (_, width, _) = stream.dims3()?;
        let plan = batch.plan(|| {
            let plan = Plan::new(batch.rows(), width);
            planned(&plan);
            plan
        });
        let Some(plan) = plan else { return Ok(None) };
        if plan.decides_at(layer) {
            for (index, row) in batch.rows().iter().enumerate() {
                if let Some(state) = SequenceState::of(row) {
                    state.observe(layer, row, &stream.get(index)?)?;
                }
            }
        }
        if !plan.acts_at(layer) {
            return Ok(None);
        }
        self.tables.apply(&plan.layer(layer), stream)
    }
}

/// Recovers a poisoned lock; the caches behind it are consistent after every statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
