//! How far a spec moves the stream, against the operator's bound.

use super::{MeanNorms, Step, Target, spelled_scale};
use crate::policy::{Bound, Excess};
use crate::spec::{Op, SteeringSpec, VectorRef, VectorUse};
use crate::{Library, SteeringError};

/// What a spec is held to.
#[derive(Clone, Copy, Debug)]
pub struct Dose {
    /// The bound.
    pub bound: Bound,
    /// Which of the spec's vectors are the operator's own, bit `i` for vector `i`: they count, and are never scaled down.
    pub exempt: u32,
}

/// Holds `steps` to `dose`: at each layer the lengths of all offsets are added up, whatever their directions, positions and
/// conditions, and what goes beyond the bound is refused or scaled down. `mean_norms` is for each step, by layer, the
/// stream's mean norm that its vector states.
///
/// A length is counted in units of the stream's mean norm at the layer: `|scale|` over the mean norm for `add`, the share
/// for `ablate` (a component is as long as the state at most), and for `set` 1 more than for `add`; for `clamp` as for a `set` to
/// the larger of its bounds. So the sum is never
/// less than the offset of a state of mean norm.
///
/// Returns the layers that were scaled down.
///
/// # Errors
///
/// The vector that crosses the bound, or whose length can't be told since nobody states the mean norm.
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
    // What rounding to 32 bits adds.
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
                    // Of pairs that a request brings, natively, the request chooses the texts that the norm is of.
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
        // The operator's own first, then the request's in their order.
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

/// Whether an op may remove a component as long as the state, beside what it sets.
fn moves_components(op: Op) -> bool {
    matches!(op, Op::Set | Op::Clamp)
}

fn unknown(spec: &SteeringSpec, index: usize, layer: usize, at: &str) -> SteeringError {
    let (field, given) = spelled_scale(&spec.vectors[index], 1.0);
    SteeringError::value(
        format!("{at}vectors[{index}].{field}"),
        format!("{given} at layer {layer}, where no vector or map says the stream's mean norm"),
        "a layer whose mean norm is known, since the server bounds offsets in units of it (max_relative_scale)",
    )
}

fn beyond(bound: Bound, spec: &SteeringSpec, index: usize, layer: usize, sum: f64, at: &str) -> SteeringError {
    let (field, given) = spelled_scale(&spec.vectors[index], 1.0);
    SteeringError::value(
        format!("{at}vectors[{index}].{field}"),
        format!("{given}, with which the offsets at layer {layer} add up to {sum:.3} of the stream's mean norm"),
        format!("{} at most, the server's max_relative_scale", bound.max_relative_scale),
    )
}
