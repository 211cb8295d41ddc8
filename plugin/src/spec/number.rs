//! The numbers of a spec.

use crate::SteeringError;

/// Checks that a number is finite as f32, the type of offsets, components and thresholds.
pub(super) fn finite(at: &str, number: f64) -> Result<(), SteeringError> {
    if (number as f32).is_finite() {
        return Ok(());
    }
    Err(SteeringError::value(at, number.to_string(), "a finite 32-bit number"))
}
