//! The snapshot: vectors, maps, models and their defaults at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mistralrs_core::MistralRs;
use residual_hooks::InstallError;
use tokenizers::Tokenizer;

use crate::compile::{Dose, Program, Readouts, Target, compile_readouts, compile_within, token_of};
use crate::config::DefaultSpec;
use crate::policy::{Bound, Excess, PerRequest, ReadPolicy, refuse_inline};
use crate::state::SavedState;
use crate::token_texts::TokenTexts;
use crate::{Library, RequestSteering, SteeringError, SteeringSpec};

/// Vectors, maps, models and their defaults. Immutable; a change replaces it.
#[derive(Clone)]
pub struct Snapshot {
    /// The vectors and maps.
    pub library: Library,
    /// The names of the uploaded vectors, which are not in the configuration.
    pub uploaded: BTreeSet<String>,
    /// What a request's own steering may do.
    pub per_request: PerRequest,
    /// Whether requests may contain inline vectors.
    pub inline: bool,
    /// What requests may read from the stream.
    pub reading: ReadPolicy,
    /// The models, by their name in the engine.
    pub models: BTreeMap<String, Model>,
    /// The engine's default model.
    pub default_model: Option<String>,
    /// Increases with each change.
    pub generation: u64,
}

/// One loaded model.
#[derive(Clone)]
pub struct Model {
    /// Its name in the engine.
    pub id: String,
    /// Other names that requests or the configuration may use.
    pub names: Vec<String>,
    /// Its sizes, and the fingerprint that those of vectors are compared with.
    pub target: Target,
    /// The layers that can be steered.
    pub layers: Vec<usize>,
    /// Whether it takes chats, as far as it is known.
    pub chat: bool,
    /// Its architecture as llama.cpp and Hugging Face name it, if its files are known.
    pub architecture: Option<String>,
    /// Its tokenizer, if it has one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The texts of its tokens.
    pub texts: Arc<TokenTexts>,
    /// Most tokens of a sequence, if that is bounded.
    pub context: Option<usize>,
    /// Why it can't be steered, if it can't.
    pub refusal: Option<InstallError>,
    /// The bound of its offsets.
    pub bound: Option<Bound>,
    /// The steering of requests without a `steering` field.
    pub default: Option<ModelDefault>,
    /// The default in the configuration.
    pub configured: Option<SteeringSpec>,
    /// Whether the default was set over HTTP and replaces the configured one.
    pub overridden: bool,
}

/// A model's default.
#[derive(Clone)]
pub struct ModelDefault {
    /// The spec.
    pub spec: SteeringSpec,
    /// The compiled spec.
    pub program: Arc<Program>,
}

/// The error for an uploaded vector of the state whose name the configuration uses.
pub(crate) fn name_of_configuration(name: &str) -> SteeringError {
    SteeringError::Conflict {
        field: format!("vectors.{name}"),
        found: "an uploaded vector with a name of the configuration".to_string(),
        expected: "another name: rename the vector in the configuration".to_string(),
    }
}

/// Who wrote a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecOwner {
    /// The operator. A spec that exceeds the bound is an error.
    Operator,
    /// A request, except for the vectors of the default that it extends.
    Request {
        /// The vectors of the default: bit `i` is set for vector `i`.
        exempt: u32,
    },
}

impl SpecOwner {
    /// The dose limit of the spec under `bound`.
    pub(crate) fn dose(self, bound: Bound) -> Dose {
        match self {
            Self::Operator => Dose {
                bound: Bound {
                    excess: Excess::Reject,
                    ..bound
                },
                exempt: 0,
            },
            Self::Request { exempt } => Dose { bound, exempt },
        }
    }
}

impl Snapshot {
    /// The first snapshot.
    pub fn new(library: Library, models: Vec<Model>, default_model: Option<String>) -> Self {
        Self {
            library,
            uploaded: BTreeSet::new(),
            per_request: PerRequest::default(),
            inline: true,
            reading: ReadPolicy {
                states: true,
                ..ReadPolicy::default()
            },
            models: models.into_iter().map(|model| (model.id.clone(), model)).collect(),
            default_model,
            generation: 0,
        }
    }

