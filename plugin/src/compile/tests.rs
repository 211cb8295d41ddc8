use std::sync::Arc;

use candle_core::DType;
use proptest::prelude::*;
use residual_hooks::Turn;
use serde_json::{Value, json};
use steermap_maps::Spread;

use super::*;
use crate::policy::{Bound, Excess};
use crate::reference::steer;
use crate::spec::{
    Apply, InlineVector, NormRule, RequestSteering, Role, Schedule, Selection, Shape, Test, TokenRef, VectorRef, When,
    Where, Window,
};
use crate::testing::{HIDDEN, cases, from_json, library, model, places, target, token, vector};

fn program(spec: impl Into<SteeringSpec>) -> Program {
    compile(&spec.into(), &library(), &target(), &token, "s.").unwrap()
}

fn refusal(spec: impl Into<SteeringSpec>) -> String {
    compile(&spec.into(), &library(), &target(), &token, "s.")
        .unwrap_err()
        .to_string()
}

fn at(positions: &[i64]) -> Where {
    let positions = Some(positions.to_vec());
    Selection {
        positions,
        ..Selection::default()
    }
    .into()
}

fn of_tokens(tokens: &[u32]) -> Where {
    let tokens = Some(tokens.iter().map(|&id| TokenRef::Id(id)).collect());
    Selection {
        tokens,
        ..Selection::default()
    }
    .into()
}

fn both(tokens: Where) -> Apply {
    Apply {
        prompt: Some(tokens.clone()),
        generation: Some(tokens),
    }
}

fn directions(program: &Program, step: usize) -> Vec<(usize, Vec<f32>, f32)> {
    let layers = program.steps[step].layers.iter();
    layers
        .map(|(layer, with)| (*layer, with.direction.values().to_vec(), with.scale))
        .collect()
}

#[test]
fn offsets_are_directions_and_scales() {
    let used = program(VectorUse::new("a", 10.0).at_layers([2, 1]));
    let unit = [0.6, 0.0, 0.8, 0.0].map(|x: f64| x as f32).to_vec();
    assert_eq!(directions(&used, 0), [(1, unit.clone(), 10.0), (2, unit.clone(), 10.0)]);
    assert_eq!(used.layers(), [1, 2]);
    let raw = program(VectorUse::new("a", 0.5).unnormalized().at_layers([1]));
    assert_eq!(directions(&raw, 0), [(1, unit, 2.5)]);
    let relative = program(VectorUse::relative("b", -0.5).at_layers([3]));
    assert_eq!(directions(&relative, 0), [(3, vec![0.0, 0.0, 0.0, -1.0], -5.0)]);
    let step = &used.steps[0];
    assert!(step.prompt.is_all() && step.generation.is_all() && step.when.is_none());
}

#[test]
fn layers_are_chosen_from_those_that_there_are() {
    // `a` is there at 1 and 2 of 6, `b` at 2 and 3, `small` comes to 4 alone.
    let at = |used: VectorUse, layers: &str| {
        let mut json = serde_json::to_value(SteeringSpec::from(used)).unwrap();
        json["vectors"][0]["layers"] = layers.into();
        let spec: SteeringSpec = from_json(&json, "").unwrap();
        compile(&spec, &library(), &target(), &token, "s.")
            .map(|program| program.layers())
            .map_err(|error| error.to_string())
    };
    let a = || VectorUse::new("a", 1.0);
    assert_eq!(at(a(), "0-5"), Ok(vec![1, 2]));
    assert_eq!(at(a(), "0.3-0.9"), Ok(vec![1, 2]));
    assert_eq!(at(a(), "0.34"), Ok(vec![2]));
    // The middle half is 2 to 4.
    assert_eq!(at(a(), "best"), Ok(vec![2]));
    assert_eq!(at(VectorUse::new("small", 1.0).through("up"), "0-5"), Ok(vec![4]));
    for (layers, message) in [
        (
            "3-5",
            "s.vectors[0].layers: found \"3-5\", expected at least one of the available layers: 1, 2",
        ),
        ("3", "s.vectors[0].layers: found 3, expected layers of \"a\": 1-2"),
        ("0.9", "s.vectors[0].layers: found 5, expected layers of \"a\": 1-2"),
    ] {
        assert_eq!(at(a(), layers), Err(message.to_string()));
    }
    // Its mean norm is not known, so nothing tells its layers apart.
    let none = at(VectorUse::new("c", 1.0), "best").unwrap_err();
    assert!(none.contains("the vector's file proposes none"), "{none}");
}

#[test]
fn clamps_are_identified_by_their_bounds() {
    let of = |min, max| program(VectorUse::clamp("a", min, max).at_layers([1]));
    let one = of(Some(-1.0), Some(2.0));
    assert_eq!(one.steps[0].bounds, [-1.0, 2.0]);
    assert_eq!(one.steps[0].layers[&1].scale, 2.0);
    assert_eq!(one.fingerprint, of(Some(-1.0), Some(2.0)).fingerprint);
    for other in [of(Some(-1.0), None), of(None, Some(2.0)), of(Some(-1.0), Some(3.0))] {
        assert_ne!(one.fingerprint, other.fingerprint);
    }
    assert_ne!(
        of(Some(2.0), Some(2.0)).fingerprint,
        program(VectorUse::new("a", 2.0).op(Op::Set).at_layers([1])).fingerprint
    );
}

#[test]
fn ablate_and_set_have_unit_directions() {
    let spec = SteeringSpec::from(vec![
        VectorUse::ablate("a").at_layers([1]),
        VectorUse::new("a", 0.25).op(Op::Ablate).at_layers([1]),
        VectorUse::new("b", -3.0).op(Op::Set).at_layers([3]),
        VectorUse::relative("b", 0.5).op(Op::Set).at_layers([2]),
    ]);
    let program = program(spec);
    let unit = [0.6, 0.0, 0.8, 0.0].map(|x: f64| x as f32).to_vec();
    assert_eq!(directions(&program, 0), [(1, unit.clone(), 1.0)]);
    assert_eq!(directions(&program, 1), [(1, unit, 0.25)]);
    assert_eq!(directions(&program, 2), [(3, vec![0.0, 0.0, 0.0, -1.0], -3.0)]);
    assert_eq!(directions(&program, 3), [(2, vec![0.0, 1.0, 0.0, 0.0], 5.0)]);
    assert_eq!(program.used, ["a", "a", "b", "b"]);
}

