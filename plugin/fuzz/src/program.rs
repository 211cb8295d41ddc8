//! Compiles a valid spec and checks the program token by token, and the readouts of a request.

use std::ops::Range;
use std::sync::LazyLock;

use residual_hooks::{Admission, Phase, Turn};

use crate::compile::{Step, compile, compile_readouts};
use crate::fixture::{self, HIDDEN, LAYERS, token};
use crate::select::Selector;
use crate::spec::{Conflict, NormRule, RequestSteering, Where};
use crate::{Library, Program, SteeringSpec, Target, VectorUse, oracle, reference};

/// A sequence that programs are tested on.
struct Sequence {
    /// How many of its tokens are the prompt.
    len: usize,
    tokens: &'static [u32],
    /// The messages of its chat; none if it is no chat.
    turns: Vec<Turn>,
}

impl Sequence {
    fn new(len: usize, tokens: &'static [u32], turns: &[(&str, Range<usize>)]) -> Self {
        let turn = |(role, tokens): &(&str, Range<usize>)| Turn {
            role: role.to_string(),
            tokens: tokens.clone(),
        };
        Self {
            len,
            tokens,
            turns: turns.iter().map(turn).collect(),
        }
    }

    fn prompt(&self) -> &[u32] {
        &self.tokens[..self.len]
    }

    /// The length of the common prefix with `other`.
    fn in_common(&self, other: &Self) -> usize {
        let both = self.tokens.iter().zip(other.tokens);
        both.take_while(|(token, other)| token == other).count()
    }
}

/// The tokens of a conversation.
const CONVERSATION: &[u32] = &[3, u32::MAX, 3, 3, 7, 0, 1, 2, 4, 4, 3, 2, 0];

/// They include a conversation that goes on, and turns of all kinds: adjacent, empty, and of an unknown role.
static SEQUENCES: LazyLock<[Sequence; 6]> = LazyLock::new(|| {
    [
        Sequence::new(1, &[0, 0], &[("user", 0..1)]),
        Sequence::new(2, &[4, 1, 4, 2, 9, 0], &[]),
        Sequence::new(
            5,
            &[0, 1, 2, 3, 0, 4, 0, 1],
            &[("system", 0..1), ("user", 1..3), ("assistant", 3..5)],
        ),
        Sequence::new(5, CONVERSATION, &[("system", 0..1), ("user", 2..4)]),
        Sequence::new(
            12,
            CONVERSATION,
            &[("system", 0..1), ("user", 2..4), ("assistant", 5..8), ("user", 9..11)],
        ),
        Sequence::new(
            9,
            CONVERSATION,
            &[
                ("assistant", 0..2),
                ("developer", 2..3),
                ("critic", 3..5),
                ("tool", 6..7),
                ("assistant", 8..8),
            ],
        ),
    ]
});

static LIBRARY: LazyLock<Library> = LazyLock::new(fixture::library);
static TARGET: LazyLock<Target> = LazyLock::new(fixture::target);

/// Compiles `spec`, which is valid except that it may have too many vectors, and checks the program; `again` is the
/// same spec after it was written and read, and must compile to the same program.
///
/// # Panics
///
/// If an invariant is violated.
pub fn check(spec: &SteeringSpec, again: Option<&SteeringSpec>) {
    let program = |spec| compile(spec, &LIBRARY, &TARGET, &token, "steering.").map_err(|error| error.to_string());
    let compiled = program(spec);
    if let Some(again) = again {
        assert_eq!(program(again), compiled);
    }
    let program = match compiled {
        Ok(program) => program,
        Err(error) => {
            assert!(error.starts_with("steering."), "{error}");
            return;
        }
    };
    assert_eq!(program.steps.len(), spec.vectors.len());
    let mut runs = Vec::with_capacity(SEQUENCES.len());
    for sequence in SEQUENCES.iter() {
        let program = in_chat(&program, &sequence.turns);
        let seen: Vec<Vec<bool>> = (spec.vectors.iter().zip(&program.steps))
            .map(|(used, step)| selected(used, step, sequence))
            .collect();
        check_prompt_validation(spec, &program, sequence);
        steps_meet_only_where_they_may(&program, &seen, sequence.len);
        let states = states_change_only_where_selected(&program, &seen, sequence);
        let run = SteeredRun {
            sequence,
            states,
            admission: admission(&program, sequence.prompt()),
        };
        salts_say_where_steps_act(&program, &run, &seen);
        runs.push(run);
    }
    for (index, run) in runs.iter().enumerate() {
        for other in &runs[..index] {
            shared_states_are_equal(run, other);
        }
    }
    identity(&program);
}

