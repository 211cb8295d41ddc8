//! The hook that steers one model's residual stream.

use std::sync::{Arc, Weak};
use std::time::Instant;

use candle_core::{Result, Tensor};
use residual_hooks::{Admission, BatchView, MARKED, Phase, Prompt, RequestState, ResidualHook, Row};

use crate::apply::Applier;
use crate::apply::plan::{PassPlan, captured};
use crate::apply::sequence::SequenceState;
use crate::compile::Program;
use crate::metrics::Metrics;
use crate::steering::{ClaimedRequest, GIVEN_UP, Model, SharedSteering, admission, in_turns};

/// Steers every row of a batch by its own program.
pub struct SteeringHook {
    layers: Vec<usize>,
    programs: ProgramSource,
    applier: Applier,
}

/// The source of a sequence's program.
enum ProgramSource {
    /// One program for all.
    Fixed(Arc<Program>),
    /// The program of its request, or the model's default.
    Served {
        steering: Weak<SharedSteering>,
        model: String,
    },
}

impl SteeringHook {
    /// The hook that steers every request with `program`.
    pub fn fixed(program: impl Into<Arc<Program>>) -> Self {
        let program = program.into();
        let mut layers = program.layers();
        layers.extend(program.conditions.iter().map(|condition| condition.layer));
        Self {
            layers,
            programs: ProgramSource::Fixed(program),
            applier: Applier::default(),
        }
    }

    /// The hook that steers each request to `model` by its own program.
    pub(crate) fn serving(steering: Weak<SharedSteering>, model: &Model) -> Self {
        Self {
            layers: model.layers.clone(),
            programs: ProgramSource::Served {
                steering,
                model: model.id.clone(),
            },
            applier: Applier::default(),
        }
    }
}

impl ResidualHook for SteeringHook {
    fn layers(&self) -> Vec<usize> {
        self.layers.clone()
    }

    fn claim(&self, request: usize) -> std::result::Result<Option<RequestState>, String> {
        match &self.programs {
            ProgramSource::Fixed(_) => Ok(None),
            ProgramSource::Served { steering, model } => match steering.upgrade() {
                Some(steering) => steering.claim(model, request),
                // The steering was dropped.
                None if request & MARKED == 0 => Ok(None),
                None => Err(GIVEN_UP.to_string()),
            },
        }
    }

    fn wants_turns(&self, claimed: Option<&RequestState>) -> bool {
        match &self.programs {
            ProgramSource::Fixed(program) => program.has_roles(),
            ProgramSource::Served { .. } => claimed
                .and_then(|state| state.downcast_ref::<ClaimedRequest>())
                .is_some_and(ClaimedRequest::wants_turns),
        }
    }

    fn admit(&self, claimed: Option<&RequestState>, prompt: &Prompt<'_>) -> std::result::Result<Admission, String> {
        match &self.programs {
            ProgramSource::Fixed(program) => {
                let program = in_turns(program, prompt.turns?);
                Ok(admission(&program, prompt.tokens, None, |_| ()))
            }
            ProgramSource::Served { .. } => match claimed.and_then(|state| state.downcast_ref::<ClaimedRequest>()) {
                Some(claimed) => claimed.admit(prompt),
                None => Ok(Admission::default()),
            },
        }
    }

    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>> {
        let metrics = match &self.programs {
            ProgramSource::Fixed(_) => None,
            ProgramSource::Served { steering, .. } => steering.upgrade(),
        };
        let Some(steering) = metrics else {
            return self.applier.after_block(layer, stream, batch, &|_, _| ());
        };
        let start = Instant::now();
        let steered = self.applier.after_block(layer, stream, batch, &|plan, before| {
            count(plan, before, batch.rows(), steering.metrics());
        });
        // At every block, since a pass may take seconds: requests of others are running.
        if let Some(live) = steering.live()
            && batch.rows().iter().any(|row| captured(row).is_none())
        {
            live.pace().ran();
        }
        if let Ok(Some(_)) = &steered {
            steering.metrics().applied(start.elapsed());
        }
        steered
    }
}

/// Counts the tokens that a forward pass steers by `plan`, except those that it already steered by the plan `before`.
fn count(plan: &PassPlan, before: Option<&PassPlan>, rows: &[Row], metrics: &Metrics) {
    if plan.sets().is_empty() {
        return;
    }
    let steps = |plan: &PassPlan, position: usize| {
        let set = plan.index().get(position).copied().unwrap_or_default();
        plan.set(set).map_or(0, |set| set.steps)
    };
    let width = plan.index().len() / rows.len().max(1);
    for (number, row) in rows.iter().enumerate() {
        let Some(program) = SequenceState::of(row).map(SequenceState::program) else {
            continue;
        };
        let (mut prompt, mut generated) = (0, 0);
        // A set of steps is a `u32`, so a program has at most 32.
        let mut by_step = [0; u32::BITS as usize];
        for offset in 0..row.tokens().min(width) {
            let position = number * width + offset;
            let known = before.map_or(0, |before| steps(before, position));
            let new = steps(plan, position) & !known;
            if new == 0 {
                continue;
            }
            if known == 0 && row.start + offset < row.prompt_len {
                prompt += 1;
            } else if known == 0 {
                generated += 1;
            }
            for (number, tokens) in by_step.iter_mut().enumerate() {
                *tokens += u64::from(new >> number & 1);
            }
        }
        metrics.tokens(Phase::Prompt, prompt);
        metrics.tokens(Phase::Generation, generated);
        for (name, tokens) in program.used.iter().zip(by_step).filter(|(_, tokens)| *tokens > 0) {
            metrics.steered_by(name, tokens);
        }
    }
}
