//! Puts steering into loaded models.

use std::sync::Arc;

use mistralrs_core::MistralRs;

use crate::compile::Program;
pub use crate::slot::slot;
use crate::steering::{Model, Snapshot, SpecOwner, Steering};
use crate::{Library, SteeringError, SteeringHook, SteeringSpec};

/// Steers every request to `model` (the default model if `None`) by `spec`, from the next request on. For different
/// steering per request, see [`Steering`].
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

impl Steering {
    /// Steers all models of `engine` that can be steered, each request by its own field, without a default.
    ///
    /// The vectors' sizes are checked against the models; their fingerprints are not.
    ///
    /// # Errors
    ///
    /// The engine no longer has a model.
    pub fn new(engine: &MistralRs, library: Library) -> Result<Self, SteeringError> {
        let names = engine.list_models().map_err(|message| SteeringError::NoModel {
            model: "(all)".to_string(),
            message,
        })?;
        let models = names
            .iter()
            .map(|name| Model::loaded(engine, name, &[], None))
            .collect::<Result<Vec<_>, _>>()?;
        let default = engine.get_default_model_id().ok().flatten();
        let steering = Self::with_snapshot(Snapshot::new(library, models, default), None, None, None);
        steering.install(engine)?;
        Ok(steering)
    }

    /// Installs a hook in every model that can be steered.
    ///
    /// # Errors
    ///
    /// The engine no longer has a model.
    pub fn install(&self, engine: &MistralRs) -> Result<(), SteeringError> {
        for model in self.snapshot().models.values().filter(|model| model.refusal.is_none()) {
            let hook = SteeringHook::serving(Arc::downgrade(&self.inner), model);
            slot(engine, Some(&model.id))?
                .install(Arc::new(hook))
                .map_err(|reason| SteeringError::Install {
                    model: model.id.clone(),
                    reason,
                })?;
        }
        Ok(())
    }
}
