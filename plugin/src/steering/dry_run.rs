//! The dry run: what a request's steering would do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use residual_hooks::{Prompt, Turn};
use serde_json::{Value, json};
use steermap_extract::{ExtractError, Running, Text};

use super::{Steering, for_prompt, in_turns};
use crate::compile::{Program, Step, ranges};
use crate::select::Selector;
use crate::spec::Op;
use crate::{RequestSteering, SteeringError};

impl Steering {
    /// What `asked` would do to a request to `model` (the engine's default model if `None`) and, if given, to this
    /// prompt.
    ///
    /// # Errors
    ///
    /// The error of such a request, except what is wrong with the prompt, which the answer reports.
    pub(crate) async fn dry_run(
        &self,
        model: Option<String>,
        asked: RequestSteering,
        prompt: Option<Text>,
    ) -> Result<Value, SteeringError> {
        // The default's steps are not revealed.
        let own = asked.vectors.as_ref().map_or(0, Vec::len);
        let compiled = self.compile_asked(model.as_deref(), asked).await?;
        let (id, program, own_steering) = (compiled.model, compiled.program, compiled.own);
        let readouts = compiled.readings.as_ref().map(|readings| readings.readouts());
        let fingerprint = program.as_ref().map(|program| program.fingerprint.clone());
        let program = program.unwrap_or_else(|| Arc::new(Program::none()));
        let prompt = match (prompt, self.live()) {
            (Some(text), Some(live)) => {
                let running = Running::new(live.engine().clone(), id.clone());
                let prompt = tokenized(&running, &text, program.has_roles()).await;
                Some(prompt.map_err(|reason| SteeringError::find("prompt", reason))?)
            }
            _ => None,
        };
        let prompt = prompt.as_ref().map(|(tokens, turns)| Prompt {
            tokens,
            turns: turns.as_deref().map_err(String::as_str),
        });
        let context = self.snapshot().model(Some(&id))?.context;
        let refused = prompt.as_ref().and_then(|prompt| {
            let tokens = prompt.tokens.len();
            match context.filter(|context| tokens >= *context) {
                Some(context) => Some(format!(
                    "prompt: found {tokens} tokens, expected fewer than {context}, the model's context"
                )),
                None => for_prompt(&program, readouts, prompt, own_steering).err(),
            }
        });
        // Positions are reported for a refused prompt too, as far as they are known.
        let (program, known) = match prompt.as_ref().map(|prompt| prompt.turns) {
            Some(Ok(turns)) => (in_turns(&program, turns), true),
            Some(Err(_)) => (program, false),
            None => (program, true),
        };
        let first = program.steps.len().saturating_sub(own);
        let layers = program.steps[first..].iter();
        let layers: BTreeSet<usize> = layers.flat_map(|step| step.layers.keys().copied()).collect();
        let tokens = prompt.map(|prompt| prompt.tokens);
        let told = tokens.filter(|_| known);
        Ok(json!({
            "model": id,
            "fingerprint": fingerprint,
            "layers": layers,
            "late_layers": program.late_layers(),
            "clamped_layers": program.clamped,
            "vectors": own_steps(&program, first, told),
            "prompt_tokens": tokens.map(<[u32]>::len),
            "reads_layers": readouts.map_or(&[][..], |readouts| &readouts.layers),
            "refused": refused,
        }))
    }
}

/// A prompt's tokens and, if `wanted`, its turns, or why these are not known.
async fn tokenized(
    running: &Running,
    text: &Text,
    wanted: bool,
) -> Result<(Vec<u32>, Result<Vec<Turn>, String>), ExtractError> {
    match text {
        Text::Chat(messages) if wanted => running.chat_turns(messages).await,
        _ => Ok((running.tokenize_prompt(text).await?, Ok(Vec::new()))),
    }
}

/// Describes the steps from `first` on.
fn own_steps(program: &Program, first: usize, tokens: Option<&[u32]>) -> Vec<Value> {
    let steps = program.steps.iter().zip(&program.used).zip(&program.stream_norms);
    let steps = steps.skip(first);
    steps
        .map(|((step, name), norms)| describe(step, name, norms, tokens))
        .collect()
}

/// Describes one step.
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

/// One word for which tokens of a phase are selected.
fn extent(selector: &Selector) -> &'static str {
    if selector.is_all() {
        "all"
    } else if selector.is_none() {
        "none"
    } else {
        "some"
    }
}