    /// The model that a request names; the engine's default model for `None`, and for `default`, as in mistral.rs.
    ///
    /// # Errors
    ///
    /// [`SteeringError::NotFound`]
    pub fn model(&self, name: Option<&str>) -> Result<&Model, SteeringError> {
        let name = match (name.filter(|name| *name != "default"), &self.default_model) {
            (Some(name), _) => name,
            (None, Some(name)) => name,
            (None, None) => match self.models.values().next() {
                Some(only) if self.models.len() == 1 => return Ok(only),
                _ => "(default)",
            },
        };
        let by_name = || self.models.values().find(|model| model.names.iter().any(|n| n == name));
        self.models.get(name).or_else(by_name).ok_or_else(|| {
            let known: Vec<&str> = self.models.keys().map(String::as_str).collect();
            SteeringError::NotFound {
                field: "model".to_string(),
                found: format!("{name:?}"),
                expected: format!("one of {}", known.join(", ")),
            }
        })
    }

    /// Refuses what the operator does not allow requests to `model`.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Forbidden`]
    pub(super) fn check_policy(&self, model: &Model, asked: &RequestSteering) -> Result<(), SteeringError> {
        let default = model.default.as_ref().map(|default| &default.spec);
        self.per_request.check(asked, default)?;
        if !self.inline {
            refuse_inline(asked)?;
        }
        self.reading.check(asked)
    }

    /// The program of a model's default.
    pub fn default_program(&self, model: &str) -> Option<Arc<Program>> {
        Some(self.models.get(model)?.default.as_ref()?.program.clone())
    }

    /// Sets the configuration's default for `model`.
    ///
    /// # Errors
    ///
    /// As [`Model::compile`].
    pub fn configure_default(&mut self, model: &str, default: Option<&DefaultSpec>) -> Result<(), SteeringError> {
        let at = default.map_or("", |default| default.at.as_str());
        let spec = default.map(|default| &default.spec);
        self.set_default(model, spec, at)?;
        if let Some(model) = self.models.get_mut(model) {
            model.configured = spec.cloned();
            model.overridden = false;
        }
        Ok(())
    }

    /// Sets a default for `model` that overrides the configuration's. `at` is the path of the spec, for messages.
    ///
    /// # Errors
    ///
    /// As [`Model::compile`].
    pub fn override_default(
        &mut self,
        model: &str,
        spec: Option<&SteeringSpec>,
        at: &str,
    ) -> Result<(), SteeringError> {
        self.set_default(model, spec, at)?;
        if let Some(model) = self.models.get_mut(model) {
            model.overridden = true;
        }
        Ok(())
    }

    /// Takes over the saved vectors and defaults; other models get the configuration's default. There must be no
    /// uploaded vectors yet.
    ///
    /// # Errors
    ///
    /// A vector has a name of the configuration, or a default is for a model that is not served or does not compile.
    /// The snapshot must then be discarded.
    pub fn take_over(&mut self, saved: &SavedState) -> Result<(), SteeringError> {
        let within = |error: SteeringError| error.within(&saved.path);
        for (name, vector) in &saved.vectors {
            if self.library.get(name).is_some() {
                return Err(within(name_of_configuration(name)));
            }
            self.library.insert_shared(name, vector.clone()).map_err(within)?;
            self.uploaded.insert(name.clone());
        }
        for id in self.models.keys().cloned().collect::<Vec<_>>() {
            let Some(model) = self.models.get_mut(&id) else {
                continue;
            };
            if std::mem::take(&mut model.overridden) {
                let configured = model.configured.clone();
                self.set_default(&id, configured.as_ref(), "default.")?;
            }
        }
        for (index, (model, spec)) in saved.defaults.iter().enumerate() {
            let at = format!("defaults[{index}].");
            let id = match self.model(Some(model)) {
                Ok(model) => model.id.clone(),
                Err(_) => {
                    let known: Vec<&str> = self.models.keys().map(String::as_str).collect();
                    let expected = format!("a model that is served: {}", known.join(", "));
                    return Err(within(SteeringError::value(
                        format!("{at}model"),
                        format!("{model:?}"),
                        expected,
                    )));
                }
            };
            self.override_default(&id, Some(spec), &format!("{at}spec."))
                .map_err(within)?;
        }
        Ok(())
    }

    /// Replaces `model`'s default.
    fn set_default(&mut self, model: &str, spec: Option<&SteeringSpec>, at: &str) -> Result<(), SteeringError> {
        let Some(model) = self.models.get_mut(model) else {
            return Ok(());
        };
        model.default = match spec {
            Some(spec) if !spec.vectors.is_empty() => Some(ModelDefault {
                spec: spec.clone(),
                program: Arc::new(model.compile(spec, &self.library, at, SpecOwner::Operator)?),
            }),
            _ => None,
        };
        Ok(())
    }

