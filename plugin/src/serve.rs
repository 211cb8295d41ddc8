//! `mistralrs-steered serve`: mistral.rs's server with its models steered.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use mistralrs_cli::{ModelEntry, prepare_serve};
use mistralrs_core::{MistralRs, ModelStatus};
use steermap_extract::{Message, Running};
use tracing::{info, warn};

use crate::SteeringError;
use crate::check::{Checked, check, files_of};
use crate::compile::ranges;
use crate::config::Config;
use crate::live::{Live, LiveSource};
use crate::server::{unavailable, wrap};
use crate::state::StateFolder;
use crate::steering::{ConfigSource, Model, Snapshot, Steering};
use crate::stopping::{Socket, Stopping};

/// Loads the models of `config`, steers them, and serves them until the process ends.
///
/// # Errors
///
/// The errors of [`check`], before any weights are loaded; errors of mistral.rs while it loads; a model that can't be
/// steered as configured.
pub async fn serve(config: Config, ignore_fingerprints: bool) -> Result<()> {
    // Opened (and locked) before it is read, so that no other process changes it meanwhile.
    let state = config.admin.state.as_deref().map(StateFolder::open).transpose()?;
    let saved = state.as_ref().map(StateFolder::latest).transpose()?.flatten();
    let saved = saved.unwrap_or_default();
    let Checked {
        mut library,
        fingerprints,
        ..
    } = check(&config, ignore_fingerprints, &saved)?;
    let Config {
        path,
        engine,
        vectors,
        defaults,
        per_request,
        inline,
        reading,
        bounds,
        warnings,
        admin,
        sources,
        live,
        limits,
        playground,
        patience,
        ..
    } = config;
    for warning in &warnings {
        warn!("{}: {warning}", path.display());
    }
    let entries = engine.models.clone();
    let stopping = Stopping::on_signals(patience)?;
    // Before the models load, which takes a long time.
    let socket = Socket::bind(&engine.server.host, engine.server.port).await?;
    let (_, engine, app) = prepare_serve(engine).await?;
    let mut models = Vec::new();
    let mut asked = Vec::new();
    for entry in &entries {
        let fingerprint = match fingerprints.get(&entry.model_id) {
            Some(known) => Some(known.clone()),
            None if ignore_fingerprints => None,
            // The model was just fetched, or has no default that was checked.
            None => fingerprint(entry)?,
        };
        let id = engine_id(&engine, entry)?;
        let mut model = Model::loaded(&engine, &id, &[&entry.model_id], fingerprint)?;
        model.bound = bounds.get(&entry.model_id).copied();
        model.chat = answers_chats(&engine, &id).await;
        model.architecture = files_of(entry).and_then(|files| files.architecture());
        vectors
            .load_control(
                &mut library,
                &entry.model_id,
                &model.target.info(),
                model.architecture.as_deref(),
            )
            .map_err(|error| error.within(&path))?;
        models.push(model);
        asked.push((id, defaults.get(&entry.model_id)));
    }
    let mut loaded = BTreeMap::new();
    for (name, source) in sources {
        info!("Loading the source `{name}`: {}", source.model);
        let source = LiveSource::load(&name, source).await;
        loaded.insert(name, source.map_err(|error| error.within(&path))?);
    }
    let quantization = entries.iter().filter_map(|entry| {
        let quantized = entry.quantization.in_situ_quant.clone();
        let quantized = quantized.or_else(|| entry.format.quantized_file.as_ref().map(|_| "gguf".to_string()))?;
        Some((engine_id(&engine, entry).ok()?, quantized))
    });
    let live = Live::new(engine.clone(), loaded, quantization.collect(), live);
    let default_model = engine.get_default_model_id().ok().flatten();
    let mut snapshot = Snapshot::new(library, models, default_model);
    snapshot.per_request = per_request;
    snapshot.inline = inline;
    snapshot.reading = reading;
    for (id, default) in asked {
        snapshot
            .configure_default(&id, default)
            .map_err(|error| error.within(&path))?;
    }
    if saved.number > 0 {
        snapshot.take_over(&saved)?;
        info!(
            "Restored {}: {} uploaded vectors, {} defaults that were set over HTTP",
            saved.path.display(),
            saved.vectors.len(),
            saved.defaults.len()
        );
    }
    let source = ConfigSource {
        path,
        ignore_fingerprints,
    };
    let steering = Steering::with_snapshot(snapshot, Some(source), state, Some(live));
    steering.install(&engine)?;
    for model in steering.snapshot().models.values() {
        match (&model.refusal, &model.default) {
            (Some(refusal), _) => warn!("Model `{}` can't be steered: {refusal}", model.id),
            (None, None) => info!("Model `{}` is steered by request", model.id),
            (None, Some(default)) => info!(
                "Model `{}` is steered by default at layers {} (fingerprint {})",
                model.id,
                ranges(&default.program.layers()),
                default.program.fingerprint
            ),
        }
    }
    info!("{}", admin.describe());
    let app = wrap(app, steering, admin, limits, playground).layer(middleware::from_fn_with_state(engine, health));
    stopping.serve(socket, app).await
}

/// The middleware of `/health`. mistral.rs's own handler always reports success, even if a model has stopped.
async fn health(State(engine): State<Arc<MistralRs>>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/health" {
        return next.run(request).await;
    }
    match unwell(&engine) {
        Some(why) => unavailable(&why).into_response(),
        None => next.run(request).await,
    }
}

/// Which model can't answer, and why, for `/health` to answer with 503; `None` if all can.
pub fn unwell(engine: &MistralRs) -> Option<String> {
    let models = match engine.list_models_with_status() {
        Ok(models) => models,
        Err(error) => return Some(format!("the engine does not answer: {error}")),
    };
    if models.is_empty() {
        return Some("no model is loaded".to_string());
    }
    models.into_iter().find_map(|(model, status)| match status {
        // This also restarts an engine that has ended.
        ModelStatus::Loaded => match engine.get_sender(Some(&model)) {
            Ok(_) => None,
            Err(error) => Some(format!("the engine of `{model}` has ended: {error}")),
        },
        status => Some(format!("`{model}` is {status}")),
    })
}

/// Whether a model takes chats: whether it has a chat template.
async fn answers_chats(engine: &Arc<MistralRs>, id: &str) -> bool {
    let running = Running::new(engine.clone(), id.to_string());
    let chat = [Message {
        role: "user".to_string(),
        content: "Hello".to_string(),
    }];
    running.chat_turns(&chat).await.is_ok()
}

/// The fingerprint of the files that were loaded.
fn fingerprint(entry: &ModelEntry) -> Result<Option<String>, SteeringError> {
    match files_of(entry) {
        Some(files) => Ok(Some(files.fingerprint()?)),
        None => {
            warn!(
                "The files of `{}` were not found: fingerprints are not compared",
                entry.model_id
            );
            Ok(None)
        }
    }
}

/// The engine's name for the model of `entry`. GGUF models have the name of their tokenizer's model.
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
