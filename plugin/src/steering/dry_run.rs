//! What a request's steering would do, without a request.

use std::sync::Arc;

use serde_json::{Value, json};
use steermap_extract::{Running, Text};

use super::{Steering, check_work};
use crate::compile::{Program, Step, ranges};
use crate::live::config::find_error;
use crate::select::Selector;
use crate::spec::Op;
use crate::{RequestSteering, SteeringError};

impl Steering {
    /// What `asked` would do to a request to `model` (the engine's default one if `None`) and, if it is given, to this prompt.
    ///
    /// # Errors
    ///
    /// What such a request would be refused with, but for what lies in the prompt: that is in the answer.
    pub(crate) async fn dry_run(
        &self,
        model: Option<String>,
        asked: RequestSteering,
        prompt: Option<Text>,
    ) -> Result<Value, SteeringError> {
        let (id, program) = self.compile_asked(model.as_deref(), asked).await?;
        let tokens = match (prompt, self.live()) {
            (Some(text), Some(live)) => {
                let running = Running::new(live.engine().clone(), id.clone());
                let tokens = running.tokenize(&text).await;
                Some(tokens.map_err(|reason| find_error("prompt", reason))?)
            }
            _ => None,
        };
        let vectors = program.iter().flat_map(|program| {
            let steps = program.steps.iter().zip(&program.used);
            steps.map(|(step, name)| describe(program, step, name, tokens.as_deref()))
        });
        let refused = match (&program, &tokens) {
            (Some(program), Some(tokens)) => {
                let fits = check_work(program, tokens.len());
                fits.and_then(|()| program.validate_prompt(tokens)).err()
            }
            _ => None,
        };
        Ok(json!({
            "model": id,
            "fingerprint": program.as_ref().map(|program| &program.fingerprint),
            "layers": program.as_ref().map_or(Vec::new(), |program| program.layers()),
            "clamped_layers": program.as_ref().map_or(&[][..], |program| &program.clamped),
            "vectors": vectors.collect::<Vec<_>>(),
            "prompt_tokens": tokens.as_ref().map(Vec::len),
            "refused": refused,
        }))
    }
}

/// What one vector does.
fn describe(program: &Arc<Program>, step: &Step, name: &str, tokens: Option<&[u32]>) -> Value {
    let layers = step.layers.iter().map(|(&layer, with)| {
        let mean_norm = program.stream_norms.get(&layer).copied();
        let relative = match step.op {
            // A share of the component.
            Op::Ablate => None,
            Op::Add | Op::Set | Op::Clamp => mean_norm.map(|mean| f64::from(with.scale) / mean),
        };
        json!({"layer": layer, "scale": with.scale, "mean_norm": mean_norm, "relative": relative})
    });
    let positions = tokens.map(|tokens| {
        let all = tokens.iter().enumerate();
        let steered = all.filter(|(position, token)| step.prompt.contains(*position, tokens.len(), **token));
        ranges(&steered.map(|(position, _)| position).collect::<Vec<_>>())
    });
    json!({
        "vector": name,
        "op": step.op,
        "bounds": (step.op == Op::Clamp).then(|| step.bounds.map(|bound| bound.is_finite().then_some(bound))),
        "layers": layers.collect::<Vec<_>>(),
        "prompt": extent(&step.prompt),
        "positions": positions,
        "generation": extent(&step.generation),
        "conditional": step.condition.is_some(),
    })
}

/// Which tokens of a phase, in a word.
fn extent(selector: &Selector) -> &'static str {
    if selector.is_all() {
        "all"
    } else if selector.is_none() {
        "none"
    } else {
        "some"
    }
}