#[test]
fn mapped_vectors_go_where_the_map_leads() {
    let linear = program(VectorUse::new("small", 1.0).unnormalized().through("up"));
    let half = 0.5f64.sqrt() as f32;
    assert_eq!(
        directions(&linear, 0),
        [(4, vec![half, 0.0, half, 0.0], 8f64.sqrt() as f32)]
    );
    let affine = VectorUse::new("small", 1.0)
        .through("up")
        .offset(steermap_maps::OffsetRule::Affine);
    assert_eq!(directions(&program(affine), 0)[0].1[3], 1.0 / 3.0);
    let relative = program(VectorUse::relative("small", 0.5).op(Op::Set).through("up"));
    assert_eq!(directions(&relative, 0)[0].2, 4.0);
}

#[test]
fn what_does_not_fit_names_its_field() {
    let (a, small) = (|| VectorUse::new("a", 1.0), || VectorUse::new("small", 1.0));
    for (spec, message) in [
        (
            VectorUse::new("nobody", 1.0),
            "s.vectors[0].vector: found \"nobody\", expected a vector's name",
        ),
        (
            a().through("down"),
            "s.vectors[0].map: found \"down\", expected a map's name",
        ),
        (
            a().at_layers([1, 9]),
            "s.vectors[0].layers: found 9, expected layers of \"a\": 1-2",
        ),
        (
            small().through("up").at_layers([1]),
            "s.vectors[0].layers: found 1, expected layers of \"small\" through \"up\": 4",
        ),
        (
            small(),
            "s.vectors[0].vector \"small\": model.hidden_size: found 2 (made for \"small\"), expected 4, as \"large\" \
             has",
        ),
        (
            a().through("up"),
            "s.vectors[0].map \"up\": the vector lives in large with hidden_size 4, but the map's source small has \
             hidden_size 2",
        ),
        (
            VectorUse::relative("c", 0.5),
            "s.vectors[0].relative_scale: found 0.5 at layer 1, where the stream's mean norm is not known, expected \
             scale, or a file that says the mean norm",
        ),
        (
            a().when(When::above("nobody", 1, 0.0)),
            "s.vectors[0].when.vector: found \"nobody\", expected a vector's name",
        ),
        (
            a().when(When::above("b", 1, 0.0)),
            "s.vectors[0].when.layer: found 1, expected layers of \"b\": 2-3",
        ),
        (
            a().when(Test::above("b", 1, 0.0).through("down")),
            "s.vectors[0].when.map: found \"down\", expected a map's name",
        ),
        (
            VectorUse::new("a", 3e38).unnormalized(),
            "s.vectors[0].scale: found 300000000000000000000000000000000000000, which makes an offset of inf, expected \
             a finite 32-bit offset",
        ),
        (
            VectorUse::relative("a", 2e38).op(Op::Set),
            "s.vectors[0].relative_scale: found 200000000000000000000000000000000000000, which makes an offset of inf, \
             expected a finite 32-bit offset",
        ),
    ] {
        assert_eq!(refusal(spec), message);
    }
    assert!(refusal(VectorUse::new("a", f64::NAN)).starts_with("s.vectors[0].scale: found NaN"));
    let dog = Selection {
        tokens: Some(vec![TokenRef::Text(" dog".into())]),
        ..Selection::default()
    };
    assert_eq!(
        refusal(a().apply(Apply::generation(dog))),
        "s.vectors[0].apply.generation.tokens[0]: found \" dog\", which is 4 tokens, expected one token of the \
         model's tokenizer"
    );
}

