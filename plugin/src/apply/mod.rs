//! Steers a batch: what each row's program does at each of its positions, done with one gather and one add a layer.
//!
//! | module | role |
//! | --- | --- |
//! | [`sequence`] | what a sequence carries: its program, and what its conditions decided |
//! | [`plan`] | once a forward pass: which steps act at which position |
//! | [`table`] | once a mix of programs: what that means at a layer, as tensors |

pub mod plan;
pub mod sequence;
pub mod table;

use std::sync::Mutex;

use candle_core::{Result, Tensor};
use residual_hooks::BatchView;

use plan::{IndexTensors, Plan};
use sequence::SequenceState;
use table::Tables;

/// Steers the forward passes of one model.
#[derive(Default)]
pub struct Applier {
    tables: Mutex<Tables>,
    indices: Mutex<IndexTensors>,
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
        let (rows, width, hidden) = stream.dims3()?;
        let plan = batch.plan(|| {
            let plan = Plan::new(batch.rows(), width);
            planned(&plan);
            plan
        });
        let Some(plan) = plan else { return Ok(None) };
        if plan.decides_at(layer) {
            for (index, row) in batch.rows().iter().enumerate() {
                if let Some(state) = SequenceState::of(row) {
                    state.look(layer, row, &stream.get(index)?)?;
                }
            }
        }
        if !plan.acts_at(layer) {
            return Ok(None);
        }
        let table = lock(&self.tables).get(layer, plan.kinds(), stream)?;
        let Some(table) = table else { return Ok(None) };
        let index = lock(&self.indices).get(&plan, stream.device())?;
        table.apply(stream, &index, (rows, width, hidden)).map(Some)
    }
}

/// What is locked are caches, whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
