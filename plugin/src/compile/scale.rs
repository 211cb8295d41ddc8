//! The strength that a spec states for a vector.

use steermap_maps::Spread;

use crate::SteeringError;
use crate::directions::LayerDirection;
use crate::spec::{Op, VectorUse};

/// The field that states the strength of `used`, and its value; `absent` if there is no such field.
pub(super) fn spelled_scale(used: &VectorUse, absent: f64) -> (&'static str, f64) {
    if used.op == Op::Clamp {
        return match (used.min, used.max) {
            (Some(min), max) if max.is_none_or(|max| min.abs() >= max.abs()) => ("min", min),
            (_, max) => ("max", max.unwrap_or(absent)),
        };
    }
    match (used.relative_scale, used.std_scale) {
        (Some(given), _) => ("relative_scale", given),
        (None, Some(given)) => ("std_scale", given),
        (None, None) => ("scale", used.scale.unwrap_or(absent)),
    }
}

/// The absolute scale of `used` at a layer.
pub(super) fn scale(used: &VectorUse, layer: usize, found: &LayerDirection, at: &str) -> Result<f64, SteeringError> {
    let unknown = |name: &str, given: f64, what: &str, expected: &str| {
        let found = format!("{given} at layer {layer}, where {what} is not known");
        Err(SteeringError::value(format!("{at}.{name}"), found, expected))
    };
    match (used.relative_scale, used.std_scale, found.neutral) {
        (Some(relative), ..) if found.mean_norm > 0.0 => Ok(relative * found.mean_norm),
        (Some(relative), ..) => {
            let expected = "scale, or a file that says the mean norm";
            unknown("relative_scale", relative, "the stream's mean norm", expected)
        }
        (None, Some(deviations), Some(Spread { mean, std })) => Ok(match used.op {
            Op::Set => mean + deviations * std,
            _ => deviations * std,
        }),
        (None, Some(deviations), None) => {
            let expected = "scale, or the vector of a file that says neutral_std, without a map";
            unknown(
                "std_scale",
                deviations,
                "how the stream's component varies on neutral text",
                expected,
            )
        }
        // Absent only for ablate, whose default removes the whole component.
        (None, None, _) => Ok(used.scale.unwrap_or(1.0)),
    }
}
