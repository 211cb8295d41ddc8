//! Compiles a spec and its vectors into a program: what is done at each layer of one model.

mod condition;
mod directions;
mod dose;
mod identity;
mod program;
mod ranges;
mod reach;
mod readout;
mod scale;
mod schedule;
mod sharing;
mod step;

use std::collections::BTreeMap;

use residual_hooks::Phase;
use tokenizers::Tokenizer;

use crate::select::{ResolveToken, Selector};
use crate::spec::layers::Available;
use crate::spec::{Conflict, Op, SteeringSpec, VectorUse};
use crate::{Library, SteeringError};

pub use condition::{Condition, ConditionStates, Formula};
use directions::VectorAndMap;
pub use dose::Dose;
pub use program::Program;
pub(crate) use ranges::ranges;
pub use readout::{CompiledReadout, Readouts, compile_readouts};
use scale::{scale, spelled_scale};
pub use schedule::CompiledSchedule;
pub use sharing::Sharing;
use step::{MeanNorms, bounds, largest};
pub use step::{Step, StepLayer};

pub use crate::target::Target;

/// Compiles `spec`. `tokens` returns the id of a text that is one token of the model's tokenizer, and `at` is the path
/// of the spec, ending with a dot or empty, for messages.
///
/// # Errors
///
/// The errors of [`SteeringSpec::validate`]; an unknown vector or map; a vector that does not fit the model, directly
/// or through its map, by size, weights or a missing layer; a relative scale at a layer whose mean norm is not known;
/// an offset that 32-bit numbers can't hold, or that takes the stream beyond the range of the target's dtype; a text
/// that is not one token; exclusions that leave no token; vectors that can act at one layer and position if `conflict`
/// is `error`.
pub fn compile(
    spec: &SteeringSpec,
    library: &Library,
    target: &Target,
    tokens: ResolveToken<'_>,
    at: &str,
) -> Result<Program, SteeringError> {
    compile_within(spec, library, target, tokens, at, None)
}

/// As [`compile`], with offsets limited by `dose`.
///
/// # Errors
///
/// As [`compile`], or vectors that together exceed the bound.
pub fn compile_within(
    spec: &SteeringSpec,
    library: &Library,
    target: &Target,
    tokens: ResolveToken<'_>,
    at: &str,
    dose: Option<Dose>,
) -> Result<Program, SteeringError> {
    spec.validate(at)?;
    let mut conditions: Vec<Condition> = Vec::new();
    let mut steps = Vec::with_capacity(spec.vectors.len());
    let mut mean_norms = Vec::with_capacity(spec.vectors.len());
    for (index, used) in spec.vectors.iter().enumerate() {
        let at = format!("{at}vectors[{index}]");
        let when = match &used.when {
            Some(when) => Some(condition::formula(
                when,
                &mut conditions,
                library,
                target,
                &format!("{at}.when"),
            )?),
            None => None,
        };
        // A condition on a token's own state is known from its layer on.
        let own = |condition: usize| match &conditions[condition] {
            each if each.is_each() => each.layer,
            _ => 0,
        };
        let from = when.as_ref().map_or(0, |when| when.known_from(&own));
        let (layers, norms) = step_layers(used, library, target, from, &at)?;
        mean_norms.push(norms);
        let selector = |tokens_of, phase, name| {
            let at = format!("{at}.apply.{name}");
            Selector::new(tokens_of, phase, &at, tokens)
        };
        let schedule = match &used.schedule {
            Some(schedule) => schedule::schedule(schedule, tokens, &format!("{at}.schedule"))?,
            None => None,
        };
        let mut prompt = selector(used.in_prompt(), Phase::Prompt, "prompt")?;
        if used.in_generation().reaches_back() {
            prompt = prompt.with_last();
        }
        if schedule.as_ref().is_some_and(|schedule| schedule.at_rest() == 0.0) {
            prompt = prompt.never();
        }
        let generation = selector(used.in_generation(), Phase::Generation, "generation")?;
        steps.push(Step {
            op: used.op,
            bounds: bounds(used),
            layers,
            prompt,
            generation,
            when,
            schedule,
        });
    }
    if spec.conflict == Conflict::Error {
        refuse_conflicts(spec, &steps, at)?;
    }
    let clamped = match dose {
        Some(dose) => dose::hold(dose, spec, &mut steps, &mean_norms, library, target, at)?,
        None => Vec::new(),
    };
    let known = mean_norms
        .iter()
        .flatten()
        .map(|(layer, norm)| (*layer, *norm))
        .collect();
    reach::refuse_overflow(spec, &steps, &known, target, at)?;
    let used = spec.vectors.iter().map(|used| used.vector.to_string()).collect();
    Ok(Program {
        clamped,
        stream_norms: mean_norms,
        ..Program::new(steps, conditions, spec.conflict, spec.norm, used)
    })
}

