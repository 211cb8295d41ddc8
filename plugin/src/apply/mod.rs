//! Steers a batch: what each row's program does at each of its positions.
//!
//! | module | role |
//! | --- | --- |
//! | [`sequence`] | what a sequence carries: its program, and what its conditions said |
//! | [`reader`] | what a request wants to see of a sequence's stream |
//! | [`pass`] | one forward pass: which layers are looked at, and the plan as far as it is known |
//! | [`plan`] | which steps act at which position |
//! | [`gains`] | what schedules make of the steps |
//! | [`component`] | components of states along directions |
//! | [`per_position`] | what a plan means at a layer, done on a CPU |
//! | [`table`] | the same as tensors, for other devices: a line a direction, gathered across the batch |

pub mod component;
pub mod gains;
pub mod pass;
pub mod per_position;
pub mod plan;
pub mod reader;
pub mod sequence;
pub mod table;

use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor};
use residual_hooks::BatchView;

use pass::Pass;
use plan::Plan;
use table::Tables;

/// Most bytes of programs that plans keep in memory after their passes. A plan of more is made anew for each pass.
pub const MAX_KEPT_PROGRAM_BYTES: usize = 256 << 20;

/// Most plans that are kept: those of passes at their start, and as they are after each layer at which conditions are decided.
const MAX_KEPT_PLANS: usize = 64;

/// Steers the forward passes of one model.
#[derive(Default)]
pub struct Applier {
    tables: Tables,
    /// The plans of the last passes in which every sequence had one token: in generation the next pass wants the same. They keep
    /// the programs of those batches in memory, [`MAX_KEPT_PROGRAM_BYTES`] at most.
    kept: Mutex<Vec<Arc<Plan>>>,
}

/// What a pass was found to do: its rows' plan, and the one before it in the same pass.
pub type Planned<'a> = &'a dyn Fn(&Plan, Option<&Plan>);

impl Applier {
    /// The stream after block `layer`, steered as the rows' programs say; `None` where none of them does anything there.
    /// `planned` is called when a pass begins, and when conditions were decided in it.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn after_block(
        &self,
        layer: usize,
        stream: &Tensor,
        batch: &BatchView,
        planned: Planned<'_>,
    ) -> Result<Option<Tensor>> {
        let Some(pass) = self.look(layer, stream, batch, planned)? else {
            return Ok(None);
        };
        let plan = pass.plan();
        let Some(here) = plan.layer(layer) else { return Ok(None) };
        if stream.device().is_cpu() {
            per_position::apply(&plan, here, pass.gains(), stream)
        } else {
            self.tables.apply(here, pass.gains(), stream)
        }
    }

    /// The pass, once what anybody wants to know after block `layer` was looked at.
    fn look(
        &self,
        layer: usize,
        stream: &Tensor,
        batch: &BatchView,
        planned: Planned<'_>,
    ) -> Result<Option<std::rc::Rc<Pass>>> {
        let (_, width, _) = stream.dims3()?;
        let pass = batch.plan(|| {
            let pass = Pass::new(batch.rows(), width, || self.plan(batch, width, None));
            planned(&pass.plan(), None);
            pass
        });
        let Some(pass) = pass else { return Ok(None) };
        if pass.look(layer, stream, batch.rows())? {
            let before = pass.go_on_with(self.plan(batch, width, Some(layer)));
            planned(&pass.plan(), Some(&before));
        }
        Ok(Some(pass))
    }

    fn plan(&self, batch: &BatchView, width: usize, seen: Option<usize>) -> Arc<Plan> {
        let mut kept = lock(&self.kept);
        if let Some(found) = kept.iter().position(|plan| plan.fits(batch.rows(), width, seen)) {
            // The one that was used last is the last to go.
            let plan = kept.remove(found);
            kept.push(plan.clone());
            return plan;
        }
        let plan = Arc::new(Plan::new(batch.rows(), width, seen));
        if plan.may_recur() && plan.program_bytes() <= MAX_KEPT_PROGRAM_BYTES {
            kept.push(plan.clone());
            while kept.len() > MAX_KEPT_PLANS
                || kept.iter().map(|plan| plan.program_bytes()).sum::<usize>() > MAX_KEPT_PROGRAM_BYTES
            {
                kept.remove(0);
            }
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
