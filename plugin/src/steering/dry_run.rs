//! What a request's steering would do, without a request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use steermap_extract::{Running, Text};

use super::{Steering, check_prompt};
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
        // Those of the default that it extends are the operator's to tell.
        let own = asked.vectors.as_ref().map_or(0, Vec::len);
        let compiled = self.compile_asked(model.as_deref(), asked).await?;
        let (id, program, own_steering) = (compiled.model, compiled.program, compiled.own);
        let readouts = compiled.readings.as_ref().map(|readings| readings.readouts());
        let tokens = match (prompt, self.live()) {
            (Some(text), Some(live)) => {
                let running = Running::new(live.engine().clone(), id.clone());
                let tokens = running.tokenize_prompt(&text).await;
                Some(tokens.map_err(|reason| find_error("prompt", reason))?)
            }
            _ => None,
        };
        let first = program
            .as_ref()
            .map_or(0, |program| program.steps.len().saturating_sub(own));
        let vectors = program
            .iter()
            .flat_map(|program| own_steps(program, first, tokens.as_deref()));
        let vectors: Vec<Value> = vectors.collect();
        let layers = program.iter().flat_map(|program| program.steps[first..].iter());
        let layers: BTreeSet<usize> = layers.flat_map(|step| step.layers.keys().copied()).collect();
        let context = self.snapshot().model(Some(&id))?.context;
        let refused = match (&program, &tokens) {
            (_, Some(tokens)) if context.is_some_and(|context| tokens.len() >= context) => Some(format!(
                "prompt: found {} tokens, expected fewer than {}, the model's context",
                tokens.len(),
                context.unwrap_or_default()
            )),
            (Some(program), Some(tokens)) => check_prompt(program, readouts, tokens, own_steering).err(),
            (None, Some(tokens)) => check_prompt(&Program::none(), readouts, tokens, own_steering).err(),
            _ => None,
        };
        Ok(json!({
            "model": id,
            "fingerprint": program.as_ref().map(|program| &program.fingerprint),
            "layers": layers,
            "late_layers": program.as_ref().map_or(Vec::new(), |program| program.late_layers()),
            "clamped_layers": program.as_ref().map_or(&[][..], |program| &program.clamped),
            "vectors": vectors,
            "prompt_tokens": tokens.as_ref().map(Vec::len),
            "reads_layers": readouts.map_or(&[][..], |readouts| &readouts.layers),
            "refused": refused,
        }))
    }
}

/// What the steps from `first` on do.
fn own_steps(program: &Program, first: usize, tokens: Option<&[u32]>) -> Vec<Value> {
    let steps = program.steps.iter().zip(&program.used).zip(&program.stream_norms);
    let steps = steps.skip(first);
    steps
        .map(|((step, name), norms)| describe(step, name, norms, tokens))
        .collect()
}

/// What one vector does.
fn describe(step: &Step, name: &str, norms: &BTreeMap<usize, f64>, tokens: Option<&[u32]>) -> Value {
    let layers = step.layers.iter().map(|(&layer, with)| {
        let mean_norm = norms.get(&layer).copied();
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
        "conditional": step.when.is_some(),
        "scheduled": step.schedule.is_some(),
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