#[test]
fn directions_are_made_once_and_shared() {
    let library = library();
    let compiled = |used: VectorUse| compile(&used.into(), &library, &target(), &token, "").unwrap();
    let direction = |program: &Program, layer| program.steps[0].layers[&layer].direction.clone();
    let (one, other) = (compiled(VectorUse::new("a", 1.0)), compiled(VectorUse::new("a", -7.0)));
    assert!(Arc::ptr_eq(&direction(&one, 1), &direction(&other, 1)));
    assert_ne!(one.fingerprint, other.fingerprint);
    let through = |scale| compiled(VectorUse::new("small", scale).through("up"));
    assert!(Arc::ptr_eq(&direction(&through(1.0), 4), &direction(&through(2.0), 4)));
    // A vector of the same name that is another one has its own.
    let mut changed = library.clone();
    let own = changed.shared("b").unwrap();
    changed.insert_shared("a", own.clone()).unwrap();
    let spec = SteeringSpec::from(VectorUse::new("a", 1.0).at_layers([2]));
    let replaced = compile(&spec, &changed, &target(), &token, "").unwrap();
    assert_eq!(direction(&replaced, 2).values(), [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn what_the_numbers_of_the_model_cannot_hold_is_refused() {
    let of = |dtype: Option<DType>, spec: SteeringSpec| {
        let target = Target { dtype, ..target() };
        let compiled = compile(&spec, &library(), &target, &token, "s.");
        compiled.map(|_| ()).map_err(|error| error.to_string())
    };
    let (half, full) = (Some(DType::F16), Some(DType::F32));
    let at = |scale| VectorUse::new("a", scale).at_layers([1]);
    let refused = of(half, at(1e6).into()).unwrap_err();
    assert_eq!(
        refused,
        "s.vectors[0].scale: found 1e6, which takes elements of the stream to 8.0e5 after layer 1, expected at most \
         65504, since the model runs in float16"
    );
    assert_eq!(of(full, at(1e6).into()), Ok(()));
    assert_eq!(of(None, at(1e6).into()), Ok(()));
    assert_eq!(of(half, at(1e4).into()), Ok(()));
    // Its norm is brought back before it is rounded.
    assert_eq!(of(half, SteeringSpec::from(at(1e6)).norm(NormRule::Preserve)), Ok(()));
    // Many small ones add up, at one layer and over layers.
    let many = |count, layers: &[usize]| {
        let uses = vec![VectorUse::new("a", 3e4).at_layers(layers.iter().copied()); count];
        of(half, uses.into())
    };
    assert_eq!((many(2, &[1]), many(1, &[1, 2])), (Ok(()), Ok(())));
    assert!(
        many(3, &[1])
            .unwrap_err()
            .starts_with("s.vectors[2].scale: found 3e4, ")
    );
    assert!(many(2, &[1, 2]).unwrap_err().contains("after layer 2"));
    for norm in [NormRule::Free, NormRule::Preserve] {
        let ablate = VectorUse {
            scale: Some(3e38),
            ..VectorUse::ablate("a")
        };
        let refused = of(full, SteeringSpec::from(ablate).norm(norm)).unwrap_err();
        let expected = "s.vectors[0].scale: found 3e38, which takes the stream's norm to 3.0e39 after layer 1, expected \
                        a norm of at most 9.2e18";
        assert_eq!(refused, expected);
    }
    for scale in [0.0, 1.0, 2.0] {
        let ablate = VectorUse {
            scale: Some(scale),
            ..VectorUse::ablate("a")
        };
        assert_eq!(of(half, ablate.into()), Ok(()));
    }
    let relative = of(full, VectorUse::relative("a", 1e19).into()).unwrap_err();
    assert!(
        relative.starts_with("s.vectors[0].relative_scale: found 1e19, "),
        "{relative}"
    );
}

#[test]
fn other_weights_are_refused_unless_they_are_not_compared() {
    let mut library = library();
    let other = vector(model("other", HIDDEN, 6), true, &[(1, &[1.0; HIDDEN])]);
    library.insert("other", other).unwrap();
    let spec = SteeringSpec::from(VectorUse::new("other", 1.0));
    let compiled = |target| compile(&spec, &library, &target, &token, "");
    let message = compiled(target()).unwrap_err().to_string();
    assert!(
        message.contains("vector \"other\": model.fingerprint: found"),
        "{message}"
    );
    let fingerprint = None;
    assert!(
        compiled(Target {
            fingerprint,
            ..target()
        })
        .is_ok()
    );
}

#[test]
fn conditions_are_shared_and_only_they_decide() {
    let spec = SteeringSpec::from(vec![
        VectorUse::new("a", 1.0).when(When::above("b", 3, 2.5)),
        VectorUse::new("b", 1.0),
        VectorUse::new("b", 1.0).when(When::above("b", 3, 2.5)),
        VectorUse::new("c", 1.0).when(Test::below("b", 3, 2.5).mean()),
    ]);
    let program = program(spec);
    let formulas: Vec<_> = program.steps.iter().map(|step| step.when.clone()).collect();
    let test = |index| Some(Formula::Test(index));
    assert_eq!(formulas, [test(0), None, test(0), test(1)]);
    let [above, below] = &program.conditions[..] else {
        panic!("{:?}", program.conditions)
    };
    assert_eq!(above.direction.values(), [0.0, 0.0, 0.0, -1.0]);
    assert_eq!(
        (above.layer, above.reads, above.above, above.threshold),
        (3, ConditionStates::Last, true, 2.5)
    );
    assert_eq!((below.reads, below.above), (ConditionStates::Mean, false));
    assert!(above.is_met(2.6) && !above.is_met(2.5) && !above.is_met(f64::NAN));
    assert!(below.is_met(2.4) && !below.is_met(2.5) && !below.is_met(f64::NAN));
    // The first generated token is chosen from the state of the prompt's last one.
    assert!(program.steps[0].prompt.is_last() && program.steps[0].generation.is_all());
    assert!(!program.uniform);
    // All of them steer before layer 3.
    assert_eq!(program.late_layers(), [1, 2]);
}

#[test]
fn what_a_token_decides_is_done_to_it_from_that_layer_on() {
    let used = |layers: Option<[usize; 1]>| {
        let used = VectorUse::new("b", 1.0).when(Test::above("b", 3, 0.0).each_token());
        match layers {
            Some(layers) => used.at_layers(layers),
            None => used,
        }
    };
    let layers = |layers| program(SteeringSpec::from(used(layers))).layers();
    // `b` has 2 and 3.
    assert_eq!((layers(None), layers(Some([3]))), (vec![3], vec![3]));
    let program = program(SteeringSpec::from(used(None)));
    assert!(program.steps[0].prompt.is_all() && program.late_layers().is_empty());
    let message = |spec: VectorUse| {
        compile(&spec.into(), &library(), &target(), &token, "")
            .unwrap_err()
            .to_string()
    };
    let early = message(used(Some([2])));
    assert_eq!(
        early,
        "vectors[0].layers: found 2, expected 3 or later, where the condition on this token is known"
    );
    let never = message(VectorUse::new("a", 1.0).when(Test::above("b", 3, 0.0).each_token()));
    assert!(
        never.starts_with("vectors[0].when: found one that is known from layer 3 on, expected"),
        "{never}"
    );
    // Of alternatives the earliest may settle it.
    let any = When::Any(vec![
        Test::above("b", 3, 0.0).each_token().into(),
        Test::above("a", 2, 0.0).each_token().into(),
    ]);
    let spec = SteeringSpec::from(VectorUse::new("a", 1.0).when(any));
    assert_eq!(compile(&spec, &library(), &target(), &token, "").unwrap().layers(), [2]);
}

#[test]
fn standard_deviations_are_those_of_the_file() {
    let mut library = library();
    let known = library.get("a").unwrap().clone();
    let mut layers = known.layers().to_vec();
    layers[0].neutral = Some(Spread { mean: -1.0, std: 2.5 });
    let measured = steermap_maps::VectorFile::new(known.header().clone(), layers).unwrap();
    library.insert("measured", measured).unwrap();
    let of = |used: VectorUse| compile(&used.into(), &library, &target(), &token, "s.");
    let scale = |used: VectorUse| of(used.at_layers([1])).unwrap().steps[0].layers[&1].scale;
    assert_eq!(scale(VectorUse::deviations("measured", 2.0)), 5.0);
    // So many from the mean.
    assert_eq!(scale(VectorUse::deviations("measured", 2.0).op(Op::Set)), 4.0);
    assert_eq!(
        of(VectorUse::deviations("measured", 2.0)).unwrap_err().to_string(),
        "s.vectors[0].std_scale: found 2 at layer 2, where how the stream's component varies on neutral text is not known, \
         expected scale, or the vector of a file that says neutral_std, without a map"
    );
}

#[test]
fn schedules_are_part_of_what_steering_is() {
    let of = |used: VectorUse| program(SteeringSpec::from(used));
    let scheduled = |schedule: Schedule| of(VectorUse::new("a", 1.0).schedule(schedule));
    let plain = of(VectorUse::new("a", 1.0));
    // One that makes no difference is none.
    assert_eq!(scheduled(Schedule::listed([1.0, 1.0])).fingerprint, plain.fingerprint);
    let out = scheduled(Schedule::ramp(Shape::Linear, 1.0, 0.0, 9));
    assert_ne!(out.fingerprint, plain.fingerprint);
    assert_ne!(
        out.fingerprint,
        scheduled(Schedule::ramp(Shape::Linear, 1.0, 0.0, 8)).fingerprint
    );
    // The prompt is steered as without it, so its states are shared; what is generated isn't.
    let sharing = |program: &Program| program.sharing(&[1; 7]);
    assert_eq!(sharing(&out).salts, sharing(&plain).salts);
    assert_eq!((sharing(&plain).own_from, sharing(&out).own_from), (None, Some(6)));
    let fades_in = scheduled(Schedule::ramp(Shape::Linear, 0.0, 1.0, 9));
    assert!(fades_in.steps[0].prompt.is_none());
    assert_eq!(
        sharing(&fades_in),
        Sharing {
            salts: vec![],
            own_from: Some(7)
        }
    );
    assert_ne!(
        sharing(&scheduled(Schedule::listed([0.5]))).salts,
        sharing(&plain).salts
    );
}

/// The generated tokens as the model reads them: not the choice of the first.
fn generated() -> Where {
    Where::Only(Selection {
        windows: Some(vec![Window { start: 0, end: None }]),
        ..Selection::default()
    })
}

#[test]
fn what_the_prefix_cache_must_know() {
    let a = || VectorUse::new("a", 1.0);
    let of = |apply: Apply| program(a().apply(apply));
    // Where what is done changes, and from where on states are nobody else's, for a prompt of seven tokens.
    let told = |program: Program| {
        let sharing = program.sharing(&[1, 2, 3, 4, 5, 6, 7]);
        let from: Vec<(usize, bool)> = sharing.salts.iter().map(|(from, salt)| (*from, *salt != 0)).collect();
        (from, sharing.own_from)
    };
    assert_eq!(told(program(SteeringSpec::default())), (vec![], None));
    assert_eq!(told(program(a())), (vec![(0, true)], None));
    assert_eq!(told(of(both(of_tokens(&[3, 2])))), (vec![(1, true)], None));
    let first = (vec![(0, true), (1, false)], Some(7));
    assert_eq!(told(of(both(at(&[0])))), first);
    assert_eq!(told(of(Apply::prompt(Where::All))), (vec![(0, true), (7, false)], None));
    assert_eq!(told(of(Apply::prompt(at(&[-1])))), (vec![(6, true), (7, false)], None));
    assert_eq!(told(of(Apply::generation(generated()))), (vec![(7, true)], None));
    // The first generated token is chosen from the prompt's last one.
    assert_eq!(told(of(Apply::generation(Where::All))), (vec![(6, true)], None));
    // What the prompt decides as a whole is known to no other.
    assert_eq!(told(program(a().when(When::above("b", 3, 0.0)))), (vec![], Some(6)));
    let each = Test::above("b", 2, 0.0).each_token();
    assert_eq!(told(program(a().when(each))), (vec![(0, true)], Some(7)));

    let salts = |apply: Apply, prompt: &[u32]| of(apply).sharing(prompt).salts;
    let salt = |apply: Apply| salts(apply, &[1; 7])[0].1;
    // Whatever is said of tokens, and in which phase: what counts is what is done to one.
    assert_eq!(
        salt(Apply::generation(Where::All)),
        program(a()).sharing(&[1; 7]).salts[0].1
    );
    assert_eq!(salt(Apply::prompt(at(&[0]))), salt(Apply::prompt(at(&[-1]))));
    assert_ne!(
        salt(Apply::prompt(at(&[0]))),
        program(VectorUse::new("a", 1.1)).sharing(&[1]).salts[0].1
    );
    // By tokens alone, where the last one isn't steered for being the last.
    let but_ones = || {
        let exclude_tokens = Some(vec![TokenRef::Id(1)]);
        both(Where::Only(Selection {
            exclude_tokens,
            ..Selection::default()
        }))
    };
    assert_eq!(salts(but_ones(), &[2; 7]).len(), 1);
    assert_eq!(salts(but_ones(), &[2, 1]), salts(Apply::prompt(Where::All), &[2])[..1]);
    // What acts on generated tokens alone makes no difference to the prompt.
    let later = VectorUse::new("b", 1.0).apply(Apply::generation(generated()));
    let more = program(vec![a(), later]);
    let sharing = more.sharing(&[1; 7]);
    assert_eq!(sharing.salts[0], (0, program(a()).sharing(&[1; 7]).salts[0].1));
    assert_eq!((sharing.salts[1].0, sharing.salts.len()), (7, 2));
    assert_ne!(more.fingerprint, program(a()).fingerprint);
    // Two and the other two are another matter, at one token.
    let two = |first: &str, second: &str| program(vec![VectorUse::new(first, 1.0), VectorUse::new(second, 1.0)]);
    assert_ne!(two("a", "b").sharing(&[1]).salts, two("b", "a").sharing(&[1]).salts);
}

/// A conversation goes on: what was steered when it was generated is steered when it comes back.
#[test]
fn a_history_shares_the_states_of_the_answers_in_it() {
    let spec = || {
        let selection = Selection {
            roles: Some(vec![Role::Assistant]),
            ..Selection::default()
        };
        VectorUse::new("a", 1.0).apply(Apply {
            prompt: Some(selection.into()),
            generation: Some(Where::All),
        })
    };
    let turn = |role: &str, tokens| {
        let role = role.to_string();
        Turn { role, tokens }
    };
    let sharing = |len: usize, turns: &[Turn]| program(spec()).in_turns(turns).sharing(&vec![1; len]);
    let first = sharing(7, &[turn("user", 2..5)]);
    let salt = first.salts[0].1;
    assert_eq!(
        first,
        Sharing {
            salts: vec![(6, salt)],
            own_from: None
        }
    );
    // Five tokens were generated, a sixth ended the answer.
    let second = sharing(
        18,
        &[turn("user", 2..5), turn("assistant", 7..12), turn("user", 14..16)],
    );
    assert_eq!(second.salts, [(6, salt), (12, 0), (17, salt)]);
    let admitted = |sharing: &Sharing| residual_hooks::Admission {
        salts: sharing.salts.clone().into(),
        own_from: sharing.own_from,
        ..residual_hooks::Admission::default()
    };
    assert_eq!(admitted(&first).compatible(&admitted(&second)), 12);
    // The same without roles has the prompt alone, up to its last token.
    let forgets = program(VectorUse::new("a", 1.0).apply(Apply::generation(Where::All)));
    assert_eq!(admitted(&first).compatible(&admitted(&forgets.sharing(&[1; 18]))), 6);
    // The fingerprint is that of what was asked for.
    let asked = program(spec());
    assert!(asked.has_roles() && !asked.in_turns(&[]).has_roles());
    assert_eq!(asked.in_turns(&[turn("user", 2..5)]).fingerprint, asked.fingerprint);
    assert_ne!(asked.fingerprint, forgets.fingerprint);
}

#[test]
fn what_changes_at_every_token_is_shared_so_far() {
    let used = VectorUse::new("a", 1.0).apply(Apply {
        prompt: Some(of_tokens(&[1])),
        generation: None,
    });
    let prompt: Vec<u32> = (0..5000).map(|position| position % 2).collect();
    let sharing = program(used).sharing(&prompt);
    assert_eq!((sharing.salts.len(), sharing.own_from), (256, Some(257)));
    // Another that does the same so far and then something else has nothing of it.
    let other = VectorUse::new("a", 1.0).apply(Apply {
        prompt: Some(Where::Only(Selection {
            tokens: Some(vec![TokenRef::Id(1)]),
            exclude_windows: Some(vec![Window { start: 257, end: None }]),
            ..Selection::default()
        })),
        generation: None,
    });
    let admitted = |sharing: Sharing| residual_hooks::Admission {
        salts: sharing.salts.into(),
        own_from: sharing.own_from,
        ..residual_hooks::Admission::default()
    };
    let other = admitted(program(other).sharing(&prompt));
    assert_eq!(admitted(sharing).compatible(&other), 257);
}

#[test]
fn conflict_and_norm_count_where_they_matter() {
    let prompt = |name: &str| {
        VectorUse::new(name, 1.0)
            .at_layers([2])
            .apply(Apply::prompt(Where::All))
    };
    let generation = |name: &str| {
        VectorUse::new(name, 1.0)
            .at_layers([2])
            .apply(Apply::generation(generated()))
    };
    let id = |vectors: Vec<VectorUse>, conflict| {
        let program = program(SteeringSpec::from(vectors).conflict(conflict));
        let salts = program.sharing(&[1; 7]).salts;
        (program.fingerprint, salts.first().map_or(0, |(_, salt)| *salt))
    };
    let (sequential, first, error) = (Conflict::Sequential, Conflict::First, Conflict::Error);
    let apart = || vec![prompt("a"), generation("b")];
    assert_eq!(id(apart(), sequential), id(apart(), first));
    assert_eq!(id(apart(), sequential), id(apart(), error));
    let meet = || vec![prompt("a"), prompt("b")];
    assert_ne!(id(meet(), sequential).0, id(meet(), first).0);
    assert_ne!(id(meet(), sequential).1, id(meet(), first).1);
    let later = || vec![prompt("a"), generation("a"), generation("b")];
    assert_ne!(id(later(), sequential).0, id(later(), first).0);
    assert_eq!(id(later(), sequential).1, id(later(), first).1);

    let preserve = |spec: SteeringSpec| program(spec.norm(NormRule::Preserve));
    let free = program(prompt("a"));
    let preserved = preserve(prompt("a").into());
    assert_ne!(free.fingerprint, preserved.fingerprint);
    assert_ne!(free.sharing(&[1]).salts, preserved.sharing(&[1]).salts);
    let empty = SteeringSpec::default;
    assert_eq!(preserve(empty()).fingerprint, program(empty()).fingerprint);
}

#[test]
fn vectors_that_can_meet_are_refused_where_asked() {
    let strict = |vectors: Vec<VectorUse>| SteeringSpec::from(vectors).conflict(Conflict::Error);
    let (a, b) = (|| VectorUse::new("a", 1.0), || VectorUse::new("b", 1.0));
    assert_eq!(
        refusal(strict(vec![
            VectorUse::new("c", 1.0).at_layers([1]),
            a().at_layers([2]),
            b()
        ])),
        "s.conflict: found \"a\" (vectors[1]) and \"b\" (vectors[2]), which can both act at layer 2 on tokens of the \
         prompt, expected vectors that never do, since conflict = \"error\""
    );
    let when = |threshold| When::above("b", 3, threshold);
    let conditional = vec![a().when(when(1.0)), b().when(when(2.0))];
    assert!(refusal(strict(conditional)).contains("at layer 2 on tokens of the prompt"));
    program(strict(vec![a().at_layers([1]), b()]));
    program(strict(vec![
        a().apply(Apply::prompt(Where::All)),
        b().apply(Apply::generation(generated())),
    ]));
    program(strict(vec![
        a().apply(Apply::prompt(at(&[0]))),
        b().apply(Apply::prompt(at(&[1]))),
    ]));
}

#[test]
fn fingerprints_do_not_depend_on_spelling() {
    let id = |text: &str| {
        let spec: SteeringSpec = toml::from_str(text).unwrap();
        let program = program(spec);
        assert_eq!(program.fingerprint.len(), 64);
        program.fingerprint
    };
    let plain = id("[[vectors]]\nvector = 'a'\nscale = 5");
    for same in [
        "norm = 'free'\nconflict = 'sequential'\n[[vectors]]\nop = 'add'\nscale = 5.0\nnormalize = true\nvector = 'a'",
        "[[vectors]]\nvector = 'a'\nscale = 5\nlayers = [2, 1]",
        "[[vectors]]\nvector = 'a'\nscale = 5\nlayers = [1]\n[[vectors]]\nvector = 'a'\nscale = 5\nlayers = [2]",
        "[[vectors]]\nvector = 'a'\nscale = 5\nlayers = [2]\n[[vectors]]\nvector = 'a'\nscale = 5\nlayers = [1]",
        "[[vectors]]\nvector = 'a'\nscale = 1\nnormalize = false",
        "[[vectors]]\nvector = 'a'\nrelative_scale = 0.5",
        "[[vectors]]\nvector = 'a'\nscale = 5\napply = { generation = 'all', prompt = { windows = [[0]] } }",
        "conflict = 'first'\n[[vectors]]\nvector = 'a'\nscale = 5",
    ] {
        assert_eq!(id(same), plain, "{same}");
    }
    for other in [
        "[[vectors]]\nvector = 'a'\nscale = 5.5",
        "[[vectors]]\nvector = 'b'\nscale = 5",
        "[[vectors]]\nvector = 'a'\nscale = 5\nlayers = [1]",
        "[[vectors]]\nvector = 'a'\nscale = 5\nop = 'set'",
        "[[vectors]]\nvector = 'a'\nscale = 5\nop = 'ablate'",
        "[[vectors]]\nvector = 'a'\nscale = 5\napply = { prompt = 'all' }",
        "[[vectors]]\nvector = 'a'\nscale = 5\napply = { generation = 'all' }",
        "[[vectors]]\nvector = 'a'\nscale = 5\nwhen = { vector = 'b', layer = 3, above = 1 }",
        "[[vectors]]\nvector = 'a'\nscale = 5\nwhen = { vector = 'b', layer = 3, below = 1 }",
        "[[vectors]]\nvector = 'a'\nscale = 5\nwhen = { vector = 'b', layer = 3, below = 2 }",
        "[[vectors]]\nvector = 'a'\nscale = 5\nwhen = { vector = 'b', layer = 3, token = 'mean', below = 1 }",
        "norm = 'preserve'\n[[vectors]]\nvector = 'a'\nscale = 5",
        "",
    ] {
        assert_ne!(id(other), plain, "{other}");
    }
}

#[test]
fn what_a_component_becomes_is_part_of_the_fingerprint() {
    let id = |op, scale| program(VectorUse::new("a", scale).op(op)).fingerprint;
    for op in [Op::Add, Op::Ablate, Op::Set] {
        assert_ne!(id(op, 1.0), id(op, 2.0));
        assert_eq!(id(op, 0.0), id(op, -0.0));
    }
}

#[test]
fn fingerprints_go_by_values_not_by_names() {
    let mut library = library();
    library.insert("again", library.get("a").unwrap().clone()).unwrap();
    let id = |name: &str| {
        let spec = SteeringSpec::from(VectorUse::new(name, 1.0));
        compile(&spec, &library, &target(), &token, "").unwrap().fingerprint
    };
    assert_eq!(id("a"), id("again"));
    let changed = vector(
        model("large", HIDDEN, 6),
        true,
        &[(1, &[3.0, 0.0, 4.0, 0.0]), (2, &[1.0; HIDDEN])],
    );
    let before = id("a");
    library.insert("a", changed).unwrap();
    let spec = SteeringSpec::from(VectorUse::new("a", 1.0));
    assert_ne!(
        compile(&spec, &library, &target(), &token, "").unwrap().fingerprint,
        before
    );
}

#[test]
fn the_order_of_vectors_at_a_layer_matters() {
    let (set, add) = (|| VectorUse::new("a", 1.0).op(Op::Set), || VectorUse::new("a", 2.0));
    assert_ne!(
        program(vec![set(), add()]).fingerprint,
        program(vec![add(), set()]).fingerprint
    );
}

#[test]
fn prompts_are_checked_against_every_clause() {
    let program = program(vec![
        VectorUse::new("a", 1.0),
        VectorUse::new("b", 1.0).apply(Apply::prompt(at(&[0, 5]))),
    ]);
    assert_eq!(program.validate_prompt(&[7; 6]), Ok(()));
    assert_eq!(
        program.validate_prompt(&[7; 5]).unwrap_err(),
        "steering.vectors[1].apply.prompt.positions[1]: found 5, expected one of the prompt's 5 positions"
    );
    let generation = Selection {
        windows: Some(vec![Window { start: 900, end: None }]),
        ..Selection::default()
    };
    let later = VectorUse::new("a", 1.0).apply(Apply::generation(generation));
    assert_eq!(self::program(later).validate_prompt(&[7]), Ok(()));
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_spec_read_back_from_its_text_is_the_same_program(
        prompt in places(false),
        generation in places(true),
        op in prop::sample::select(vec![Op::Add, Op::Ablate, Op::Set]),
        scale in -4.0..4.0f64,
        conflict in prop::sample::select(vec![Conflict::Sequential, Conflict::First, Conflict::Error]),
        norm in prop::sample::select(vec![NormRule::Free, NormRule::Preserve]),
    ) {
        let apply = Apply { prompt: Some(prompt), generation: Some(generation) };
        let vectors = vec![VectorUse::new("a", scale).op(op).apply(apply.clone()), VectorUse::ablate("b").apply(apply)];
        let spec = SteeringSpec::from(vectors).conflict(conflict).norm(norm);
        let compiled = |spec: &SteeringSpec| compile(spec, &library(), &target(), &token, "s.").ok();
        let program = compiled(&spec);
        let json = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(&compiled(&serde_json::from_value(json).unwrap()), &program);
        let toml = toml::to_string(&spec).unwrap();
        prop_assert_eq!(&compiled(&toml::from_str(&toml).unwrap()), &program);
        if let Some(program) = program {
            let on_prompt = program.steps.iter().any(|step| !step.prompt.is_none());
            let unsteered = program.in_turns(&[]).sharing(&[1, 2, 3]).salts.iter().all(|(from, _)| *from == 3);
            prop_assert!(unsteered || on_prompt);
        }
    }

    #[test]
    fn whatever_is_sent_is_a_program_or_a_mistake_in_a_field(steering in tables(), prompt in prop::collection::vec(0..6u32, 1..9)) {
        let read = from_json::<RequestSteering>(&steering, "steering.");
        let made = read.and_then(|request| {
            request.validate("steering.").map_err(|error| error.to_string())?;
            compile(&request.resolve(None), &library(), &target(), &token, "steering.").map_err(|error| error.to_string())
        });
        match made {
            Ok(program) => {
                let _ = program.validate_prompt(&prompt);
                for position in 0..20 {
                    let mut state = [1.0; HIDDEN];
                    steer(&program, &mut state, 2, prompt.len(), &vec![1; position + 1], &[true]);
                    prop_assert!(state.iter().all(|x| !x.is_nan()), "{:?}", state);
                }
            }
            Err(error) => prop_assert!(error.to_string().starts_with("steering"), "{}", error),
        }
    }
}

/// Steering of the right keys, mostly, with values of any kind: one in a few is as it should be.
fn tables() -> impl Strategy<Value = Value> {
    let leaf = || {
        prop::sample::select(vec![
            json!(null),
            json!(true),
            json!(-1),
            json!(1),
            json!(2),
            json!(1.5),
            json!(1e39),
            json!(i64::MIN),
            json!(u64::MAX),
            json!("all"),
            json!("none"),
            json!("a"),
            json!("b"),
            json!("up"),
            json!("the"),
            json!("../x"),
            json!(""),
            json!([]),
            json!({}),
            json!([1]),
            json!([2, 1]),
            json!([1, -1, 1]),
            json!(["the", 3]),
            json!([[1], [-2, -1]]),
        ])
    };
    let table = |keys: &'static [&'static str], likely: fn(&str) -> Value, value: BoxedStrategy<Value>| {
        let entry = (prop::sample::select(keys), prop::option::weighted(0.2, value));
        prop::collection::vec(entry, 0..5).prop_map(move |entries| {
            let entries = entries.into_iter();
            let value = |(key, value): (&str, Option<Value>)| (key.to_string(), value.unwrap_or_else(|| likely(key)));
            Value::Object(entries.map(value).collect())
        })
    };
    let place = table(
        &[
            "positions",
            "windows",
            "tokens",
            "exclude_positions",
            "exclude_windows",
            "exclude_tokens",
        ],
        |key| {
            if key.ends_with("windows") {
                json!([[0, 2], [-1]])
            } else {
                json!([2, 0])
            }
        },
        leaf().boxed(),
    );
    let apply = table(
        &["prompt", "generation"],
        |_| json!("all"),
        prop_oneof![leaf(), place].boxed(),
    );
    let when = table(
        &["vector", "map", "layer", "token", "above", "below"],
        |key| match key {
            "vector" => json!("b"),
            "layer" => json!(3),
            "token" => json!("mean"),
            _ => json!(null),
        },
        leaf().boxed(),
    );
    let keys = [
        "op",
        "scale",
        "relative_scale",
        "layers",
        "apply",
        "when",
        "map",
        "offset",
        "normalize",
        "surprise",
    ];
    let vector = (
        prop::sample::subsequence(keys.to_vec(), 0..4),
        prop_oneof![3 => Just(json!("a")), 1 => leaf()],
        prop_oneof![3 => Just(json!(1)), 1 => leaf()],
        leaf(),
        apply,
        when,
    );
    let vector = vector.prop_map(|(keys, name, scale, other, apply, when)| {
        let mut table = json!({"vector": name, "scale": scale});
        for key in keys {
            table[key] = match key {
                "apply" => apply.clone(),
                "when" => when.clone(),
                "op" => json!("set"),
                _ => other.clone(),
            };
        }
        table
    });
    let vectors = prop_oneof![4 => prop::collection::vec(vector, 0..3).prop_map(Value::Array), 1 => leaf()];
    let mode = prop::sample::select(vec![
        json!("replace"),
        json!("extend"),
        json!("off"),
        json!(null),
        json!(3),
    ]);
    (
        vectors,
        prop::option::weighted(0.2, mode),
        prop::option::weighted(0.2, leaf()),
    )
        .prop_map(|(vectors, mode, norm)| {
            let mut steering = json!({"vectors": vectors});
            if let Some(mode) = mode {
                steering["mode"] = mode;
            }
            if let Some(norm) = norm {
                steering["norm"] = norm;
            }
            steering
        })
}

fn held(spec: impl Into<SteeringSpec>, most: f64, excess: Excess, exempt: u32) -> Result<Program, String> {
    held_by(&library(), spec, most, excess, exempt)
}

fn held_by(
    library: &Library,
    spec: impl Into<SteeringSpec>,
    most: f64,
    excess: Excess,
    exempt: u32,
) -> Result<Program, String> {
    let bound = Bound {
        max_relative_scale: most,
        excess,
    };
    let dose = Dose { bound, exempt };
    compile_within(&spec.into(), library, &target(), &token, "s.", Some(dose)).map_err(|error| error.to_string())
}

fn small(scale: f64) -> VectorUse {
    VectorUse::relative("a", scale).at_layers([1])
}

#[test]
fn many_small_offsets_are_one_large_one() {
    let reject = |vectors: Vec<VectorUse>| held(vectors, 0.5, Excess::Reject, 0);
    assert!(reject(vec![small(0.25), small(0.25)]).is_ok());
    assert!(reject(vec![small(0.5), VectorUse::relative("a", 0.5).at_layers([2])]).is_ok());
    assert_eq!(
        reject(vec![small(0.2), small(0.2), small(0.2)]).unwrap_err(),
        "s.vectors[2].relative_scale: found 0.2, with which the offsets at layer 1 add up to 0.600 of the stream's mean norm, \
         expected at most 0.5, the server's max_relative_scale"
    );
    // Whatever their direction, and wherever they act.
    assert!(reject(vec![small(0.3), small(-0.3)]).is_err());
    let apart = |scale, apply| small(scale).apply(apply);
    let only = |tokens| Apply {
        prompt: Some(tokens),
        generation: None,
    };
    assert!(reject(vec![apart(0.3, only(at(&[0]))), apart(0.3, only(at(&[1])))]).is_err());
    // Absolute scales and those of the file count the same: "a" has norm 5 in a stream of mean norm 10.
    assert!(reject(vec![VectorUse::new("a", 5.0).at_layers([1])]).is_ok());
    assert!(reject(vec![VectorUse::new("a", 5.1).at_layers([1])]).is_err());
    assert!(reject(vec![VectorUse::new("a", 1.0).unnormalized().at_layers([1])]).is_ok());
    assert!(reject(vec![VectorUse::new("a", 1.1).unnormalized().at_layers([1])]).is_err());
    // A map states 8 at layer 4.
    assert!(reject(vec![VectorUse::new("small", 4.0).through("up")]).is_ok());
    assert!(reject(vec![VectorUse::new("small", 4.1).through("up")]).is_err());
}

#[test]
fn what_is_taken_away_counts_as_well() {
    let reject = |used: VectorUse, most| held(used.at_layers([1]), most, Excess::Reject, 0);
    assert!(reject(VectorUse::ablate("a"), 1.0).is_ok());
    assert!(reject(VectorUse::ablate("a"), 0.9).is_err());
    assert!(reject(VectorUse::new("a", 0.5).op(Op::Ablate), 0.5).is_ok());
    assert!(reject(VectorUse::new("a", 5.0).op(Op::Set), 1.5).is_ok());
    assert!(reject(VectorUse::new("a", 5.0).op(Op::Set), 1.4).is_err());
}

#[test]
fn what_is_too_much_is_scaled_down() {
    let clamp = |vectors: Vec<VectorUse>, exempt| held(vectors, 0.5, Excess::Clamp, exempt);
    let mixed = clamp(vec![small(0.6), VectorUse::relative("a", -0.4)], 0).unwrap();
    assert_eq!(mixed.clamped, [1]);
    assert_eq!(directions(&mixed, 0)[0].2, 3.0);
    assert_eq!(
        directions(&mixed, 1).iter().map(|with| with.2).collect::<Vec<_>>(),
        [-2.0, -4.0]
    );
    // It is then the steering that it would be had that been asked for.
    let asked = |scale| held(small(scale), 0.5, Excess::Clamp, 0).unwrap();
    assert_eq!(asked(7.0).fingerprint, asked(0.5).fingerprint);
    assert_eq!((asked(7.0).clamped, asked(0.5).clamped), (vec![1], vec![]));
    assert_eq!(asked(1e30).fingerprint, asked(0.5).fingerprint);
    // The operator's own stays as it is.
    let extended = clamp(vec![small(0.3), small(0.9), small(0.1)], 1).unwrap();
    let scales: Vec<f32> = (0..3).map(|step| directions(&extended, step)[0].2).collect();
    assert_eq!(scales[0], 3.0);
    assert!(
        (scales[1] - 1.8).abs() < 1e-6 && (scales[2] - 0.2).abs() < 1e-6,
        "{scales:?}"
    );
    let full = clamp(vec![small(0.5), small(0.9)], 1).unwrap();
    assert_eq!((directions(&full, 0)[0].2, directions(&full, 1)[0].2), (5.0, 0.0));
    // Wherever it stands.
    let behind = clamp(vec![small(0.9), small(0.3), small(0.1)], 0b10).unwrap();
    let scales: Vec<f32> = (0..3).map(|step| directions(&behind, step)[0].2).collect();
    assert!(
        (scales[0] - 1.8).abs() < 1e-6 && scales[1] == 3.0 && (scales[2] - 0.2).abs() < 1e-6,
        "{scales:?}"
    );
    // `set` can't be done by half.
    assert!(clamp(vec![VectorUse::new("a", 5.0).op(Op::Set).at_layers([1])], 0).is_err());
    // Nor is a default that goes beyond the bound anybody's to shrink.
    assert!(clamp(vec![small(0.6), small(0.1)], 1).is_err());
}

#[test]
fn lengths_that_nobody_can_tell_are_refused_under_a_bound() {
    let used = || VectorUse::new("c", 1.0).at_layers([1]);
    // "a" says the mean norm of layer 1, which "c" doesn't.
    assert!(held(used(), 0.1, Excess::Reject, 0).is_ok());
    assert!(held(VectorUse::new("c", 1.1).at_layers([1]), 0.1, Excess::Reject, 0).is_err());
    let mut alone = Library::default();
    alone
        .insert_shared("c", library().shared("c").unwrap().clone())
        .unwrap();
    let refused = held_by(&alone, used(), 10.0, Excess::Clamp, 0).unwrap_err();
    assert!(
        refused.starts_with(
            "s.vectors[0].scale: found 1 at layer 1, where no vector or map states the stream's mean norm"
        ),
        "{refused}"
    );
    // A share of the state needs no norm.
    assert!(held_by(&alone, VectorUse::ablate("c"), 1.0, Excess::Reject, 0).is_ok());
}

#[test]
fn a_vector_in_the_spec_is_that_of_a_file() {
    let inline = |layer, values: &[f32]| VectorRef::from(InlineVector::new(layer, values));
    let named = program(VectorUse::new("a", 10.0).at_layers([1]));
    let own = program(VectorUse::new(inline(1, &[3.0, 0.0, 4.0, 0.0]), 10.0));
    assert_eq!((&own.fingerprint, &own.steps), (&named.fingerprint, &named.steps));
    assert_eq!(own.used, ["(inline)"]);
    // The stream's mean norm is what the server's own files say, whatever a request may claim.
    let relative = |used: VectorRef| VectorUse::relative(used, 0.5).at_layers([1]);
    let fingerprint = |used| program(relative(used)).fingerprint;
    assert_eq!(fingerprint(inline(1, &[3.0, 0.0, 4.0, 0.0])), fingerprint("a".into()));
    assert!(held(relative(inline(1, &[3.0, 0.0, 4.0, 0.0])), 0.4, Excess::Reject, 0).is_err());
    // Through a map it is one of the model that the map starts from.
    let mapped = |used: VectorRef| program(VectorUse::new(used, 2.0).through("up"));
    assert_eq!(
        mapped(inline(0, &[1.0, 2.0])).fingerprint,
        mapped("small".into()).fingerprint
    );
    // Others of the same layer are others.
    let other = program(VectorUse::new(inline(1, &[3.0, 0.0, 4.0, 1.0]), 10.0));
    assert_ne!(other.fingerprint, own.fingerprint);
}

#[test]
fn a_vector_in_the_spec_that_is_none_names_its_field() {
    let inline = |layer, f32: &str| {
        let f32 = f32.to_string();
        VectorRef::from(InlineVector { layer, f32 })
    };
    let of = |layer, values: &[f32]| VectorRef::from(InlineVector::new(layer, values));
    for (used, message) in [
        (inline(1, "!"), "s.vectors[0].vector.f32: found Invalid"),
        (
            inline(1, "AAA="),
            "s.vectors[0].vector.f32: found 2 bytes, expected little-endian 32-bit floats",
        ),
        (
            inline(1, ""),
            "s.vectors[0].vector.f32: found 0 numbers, expected 4, the width of \"large\"",
        ),
        (of(1, &[1.0; 5]), "s.vectors[0].vector.f32: found 5 numbers, expected 4"),
        (
            of(6, &[1.0; 4]),
            "s.vectors[0].vector.layer: found 6, expected a layer of \"large\": 0 to 5",
        ),
        (of(1, &[0.0; 4]), "s.vectors[0].vector.f32: found"),
        (of(1, &[1.0, f32::NAN, 0.0, 0.0]), "s.vectors[0].vector.f32: found"),
        (
            inline(1, &"A".repeat(1 << 20)),
            "s.vectors[0].vector.f32: found 1048576 characters",
        ),
    ] {
        let found = refusal(VectorUse::new(used, 1.0));
        assert!(found.starts_with(message), "{found}");
    }
    let through = VectorUse::new(of(0, &[1.0; 4]), 1.0).through("up");
    assert!(refusal(through).contains("found 4 numbers, expected 2, the width of \"small\""));
    let nowhere = VectorUse::new(of(0, &[1.0; 4]), 1.0).through("down");
    assert!(refusal(nowhere).starts_with("s.vectors[0].map: found \"down\""));
}

#[test]
fn a_vector_in_the_spec_is_written_as_it_is_read() {
    let spec = SteeringSpec::from(VectorUse::new(InlineVector::new(3, &[1.5, -2.0]), 1.0));
    let json = serde_json::to_value(&spec).unwrap();
    assert_eq!(json["vectors"][0]["vector"], json!({"layer": 3, "f32": "AADAPwAAAMA="}));
    assert_eq!(from_json::<SteeringSpec>(&json, "").unwrap(), spec);
    assert_eq!(
        toml::from_str::<SteeringSpec>(&toml::to_string(&spec).unwrap()).unwrap(),
        spec
    );
    for (written, message) in [
        (
            json!(7),
            "expected a vector's name, a table of layer and f32, or one of model and pairs",
        ),
        (json!({"layer": 1}), "found no key `f32`"),
        (
            json!({"layer": 1, "f32": "", "mean_norm": 1}),
            "the unknown key `mean_norm`",
        ),
        (json!({"layer": -1, "f32": ""}), "layer"),
    ] {
        let spec = json!({"vectors": [{"vector": written, "scale": 1}]});
        let error = from_json::<SteeringSpec>(&spec, "s.").unwrap_err().to_string();
        assert!(
            error.starts_with("s.vectors[0].vector") && error.contains(message),
            "{error}"
        );
    }
}
