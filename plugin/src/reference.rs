//! What steering means, spelled out for one state at a time: slow and plain, what the fast way is compared with.

use crate::compile::Program;
use crate::spec::{Conflict, NormRule, Op};

/// Steers `state`, the stream of one token after block `layer`: `[hidden_size]`.
///
/// The token is `token`, at `position` of its sequence, whose prompt has `prompt_len` tokens. `decisions` says of each
/// of the program's conditions whether this sequence meets it; one that is not there is not met.
pub fn steer(
    program: &Program,
    state: &mut [f32],
    layer: usize,
    position: usize,
    prompt_len: usize,
    token: u32,
    decisions: &[bool],
) {
    let mut h: Vec<f64> = state.iter().map(|&x| f64::from(x)).collect();
    let norm_before = norm(&h);
    let mut steered = false;
    for step in &program.steps {
        let Some(with) = step.layers.get(&layer) else { continue };
        let selector = if position < prompt_len {
            &step.prompt
        } else {
            &step.generation
        };
        if !selector.contains(position, prompt_len, token) {
            continue;
        }
        if let Some(condition) = step.condition
            && decisions.get(condition) != Some(&true)
        {
            continue;
        }
        if steered && program.conflict == Conflict::First {
            break;
        }
        steered = true;
        let v: Vec<f64> = with.direction.values().iter().map(|&x| f64::from(x)).collect();
        let component: f64 = h.iter().zip(&v).map(|(h, v)| h * v).sum();
        let factor = match step.op {
            Op::Add => f64::from(with.scale),
            Op::Ablate => -f64::from(with.scale) * component,
            Op::Set => f64::from(with.scale) - component,
            Op::Clamp => {
                let [min, max] = step.bounds.map(f64::from);
                component.max(min).min(max) - component
            }
        };
        for (h, v) in h.iter_mut().zip(&v) {
            *h += factor * v;
        }
    }
    if !steered {
        return;
    }
    if program.norm == NormRule::Preserve {
        let norm_after = norm(&h);
        // A state of zeros has no direction to give a norm to.
        if norm_after > 0.0 {
            h.iter_mut().for_each(|x| *x *= norm_before / norm_after);
        }
    }
    for (out, x) in state.iter_mut().zip(h) {
        *out = x as f32;
    }
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
