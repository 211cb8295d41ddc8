//! Compiles a spec and its vectors into a program: what is done at each layer of one model.

mod condition;
mod directions;
mod dose;
mod identity;
mod reach;
mod readout;
mod schedule;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use residual_hooks::{Phase, Turn};
use steermap_maps::Spread;
use tokenizers::Tokenizer;

use crate::directions::{Direction, LayerDirection};
use crate::select::{ResolveToken, Selector};
use crate::spec::layers::Available;
use crate::spec::{Conflict, NormRule, Op, SteeringSpec, VectorUse};
use crate::{Library, SteeringError};

pub use condition::{Condition, Formula, Reads};
use directions::VectorAndMap;
pub use dose::Dose;
pub use readout::{Reading, Readouts, compile_readouts};
pub use schedule::Schedule;
pub use sharing::Sharing;

pub use crate::target::Target;

/// A compiled spec: what is done to the residual stream of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// SHA-256, in hex, over everything that decides what is done: equal fingerprints mean equal steering. Names are
    /// not part of it.
    pub fingerprint: String,
    /// One per vector of the spec, in its order.
    pub steps: Vec<Step>,
    /// The conditions that steps depend on, each once.
    pub conditions: Vec<Condition>,
    /// What happens where several steps act at one layer and position.
    pub conflict: Conflict,
    /// What happens to the stream's norm.
    pub norm: NormRule,
    /// By step, a hash over everything that it does to a token of the prompt.
    digests: Vec<String>,
    /// Whether prompt tokens and generated tokens are steered equally at every position. The state of a generated token
    /// then equals the state of the same token in a prompt.
    pub uniform: bool,
    /// The name of each step's vector.
    pub used: Vec<String>,
    /// The layers at which the operator's bound reduced scales, ascending.
    pub clamped: Vec<usize>,
    /// By step, the stream's mean norm after each layer that it steers, if its vector or map states it.
    pub stream_norms: Vec<BTreeMap<usize, f64>>,
}

/// What one vector does.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// For [`Op::Clamp`], the bounds of the component; infinite where there is none.
    pub bounds: [f32; 2],
    /// By layer, the direction and scale.
    pub layers: BTreeMap<usize, StepLayer>,
    /// The prompt tokens that it acts on.
    pub prompt: Selector,
    /// The generated tokens that it acts on.
    pub generation: Selector,
    /// The condition on which it acts, if there is one.
    pub when: Option<Formula>,
    /// Its strength over the course of the generation; `None`: constant.
    pub schedule: Option<Schedule>,
}

/// The stream's mean norm after each layer, if known; above 0.
type MeanNorms = BTreeMap<usize, f64>;

/// The direction and scale of a step at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLayer {
    /// `[hidden_size]`, finite: the unit direction, which programs share; of any length in a program from
    /// [`Program::adding`].
    pub direction: Arc<Direction>,
    /// For [`Op::Add`] the factor of the direction, for [`Op::Ablate`] the share of the component that is removed, for
    /// [`Op::Set`] the new component, for [`Op::Clamp`] the larger of its finite bounds by absolute value. Finite.
    pub scale: f32,
}

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

impl Program {
    /// The program of `steps`, whose conditions are indices into `conditions`.
    fn new(
        steps: Vec<Step>,
        conditions: Vec<Condition>,
        conflict: Conflict,
        norm: NormRule,
        used: Vec<String>,
    ) -> Self {
        let (fingerprint, digests) = identity::identify(&steps, &conditions, conflict, norm);
        let alike = |step: &Step| {
            step.when.is_none()
                && step.schedule.is_none()
                && step.prompt.ignores_position()
                && step.prompt.is_alike(&step.generation)
        };
        Self {
            uniform: steps.iter().all(alike),
            fingerprint,
            digests,
            steps,
            conditions,
            conflict,
            norm,
            used,
            clamped: Vec::new(),
            stream_norms: Vec::new(),
        }
    }

