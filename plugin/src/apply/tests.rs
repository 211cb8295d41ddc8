use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use residual_hooks::{HookSlot, Phase, Prompt, Row, Support, before_block};

use super::*;
use crate::compile::{Condition, ConditionStates, Program, compile};
use crate::reference::steer;
use crate::spec::{Conflict, NormRule, Op, Schedule, Shape, SteeringSpec, Test, TokenRef, VectorUse, When};
use crate::steering::admission;
use crate::testing::{HIDDEN, cases, library, places, target, token};
use crate::{SteeringHook, spec::Apply};

/// The hook that the tests install: like [`SteeringHook`], with states that rows bring along.
struct Hook {
    applier: Applier,
    /// Whether it steers by tables, as on other devices.
    tables: bool,
}

impl Hook {
    fn new(tables: bool) -> Arc<Self> {
        let applier = Applier::default();
        Arc::new(Self { applier, tables })
    }
}

impl residual_hooks::ResidualHook for Hook {
    fn layers(&self) -> Vec<usize> {
        (0..6).collect()
    }

    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>> {
        if !self.tables {
            return self.applier.after_block(layer, stream, batch, &|_, _| ());
        }
        let pass = self.applier.observe(layer, stream, batch, &|_, _| ())?.unwrap();
        match pass.plan().layer(layer) {
            Some(here) => self.applier.tables.apply(here, pass.gains(), stream),
            None => Ok(None),
        }
    }
}

/// Tests at layers 2 and 3, decided once or at each token.
fn tests() -> impl Strategy<Value = Test> {
    let releases = (prop::option::of(0.0..1.0f64), prop::option::of(1..4usize));
    ((0..2usize, 2..4usize), 0..3usize, -2.0..2.0f64, releases).prop_map(|((vector, layer), kind, threshold, more)| {
        // `a` has no layer 3.
        let vector = if layer == 3 { "b" } else { ["a", "b"][vector] };
        let mut test = if threshold > 0.0 {
            Test::above(vector, layer, threshold)
        } else {
            Test::below(vector, layer, threshold)
        };
        match kind {
            0 => test,
            1 => test.mean(),
            _ => {
                let width = if threshold > 0.0 { -1.0 } else { 1.0 };
                test.release = more.0.map(|release| threshold + width * release);
                test.window = more.1;
                test.each_token()
            }
        }
    })
}

fn conditions() -> impl Strategy<Value = When> {
    let list = || prop::collection::vec(tests().prop_map(When::from), 1..4);
    let of_lists = || {
        prop::collection::vec(
            prop_oneof![list().prop_map(When::Any), list().prop_map(When::All)],
            1..3,
        )
    };
    prop_oneof![
        3 => tests().prop_map(When::from),
        1 => list().prop_map(When::All),
        1 => list().prop_map(When::Any),
        1 => of_lists().prop_map(When::All),
    ]
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let factor = || -1.0..1.0f64;
    let ramp = (any::<bool>(), factor(), factor(), 1..6i64).prop_map(|(cosine, from, to, tokens)| {
        let shape = if cosine { Shape::Cosine } else { Shape::Linear };
        Schedule::ramp(shape, from, to, tokens)
    });
    let factor = prop_oneof![3 => factor(), 1 => Just(0.0), 1 => Just(1.0)];
    let listed = (prop::collection::vec(factor, 1..4), any::<bool>()).prop_map(|(factors, repeat)| Schedule {
        repeat,
        ..Schedule::listed(factors)
    });
    let trigger = prop::option::weighted(0.4, (0..5u32, prop::option::of(-1.0..1.0f64)));
    (prop_oneof![ramp, listed], trigger).prop_map(|(schedule, trigger)| match trigger {
        None => schedule,
        Some((token, before)) => Schedule {
            before,
            ..schedule.after(TokenRef::Id(token))
        },
    })
}

/// The same with no factor below 0, which operations other than `add` can't have.
fn unturned(schedule: Schedule) -> Schedule {
    let factors = schedule
        .factors
        .map(|factors| factors.into_iter().map(f64::abs).collect());
    Schedule {
        from: schedule.from.map(f64::abs),
        to: schedule.to.map(f64::abs),
        before: schedule.before.map(f64::abs),
        factors,
        ..schedule
    }
}

