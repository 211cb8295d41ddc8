//! Compiles a valid spec and checks the program token by token.

use std::sync::LazyLock;

use residual_hooks::Phase;

use crate::compile::{Step, compile};
use crate::fixture::{self, HIDDEN, LAYERS, token};
use crate::select::Selector;
use crate::spec::{Conflict, NormRule, Where};
use crate::{Library, Program, SteeringSpec, Target, VectorUse, oracle, reference};

/// Sequences that programs are tried on: the tokens, the first `usize` of which are the prompt.
const SEQUENCES: [(usize, &[u32]); 4] = [
    (1, &[0, 0]),
    (2, &[4, 1, 4, 2, 9, 0]),
    (5, &[0, 1, 2, 3, 0, 4, 0, 1]),
    (9, &[3, u32::MAX, 3, 3, 7, 0, 1, 2, 4, 4, 3, 2]),
];

/// Compiles `spec`, which is valid but for having too many vectors, and checks the program; `again` is the same spec
/// after it was written and read, and must compile to the same.
///
/// # Panics
///
/// If something does not hold.
pub fn check(spec: &SteeringSpec, again: Option<&SteeringSpec>) {
    static LIBRARY: LazyLock<Library> = LazyLock::new(fixture::library);
    static TARGET: LazyLock<Target> = LazyLock::new(fixture::target);
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
    for (len, tokens) in SEQUENCES {
        let seen: Vec<Vec<bool>> = (spec.vectors.iter().zip(&program.steps))
            .map(|(used, step)| selected(used, step, len, tokens))
            .collect();
        prompt_is_looked_at(spec, &program, &tokens[..len]);
        steps_meet_only_where_they_may(&program, &seen, len);
        states_change_only_where_selected(&program, &seen, len, tokens);
    }
    identity(&program);
}

/// The tokens of the sequence that the step acts on, after checking that they are those of the spec.
fn selected(used: &VectorUse, step: &Step, len: usize, tokens: &[u32]) -> Vec<bool> {
    let at = |(position, &id): (usize, &u32)| {
        let in_prompt = position < len;
        let [prompt, generation] = [&step.prompt, &step.generation].map(|phase| phase.contains(position, len, id));
        let (expected_prompt, expected_generation) = match in_prompt {
            true => (oracle::acts_on_prompt(used, position, len, id), false),
            false => (false, oracle::selects(used.in_generation(), position - len, 0, id)),
        };
        assert_eq!(
            (prompt, generation),
            (expected_prompt, expected_generation),
            "{position} of {len}: {id}"
        );
        for (selector, found, here) in [
            (&step.prompt, prompt, in_prompt),
            (&step.generation, generation, !in_prompt),
        ] {
            // (The prompt's last token may be selected for being the last.)
            if here && position + 1 != len {
                says_of_itself(selector, found, position, len, id);
            }
        }
        prompt || generation
    };
    tokens.iter().enumerate().map(at).collect()
}

fn says_of_itself(selector: &Selector, found: bool, position: usize, len: usize, id: u32) {
    assert!(found || !selector.is_all());
    assert!(!found || !selector.is_none());
    // Elsewhere in the same phase.
    let (longer, base) = if position < len { (len + 3, 0) } else { (len + 3, 3) };
    assert!(selector.depends_on_prompt_len() || found == selector.contains(position + base, longer, id));
    let first = if position < len { 0 } else { len };
    assert!(!selector.ignores_position() || found == selector.contains(first, len, id));
}

/// Checks that what is said of a prompt is true, and that each vector acts on a prompt that passes.
fn prompt_is_looked_at(spec: &SteeringSpec, program: &Program, prompt: &[u32]) {
    let mut expected = Ok(());
    for (index, (used, step)) in spec.vectors.iter().zip(&program.steps).enumerate().rev() {
        let idle = oracle::idle_clause(used.in_prompt(), prompt);
        let found = step.prompt.selects_something(prompt);
        let clause = found.as_ref().err().and_then(|message| message.split(": ").next());
        assert_eq!(clause, idle.as_deref());
        let any = (prompt.iter().enumerate()).any(|(position, id)| step.prompt.contains(position, prompt.len(), *id));
        let needs_not = matches!(used.in_prompt(), Where::Only(selection) if selection.tokens.is_some());
        let never = used.schedule.is_some() || *used.in_prompt() == Where::None;
        assert!(any || idle.is_some() || needs_not || never);
        assert!(idle.is_none() || !step.prompt.is_all());
        if let Err(message) = found {
            expected = Err(format!("steering.vectors[{index}].apply.prompt.{message}"));
        }
    }
    assert_eq!(program.validate_prompt(prompt), expected);
}

/// Checks two and two steps that act on one token: they are never called disjoint.
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

/// Steers a state at every layer and token, as spelled out in the plugin's reference.
fn states_change_only_where_selected(program: &Program, seen: &[Vec<bool>], len: usize, tokens: &[u32]) {
    let decisions = vec![true; program.conditions.len()];
    let starts = |position: usize| tokens[..=position].to_vec();
    for layer in 0..LAYERS {
        for position in 0..tokens.len() {
            let acts =
                (program.steps.iter().zip(seen)).any(|(step, seen)| seen[position] && step.layers.contains_key(&layer));
            let before: [f32; HIDDEN] = [0.5, -1.0, 2.0, 0.25];
            let mut state = before;
            reference::steer(program, &mut state, layer, len, &starts(position), &decisions);
            assert!(acts || state == before);
            assert!(!state.iter().any(|x| x.is_nan()), "{state:?}");
            if acts && program.norm == NormRule::Preserve {
                let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                let (was, is) = (norm(&before), norm(&state));
                assert!((was - is).abs() < 1e-5 * was || is == 0.0, "{was} {is}");
            }
        }
    }
}

fn identity(program: &Program) {
    let acts_on_prompt = program.steps.iter().any(|step| !step.prompt.is_none());
    for len in [0, 1, 7, 1 << 12] {
        let prompt = vec![9; len];
        assert_eq!(program.salt(&prompt) != 0, acts_on_prompt);
        let adds_last = program.steps.iter().any(|step| step.prompt.adds_last(&prompt));
        assert!(program.prompt_len_matters || adds_last || program.salt(&prompt) == program.prompt_salt);
    }
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
            let alike = |id: u32| step.prompt.contains(0, 1, id) == step.generation.contains(3, 1, id);
            assert!((0..10).all(alike));
        }
    }
}
