//! Changes while requests run. Each change replaces the snapshot by a new one, or fails and changes nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use steermap_extract::{ExtractError, find};
use steermap_maps::{LayerVector, ModelInfo, VectorFile, VectorHeader, VectorParts};
use tracing::{info, warn};

use super::{Model, ModelDefault, Snapshot, Steering};
use crate::config::Config;
use crate::live::{self, Live};
use crate::lock::lock;
use crate::spec::PairsVector;
use crate::state::{StateChange, StateFolder};
use crate::{SteeringError, SteeringSpec};

impl Steering {
    /// Applies `change` to a copy of the snapshot, writes it to the state folder, and swaps it in. `what` describes the
    /// change. Changes wait for each other; requests don't wait for changes.
    fn change<T>(
        &self,
        what: &str,
        change: impl FnOnce(&mut Snapshot) -> Result<T, SteeringError>,
    ) -> Result<T, SteeringError> {
        let _one_at_a_time = lock(&self.inner.changing);
        let mut next = (*self.snapshot()).clone();
        let done = change(&mut next)?;
        next.generation += 1;
        let caller = self.caller.as_deref().unwrap_or("this process");
        if let Some(state) = &self.inner.state {
            let overridden = next.models.values().filter(|model| model.overridden);
            let default = |model: &Model| model.default.as_ref().map(|default| default.spec.clone());
            let named = next.uploaded.iter();
            state.commit(&StateChange {
                what,
                caller,
                vectors: named
                    .filter_map(|name| Some((name.as_str(), next.library.shared(name)?)))
                    .collect(),
                defaults: overridden
                    .map(|model| (model.id.as_str(), default(model).unwrap_or_default()))
                    .collect(),
            })?;
        }
        self.inner
            .metrics
            .set_vectors(next.library.iter().map(|(name, _)| name));
        *self.inner.current.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(next);
        info!(caller, "steering: {what}");
        Ok(done)
    }

    /// Vectors, maps, models and defaults, as the HTTP interface lists them.
    pub fn describe(&self) -> Value {
        let snapshot = self.snapshot();
        let models = snapshot.models.values().map(|model| {
            json!({
                "model": model.id,
                "hidden_size": model.target.hidden_size,
                "num_layers": model.target.num_layers,
                "steerable_layers": model.layers,
                "context": model.context,
                "chat": model.chat,
                "fingerprint": model.target.fingerprint,
                "steerable": model.refusal.is_none(),
                "reason": model.refusal.as_ref().map(ToString::to_string),
                "bound": model.bound,
                "default": model.default.as_ref().map(describe_default),
                "default_from": if model.overridden { "http" } else { "configuration" },
            })
        });
        let vectors = snapshot.library.iter().map(|(name, vector)| {
            let layers: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
            let header = vector.header();
            json!({
                "name": name,
                "concept": header.concept,
                "method": header.method,
                "model": vector.model().model,
                "model_fingerprint": vector.model().fingerprint,
                "hidden_size": vector.model().hidden_size,
                "layers": layers,
                "table": vector.layers().iter().zip(vector.norms()).map(describe_layer).collect::<Vec<_>>(),
                "proposed": find::proposed(vector).into_iter().collect::<Vec<_>>(),
                "uploaded": snapshot.uploaded.contains(name),
            })
        });
        let maps = snapshot.library.maps().map(|(name, map)| {
            let header = map.header();
            let pairs: Vec<Value> = map
                .pairs()
                .iter()
                .map(|pair| json!({"source_layers": pair.source_layers, "target_layer": pair.target_layer, "r2": pair.fit.r2}))
                .collect();
            json!({
                "name": name,
                "source": header.source.model,
                "source_fingerprint": header.source.fingerprint,
                "target": header.target.model,
                "target_fingerprint": header.target.fingerprint,
                "pairs": pairs,
            })
        });
        let sources = self.live().into_iter().flat_map(Live::sources);
        let sources = sources.map(|(name, source)| live::describe(name, source));
        json!({
            "generation": snapshot.generation,
            "state": self.inner.state.as_ref().map(StateFolder::number),
            "per_request": snapshot.per_request,
            "inline": snapshot.inline,
            "reading": snapshot.reading,
            "models": models.collect::<Vec<_>>(),
            "sources": sources.collect::<Vec<_>>(),
            "vectors": vectors.collect::<Vec<_>>(),
            "maps": maps.collect::<Vec<_>>(),
        })
    }

