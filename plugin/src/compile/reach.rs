//! Refuses specs that move the stream beyond the range of its numbers.

use candle_core::DType;

use super::scale::spelled_scale;
use super::step::{MeanNorms, Step};
use crate::spec::{NormRule, Op, SteeringSpec};
use crate::{SteeringError, Target};

/// The longest state whose norm float32 can hold, as every block computes it: half the square root of float32's
/// maximum.
const MAX_NORM: f64 = 9.2e18;

/// Largest finite float16.
const MAX_F16: f64 = 65504.0;

/// An upper bound of the size of states. Cancellation between vectors is not taken into account.
#[derive(Clone, Copy)]
struct Extent {
    /// Bound of the L2 norm.
    norm: f64,
    /// Bound of the absolute value of one element.
    peak: f64,
}

/// Refuses a spec that takes a state of usual length beyond the range of the target's dtype, or its norm beyond that of
/// float32: the model would then compute with infinities. `mean_norms` is the stream's mean norm by layer; where it is
/// not known, elements are assumed to be about 1.
///
/// # Errors
///
/// The vector that exceeds the range.
pub(super) fn refuse_overflow(
    spec: &SteeringSpec,
    steps: &[Step],
    mean_norms: &MeanNorms,
    target: &Target,
    at: &str,
) -> Result<(), SteeringError> {
    let width = (target.hidden_size as f64).sqrt();
    // What a layer adds is still in the stream at the next layer.
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
                // The component, at most as long as the state, is multiplied by 1 - scale.
                Op::Ablate => {
                    let grown = ((1.0 - scale).abs() - 1.0).max(0.0);
                    Extent {
                        norm: now.norm * (1.0 + grown),
                        peak: now.peak + grown * now.norm * peak,
                    }
                }
            };
            // Steps are computed in float32. With a preserved norm, only the final state is rounded to the dtype.
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