/// The direction and scale of `used` at each of its layers, which are at least `from`, and the known mean norms of the
/// stream there.
fn step_layers(
    used: &VectorUse,
    library: &Library,
    target: &Target,
    from: usize,
    at: &str,
) -> Result<(BTreeMap<usize, StepLayer>, MeanNorms), SteeringError> {
    let vector = library.resolve(&used.vector, used.map.as_deref(), target, at)?;
    let vector_and_map = VectorAndMap {
        vector: &vector,
        name: used.vector.label(),
        map: used.map.as_deref(),
        offset: used.offset.unwrap_or_default(),
    };
    let directions = vector_and_map.directions(library, target, at)?;
    let available = directions.layers();
    let too_early = |layer: &usize| *layer < from;
    let chosen = match &used.layers {
        None => {
            let known = ranges(&available);
            let chosen: Vec<usize> = available.into_iter().filter(|layer| !too_early(layer)).collect();
            if chosen.is_empty() {
                let expected = format!("a condition that is known at one of the vector's layers: {known}");
                return Err(SteeringError::value(
                    format!("{at}.when"),
                    format!("one that is known from layer {from} on"),
                    expected,
                ));
            }
            chosen
        }
        Some(layers) => {
            let available = Available {
                layers: &available,
                num_layers: target.num_layers,
                best: directions.proposed(),
            };
            let chosen = layers.among(&available, &format!("{at}.layers"))?;
            if let Some(early) = chosen.iter().find(|layer| too_early(layer)) {
                let expected = format!("{from} or later, where the condition on this token is known");
                return Err(SteeringError::value(
                    format!("{at}.layers"),
                    early.to_string(),
                    expected,
                ));
            }
            chosen
        }
    };
    let (mut layers, mut mean_norms) = (BTreeMap::new(), BTreeMap::new());
    for layer in chosen {
        let found = directions.layer(layer, &format!("{at}.layers"))?;
        let given = scale(used, layer, &found, at)?;
        let scale = match used.op {
            Op::Add if !used.normalize => given * found.norm,
            Op::Add | Op::Ablate | Op::Set => given,
            Op::Clamp => largest(bounds(used)),
        };
        let step = StepLayer {
            direction: found.direction.clone(),
            scale: scale as f32,
        };
        if !step.scale.is_finite() {
            let (field, given) = spelled_scale(used, given);
            let found = format!("{given}, which makes an offset of {}", step.scale);
            return Err(SteeringError::value(
                format!("{at}.{field}"),
                found,
                "a finite 32-bit offset",
            ));
        }
        if found.mean_norm > 0.0 {
            mean_norms.insert(layer, found.mean_norm);
        }
        layers.insert(layer, step);
    }
    Ok((layers, mean_norms))
}

/// Refuses two steps that can act at one layer and position. Two conditions can hold at once, so they don't separate
/// steps.
fn refuse_conflicts(spec: &SteeringSpec, steps: &[Step], at: &str) -> Result<(), SteeringError> {
    for (index, later) in steps.iter().enumerate() {
        for (other, earlier) in steps[..index].iter().enumerate() {
            let Some(layer) = later.layers.keys().find(|layer| earlier.layers.contains_key(layer)) else {
                continue;
            };
            let tokens = if earlier.prompt.may_overlap(&later.prompt) {
                "tokens of the prompt"
            } else if earlier.generation.may_overlap(&later.generation) {
                "generated tokens"
            } else {
                continue;
            };
            let [first, second] =
                [other, index].map(|i| format!("{:?} (vectors[{i}])", spec.vectors[i].vector.to_string()));
            return Err(SteeringError::value(
                format!("{at}conflict"),
                format!("{first} and {second}, which can both act at layer {layer} on {tokens}"),
                "vectors that never do, since conflict = \"error\"",
            ));
        }
    }
    Ok(())
}

/// The id of the one token that `tokenizer` makes of `text`; the error says what it makes instead.
///
/// # Errors
///
/// There is no tokenizer, or the text is no token or several.
pub fn token_of(tokenizer: Option<&Tokenizer>, text: &str) -> Result<u32, String> {
    let tokenizer = tokenizer.ok_or("for which the model has no tokenizer")?;
    if let Some(id) = tokenizer.token_to_id(text) {
        return Ok(id);
    }
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| format!("which the tokenizer does not take: {error}"))?;
    match encoding.get_ids() {
        [id] => Ok(*id),
        ids => {
            let tokens: Vec<String> = ids
                .iter()
                .map(|&id| format!("{:?}", tokenizer.id_to_token(id).unwrap_or_default()))
                .collect();
            Err(format!("which is {} tokens: {}", ids.len(), tokens.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests;
