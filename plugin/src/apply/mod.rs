//! Steers a batch: what each row's program does at each of its positions.
//!
//! | module | role |
//! | --- | --- |
//! | [`sequence`] | what a sequence carries: its program, and what its conditions decided |
//! | [`plan`] | once a forward pass: which steps act at which position |
//! | [`per_position`] | what that means at a layer, done on a CPU |
//! | [`table`] | the same as tensors, for other devices: a line a direction, gathered across the batch |

pub mod per_position;
pub mod plan;
pub mod sequence;
pub mod table;

use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor};
use residual_hooks::BatchView;

use plan::{Plan, captured};
use sequence::SequenceState;
use table::Tables;

/// Most bytes of programs that a plan keeps in memory after its pass. A plan of more is made anew for each pass.
pub const MAX_KEPT_PROGRAM_BYTES: usize = 256 << 20;

/// Steers the forward passes of one model.
#[derive(Default)]
pub struct Applier {
    tables: Tables,
    /// The plan of the last pass in which every sequence had one token: in generation the next pass wants the same. It keeps
    /// the programs of that one batch in memory, [`MAX_KEPT_PROGRAM_BYTES`] at most.
    kept: Mutex<Option<Arc<Plan>>>,
}

impl Applier {
    /// The stream after block `layer`, steered as the rows' programs say; `None` where none of them does anything there.
    /// `planned` is called once a forward pass.
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
        let Some(plan) = self.observe(layer, stream, batch, planned)? else {
            return Ok(None);
        };
        let Some(here) = plan.layer(layer) else { return Ok(None) };
        if stream.device().is_cpu() {
            per_position::apply(&plan, here, stream)
        } else {
            self.tables.apply(here, stream)
        }
    }

    /// The plan of the pass, once what its conditions want to know after block `layer` is looked at.
    fn observe(
        &self,
        layer: usize,
        stream: &Tensor,
        batch: &BatchView,
        planned: impl FnOnce(&Plan),
    ) -> Result<Option<Arc<Plan>>> {
        let (_, width, _) = stream.dims3()?;
        let plan = batch.plan(|| {
            let plan = self.plan(batch, width);
            planned(&plan);
            plan
        });
        let Some(plan) = plan.map(|plan| Arc::clone(&plan)) else {
            return Ok(None);
        };
        if plan.captures() {
            for (index, row) in batch.rows().iter().enumerate() {
                if let Some(capture) = captured(row) {
                    capture.keep(layer, row, &stream.get(index)?)?;
                }
            }
        }
        if plan.decides_at(layer) {
            for (index, row) in batch.rows().iter().enumerate() {
                if let Some(state) = SequenceState::of(row) {
                    state.observe(layer, row, &stream.get(index)?)?;
                }
            }
        }
        Ok(Some(plan))
    }

    fn plan(&self, batch: &BatchView, width: usize) -> Arc<Plan> {
        let mut kept = lock(&self.kept);
        if let Some(plan) = kept.as_ref().filter(|plan| plan.fits(batch.rows(), width)) {
            return plan.clone();
        }
        let plan = Arc::new(Plan::new(batch.rows(), width));
        if plan.may_recur() && plan.program_bytes() <= MAX_KEPT_PROGRAM_BYTES {
            *kept = Some(plan.clone());
        }
        plan
    }
}

/// Recovers a poisoned lock; the caches behind it are consistent after every statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
