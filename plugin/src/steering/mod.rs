//! The steering of an engine's models, request by request.
//!
//! A [`Steering`] holds what can be asked for (vectors, maps, each model's default) as one immutable [`Snapshot`]. A
//! request is compiled against the snapshot of the moment it is made and keeps what it got, whatever is changed
//! meanwhile. The engine's hooks find it again by the mark that [`SteeredRequest::scope`] puts on all that is sent
//! within.

mod admin;
mod programs;
mod snapshot;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::Instant;

use mistralrs_core::MistralRs;
use residual_hooks::{Admission, MARKED, Marked, RequestMark, RequestState, marked};
use tracing::Span;

use crate::apply::sequence::SequenceState;
use crate::compile::Program;
use crate::metrics::Metrics;
use crate::{Library, RequestSteering, SteeringError, SteeringHook, SteeringSpec};
use programs::Programs;
pub use snapshot::{Model, ModelDefault, Snapshot};

/// Steers the models of one engine. Clones are the same steering.
#[derive(Clone)]
pub struct Steering {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    current: RwLock<Arc<Snapshot>>,
    /// Held while a change is worked out, so that none is lost.
    changing: Mutex<()>,
    programs: Mutex<Programs>,
    /// The requests that were sent and not yet forgotten, by the id that the engine knows them by.
    sent: Mutex<HashMap<usize, Weak<Asked>>>,
    /// Where the configuration came from, for a reload.
    source: Option<Source>,
    metrics: Metrics,
}

/// The configuration file behind a steering.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Whether vectors that were found on other weights are used all the same.
    pub ignore_fingerprints: bool,
}

impl Steering {
    /// Steers all models of `engine` that can be steered, each request as it asks for; none by default.
    ///
    /// The vectors' sizes are checked against the models; their fingerprints are not.
    ///
    /// # Errors
    ///
    /// A model that the engine lost.
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
        let steering = Self::with_snapshot(Snapshot::new(library, models, default), None);
        steering.install(engine)?;
        Ok(steering)
    }

    /// A steering that begins with `snapshot`; hooks are yet to be [installed](Self::install).
    pub fn with_snapshot(snapshot: Snapshot, source: Option<Source>) -> Self {
        let metrics = Metrics::new();
        metrics.set_vectors(snapshot.library.iter().count());
        Self {
            inner: Arc::new(Inner {
                current: RwLock::new(Arc::new(snapshot)),
                changing: Mutex::new(()),
                programs: Mutex::default(),
                sent: Mutex::default(),
                source,
                metrics,
            }),
        }
    }

    /// Puts a hook into every model that can be steered.
    ///
    /// # Errors
    ///
    /// A model that the engine lost.
    pub fn install(&self, engine: &MistralRs) -> Result<(), SteeringError> {
        for model in self.snapshot().models.values().filter(|model| model.refusal.is_none()) {
            let hook = SteeringHook::serving(Arc::downgrade(&self.inner), model);
            crate::attach::slot(engine, Some(&model.id))?
                .install(Arc::new(hook))
                .map_err(|reason| SteeringError::Install {
                    model: model.id.clone(),
                    reason,
                })?;
        }
        Ok(())
    }

    /// What holds at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot()
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// What the engine's hook does with a request that is sent here and now; `None` outside of any scope.
    #[cfg(test)]
    pub(crate) fn admit_as_the_engine_does(&self, prompt: &[u32]) -> Option<Result<Option<Arc<Program>>, String>> {
        let mark = residual_hooks::current_mark()?;
        let id = MARKED | 7;
        mark.sent_as(id);
        let model = self.snapshot().default_model.clone()?;
        let claimed = self.inner.claim(&model, id).unwrap()?;
        let admitted = claimed.downcast_ref::<Claimed>()?.admit(prompt, self.metrics());
        let program = |admission: Admission| {
            let state = admission.state?;
            Some(state.downcast_ref::<SequenceState>()?.program().clone())
        };
        Some(admitted.map(program))
    }

    /// Prepares a request to `model` (the engine's default one if `None`): steered as `asked`, or by the model's default
    /// if that is `None`.
    ///
    /// # Errors
    ///
    /// A model that is not there ([`SteeringError::NotFound`]) or can't be steered, and what is wrong with what is asked
    /// for.
    pub fn request(
        &self,
        model: Option<&str>,
        asked: Option<&RequestSteering>,
    ) -> Result<SteeredRequest, SteeringError> {
        let snapshot = self.snapshot();
        let model = snapshot.model(model)?;
        let program = match asked {
            None => model.default.as_ref().map(|default| default.program.clone()),
            Some(asked) => {
                asked.validate("steering.")?;
                let spec = asked.resolve(model.default.as_ref().map(|default| &default.spec));
                match spec.vectors.is_empty() {
                    true => None,
                    false => Some(self.inner.compile(&snapshot, model, &spec, "steering.")?),
                }
            }
        };
        Ok(self.prepared(model, program, asked.is_some()))
    }

    /// Prepares a request to `model` (the engine's default one if `None`) that is steered by `program`, which need not come
    /// from this library.
    ///
    /// # Errors
    ///
    /// A model that is not there.
    pub fn run(&self, model: Option<&str>, program: impl Into<Arc<Program>>) -> Result<SteeredRequest, SteeringError> {
        let snapshot = self.snapshot();
        Ok(self.prepared(snapshot.model(model)?, Some(program.into()), true))
    }

    fn prepared(&self, model: &Model, program: Option<Arc<Program>>, own: bool) -> SteeredRequest {
        let names: BTreeSet<&String> = program.iter().flat_map(|program| &program.used).collect();
        for name in names {
            self.inner.metrics.vector(name).requests.inc();
        }
        SteeredRequest {
            asked: Arc::new_cyclic(|me| Asked {
                me: me.clone(),
                steering: self.inner.clone(),
                model: model.id.clone(),
                program,
                own,
                ids: Mutex::default(),
                prompt_error: Mutex::default(),
            }),
        }
    }
}

