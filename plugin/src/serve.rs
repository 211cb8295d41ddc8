//! `mistralrs-steered serve`: mistral.rs's server with its models steered.

use anyhow::Result;
use mistralrs_cli::{ModelEntry, listen, prepare_serve};
use mistralrs_core::MistralRs;
use tracing::{info, warn};

use crate::SteeringError;
use crate::attach::attach_checked;
use crate::check::{Checked, check};
use crate::compile::ranges;
use crate::config::Config;
use crate::model_files::ModelFiles;

/// Loads the models of `config`, steers them, and serves them until the process ends.
///
/// # Errors
///
/// What [`check`] finds, before any weights are loaded; what mistral.rs says while it loads; a model that can't be
/// steered as asked.
pub async fn serve(config: Config, ignore_fingerprints: bool) -> Result<()> {
    let Checked {
        library, fingerprints, ..
    } = check(&config, ignore_fingerprints)?;
    let Config {
        path, engine, defaults, ..
    } = config;
    let models = engine.models.clone();
    let (server, state, app) = prepare_serve(engine).await?;
    for entry in &models {
        let Some(default) = defaults.get(&entry.model_id) else {
            continue;
        };
        let fingerprint = match fingerprints.get(&entry.model_id) {
            Some(known) => Some(known.clone()),
            None if ignore_fingerprints => None,
            // The model was fetched just now.
            None => fingerprint(entry)?,
        };
        let id = engine_id(&state, entry)?;
        let offsets = attach_checked(&state, Some(&id), &default.spec, &library, fingerprint, &default.at)
            .map_err(|error| error.within(&path))?;
        let layers: Vec<usize> = offsets.layers.keys().copied().collect();
        info!(
            "Model `{id}` is steered at layers {} (offsets {})",
            ranges(&layers),
            &offsets.fingerprint[..16]
        );
    }
    listen(server, app).await
}

/// The fingerprint of the files that were loaded.
fn fingerprint(entry: &ModelEntry) -> Result<Option<String>, SteeringError> {
    match ModelFiles::of_entry(entry) {
        Some(files) => Ok(Some(files.fingerprint()?)),
        None => {
            warn!(
                "The files of `{}` are not where they were looked for: fingerprints are not compared",
                entry.model_id
            );
            Ok(None)
        }
    }
}

/// The name under which the engine holds the model of `entry`: GGUF models go by the name of their tokenizer's model.
fn engine_id(engine: &MistralRs, entry: &ModelEntry) -> Result<String, SteeringError> {
    [Some(&entry.model_id), entry.format.tok_model_id.as_ref()]
        .into_iter()
        .flatten()
        .find(|id| engine.config(Some(id)).is_ok())
        .cloned()
        .ok_or_else(|| SteeringError::NoModel {
            model: entry.model_id.clone(),
            message: "the engine loaded it under another name".to_string(),
        })
}