    /// Compiles again the defaults that use the vector `name`, which was replaced.
    ///
    /// # Errors
    ///
    /// As [`Model::compile`].
    pub fn compile_defaults_with(&mut self, name: &str) -> Result<(), SteeringError> {
        let using: Vec<(String, SteeringSpec)> = self
            .models
            .values()
            .filter_map(|model| Some((model.id.clone(), model.default.as_ref()?.spec.clone())))
            .filter(|(_, spec)| spec.names().any(|used| used == name))
            .collect();
        for (model, spec) in using {
            self.set_default(&model, Some(&spec), "default.")?;
        }
        Ok(())
    }
}

impl Model {
    /// The model that `engine` has as `id`. `fingerprint` is that of its files, if fingerprints are to be compared.
    ///
    /// # Errors
    ///
    /// The model does not exist.
    pub fn loaded(
        engine: &MistralRs,
        id: &str,
        names: &[&str],
        fingerprint: Option<String>,
    ) -> Result<Self, SteeringError> {
        let config = engine.config(Some(id)).map_err(|message| SteeringError::NoModel {
            model: id.to_string(),
            message,
        })?;
        let stream = config.residual_hooks.stream();
        let (sizes, refusal) = match stream {
            Ok(stream) => (
                (
                    stream.hidden_size,
                    stream.num_layers,
                    stream.num_layers - usize::from(!stream.last_block),
                ),
                None,
            ),
            Err(refusal) => ((0, 0, 0), Some(refusal)),
        };
        Ok(Self {
            id: id.to_string(),
            names: names
                .iter()
                .map(ToString::to_string)
                .filter(|name| name != id)
                .collect(),
            target: Target {
                model: id.to_string(),
                hidden_size: sizes.0,
                num_layers: sizes.1,
                fingerprint,
                dtype: Some(config.activation_dtype),
            },
            layers: (0..sizes.2).collect(),
            chat: false,
            architecture: None,
            texts: Arc::new(TokenTexts::new(config.tokenizer.clone())),
            tokenizer: config.tokenizer,
            context: config.max_seq_len,
            refusal,
            bound: None,
            default: None,
            configured: None,
            overridden: false,
        })
    }

    /// The compiled readouts and states of `asked`; `None` if there are none. `at` is the path of `asked`, for
    /// messages.
    ///
    /// # Errors
    ///
    /// As [`compile_readouts`], or the model's stream can't be read.
    pub fn readouts(
        &self,
        asked: &RequestSteering,
        library: &Library,
        at: &str,
    ) -> Result<Option<Readouts>, SteeringError> {
        if asked.readout.is_none() && asked.states.is_none() {
            return Ok(None);
        }
        self.check_hooked()?;
        compile_readouts(asked, library, &self.target, &self.layers, at)
    }

    fn check_hooked(&self) -> Result<(), SteeringError> {
        match &self.refusal {
            None => Ok(()),
            Some(refusal) => Err(SteeringError::Install {
                model: self.id.clone(),
                reason: refusal.clone(),
            }),
        }
    }

    /// Compiles `spec` for this model. `at` is the path of the spec, for messages; `owner` decides how the bound
    /// applies.
    ///
    /// # Errors
    ///
    /// As [`compile_within`], or the model can't be steered, or not at one of the layers.
    pub fn compile(
        &self,
        spec: &SteeringSpec,
        library: &Library,
        at: &str,
        owner: SpecOwner,
    ) -> Result<Program, SteeringError> {
        let install = |reason| SteeringError::Install {
            model: self.id.clone(),
            reason,
        };
        self.check_hooked()?;
        let token = |text: &str| token_of(self.tokenizer.as_deref(), text);
        let dose = self.bound.map(|bound| owner.dose(bound));
        let program = compile_within(spec, library, &self.target, &token, at, dose)?;
        let mut wanted = program.layers();
        wanted.extend(program.conditions.iter().map(|condition| condition.layer));
        match wanted.into_iter().find(|layer| !self.layers.contains(layer)) {
            Some(layer) if layer < self.target.num_layers => Err(install(InstallError::LastBlock { layer })),
            Some(layer) => Err(install(InstallError::NoSuchLayer {
                layer,
                num_layers: self.target.num_layers,
            })),
            None => Ok(program),
        }
    }
}