    /// The program that adds `offsets` (by layer, `[hidden_size]`) to every token.
    pub fn adding(offsets: BTreeMap<usize, Vec<f32>>) -> Self {
        let layers = offsets.into_iter();
        let step = Step {
            op: Op::Add,
            bounds: OPEN,
            layers: layers
                .map(|(layer, offset)| {
                    let direction = Arc::new(Direction::new(offset));
                    (layer, StepLayer { direction, scale: 1.0 })
                })
                .collect(),
            prompt: Selector::all(Phase::Prompt),
            generation: Selector::all(Phase::Generation),
            when: None,
            schedule: None,
        };
        let used = vec!["(offsets)".to_string()];
        Self::new(vec![step], Vec::new(), Conflict::default(), NormRule::default(), used)
    }

    /// Whether what it does to a prompt depends on the positions of a chat's messages.
    pub fn has_roles(&self) -> bool {
        self.steps.iter().any(|step| step.prompt.has_roles())
    }

    /// The program for a prompt with these turns.
    pub fn in_turns(&self, turns: &[Turn]) -> Self {
        let mut program = self.clone();
        for step in &mut program.steps {
            step.prompt = step.prompt.in_turns(turns);
        }
        program
    }

    /// The position of the first token of `prompt` that a step acts on, or the prompt's length if there is none. States
    /// before it are those of an unsteered prompt.
    pub fn first_in_prompt(&self, prompt: &[u32]) -> usize {
        let acts = |(position, &token): (usize, &u32)| {
            let mut steps = self.steps.iter();
            steps.any(|step| step.prompt.contains(position, prompt.len(), token))
        };
        prompt.iter().enumerate().position(acts).unwrap_or(prompt.len())
    }

    /// The program that does nothing.
    pub fn none() -> Self {
        Self::new(
            Vec::new(),
            Vec::new(),
            Conflict::default(),
            NormRule::default(),
            Vec::new(),
        )
    }

    /// The cost of steering a prompt of `prompt_len` tokens: positions times steps times layers. Conditions that are
    /// decided at every token add positions times their number, and positions times all steps and conditions for each
    /// layer where some are decided. 0 if the prompt is not steered.
    pub fn work(&self, prompt_len: usize) -> u64 {
        let len = prompt_len as u64;
        let work = |step: &Step| match (step.prompt.is_none(), step.prompt.is_last()) {
            (true, _) => 0,
            (false, true) => step.layers.len() as u64,
            (false, false) => (step.layers.len() as u64).saturating_mul(len),
        };
        let steps: u64 = self.steps.iter().map(work).fold(0, u64::saturating_add);
        let looks = |condition: &&Condition| condition.reads != Reads::Last;
        let looking = self.conditions.iter().filter(looks).count() as u64;
        let deciding: BTreeSet<usize> = self
            .conditions
            .iter()
            .filter(|c| c.is_each())
            .map(|c| c.layer)
            .collect();
        let planned = deciding.len() * (self.steps.len() + self.conditions.len());
        steps.saturating_add((looking + planned as u64).saturating_mul(len))
    }

    /// Whether all tokens of the prompt must be computed and none taken from a cache, since a condition depends on
    /// them.
    pub fn sees_all_of_the_prompt(&self) -> bool {
        self.conditions.iter().any(Condition::remembers)
    }

    /// The layers at which the first generated token can't be steered though later ones are, since the condition for it
    /// is decided at a later layer. Ascending.
    pub fn late_layers(&self) -> Vec<usize> {
        let known_from = |condition: usize| self.conditions.get(condition).map_or(0, |condition| condition.layer);
        let mut late = BTreeSet::new();
        for step in self.steps.iter().filter(|step| step.prompt.is_last()) {
            let from = step.when.as_ref().map_or(0, |when| when.known_from(&known_from));
            late.extend(step.layers.keys().copied().filter(|layer| *layer < from));
        }
        late.into_iter().collect()
    }

