//! The slot for the hook of a loaded model.

use mistralrs_core::MistralRs;
use residual_hooks::HookSlot;

use crate::SteeringError;

/// The slot for the hook of `model` (the default model if `None`).
///
/// # Errors
///
/// The model does not exist.
pub fn slot(engine: &MistralRs, model: Option<&str>) -> Result<HookSlot, SteeringError> {
    match engine.config(model) {
        Ok(config) => Ok(config.residual_hooks),
        Err(message) => Err(SteeringError::NoModel {
            model: model.unwrap_or("(default)").to_string(),
            message,
        }),
    }
}