    /// Sets the default of `model` (the engine's default model if `None`), or removes it.
    ///
    /// # Errors
    ///
    /// An unknown model, or a spec that can't be compiled for it.
    pub fn set_default(&self, model: Option<&str>, spec: Option<SteeringSpec>) -> Result<Value, SteeringError> {
        let what = match (&spec, model) {
            (Some(spec), Some(model)) if !spec.vectors.is_empty() => format!("the default of {model:?} was set"),
            (Some(spec), None) if !spec.vectors.is_empty() => "the default was set".to_string(),
            (_, Some(model)) => format!("the default of {model:?} was removed"),
            (_, None) => "the default was removed".to_string(),
        };
        let (model, default) = self.change(&what, |next| {
            let id = next.model(model)?.id.clone();
            next.override_default(&id, spec.as_ref(), "spec.")?;
            let default = next.models.get(&id).and_then(|model| model.default.clone());
            Ok((id, default))
        })?;
        Ok(json!({"model": model, "default": default.as_ref().map(describe_default)}))
    }

    /// Adds an uploaded vector if there are fewer than `max_vectors`, or replaces one. All uploaded vectors together
    /// may have at most `max_bytes` of numbers.
    ///
    /// # Errors
    ///
    /// The name is invalid ([`SteeringError::Value`]) or used by the configuration ([`SteeringError::Conflict`]), the
    /// vector fits neither a served model nor the source of a map, or a default that uses the name does not compile
    /// with it.
    pub fn insert_vector(
        &self,
        name: &str,
        vector: VectorFile,
        max_vectors: usize,
        max_bytes: usize,
    ) -> Result<Value, SteeringError> {
        self.add_vector("uploaded", name, vector, max_vectors, max_bytes)
    }

    /// As [`insert_vector`](Self::insert_vector); `how` is `uploaded` or `found`, for the history.
    fn add_vector(
        &self,
        how: &str,
        name: &str,
        vector: VectorFile,
        max_vectors: usize,
        max_bytes: usize,
    ) -> Result<Value, SteeringError> {
        let layers: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
        let replaced = self.change(&format!("the vector {name:?} was {how}"), |next| {
            let known = next.takes(name, max_vectors)?;
            let others = next.uploaded.iter().filter(|other| *other != name);
            let others = others.filter_map(|other| next.library.get(other));
            let bytes = others.map(bytes_of).sum::<usize>() + bytes_of(&vector);
            if bytes > max_bytes {
                return Err(conflict(
                    if how == "found" { "pairs" } else { "safetensors" },
                    format!("{bytes} bytes of numbers in all uploaded vectors"),
                    format!("at most max_vectors_bytes, {max_bytes}"),
                ));
            }
            if !self.live().is_some_and(|live| live.has_origin(vector.model())) {
                next.usable(&vector)?;
            }
            next.library.insert(name, vector)?;
            next.uploaded.insert(name.to_string());
            next.compile_defaults_with(name)?;
            Ok(known)
        })?;
        Ok(json!({"vector": name, "layers": layers, "replaced": replaced}))
    }

    /// Finds a vector from pairs and adds it as `name`, like an uploaded one. Returns how good it is at each layer.
    ///
    /// # Errors
    ///
    /// As [`SharedSteering::found`](super::SharedSteering::found) and [`insert_vector`](Self::insert_vector).
    pub(crate) async fn find_vector(
        &self,
        name: &str,
        concept: Option<String>,
        pairs: PairsVector,
        max_vectors: usize,
        max_bytes: usize,
    ) -> Result<Value, SteeringError> {
        let concept = concept.unwrap_or_else(|| name.to_string());
        self.snapshot().takes(name, max_vectors)?;
        let found = self.find(pairs).await?;
        let header = VectorHeader {
            concept,
            ..found.vector.header().clone()
        };
        let vector = VectorFile::new(header, found.vector.layers().to_vec()).map_err(|problem| {
            SteeringError::value("concept", problem.to_string(), "a text that is not only white space")
        })?;
        let (steering, name) = (self.clone(), name.to_string());
        // Adding it may write to the disk.
        let inserted =
            tokio::task::spawn_blocking(move || steering.add_vector("found", &name, vector, max_vectors, max_bytes));
        let mut answer = inserted.await.unwrap_or_else(|stopped| {
            let reason = ExtractError::Engine(format!("the vector was not added: {stopped}"));
            Err(SteeringError::Find {
                field: "name".to_string(),
                reason,
            })
        })?;
        let layers = found.layers().into_iter().map(|found| {
            json!({
                "layer": found.layer,
                "norm": found.norm,
                "mean_norm": found.mean_norm,
                "ratio": found.ratio(),
                "auroc": found.auroc.map(|(auroc, _)| auroc),
                "interval": found.auroc.map(|(_, (low, high))| [low, high]),
            })
        });
        answer["found"] = json!({
            "model": found.vector.model().model,
            "method": found.vector.header().method,
            "position": found.vector.header().token_position,
            "pairs": found.pairs.pairs.len(),
            "repeats": found.pairs.repeats,
            "independent": found.pairs.independent(),
            "not_measured": found.pairs.too_few(),
            "layers": layers.collect::<Vec<_>>(),
            "proposed": found.proposed().into_iter().collect::<Vec<_>>(),
        });
        Ok(answer)
    }