fn uses() -> impl Strategy<Value = VectorUse> {
    let vector = prop_oneof![
        Just(VectorUse::new("a", 0.0)),
        Just(VectorUse::new("b", 0.0)),
        Just(VectorUse::new("c", 0.0)),
        Just(VectorUse::new("small", 0.0).through("up")),
    ];
    let op = prop_oneof![3 => Just(Op::Add), 1 => Just(Op::Ablate), 1 => Just(Op::Set), 1 => Just(Op::Clamp)];
    let open = prop::option::weighted(0.8, 0.0..2.0f64);
    let everywhere = (places(false), places(true)).prop_map(|(prompt, generation)| Apply {
        prompt: Some(prompt),
        generation: Some(generation),
    });
    (
        vector,
        op,
        -3.0..3.0f64,
        open,
        prop::option::weighted(0.8, everywhere),
        (
            prop::option::weighted(0.3, conditions()),
            prop::option::weighted(0.3, schedules()),
        ),
    )
        .prop_map(|(vector, op, scale, width, apply, (when, schedule))| {
            let mut used = match op {
                // One bound, or both.
                Op::Clamp => VectorUse {
                    scale: None,
                    min: (width.is_some() || scale < 0.0).then_some(scale),
                    max: width.map(|width| scale + width).or((scale >= 0.0).then_some(scale)),
                    ..vector.op(op)
                },
                _ => VectorUse {
                    scale: Some(scale),
                    ..vector.op(op)
                },
            };
            // Where something is decided from the prompt, the vector can't act on it.
            used.apply = match &when {
                Some(when) if when.waits_for_the_prompt() => apply.map(|apply| Apply { prompt: None, ..apply }),
                _ => apply,
            };
            used.when = when;
            used.schedule = schedule.map(|schedule| match used.op {
                Op::Add => schedule,
                Op::Ablate | Op::Set | Op::Clamp => unturned(schedule),
            });
            used
        })
}

fn programs() -> impl Strategy<Value = Arc<Program>> {
    let conflict = prop_oneof![Just(Conflict::Sequential), Just(Conflict::First)];
    let norm = prop_oneof![3 => Just(NormRule::Free), 1 => Just(NormRule::Preserve)];
    (prop::collection::vec(uses(), 1..4), conflict, norm).prop_filter_map("not a spec", |(vectors, conflict, norm)| {
        let spec = SteeringSpec {
            vectors,
            conflict,
            norm,
        };
        compile(&spec, &library(), &target(), &token, "").ok().map(Arc::new)
    })
}

/// A sequence: its program (`None`: unsteered), its prompt's length, its tokens, and where the first pass ends.
type Sequence = (Option<Arc<Program>>, usize, Vec<u32>, usize);

fn sequences() -> impl Strategy<Value = Sequence> {
    let lengths = (1..7usize, 0..5usize);
    (
        prop::option::weighted(0.8, programs()),
        lengths,
        any::<prop::sample::Index>(),
    )
        .prop_flat_map(|(program, (prompt, generated), cut)| {
            let ids = prop::collection::vec(0..5u32, prompt + generated);
            ids.prop_map(move |ids| (program.clone(), prompt, ids, 1 + cut.index(prompt)))
        })
}

/// The state of the token at `position` of sequence `number` after `layer`, made up, in eighths: exact in every dtype.
fn made_up(number: usize, layer: usize, position: usize) -> Vec<f32> {
    (0..HIDDEN)
        .map(|i| ((number * 31 + layer * 17 + position * 7 + i * 5) % 23) as f32 / 8.0 - 1.25)
        .collect()
}