/// Checks the readouts of a valid request.
///
/// # Panics
///
/// If an invariant is violated.
pub fn check_reading(asked: &RequestSteering) {
    let layers: Vec<usize> = (0..LAYERS).collect();
    let readouts = match compile_readouts(asked, &LIBRARY, &TARGET, &layers, "steering.") {
        Ok(readouts) => readouts,
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.starts_with("steering.readout[") || error.starts_with("steering.states."),
                "{error}"
            );
            return;
        }
    };
    let Some(readouts) = readouts else {
        assert!(asked.readout.is_none() && asked.states.is_none());
        return;
    };
    assert_eq!(readouts.readings.len(), asked.readout.as_ref().map_or(0, Vec::len));
    assert_eq!(readouts.states, asked.states);
    assert!(readouts.layers.is_sorted() && readouts.layers.iter().all(|layer| *layer < LAYERS));
    for reading in &readouts.readings {
        assert!(readouts.layers.contains(&reading.layer));
        let norm = reading.direction.values().iter().map(|x| x * x).sum::<f32>();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}

/// The program for a chat, as the server makes it.
fn in_chat(program: &Program, turns: &[Turn]) -> Program {
    let resolved = program.in_turns(turns);
    assert!(!resolved.has_roles());
    assert_eq!(resolved.fingerprint, program.fingerprint);
    if program.has_roles() {
        resolved
    } else {
        assert_eq!(resolved, *program);
        program.clone()
    }
}

/// The tokens of the sequence that the step acts on, after checking that they are those of the spec.
fn selected(used: &VectorUse, step: &Step, sequence: &Sequence) -> Vec<bool> {
    let len = sequence.len;
    let at = |(position, &id): (usize, &u32)| {
        let in_prompt = position < len;
        let [prompt, generation] = [&step.prompt, &step.generation].map(|phase| phase.contains(position, len, id));
        let expected = if in_prompt {
            (oracle::acts_on_prompt(used, position, len, id, &sequence.turns), false)
        } else {
            (false, oracle::selects(used.in_generation(), position - len, 0, id, &[]))
        };
        assert_eq!((prompt, generation), expected, "{position} of {len}: {id}");
        for (selector, found, here) in [
            (&step.prompt, prompt, in_prompt),
            (&step.generation, generation, !in_prompt),
        ] {
            // (The prompt's last token may be selected because it is the last.)
            if here && position + 1 != len {
                check_properties(selector, found, position, len, id);
            }
        }
        prompt || generation
    };
    sequence.tokens.iter().enumerate().map(at).collect()
}

fn check_properties(selector: &Selector, found: bool, position: usize, len: usize, id: u32) {
    assert!(found || !selector.is_all());
    assert!(!found || !selector.is_none());
    let first = if position < len { 0 } else { len };
    assert!(!selector.ignores_position() || found == selector.contains(first, len, id));
}

/// Checks that the validation of a prompt is correct, and that each vector acts on a valid prompt.
fn check_prompt_validation(spec: &SteeringSpec, program: &Program, sequence: &Sequence) {
    let prompt = sequence.prompt();
    let mut expected = Ok(());
    for (index, (used, step)) in spec.vectors.iter().zip(&program.steps).enumerate().rev() {
        let idle = oracle::idle_clause(used.in_prompt(), prompt, &sequence.turns);
        let found = step.prompt.selects_something(prompt);
        let clause = found.as_ref().err().and_then(|message| message.split(": ").next());
        assert_eq!(clause, idle.as_deref());
        let any = (prompt.iter().enumerate()).any(|(position, id)| step.prompt.contains(position, prompt.len(), *id));
        let needs_not = matches!(used.in_prompt(), Where::Only(only) if only.tokens.is_some() || only.roles.is_some());
        let never = used.schedule.is_some() || *used.in_prompt() == Where::None;
        assert!(any || idle.is_some() || needs_not || never);
        if let Err(message) = found {
            expected = Err(format!("steering.vectors[{index}].apply.prompt.{message}"));
        }
    }
    assert_eq!(program.validate_prompt(prompt), expected);
}

/// Checks that steps that act on the same token are never reported as disjoint.
fn steps_meet_only_where_they_may(program: &Program, seen: &[Vec<bool>], len: usize) {
    for (i, a) in program.steps.iter().enumerate() {
        for (j, b) in program.steps[..i].iter().enumerate() {
            let meet = |from: usize, to: usize| (from..to).any(|position| seen[i][position] && seen[j][position]);
            let (in_prompt, in_generation) = (meet(0, len), meet(len, seen[i].len()));
            assert!(!in_prompt || (a.prompt.may_overlap(&b.prompt) && b.prompt.may_overlap(&a.prompt)));
            assert!(!in_generation || a.generation.may_overlap(&b.generation));
            let layers_meet = a.layers.keys().any(|layer| b.layers.contains_key(layer));
            let refused = program.conflict == Conflict::Error && layers_meet;
            assert!(!refused || !(in_prompt || in_generation));
        }
    }
}