    /// The contents of the two files of a vector.
    ///
    /// # Errors
    ///
    /// The vector does not exist, or is larger than a file may be.
    pub(crate) fn vector_parts(&self, name: &str) -> Result<VectorParts, SteeringError> {
        let snapshot = self.snapshot();
        let vector = snapshot.library.get(name).ok_or_else(|| no_vector(name))?;
        Ok(vector.to_parts(name)?)
    }

    /// Removes an uploaded vector.
    ///
    /// # Errors
    ///
    /// The vector does not exist, is in the configuration, or is used by a default.
    pub fn remove_vector(&self, name: &str) -> Result<Value, SteeringError> {
        self.change(&format!("the vector {name:?} was deleted"), |next| {
            if next.library.get(name).is_none() {
                return Err(no_vector(name));
            }
            if !next.uploaded.contains(name) {
                return Err(conflict(
                    "name",
                    format!("{name:?}, which the configuration names"),
                    "an uploaded vector; remove it from the configuration and reload",
                ));
            }
            let user = next.models.values().find(|model| {
                let default = model.default.as_ref();
                default.is_some_and(|default| default.spec.names().any(|used| used == name))
            });
            if let Some(model) = user {
                return Err(conflict(
                    "name",
                    format!("{name:?}, which the default of {:?} uses", model.id),
                    "a vector that is not in use: change that default first",
                ));
            }
            next.library.remove(name);
            next.uploaded.remove(name);
            Ok(())
        })?;
        Ok(json!({"vector": name, "deleted": true}))
    }

    /// Reads `[steering]` of the configuration file again: vectors, maps, defaults, bounds and what requests may do.
    /// Uploaded vectors stay. Defaults that were set over HTTP are discarded and listed in the answer. Settings of the
    /// engine, the admin routes and limits are ignored, but the file's models must be those that are served.
    ///
    /// # Errors
    ///
    /// The file, or a file that it names, is wrong. Then nothing changes.
    pub fn reload(&self) -> Result<Value, SteeringError> {
        let reloaded = self.change("the configuration was read again", |next| {
            let set = next.models.values().filter(|model| model.overridden);
            let set =
                set.map(|model| json!({"model": model.id, "default": model.default.as_ref().map(describe_default)}));
            let discarded: Vec<Value> = set.collect();
            self.reread(next)?;
            Ok(discarded)
        });
        let discarded = match reloaded {
            Ok(discarded) => discarded,
            Err(error) => {
                warn!("steering: the configuration stays as it was: {error}");
                return Err(error);
            }
        };
        for default in &discarded {
            warn!("steering: a default that was set over HTTP was discarded: {default}");
        }
        let mut answer = self.describe();
        answer["discarded"] = json!({ "defaults": discarded });
        Ok(answer)
    }

    /// The records of the state folder, newest first.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Conflict`] if there is no state folder.
    pub fn history(&self) -> Result<Value, SteeringError> {
        let records = self.state()?.history().into_iter().map(|record| {
            json!({
                "number": record.number,
                "time": record.time,
                "change": record.change,
                "caller": record.caller,
                "vectors": record.vectors.keys().collect::<Vec<_>>(),
                "defaults": record.defaults,
            })
        });
        Ok(json!({ "states": records.collect::<Vec<_>>() }))
    }

    /// Restores the state after the change `number`: its uploaded vectors and the defaults that were set over HTTP.
    /// Other models get the default of the configuration. This is a change with its own record.
    ///
    /// # Errors
    ///
    /// The history does not have the number, or the state no longer fits the configuration.
    pub fn restore(&self, number: u64) -> Result<Value, SteeringError> {
        let saved = self.state()?.at(number)?;
        self.change(&format!("the state {number} was restored"), |next| {
            let uploaded = std::mem::take(&mut next.uploaded);
            uploaded.iter().for_each(|name| next.library.remove(name));
            next.take_over(&saved)
        })?;
        Ok(self.describe())
    }

    fn state(&self) -> Result<&StateFolder, SteeringError> {
        let missing = || {
            conflict(
                "steering.admin.state",
                "no state folder",
                "a state folder in the configuration",
            )
        };
        self.inner.state.as_ref().ok_or_else(missing)
    }

