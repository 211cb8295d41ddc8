use super::steer;
use crate::compile::{Program, compile};
use crate::spec::{Apply, Conflict, NormRule, Op, Schedule, Selection, SteeringSpec, VectorUse, When};
use crate::testing::{library, target, token};

fn program(spec: impl Into<SteeringSpec>) -> Program {
    compile(&spec.into(), &library(), &target(), &token, "").unwrap()
}

/// What becomes of `[1, 2, 3, 4]` at `layer` as the token at `position`, after a prompt of 3 tokens.
fn steered(program: &Program, layer: usize, position: usize, decisions: &[bool]) -> [f32; 4] {
    let mut state = [1.0, 2.0, 3.0, 4.0];
    steer(program, &mut state, layer, 3, &vec![0; position + 1], decisions);
    state
}

fn close(found: [f32; 4], expected: [f64; 4]) {
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn each_op_does_what_it_says() {
    let at = |op, scale| program(VectorUse::new("a", scale).op(op).at_layers([1]));
    // a's unit direction is [0.6, 0, 0.8, 0]: the component is 3.
    close(steered(&at(Op::Add, 5.0), 1, 0, &[]), [4.0, 2.0, 7.0, 4.0]);
    close(steered(&at(Op::Ablate, 1.0), 1, 0, &[]), [-0.8, 2.0, 0.6, 4.0]);
    close(steered(&at(Op::Ablate, 0.5), 1, 0, &[]), [0.1, 2.0, 1.8, 4.0]);
    close(steered(&at(Op::Set, 5.0), 1, 0, &[]), [2.2, 2.0, 4.6, 4.0]);
    close(steered(&at(Op::Add, 5.0), 2, 0, &[]), [1.0, 2.0, 3.0, 4.0]);
    let clamp = |min, max| program(VectorUse::clamp("a", min, max).at_layers([1]));
    close(steered(&clamp(Some(5.0), None), 1, 0, &[]), [2.2, 2.0, 4.6, 4.0]);
    close(steered(&clamp(None, Some(-1.0)), 1, 0, &[]), [-1.4, 2.0, -0.2, 4.0]);
    close(steered(&clamp(Some(2.0), Some(4.0)), 1, 0, &[]), [1.0, 2.0, 3.0, 4.0]);
    close(steered(&clamp(Some(5.0), Some(5.0)), 1, 0, &[]), [2.2, 2.0, 4.6, 4.0]);
}

#[test]
fn vectors_act_in_order_or_the_first_alone() {
    let vectors = || {
        vec![
            VectorUse::new("c", 1.0).at_layers([1]),
            VectorUse::new("c", 9.0).op(Op::Set).at_layers([1]),
        ]
    };
    let spec = |conflict| program(SteeringSpec::from(vectors()).conflict(conflict));
    close(steered(&spec(Conflict::Sequential), 1, 0, &[]), [1.0, 9.0, 3.0, 4.0]);
    close(steered(&spec(Conflict::First), 1, 0, &[]), [1.0, 3.0, 3.0, 4.0]);
    let mut vectors = vectors();
    let last = Selection {
        positions: Some(vec![-1]),
        ..Selection::default()
    };
    vectors[0].apply = Some(Apply::prompt(last));
    let program = program(SteeringSpec::from(vectors).conflict(Conflict::First));
    close(steered(&program, 1, 2, &[]), [1.0, 3.0, 3.0, 4.0]);
    close(steered(&program, 1, 1, &[]), [1.0, 9.0, 3.0, 4.0]);
    close(steered(&program, 1, 3, &[]), [1.0, 9.0, 3.0, 4.0]);
}

#[test]
fn the_norm_is_set_back_where_something_acted() {
    let spec = SteeringSpec::from(VectorUse::ablate("c").at_layers([1])).norm(NormRule::Preserve);
    let factor = (30.0f64 / 26.0).sqrt();
    close(
        steered(&program(spec.clone()), 1, 0, &[]),
        [factor, 0.0, 3.0 * factor, 4.0 * factor],
    );
    assert_eq!(steered(&program(spec.clone()), 2, 0, &[]), [1.0, 2.0, 3.0, 4.0]);
    let mut zero = [0.0, 2.0, 0.0, 0.0];
    steer(&program(spec), &mut zero, 1, 3, &[0], &[]);
    assert_eq!(zero, [0.0; 4]);
}

#[test]
fn conditions_decide_over_generated_tokens() {
    let program = program(VectorUse::new("c", 1.0).at_layers([1]).when(When::above("b", 3, 0.0)));
    let (unsteered, added) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 3.0, 4.0]);
    // At layer 1 it isn't known yet what layer 3 decides on the first generated token.
    assert_eq!(steered(&program, 1, 2, &[true]), unsteered);
    assert_eq!(steered(&program, 1, 3, &[true]), added);
    assert_eq!(steered(&program, 1, 3, &[false]), unsteered);
    assert_eq!(steered(&program, 1, 3, &[]), unsteered);
}

#[test]
fn the_first_generated_token_is_steered_where_its_condition_is_known() {
    let spec = VectorUse::new("b", 1.0)
        .at_layers([2, 3])
        .when(When::above("b", 3, 0.0));
    let program = program(spec);
    let unsteered = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(program.late_layers(), [2]);
    assert_eq!(steered(&program, 2, 2, &[true]), unsteered);
    assert_eq!(steered(&program, 3, 2, &[true]), [1.0, 2.0, 3.0, 3.0]);
    assert_eq!(steered(&program, 3, 1, &[true]), unsteered);
    assert_eq!(steered(&program, 2, 3, &[true]), [1.0, 3.0, 3.0, 4.0]);
}

#[test]
fn a_schedule_fades_what_is_done() {
    let at = |op, position| {
        let used = VectorUse::new("c", 5.0).op(op).at_layers([1]);
        let program = program(used.schedule(Schedule::listed([1.0, 0.5])));
        steered(&program, 1, position, &[])[1]
    };
    assert_eq!([0, 2, 3, 4].map(|position| at(Op::Add, position)), [7.0, 7.0, 4.5, 4.5]);
    assert_eq!([2, 3].map(|position| at(Op::Set, position)), [5.0, 3.5]);
}
