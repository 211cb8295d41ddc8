//! How far a spec can move the stream, against what its numbers can hold.

use candle_core::DType;

use super::{MeanNorms, Step, Target, spelled_scale};
use crate::SteeringError;
use crate::spec::{NormRule, Op, SteeringSpec};

/// The longest state whose norm can still be taken in float32, as every block does: half the root of its maximum.
const MAX_NORM: f64 = 9.2e18;

/// Largest finite float16.
const MAX_F16: f64 = 65504.0;

/// How large states can get: a bound, which cancellation between vectors never lowers.
#[derive(Clone, Copy)]
struct Extent {
    /// Of the L2 norm.
    norm: f64,
    /// Of the absolute value of one element.
    peak: f64,
}

/// Refuses a spec that takes a state of usual length beyond what the target's dtype holds, or its norm beyond float32:
/// the model would then compute with infinities. `mean_norms` is the stream's mean norm by layer; where it is not known,
/// elements are taken to be about 1.
///
/// # Errors
///
/// The vector that crosses the bound.
pub(super) fn refuse_overflow(
    spec: &SteeringSpec,
    steps: &[Step],
    mean_norms: &MeanNorms,
    target: &Target,
    at: &str,
) -> Result<(), SteeringError> {
    let width = (target.hidden_size as f64).sqrt();
    // What a layer added is still there at the next.
    let mut carried = Extent { norm: 0.0, peak: 0.0 };
    for layer in 0..target.num_layers {
        let mean = mean_norms.get(&layer).copied().unwrap_or(width);
        let before = Extent {
            norm: carried.norm.max(mean),
            peak: carried.peak.max(mean / width),
        };
        let mut now = before;
        for (index, step) in steps.iter().enumerate() {
            let Some(with) = step.layers.get(&layer) else { continue };
            let (scale, peak) = (f64::from(with.scale), f64::from(with.direction.peak()));
            now = match step.op {
                Op::Add | Op::Set | Op::Clamp => Extent {
                    norm: now.norm + scale.abs(),
                    peak: now.peak + scale.abs() * peak,
                },
                // The component, as long as the state at most, becomes 1 - scale of itself.
                Op::Ablate => {
                    let grown = ((1.0 - scale).abs() - 1.0).max(0.0);
                    Extent {
                        norm: now.norm * (1.0 + grown),
                        peak: now.peak + grown * now.norm * peak,
                    }
                }
            };
            // Steps are computed in float32; only what is left of a norm that is preserved is rounded to the dtype.
            let half = target.dtype == Some(DType::F16) && spec.norm == NormRule::Free;
            let beyond = if now.norm > MAX_NORM {
                Some(format!("the stream's norm to {:.1e}", now.norm))
            } else if half && now.peak > MAX_F16 {
                Some(format!("elements of the stream to {:.1e}", now.peak))
            } else {
                None
            };
            if let Some(beyond) = beyond {
                let (field, given) = spelled_scale(&spec.vectors[index], 1.0);
                let expected = if half {
                    format!("at most {MAX_F16:.0}, since the model runs in float16")
                } else {
                    format!("a norm of at most {MAX_NORM:.1e}")
                };
                return Err(SteeringError::value(
                    format!("{at}vectors[{index}].{field}"),
                    format!("{given:e}, which takes {beyond} after layer {layer}"),
                    expected,
                ));
            }
        }
        carried = match spec.norm {
            NormRule::Free => now,
            NormRule::Preserve => before,
        };
    }
    Ok(())
}
