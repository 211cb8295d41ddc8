//! A compiled spec.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use residual_hooks::{Phase, Turn};

use super::condition::{Condition, ConditionStates, Formula};
use super::identity::identify;
use super::schedule::CompiledSchedule;
use super::step::{OPEN, Step, StepLayer};
use crate::directions::Direction;
use crate::select::Selector;
use crate::spec::{Conflict, NormRule, Op};

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
    pub(super) digests: Vec<String>,
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

impl Program {
    /// The program of `steps`, whose conditions are indices into `conditions`.
    pub(super) fn new(
        steps: Vec<Step>,
        conditions: Vec<Condition>,
        conflict: Conflict,
        norm: NormRule,
        used: Vec<String>,
    ) -> Self {
        let (fingerprint, digests) = identify(&steps, &conditions, conflict, norm);
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
        let looks = |condition: &&Condition| condition.reads != ConditionStates::Last;
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
            let schedule = step.schedule.as_ref().map_or(0, CompiledSchedule::bytes);
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
