//! Limits how far a spec moves the stream by the operator's bound.

use super::scale::spelled_scale;
use super::step::{MeanNorms, Step};
use crate::policy::{Bound, Excess};
use crate::spec::{Op, SteeringSpec, VectorRef, VectorUse};
use crate::{Library, SteeringError, Target};

/// The operator's bound for one spec.
#[derive(Clone, Copy, Debug)]
pub struct Dose {
    /// The bound.
    pub bound: Bound,
    /// Which of the spec's vectors are the operator's own, bit `i` for vector `i`. They count towards the bound, but
    /// are never scaled down.
    pub exempt: u32,
}

/// Limits `steps` by `dose`: at each layer the lengths of all offsets are added up, regardless of directions, positions
/// and conditions, and an excess is refused or scaled down. `mean_norms` has, for each step and layer, the stream's
/// mean norm that its vector states.
///
/// A length is measured in units of the stream's mean norm at the layer: `|scale|` over the mean norm for `add`, the
/// share for `ablate` (a component is at most as long as the state), and for `set` 1 more than for `add`; `clamp`
/// counts as a `set` to the larger of its bounds. So the sum is never less than the offset of a state of mean norm.
///
/// Returns the layers that were scaled down.
///
/// # Errors
///
/// The vector that exceeds the bound, or whose length is not known since no file states the mean norm.
pub(super) fn hold(
    dose: Dose,
    spec: &SteeringSpec,
    steps: &mut [Step],
    mean_norms: &[MeanNorms],
    library: &Library,
    target: &Target,
    at: &str,
) -> Result<Vec<usize>, SteeringError> {
    let Dose { bound, exempt } = dose;
    let is_exempt = |index: usize| {
        u32::try_from(index)
            .ok()
            .and_then(|index| exempt.checked_shr(index))
            .is_some_and(|bits| bits & 1 == 1)
    };
    // Allows for rounding to 32 bits.
    let most = bound.max_relative_scale * (1.0 + 1e-6);
    let mut scaled = Vec::new();
    for layer in 0..target.num_layers {
        let mut lengths = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let Some(with) = step.layers.get(&layer) else { continue };
            let scale = f64::from(with.scale).abs();
            let length = match step.op {
                Op::Ablate => scale,
                Op::Add | Op::Set | Op::Clamp => {
                    // For a native vector found from a request's pairs, the request chose the texts that the norm was
                    // measured on.
                    let trusted = !found_natively(&spec.vectors[index]);
                    let stated = mean_norms.get(index).filter(|_| trusted);
                    let stated = stated.and_then(|norms| norms.get(&layer)).copied();
                    let Some(mean) = stated.or_else(|| library.mean_norm(target, layer)) else {
                        return Err(unknown(spec, index, layer, at));
                    };
                    scale / mean + f64::from(u8::from(moves_components(step.op)))
                }
            };
            lengths.push((index, length));
        }
        // The operator's vectors first, then the request's in their order.
        lengths.sort_by_key(|(index, _)| !is_exempt(*index));
        let before_own: f64 = lengths
            .iter()
            .filter(|(index, _)| is_exempt(*index))
            .map(|(_, length)| length)
            .sum();
        let (mut sum, mut crosses) = (0.0, None);
        for (index, length) in lengths {
            sum += length;
            if sum > most && crosses.is_none() {
                crosses = Some(index);
            }
        }
        let Some(index) = crosses else { continue };
        let own = || {
            let own = steps.iter().enumerate().filter(|(index, _)| !is_exempt(*index));
            own.map(|(_, step)| step)
                .filter(|step| step.layers.contains_key(&layer))
        };
        let shrinks =
            bound.excess == Excess::Clamp && before_own <= most && own().all(|step| !moves_components(step.op));
        if !shrinks {
            return Err(beyond(bound, spec, index, layer, sum, at));
        }
        let factor = ((bound.max_relative_scale - before_own) / (sum - before_own)).max(0.0);
        for (_, step) in steps.iter_mut().enumerate().filter(|(index, _)| !is_exempt(*index)) {
            if let Some(with) = step.layers.get_mut(&layer) {
                with.scale = (f64::from(with.scale) * factor) as f32;
            }
        }
        scaled.push(layer);
    }
    Ok(scaled)
}

fn found_natively(used: &VectorUse) -> bool {
    used.map.is_none() && matches!(used.vector, VectorRef::Found(_))
}

/// Whether an operation may remove a component as long as the state, in addition to what it sets.
fn moves_components(op: Op) -> bool {
    matches!(op, Op::Set | Op::Clamp)
}

fn unknown(spec: &SteeringSpec, index: usize, layer: usize, at: &str) -> SteeringError {
    let (field, given) = spelled_scale(&spec.vectors[index], 1.0);
    SteeringError::value(
        format!("{at}vectors[{index}].{field}"),
        format!("{given} at layer {layer}, where no vector or map states the stream's mean norm"),
        "a layer whose mean norm is known, since the server bounds offsets in units of it (max_relative_scale)",
    )
}

fn beyond(bound: Bound, spec: &SteeringSpec, index: usize, layer: usize, sum: f64, at: &str) -> SteeringError {
    let (field, given) = spelled_scale(&spec.vectors[index], 1.0);
    SteeringError::value(
        format!("{at}vectors[{index}].{field}"),
        format!("{given}, with which the offsets at layer {layer} add up to {sum:.3} of the stream's mean norm"),
        format!("at most {}, the server's max_relative_scale", bound.max_relative_scale),
    )
}
