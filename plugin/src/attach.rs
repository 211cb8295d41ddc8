//! Puts steering into a loaded model.

use std::sync::Arc;

use mistralrs_core::MistralRs;
use residual_hooks::HookSlot;

use crate::compile::{Offsets, Target, compile};
use crate::{Library, SteeringError, SteeringHook, SteeringSpec};

/// Steers every request to `model` (the default model if `None`) as `spec` says, from the next request on.
///
/// The vectors' sizes are checked against the model; their fingerprints are not: see
/// [`attach_checked`] for that.
///
/// # Errors
///
/// As [`compile`], or a model that is not there or can't be steered; then nothing is changed.
pub fn attach(
    engine: &MistralRs,
    model: Option<&str>,
    spec: &SteeringSpec,
    library: &Library,
) -> Result<Offsets, SteeringError> {
    attach_checked(engine, model, spec, library, None, "")
}

/// As [`attach`], with the fingerprint of the model's files to compare the vectors' with, and the path of the spec for
/// messages.
///
/// # Errors
///
/// As [`attach`], or a vector that was found on other weights.
pub fn attach_checked(
    engine: &MistralRs,
    model: Option<&str>,
    spec: &SteeringSpec,
    library: &Library,
    fingerprint: Option<String>,
    at: &str,
) -> Result<Offsets, SteeringError> {
    let name = model.unwrap_or("(default)").to_string();
    let slot = slot(engine, model)?;
    let install = |source| SteeringError::Install {
        model: name.clone(),
        source,
    };
    let stream = slot.stream().map_err(install)?;
    let target = Target {
        model: name.clone(),
        hidden_size: stream.hidden_size,
        num_layers: stream.num_layers,
        fingerprint,
    };
    let offsets = compile(spec, library, &target, at)?;
    slot.install(Arc::new(SteeringHook::new(offsets.clone())))
        .map_err(install)?;
    Ok(offsets)
}

/// Stops steering `model` (the default model if `None`).
///
/// # Errors
///
/// A model that is not there.
pub fn detach(engine: &MistralRs, model: Option<&str>) -> Result<(), SteeringError> {
    slot(engine, model).map(|slot| slot.remove())
}

/// Where hooks of `model` (the default model if `None`) are installed.
///
/// # Errors
///
/// A model that is not there.
pub fn slot(engine: &MistralRs, model: Option<&str>) -> Result<HookSlot, SteeringError> {
    match engine.config(model) {
        Ok(config) => Ok(config.residual_hooks),
        Err(message) => Err(SteeringError::NoModel {
            model: model.unwrap_or("(default)").to_string(),
            message,
        }),
    }
}
