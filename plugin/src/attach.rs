//! Puts steering into a loaded model.

use std::sync::Arc;

use mistralrs_core::MistralRs;

use crate::compile::Program;
pub use crate::slot::slot;
use crate::steering::{Model, SpecOwner};
use crate::{Library, SteeringError, SteeringHook, SteeringSpec};

/// Steers every request to `model` (the default model if `None`) by `spec`, from the next request on. For different
/// steering per request, see [`Steering`](crate::Steering).
///
/// The vectors' sizes are checked against the model; their fingerprints are not.
///
/// # Errors
///
/// As [`compile`](crate::compile::compile), or the model does not exist or can't be steered. Then nothing changes.
pub fn attach(
    engine: &MistralRs,
    model: Option<&str>,
    spec: &SteeringSpec,
    library: &Library,
) -> Result<Arc<Program>, SteeringError> {
    let slot = slot(engine, model)?;
    let id = match model {
        Some(id) => id.to_string(),
        None => engine.get_default_model_id().ok().flatten().unwrap_or_default(),
    };
    let program = Arc::new(Model::loaded(engine, &id, &[], None)?.compile(spec, library, "", SpecOwner::Operator)?);
    slot.install(Arc::new(SteeringHook::fixed(program.clone())))
        .map_err(|reason| SteeringError::Install { model: id, reason })?;
    Ok(program)
}

/// Stops steering `model` (the default model if `None`).
///
/// # Errors
///
/// The model does not exist.
pub fn detach(engine: &MistralRs, model: Option<&str>) -> Result<(), SteeringError> {
    slot(engine, model).map(|slot| slot.remove())
}