/// One forward pass over tokens `from..to` of each sequence (as far as they go): the steered states, by sequence, layer
/// and position.
fn pass(
    slot: &HookSlot,
    dtype: DType,
    sequences: &[Sequence],
    states: &[Option<residual_hooks::RequestState>],
    spans: &[(usize, usize)],
) -> Vec<Vec<Vec<Vec<f32>>>> {
    // Padded to the longest, and in the prompt by one more: the stream may be wider than any row. In generation it is not, so
    // that the plan of the last pass may fit.
    let longest = spans.iter().map(|(from, to)| to - from).max().unwrap();
    let width = longest.max(1) + usize::from(longest > 1);
    let rows = || {
        let row = |number: usize| {
            let ((_, prompt_len, ids, _), (from, to)) = (&sequences[number], spans[number]);
            Row {
                start: from,
                prompt_len: *prompt_len,
                phase: if from < *prompt_len {
                    Phase::Prompt
                } else {
                    Phase::Generation
                },
                state: states[number].clone(),
                ..Row::prompt(number, ids[from..to].to_vec())
            }
        };
        (0..sequences.len()).map(row).collect()
    };
    let forward = || {
        let layer = |layer: usize| {
            let values: Vec<f32> = spans
                .iter()
                .enumerate()
                .flat_map(|(number, (from, _))| (0..width).flat_map(move |i| made_up(number, layer, from + i)))
                .collect();
            let stream = Tensor::from_vec(values, (spans.len(), width, HIDDEN), &Device::Cpu)
                .and_then(|stream| stream.to_dtype(dtype))
                .unwrap();
            let out = before_block(stream, layer + 1).unwrap();
            out.to_dtype(DType::F32).unwrap().to_vec3::<f32>().unwrap()
        };
        (0..6).map(layer).collect::<Vec<_>>()
    };
    let by_layer = slot.scope(rows, forward);
    (0..sequences.len())
        .map(|number| {
            let tokens = spans[number].1 - spans[number].0;
            by_layer.iter().map(|rows| rows[number][..tokens].to_vec()).collect()
        })
        .collect()
}

/// What each condition of `program` says of the token at `position` of the sequence `number`.
fn decisions(program: &Program, number: usize, prompt_len: usize, position: usize) -> Vec<bool> {
    let component = |condition: &Condition, position: usize| -> f64 {
        // The stream that a condition sees is the one that reaches its layer.
        let state = made_up(number, condition.layer, position);
        state
            .iter()
            .zip(condition.direction.values())
            .map(|(&h, &v)| f64::from(h) * f64::from(v))
            .sum()
    };
    let decide = |condition: &Condition| match condition.reads {
        ConditionStates::Mean => {
            let sum: f64 = (0..prompt_len).map(|position| component(condition, position)).sum();
            condition.is_met(sum / prompt_len as f64)
        }
        ConditionStates::Last => condition.is_met(component(condition, prompt_len - 1)),
        ConditionStates::Each { window, .. } => (0..=position).fold(false, |held, position| {
            let last = (position + 1).saturating_sub(window)..=position;
            let count = last.clone().count() as f64;
            let mean = last.map(|position| component(condition, position)).sum::<f64>() / count;
            condition.goes_on(held, mean)
        }),
    };
    program.conditions.iter().map(decide).collect()
}

