//! The definition of steering, for one state at a time. Slow and simple; tests compare the fast implementation with it.

use crate::compile::Program;
use crate::spec::{Conflict, NormRule, Op};

/// Steers `state`, the stream of one token after block `layer`: `[hidden_size]`.
///
/// The token is the last of `ids`, the tokens of its sequence so far, the first `prompt_len` of which are the prompt.
/// `decisions` has, for each of the program's conditions, whether this sequence or token meets it; a missing entry is
/// not known.
pub fn steer(program: &Program, state: &mut [f32], layer: usize, prompt_len: usize, ids: &[u32], decisions: &[bool]) {
    let position = ids.len() - 1;
    let token = ids[position];
    let decided = |index: usize| {
        let condition = &program.conditions[index];
        let known = if condition.is_each() {
            layer >= condition.layer
        } else {
            position >= prompt_len || (position + 1 == prompt_len && layer >= condition.layer)
        };
        known.then(|| decisions.get(index).copied()).flatten()
    };
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
        if let Some(when) = &step.when
            && when.evaluate(&decided) != Some(true)
        {
            continue;
        }
        let gain = step.schedule.as_ref().map_or(1.0, |schedule| {
            let mut generated = ids.iter().enumerate().skip(prompt_len);
            let started = generated.find(|(_, id)| Some(**id) == schedule.trigger());
            f64::from(schedule.at(position, prompt_len, started.map(|(position, _)| position)))
        });
        if gain == 0.0 {
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
            *h += gain * factor * v;
        }
    }
    if !steered {
        return;
    }
    if program.norm == NormRule::Preserve {
        let norm_after = norm(&h);
        // A state of zeros can't be scaled to a norm.
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