impl Inner {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// `spec` compiled for `model`, once for all that ask for it.
    fn compile(
        &self,
        snapshot: &Snapshot,
        model: &Model,
        spec: &SteeringSpec,
        at: &str,
    ) -> Result<Arc<Program>, SteeringError> {
        let known = lock(&self.programs).get(snapshot.generation, &model.id, spec);
        self.metrics.program_cache(known.is_some());
        if let Some(program) = known {
            return Ok(program);
        }
        let start = Instant::now();
        let program = Arc::new(model.compile(spec, &snapshot.library, at)?);
        self.metrics.compiled(start.elapsed());
        // If another request was faster, its program is taken: equal steering is one program.
        Ok(lock(&self.programs).insert(snapshot.generation, &model.id, spec, program))
    }

    /// What holds for the request that the engine knows as `id`, in the model `model`.
    pub(crate) fn claim(&self, model: &str, id: usize) -> Result<Option<RequestState>, String> {
        let sent = lock(&self.sent).get(&id).map(Weak::upgrade);
        let claimed = match sent {
            Some(Some(asked)) if asked.model == model => Claimed {
                program: asked.program.clone(),
                asked: Some(asked),
            },
            Some(Some(asked)) => {
                return Err(format!(
                    "steering: the request was made for the model {:?} and reached {model:?}",
                    asked.model
                ));
            }
            // Whoever sent it is gone; without its steering it must not run.
            None | Some(None) if id & MARKED != 0 => {
                return Err("steering: the request was given up before the engine took it up".to_string());
            }
            _ => Claimed {
                program: self.snapshot().default_program(model),
                asked: None,
            },
        };
        Ok(Some(Arc::new(claimed)))
    }
}

/// A request that is about to be sent. It must live until it is answered.
#[derive(Clone)]
pub struct SteeredRequest {
    asked: Arc<Asked>,
}

struct Asked {
    me: Weak<Asked>,
    steering: Arc<Inner>,
    model: String,
    program: Option<Arc<Program>>,
    /// Whether the request asked for its steering itself, instead of getting the default.
    own: bool,
    ids: Mutex<Vec<usize>>,
    prompt_error: Mutex<Option<String>>,
}

impl SteeredRequest {
    /// What the answer will be steered with; `None` for nothing.
    pub fn fingerprint(&self) -> Option<&str> {
        Some(self.asked.program.as_ref()?.fingerprint.as_str())
    }

    /// The model's name in the engine.
    pub fn model(&self) -> &str {
        &self.asked.model
    }

    /// The layers that are steered, ascending.
    pub fn layers(&self) -> Vec<usize> {
        self.asked
            .program
            .as_ref()
            .map_or(Vec::new(), |program| program.layers())
    }

    /// `future`, with everything that it sends to the engine steered so. Tasks that it spawns are not.
    pub fn scope<F: Future>(&self, future: F) -> Marked<F> {
        marked(self.asked.clone(), future)
    }

    /// Whether the engine may refuse the request for its prompt's sake: only steering that a request asked for itself
    /// must find what it selects.
    pub fn may_fail_on_prompt(&self) -> bool {
        self.asked.own
            && self
                .asked
                .program
                .as_ref()
                .is_some_and(|program| program.looks_at_prompt())
    }

    /// Why the engine refused the request for its prompt's sake.
    pub fn prompt_error(&self) -> Option<String> {
        lock(&self.asked.prompt_error).clone()
    }
}

impl RequestMark for Asked {
    fn sent_as(&self, request: usize) {
        lock(&self.steering.sent).insert(request, self.me.clone());
        lock(&self.ids).push(request);
        // Of the span in which the request is sent, if it has such a field.
        Span::current().record("request_id", request & !MARKED);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut sent = lock(&self.steering.sent);
        for id in lock(&self.ids).drain(..) {
            sent.remove(&id);
        }
    }
}

/// What a request was claimed with.
pub(crate) struct Claimed {
    program: Option<Arc<Program>>,
    /// Absent for requests that were sent without a mark: they are steered by the default.
    asked: Option<Arc<Asked>>,
}

impl Claimed {
    /// How a sequence with this prompt runs.
    pub(crate) fn admit(&self, prompt: &[u32], metrics: &Metrics) -> Result<Admission, String> {
        let Some(program) = &self.program else {
            return Ok(Admission::default());
        };
        if let Some(asked) = self.asked.as_ref().filter(|asked| asked.own)
            && let Err(reason) = program.validate_prompt(prompt)
        {
            *lock(&asked.prompt_error) = Some(reason.clone());
            return Err(reason);
        }
        let decisions = metrics.clone();
        Ok(admission(program, prompt.len(), move |holds| {
            decisions.condition(holds)
        }))
    }
}

/// How a sequence runs under `program`, with a prompt of `prompt_len` tokens.
pub(crate) fn admission(
    program: &Arc<Program>,
    prompt_len: usize,
    on_decision: impl Fn(bool) + Send + Sync + 'static,
) -> Admission {
    Admission {
        salt: program.salt(prompt_len),
        share_generated: program.uniform,
        // A mean over the prompt needs all of it.
        read_cache: !program.conditions.iter().any(|condition| condition.mean),
        state: Some(Arc::new(SequenceState::new(program.clone(), on_decision))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked is changed in one step each time.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