fn agrees_with_the_reference(tables: bool, sequences: &[Sequence], dtype: DType, tolerance: f32) {
    let slot = HookSlot::new(Support::EveryBlock, 7, HIDDEN);
    slot.install(Hook::new(tables)).unwrap();
    let states: Vec<Option<residual_hooks::RequestState>> = sequences
        .iter()
        .map(|(program, prompt_len, ids, _)| admission(program.as_ref()?, &ids[..*prompt_len], None, |_| ()).state)
        .collect();
    let mut found: Vec<Vec<Vec<Vec<f32>>>> = vec![vec![Vec::new(); 6]; sequences.len()];
    // The prompt in two parts, the first of which comes twice; then token by token, as far as each sequence goes.
    let longest = sequences
        .iter()
        .map(|(_, prompt, ids, _)| ids.len() - prompt)
        .max()
        .unwrap();
    for step in 0..longest + 3 {
        let spans: Vec<(usize, usize)> = sequences
            .iter()
            .map(|(_, prompt, ids, cut)| match step {
                0 | 1 => (0, *cut),
                2 => (*cut, *prompt),
                _ => ((prompt + step - 3).min(ids.len()), (prompt + step - 2).min(ids.len())),
            })
            .collect();
        let steered = pass(&slot, dtype, sequences, &states, &spans);
        if step == 0 {
            continue;
        }
        for (found, steered) in found.iter_mut().zip(steered) {
            for (found, steered) in found.iter_mut().zip(steered) {
                found.extend(steered);
            }
        }
    }
    for (number, ((program, prompt_len, ids, _), found)) in sequences.iter().zip(&found).enumerate() {
        for (layer, found) in found.iter().enumerate() {
            assert_eq!(found.len(), ids.len());
            for (position, state) in found.iter().enumerate() {
                let mut expected = made_up(number, layer, position);
                if let Some(program) = program {
                    let decided = decisions(program, number, *prompt_len, position);
                    steer(program, &mut expected, layer, *prompt_len, &ids[..=position], &decided);
                }
                for (a, b) in state.iter().zip(&expected) {
                    assert!(
                        (a - b).abs() <= tolerance * (1.0 + b.abs()),
                        "sequence {number}, layer {layer}, position {position}: {state:?}, expected {expected:?}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn the_fast_ways_do_what_the_reference_says(sequences in prop::collection::vec(sequences(), 1..6)) {
        for tables in [false, true] {
            agrees_with_the_reference(tables, &sequences, DType::F32, 2e-5);
        }
    }

    #[test]
    fn also_in_half_precision(sequences in prop::collection::vec(sequences(), 1..4)) {
        // Each step may round once: 3 of them at 2^-8.
        for tables in [false, true] {
            agrees_with_the_reference(tables, &sequences, DType::BF16, 0.03);
        }
    }
}

/// Each dtype that models are served in, without and with tables.
fn dtypes_and_ways() -> impl Iterator<Item = (DType, bool)> {
    let dtypes = [DType::F32, DType::F16, DType::BF16].into_iter();
    dtypes.flat_map(|dtype| [(dtype, false), (dtype, true)])
}

fn compiled(spec: impl Into<SteeringSpec>) -> Arc<Program> {
    Arc::new(compile(&spec.into(), &library(), &target(), &token, "").unwrap())
}

#[test]
fn what_becomes_of_a_row_does_not_depend_on_its_neighbours() {
    let add = compiled(vec![VectorUse::new("a", 0.3), VectorUse::new("b", -1.7)]);
    let ablate = compiled(SteeringSpec::from(VectorUse::ablate("a")).norm(NormRule::Preserve));
    let set = compiled(vec![VectorUse::new("b", 2.5).op(Op::Set), VectorUse::new("a", 0.1)]);
    let first =
        compiled(SteeringSpec::from(vec![VectorUse::new("a", 1.1), VectorUse::ablate("b")]).conflict(Conflict::First));
    let slot = HookSlot::new(Support::EveryBlock, 7, HIDDEN);
    let steered = |tables: bool, programs: &[Option<&Arc<Program>>], dtype: DType| -> Vec<Vec<f32>> {
        slot.install(Hook::new(tables)).unwrap();
        let rows = || {
            let row = |(number, program): (usize, &Option<&Arc<Program>>)| Row {
                state: program.and_then(|program| admission(program, &[1], None, |_| ()).state),
                ..Row::prompt(number, vec![1])
            };
            programs.iter().enumerate().map(row).collect()
        };
        let values: Vec<f32> = programs.iter().flat_map(|_| [1.0 / 3.0, -2.7, 0.123, 5.77]).collect();
        let stream = Tensor::from_vec(values, (programs.len(), 1, HIDDEN), &Device::Cpu).unwrap();
        let out = slot
            .scope(rows, || before_block(stream.to_dtype(dtype).unwrap(), 2))
            .unwrap();
        out.squeeze(1).unwrap().to_dtype(DType::F32).unwrap().to_vec2().unwrap()
    };
    let all = [None, Some(&add), Some(&ablate), Some(&set), Some(&first)];
    for (dtype, tables) in dtypes_and_ways() {
        let alone: Vec<Vec<f32>> = all
            .iter()
            .map(|program| steered(tables, &[*program], dtype).remove(0))
            .collect();
        assert_eq!(steered(tables, &all, dtype), alone, "{dtype:?}");
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                let both = steered(tables, &[*a, *b], dtype);
                assert_eq!((&both[0], &both[1]), (&alone[i], &alone[j]), "{dtype:?} {i} {j}");
            }
        }
    }
}

#[test]
fn what_is_not_steered_stays_bit_for_bit() {
    // Row 0 is ablated in f32 with its norm preserved, row 1 is not steered at all.
    let slot = HookSlot::new(Support::EveryBlock, 7, HIDDEN);
    let program = compiled(SteeringSpec::from(VectorUse::ablate("a")).norm(NormRule::Preserve));
    for (dtype, tables) in dtypes_and_ways() {
        slot.install(Hook::new(tables)).unwrap();
        let awkward = [1.0e-3, -7.7e-5, 3.25, 65000.0, 0.0, -1.0, 2.5e-7, 1.0 / 3.0];
        let stream = Tensor::new(&awkward, &Device::Cpu).unwrap().reshape((2, 1, 4)).unwrap();
        let stream = stream.to_dtype(dtype).unwrap();
        let rows = || {
            let mut rows = vec![Row::prompt(0, vec![1]), Row::prompt(1, vec![1])];
            rows[0].state = admission(&program, &[1], None, |_| ()).state;
            rows
        };
        let out = slot.scope(rows, || before_block(stream.clone(), 2)).unwrap();
        let bits = |t: &Tensor| {
            t.get(1)
                .unwrap()
                .to_dtype(DType::F32)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()
        };
        assert_eq!(bits(&out), bits(&stream), "{dtype:?}");
        assert_ne!(
            out.to_dtype(DType::F32).unwrap().to_vec3::<f32>().unwrap()[0],
            bits(&stream)
        );
    }
}

#[test]
fn the_plan_of_a_pass_is_that_of_the_last_one_while_it_fits() {
    let program = compiled(vec![VectorUse::new("a", 0.3)]);
    let other = compiled(vec![VectorUse::new("a", 0.4)]);
    let when: When = serde_json::from_str(r#"{"vector": "b", "layer": 2, "above": 0}"#).unwrap();
    let conditional = compiled(VectorUse::new("a", 1.0).when(when));
    let generating = |program: &Arc<Program>, position: usize, ids: Vec<u32>| Row {
        start: position,
        prompt_len: 1,
        phase: Phase::Generation,
        state: admission(program, &[1], None, |_| ()).state,
        ..Row::prompt(0, ids)
    };
    let plan = PassPlan::new(&[generating(&program, 3, vec![1])], 1, None);
    assert!(plan.may_recur());
    // The next token of it, and another sequence that asks for the same.
    assert!(plan.fits(&[generating(&program, 4, vec![2])], 1, None));
    let more = [generating(&program, 4, vec![2]), generating(&program, 4, vec![2])];
    for (different, width) in [
        (&[generating(&other, 4, vec![2])][..], 1),
        (&[generating(&conditional, 4, vec![2])], 1),
        (&[Row::prompt(0, vec![1])], 1),
        (&[generating(&program, 4, vec![2, 3])], 2),
        (&more, 1),
        (&[], 1),
    ] {
        assert!(!plan.fits(different, width, None), "{different:?}");
    }
    // An unsteered pass may recur as well, and is that of a condition that is not decided.
    let unsteered = PassPlan::new(&[Row::prompt(0, vec![1])], 1, None);
    assert!(unsteered.fits(&[Row::prompt(7, vec![2])], 1, None) && !unsteered.fits(&more[..1], 1, None));
    assert!(unsteered.fits(&[generating(&conditional, 1, vec![1])], 1, None));
    // Steps that act on some generated tokens alone.
    let fourth: Apply = serde_json::from_str(r#"{"generation": {"positions": [3]}}"#).unwrap();
    let fourth = compiled(VectorUse::new("a", 0.3).apply(fourth));
    let plan = PassPlan::new(&[generating(&fourth, 4, vec![1])], 1, None);
    assert!(plan.fits(&[generating(&fourth, 4, vec![2])], 1, None));
    assert!(!plan.fits(&[generating(&fourth, 5, vec![2])], 1, None));
    assert_eq!(plan.program_bytes(), fourth.bytes());
}

/// Wider than a vector register, and more positions than one task has.
#[test]
fn long_prompts_of_wide_models_agree_with_the_reference() {
    const WIDTH: usize = 83;
    let number = |i: usize| (i * i % 41) as f32 / 8.0 - 2.5;
    let mut program = Program::adding([(1, (0..WIDTH).map(number).collect())].into());
    program.steps[0].op = Op::Ablate;
    program.steps[0].layers.get_mut(&1).unwrap().scale = 0.01;
    program.norm = NormRule::Preserve;
    let program = Arc::new(program);
    let slot = HookSlot::new(Support::EveryBlock, 7, WIDTH);
    let positions = 1200;
    let values: Vec<f32> = (0..positions * WIDTH).map(|i| number(i + 7)).collect();
    let rows = || {
        vec![Row {
            state: admission(&program, &vec![1; positions], None, |_| ()).state,
            ..Row::prompt(0, vec![1; positions])
        }]
    };
    for tables in [false, true] {
        slot.install(Hook::new(tables)).unwrap();
        let stream = Tensor::from_slice(&values, (1, positions, WIDTH), &Device::Cpu).unwrap();
        let out = slot.scope(rows, || before_block(stream, 2)).unwrap();
        let out = out.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        for (position, (found, state)) in out.iter().zip(values.chunks(WIDTH)).enumerate() {
            let mut expected = state.to_vec();
            steer(&program, &mut expected, 1, positions, &vec![1; position + 1], &[]);
            assert!(expected.iter().zip(state).any(|(a, b)| (a - b).abs() > 0.01));
            for (a, b) in found.iter().zip(&expected) {
                assert!(
                    (a - b).abs() <= 1e-4 * (1.0 + b.abs()),
                    "position {position}: {a}, expected {b}"
                );
            }
        }
    }
}

#[test]
fn a_state_that_overflows_is_no_number_with_its_norm_preserved() {
    let program = compiled(SteeringSpec::from(VectorUse::ablate("a")).norm(NormRule::Preserve));
    let slot = HookSlot::new(Support::EveryBlock, 7, HIDDEN);
    for tables in [false, true] {
        slot.install(Hook::new(tables)).unwrap();
        let rows = || {
            vec![Row {
                state: admission(&program, &[1], None, |_| ()).state,
                ..Row::prompt(0, vec![1])
            }]
        };
        let stream = Tensor::new(&[[[1e20f32, 1e20, 0.0, 0.0]]], &Device::Cpu).unwrap();
        let out = slot.scope(rows, || before_block(stream, 2)).unwrap();
        let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(out.iter().any(|x| x.is_nan()), "{tables}: {out:?}");
    }
}

#[test]
fn ablation_leaves_no_component_and_set_leaves_just_one() {
    let slot = HookSlot::new(Support::EveryBlock, 7, HIDDEN);
    for (used, expected) in [
        (VectorUse::ablate("a"), 0.0),
        (VectorUse::new("a", 2.5).op(Op::Set), 2.5),
        (
            VectorUse {
                scale: Some(0.5),
                ..VectorUse::ablate("a")
            },
            2.5,
        ),
    ] {
        slot.install(Arc::new(SteeringHook::fixed(compiled(used)))).unwrap();
        let stream = Tensor::new(&[[[3.0f32, 1.0, 4.0, -2.0]]], &Device::Cpu).unwrap();
        let rows = || {
            let admitted = slot.claim(0).unwrap().admit(&Prompt::text(&[1])).unwrap();
            vec![Row {
                state: admitted.state,
                ..Row::prompt(0, vec![1])
            }]
        };
        let out = slot
            .scope(rows, || before_block(stream, 2))
            .unwrap()
            .to_vec3::<f32>()
            .unwrap();
        // `a` is (3, 0, 4, 0), of norm 5: the component of the state is 5.
        let component = 0.6 * out[0][0][0] + 0.8 * out[0][0][2];
        assert!((component - expected).abs() < 1e-6, "{component} against {expected}");
        assert_eq!((out[0][0][1], out[0][0][3]), (1.0, -2.0));
    }
}

#[test]
fn prompts_start_from_cached_states_where_nothing_must_see_them() {
    // A mean over the prompt must see all of it.
    let on = |test: Test| admission(&compiled(VectorUse::new("a", 1.0).when(test)), &[1; 7], None, |_| ()).read_cache;
    let test = || Test::above("b", 2, 0.0);
    assert!(on(test()) && !on(test().mean()));
    // So must one that goes by earlier tokens.
    let window = Test {
        window: Some(3),
        ..test().each_token()
    };
    assert!(on(test().each_token()) && !on(window));
}
