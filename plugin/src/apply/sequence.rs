//! What a sequence carries from its admission to its end.

use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{DType, Result, Tensor};
use residual_hooks::Row;

use crate::compile::{Condition, Program};

/// The program of one sequence, and what its conditions decided.
pub struct SequenceState {
    program: Arc<Program>,
    decisions: Vec<Decision>,
    on_decision: Box<dyn Fn(bool) + Send + Sync>,
}

/// One condition's way to its decision.
#[derive(Default)]
struct Decision {
    made: OnceLock<bool>,
    /// Prompt tokens seen, from the first on, and the sum of their components along the condition's direction.
    seen: Mutex<(usize, f64)>,
}

impl SequenceState {
    /// A sequence that is about to run. `on_decision` is called with each condition's decision.
    pub fn new(program: Arc<Program>, on_decision: impl Fn(bool) + Send + Sync + 'static) -> Self {
        Self {
            decisions: program.conditions.iter().map(|_| Decision::default()).collect(),
            on_decision: Box::new(on_decision),
            program,
        }
    }

    /// The state of a row's sequence, if steering was asked for it.
    pub fn of(row: &Row) -> Option<&Self> {
        row.state.as_ref()?.downcast_ref()
    }

    /// What is done to the sequence.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Whether a condition holds; not before it is decided.
    pub fn holds(&self, condition: usize) -> bool {
        self.decisions.get(condition).and_then(|d| d.made.get()) == Some(&true)
    }

    /// Whether a condition is yet to be decided from the stream after `layer`.
    pub fn waits_at(&self, layer: usize) -> bool {
        self.open_at(layer).next().is_some()
    }

    fn open_at(&self, layer: usize) -> impl Iterator<Item = (&Condition, &Decision)> {
        let all = self.program.conditions.iter().zip(&self.decisions);
        all.filter(move |(condition, decision)| condition.layer == layer && decision.made.get().is_none())
    }

    /// Looks at the row's states after `layer`, `[tokens or more, hidden]`, for what the conditions there want to know.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn observe(&self, layer: usize, row: &Row, states: &Tensor) -> Result<()> {
        for (condition, decision) in self.open_at(layer) {
            let end = (row.start + row.tokens()).min(row.prompt_len);
            let (from, value) = match condition.mean {
                true => {
                    let mut seen = super::lock(&decision.seen);
                    // A prompt may come in parts, and from its start again where the engine had to make room.
                    if row.start > seen.0 || end <= seen.0 {
                        continue;
                    }
                    let new = states.narrow(0, seen.0 - row.start, end - seen.0)?;
                    let sum = along(&new, condition.direction.values())?;
                    *seen = (end, seen.1 + sum);
                    (seen.0, seen.1 / row.prompt_len as f64)
                }
                false => match row.last_prompt_token() {
                    Some(index) => (
                        row.prompt_len,
                        along(&states.narrow(0, index, 1)?, condition.direction.values())?,
                    ),
                    None => continue,
                },
            };
            if from == row.prompt_len {
                let holds = condition.is_met(value);
                if decision.made.set(holds).is_ok() {
                    (self.on_decision)(holds);
                }
            }
        }
        Ok(())
    }
}

/// The sum over `states`, `[tokens, hidden]`, of their components along `direction`, in f32.
fn along(states: &Tensor, direction: &[f32]) -> Result<f64> {
    let direction = Tensor::new(direction, states.device())?;
    let components = states.to_dtype(DType::F32)?.broadcast_mul(&direction)?;
    Ok(f64::from(components.sum_all()?.to_scalar::<f32>()?))
}