    fn reread(&self, next: &mut Snapshot) -> Result<(), SteeringError> {
        let Some(source) = &self.inner.source else {
            return Err(conflict(
                "reload",
                "no configuration file",
                "a server that was started with a configuration file",
            ));
        };
        let config = Config::load(&source.path)?;
        let within = |error: SteeringError| error.within(&source.path);
        let mut library = config.library()?;
        let mut served = Vec::new();
        for entry in &config.engine.models {
            let model = next.model(Some(&entry.model_id)).map_err(|_| {
                within(SteeringError::value(
                    "models",
                    format!("{:?}, which is not served", entry.model_id),
                    "the models that the server was started with",
                ))
            })?;
            config
                .vectors
                .load_control(
                    &mut library,
                    &entry.model_id,
                    &model.target.info(),
                    model.architecture.as_deref(),
                )
                .map_err(within)?;
            let bound = config.bounds.get(&entry.model_id).copied();
            served.push((model.id.clone(), config.defaults.get(&entry.model_id), bound));
        }
        next.per_request = config.per_request;
        next.inline = config.inline;
        next.reading = config.reading;
        for name in &next.uploaded {
            if library.get(name).is_some() {
                return Err(within(conflict(
                    format!("steering.vectors.{name}"),
                    "the name of an uploaded vector",
                    "another name, or delete the uploaded vector first",
                )));
            }
            if let Some(vector) = next.library.shared(name) {
                library.insert_shared(name, vector.clone())?;
            }
        }
        next.library = library;
        for (id, default, bound) in served {
            if let Some(model) = next.models.get_mut(&id) {
                model.bound = bound;
            }
            next.configure_default(&id, default).map_err(within)?;
        }
        Ok(())
    }

    /// A served model, as vector files describe it.
    ///
    /// # Errors
    ///
    /// An unknown model.
    pub fn model_info(&self, model: Option<&str>) -> Result<ModelInfo, SteeringError> {
        Ok(self.snapshot().model(model)?.target.info())
    }
}

fn no_vector(name: &str) -> SteeringError {
    SteeringError::NotFound {
        field: "name".to_string(),
        found: format!("{name:?}"),
        expected: "the name of a vector".to_string(),
    }
}

/// Bytes of a vector's numbers.
fn bytes_of(vector: &VectorFile) -> usize {
    let layers = vector.layers().iter();
    layers.map(|layer| size_of_val(layer.direction.as_slice())).sum()
}

/// What a vector file states of a layer: the direction's norm, the stream's mean norm, if known, and how well the
/// direction separates held-out pairs.
fn describe_layer((layer, norm): (&LayerVector, &f64)) -> Value {
    json!({
        "layer": layer.layer,
        "norm": norm,
        "mean_norm": Some(layer.mean_norm).filter(|norm| *norm > 0.0),
        "auroc": layer.auroc,
    })
}

fn describe_default(default: &ModelDefault) -> Value {
    json!({
        "spec": default.spec,
        "fingerprint": default.program.fingerprint,
        "layers": default.program.layers(),
    })
}

fn conflict(field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> SteeringError {
    SteeringError::Conflict {
        field: field.into(),
        found: found.into(),
        expected: expected.into(),
    }
}

impl Snapshot {
    /// Whether there is already an uploaded vector `name`, which a new one may replace.
    ///
    /// # Errors
    ///
    /// The configuration uses the name, or there would be too many vectors.
    fn takes(&self, name: &str, max_vectors: usize) -> Result<bool, SteeringError> {
        let known = self.library.get(name).is_some();
        if known && !self.uploaded.contains(name) {
            return Err(conflict(
                "name",
                format!("{name:?}, which the configuration names"),
                "another name",
            ));
        }
        let count = self.library.iter().count();
        if !known && count >= max_vectors {
            return Err(conflict(
                "name",
                format!("{count} vectors already"),
                format!("fewer than max_vectors, {max_vectors}"),
            ));
        }
        Ok(known)
    }

    /// Checks that `vector` belongs to a served model or to the source of a map.
    fn usable(&self, vector: &VectorFile) -> Result<(), SteeringError> {
        let info = vector.model();
        let native = self.models.values().any(|model| model.target.is(info));
        let compared = self.models.values().any(|model| model.target.fingerprint.is_some());
        let mapped = self.library.maps().any(|(_, map)| {
            let source = &map.header().source;
            info.hidden_size == source.hidden_size
                && info.num_layers == source.num_layers
                && (!compared || info.fingerprint == source.fingerprint)
        });
        if native || mapped {
            return Ok(());
        }
        Err(SteeringError::value(
            "model",
            format!(
                "a vector of {:?} (hidden_size {}, num_layers {}, fingerprint {})",
                info.model, info.hidden_size, info.num_layers, info.fingerprint
            ),
            "a vector of a served model, or of the source of a map",
        ))
    }
}