    /// Its size in memory, including its directions, which other programs may share.
    pub fn bytes(&self) -> usize {
        let direction = |direction: &Direction| size_of::<StepLayer>() + direction.bytes();
        let step = |step: &Step| {
            let schedule = step.schedule.as_ref().map_or(0, Schedule::bytes);
            let tests = step
                .when
                .as_ref()
                .map_or(0, |when| 2 * size_of::<Formula>() * when.conditions().len());
            let layers: usize = step.layers.values().map(|layer| direction(&layer.direction)).sum();
            size_of::<Step>() + layers + step.prompt.bytes() + step.generation.bytes() + schedule + tests
        };
        let conditions = self.conditions.iter().map(Condition::bytes);
        let names = self.used.iter().chain(&self.digests);
        let names: usize = names.map(|name| size_of::<String>() + name.len()).sum();
        size_of::<Self>() + self.steps.iter().map(step).sum::<usize>() + conditions.sum::<usize>() + names
    }

    /// The layers that it acts on, ascending.
    pub fn layers(&self) -> Vec<usize> {
        let layers: BTreeSet<usize> = self.steps.iter().flat_map(|step| step.layers.keys().copied()).collect();
        layers.into_iter().collect()
    }

    /// Checks that each clause of the spec's selectors selects a token of `prompt`.
    ///
    /// # Errors
    ///
    /// The first clause that selects nothing, with its path from the top of the request. If a request extends the
    /// default, vectors are counted from the default's first.
    pub fn validate_prompt(&self, prompt: &[u32]) -> Result<(), String> {
        for (index, step) in self.steps.iter().enumerate() {
            step.prompt
                .selects_something(prompt)
                .map_err(|clause| format!("steering.vectors[{index}].apply.prompt.{clause}"))?;
        }
        Ok(())
    }
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

/// Bounds that allow every number.
const OPEN: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// The bounds that `used` keeps a component between.
fn bounds(used: &VectorUse) -> [f32; 2] {
    match used.op {
        Op::Clamp => [
            used.min.map_or(OPEN[0], |min| min as f32),
            used.max.map_or(OPEN[1], |max| max as f32),
        ],
        Op::Add | Op::Ablate | Op::Set => OPEN,
    }
}

/// The largest absolute value of the finite bounds; 0 if none is finite.
fn largest(bounds: [f32; 2]) -> f64 {
    let finite = bounds.into_iter().filter(|bound| bound.is_finite());
    f64::from(finite.map(f32::abs).fold(0.0, f32::max))
}

/// The field that states the strength of `used`, and its value; `absent` if there is no such field.
fn spelled_scale(used: &VectorUse, absent: f64) -> (&'static str, f64) {
    if used.op == Op::Clamp {
        return match (used.min, used.max) {
            (Some(min), max) if max.is_none_or(|max| min.abs() >= max.abs()) => ("min", min),
            (_, max) => ("max", max.unwrap_or(absent)),
        };
    }
    match (used.relative_scale, used.std_scale) {
        (Some(given), _) => ("relative_scale", given),
        (None, Some(given)) => ("std_scale", given),
        (None, None) => ("scale", used.scale.unwrap_or(absent)),
    }
}

/// The absolute scale of `used` at a layer.
fn scale(used: &VectorUse, layer: usize, found: &LayerDirection, at: &str) -> Result<f64, SteeringError> {
    let unknown = |name: &str, given: f64, what: &str, expected: &str| {
        let found = format!("{given} at layer {layer}, where {what} is not known");
        Err(SteeringError::value(format!("{at}.{name}"), found, expected))
    };
    match (used.relative_scale, used.std_scale, found.neutral) {
        (Some(relative), ..) if found.mean_norm > 0.0 => Ok(relative * found.mean_norm),
        (Some(relative), ..) => {
            let expected = "scale, or a file that says the mean norm";
            unknown("relative_scale", relative, "the stream's mean norm", expected)
        }
        (None, Some(deviations), Some(Spread { mean, std })) => Ok(match used.op {
            Op::Set => mean + deviations * std,
            _ => deviations * std,
        }),
        (None, Some(deviations), None) => {
            let expected = "scale, or the vector of a file that says neutral_std, without a map";
            unknown(
                "std_scale",
                deviations,
                "how the stream's component varies on neutral text",
                expected,
            )
        }
        // Absent only for ablate, whose default removes the whole component.
        (None, None, _) => Ok(used.scale.unwrap_or(1.0)),
    }
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

/// Writes ascending numbers, runs of them as `3-7`.
pub(crate) fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let part = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