/// The state that is steered.
const BEFORE: [f32; HIDDEN] = [0.5, -1.0, 2.0, 0.25];

/// The steered state at each token and layer.
type SteeredStates = Vec<[[f32; HIDDEN]; LAYERS]>;

/// Steers a state at every layer and token with the plugin's reference implementation.
fn states_change_only_where_selected(program: &Program, seen: &[Vec<bool>], sequence: &Sequence) -> SteeredStates {
    let decisions = vec![true; program.conditions.len()];
    let mut states = vec![[BEFORE; LAYERS]; sequence.tokens.len()];
    for (position, states) in states.iter_mut().enumerate() {
        for (layer, state) in states.iter_mut().enumerate() {
            let acts =
                (program.steps.iter().zip(seen)).any(|(step, seen)| seen[position] && step.layers.contains_key(&layer));
            let tokens = &sequence.tokens[..=position];
            reference::steer(program, state, layer, sequence.len, tokens, &decisions);
            assert!(acts || *state == BEFORE);
            assert!(!state.iter().any(|x| x.is_nan()), "{state:?}");
            if acts && program.norm == NormRule::Preserve {
                let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                let (was, is) = (norm(&BEFORE), norm(state));
                assert!((was - is).abs() < 1e-5 * was || is == 0.0, "{was} {is}");
            }
        }
    }
    states
}

/// A steered sequence, and its sharing with caches.
struct SteeredRun<'a> {
    sequence: &'a Sequence,
    states: SteeredStates,
    admission: Admission,
}

fn admission(program: &Program, prompt: &[u32]) -> Admission {
    let sharing = program.sharing(prompt);
    Admission {
        salts: sharing.salts.into(),
        own_from: sharing.own_from,
        ..Admission::default()
    }
}

/// Checks that the salt of unsteered states is 0, that the salt of steered states is not, and that only generated
/// tokens are not shared.
fn salts_say_where_steps_act(program: &Program, run: &SteeredRun<'_>, seen: &[Vec<bool>]) {
    let (sequence, Admission { salts, own_from, .. }) = (run.sequence, &run.admission);
    let first = program.first_in_prompt(sequence.prompt());
    assert!(salts.is_sorted_by(|(a, _), (b, _)| a < b));
    assert!(own_from.is_none_or(|own| own + 1 >= sequence.len));
    for position in 0..own_from.unwrap_or(usize::MAX).min(sequence.tokens.len()) {
        let acts = seen.iter().any(|seen| seen[position]);
        let before = salts.iter().rev().find(|(from, _)| *from <= position);
        let salt = before.map_or(0, |(_, salt)| *salt);
        assert!(salt != 0 || !acts, "{position}: {salts:?}");
        assert!(salt == 0 || position >= first, "{position}: {salts:?}");
        assert!(!acts || position >= first);
    }
}

/// Checks that tokens are steered equally in two sequences as long as a cache may share their states.
fn shared_states_are_equal(run: &SteeredRun<'_>, other: &SteeredRun<'_>) {
    let compatible = run.admission.compatible(&other.admission);
    let shared = run.sequence.in_common(other.sequence).min(compatible);
    assert_eq!(run.states[..shared], other.states[..shared]);
}

fn identity(program: &Program) {
    for step in &program.steps {
        let values = step
            .layers
            .values()
            .flat_map(|layer| layer.direction.values().iter().chain([&layer.scale]));
        assert!(values.into_iter().all(|x| x.is_finite()));
        assert!(
            step.when
                .iter()
                .flat_map(|when| when.conditions())
                .all(|condition| condition < program.conditions.len())
        );
        for other in &program.steps {
            for phase in [Phase::Prompt, Phase::Generation] {
                let [a, b] = [step, other].map(|step| match phase {
                    Phase::Prompt => &step.prompt,
                    Phase::Generation => &step.generation,
                });
                assert_eq!(a == b, a.canonical() == b.canonical());
            }
        }
    }
    if program.uniform {
        for step in &program.steps {
            // (The prompt's last token may be selected because it is the last.)
            let alike = |id: u32| step.prompt.contains(0, 2, id) == step.generation.contains(3, 2, id);
            assert!((0..10).all(alike));
        }
    }
}
