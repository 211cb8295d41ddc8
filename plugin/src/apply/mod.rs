//! Steers a batch: what each row's program does at each of its positions.
//!
//! | module | role |
//! | --- | --- |
//! | [`sequence`] | the state of a sequence: its program, and the values of its conditions |
//! | [`reader`] | reads numbers and states of a sequence's stream for its request |
//! | [`pass`] | one forward pass: which layers are read, and the plan as far as it is known |
//! | [`plan`] | which steps act at which position |
//! | [`gains`] | the factors that schedules give to the steps |
//! | [`component`] | components of states along directions |
//! | [`per_position`] | runs the plan of a layer on a CPU, position by position |
//! | [`table`] | runs it on other devices: a table with one row per direction, gathered across the batch |

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
use plan::PassPlan;
use table::TensorTables;

use crate::lock::lock;

/// Most bytes of programs that kept plans hold in memory. A plan with more is built anew for each pass.
pub const MAX_KEPT_PROGRAM_BYTES: usize = 256 << 20;

/// Most kept plans. A pass has one at its start, and one after each layer at which conditions are decided.
const MAX_KEPT_PLANS: usize = 64;

/// Steers the forward passes of one model.
#[derive(Default)]
pub struct Applier {
    tables: TensorTables,
    /// The plans of the last passes in which every sequence had one token, since in generation the next pass usually
    /// needs the same plan. They hold the programs of those batches in memory, at most [`MAX_KEPT_PROGRAM_BYTES`].
    kept: Mutex<Vec<Arc<PassPlan>>>,
}

/// Called with the plan of a pass, and with the previous plan of the same pass, if there is one.
pub type PlanObserver<'a> = &'a dyn Fn(&PassPlan, Option<&PassPlan>);

impl Applier {
    /// The stream after block `layer`, steered by the rows' programs; `None` if none of them acts there. Calls
    /// `planned` when a pass begins, and when conditions were decided in it.
    ///
    /// # Errors
    ///
    /// Errors of candle.
    pub fn after_block(
        &self,
        layer: usize,
        stream: &Tensor,
        batch: &BatchView,
        planned: PlanObserver<'_>,
    ) -> Result<Option<Tensor>> {
        let Some(pass) = self.observe(layer, stream, batch, planned)? else {
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

    /// The pass, after all readers and conditions have observed the stream after block `layer`.
    fn observe(
        &self,
        layer: usize,
        stream: &Tensor,
        batch: &BatchView,
        planned: PlanObserver<'_>,
    ) -> Result<Option<std::rc::Rc<Pass>>> {
        let (_, width, _) = stream.dims3()?;
        let pass = batch.plan(|| {
            let pass = Pass::new(batch.rows(), width, || self.plan(batch, width, None));
            planned(&pass.plan(), None);
            pass
        });
        let Some(pass) = pass else { return Ok(None) };
        if pass.observe(layer, stream, batch.rows())? {
            let before = pass.replace_plan(self.plan(batch, width, Some(layer)));
            planned(&pass.plan(), Some(&before));
        }
        Ok(Some(pass))
    }

    fn plan(&self, batch: &BatchView, width: usize, seen: Option<usize>) -> Arc<PassPlan> {
        let mut kept = lock(&self.kept);
        if let Some(found) = kept.iter().position(|plan| plan.fits(batch.rows(), width, seen)) {
            // The plan that was used last is removed last.
            let plan = kept.remove(found);
            kept.push(plan.clone());
            return plan;
        }
        let plan = Arc::new(PassPlan::new(batch.rows(), width, seen));
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

#[cfg(test)]
mod tests;
