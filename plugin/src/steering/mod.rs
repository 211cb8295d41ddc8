//! The steering of an engine's models, request by request.
//!
//! A [`Steering`] holds what can be asked for (vectors, maps, each model's default) as one immutable [`Snapshot`]. A
//! request is compiled against the snapshot of the moment it is made and keeps what it got, whatever is changed
//! meanwhile. The engine's hooks find it again by the mark that [`SteeredRequest::scope`] puts on all that is sent
//! within.

mod admin;
mod dry_run;
mod programs;
mod readings;
mod snapshot;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::Instant;

use mistralrs_core::MistralRs;
use residual_hooks::{Admission, MARKED, Marked, Prompt, RequestMark, RequestState, Turn, marked};
use steermap_extract::Found;
use steermap_extract::capture::StreamCapture;
use tokio::sync::Semaphore;
use tracing::Span;

use crate::apply::reader::SequenceReader;
use crate::apply::sequence::SequenceState;
use crate::compile::{Program, Readouts};
use crate::live::Live;
use crate::live::served::CaptureField;
use crate::metrics::Metrics;
use crate::spec::PairsVector;
use crate::state::StateFolder;
#[cfg(test)]
use crate::token_texts::TokenTexts;
use crate::{Library, RequestSteering, SteeringError, SteeringHook, SteeringSpec};
use programs::{Key, Programs};
pub use readings::Readings;
pub(crate) use snapshot::name_of_configuration;
pub use snapshot::{Asker, Model, ModelDefault, Snapshot};

/// Most positions times steps times layers that a spec may steer in one prompt: 32 vectors at 32 layers on 32,768 tokens.
/// What goes beyond is refused before it runs.
pub const MAX_PROMPT_WORK: u64 = 1 << 25;

/// Ids of sent requests that are remembered for each [`SteeredRequest`] beyond those that the engine has yet to take up.
const KEPT_IDS: usize = 64;

/// Steers the models of one engine. Clones are the same steering; when the last is dropped, the models serve unsteered.
#[derive(Clone)]
pub struct Steering {
    inner: Arc<Inner>,
    /// Who changes it through this clone, for the log and the history.
    caller: Option<Arc<str>>,
}

pub(crate) struct Inner {
    current: RwLock<Arc<Snapshot>>,
    /// Held while a change is worked out, so that none is lost.
    changing: Mutex<()>,
    programs: Mutex<Programs>,
    /// A permit for each spec that may be compiled at the same time.
    compiling: Arc<Semaphore>,
    /// The requests that were sent and not yet forgotten, by the id that the engine knows them by.
    sent: Mutex<HashMap<usize, Sent>>,
    /// Finds vectors from pairs.
    live: Option<Live>,
    /// Where the configuration came from, for a reload.
    source: Option<Source>,
    /// Where changes are written down, so that they outlast the server.
    state: Option<StateFolder>,
    metrics: Metrics,
}

/// What was sent under a mark.
#[derive(Clone)]
pub(crate) enum Sent {
    /// A request, with its steering.
    Steered(Weak<SteeringField>),
    /// A prompt whose stream is to be kept.
    Captured(Weak<CaptureField>),
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
        let steering = Self::with_snapshot(Snapshot::new(library, models, default), None, None, None);
        steering.install(engine)?;
        Ok(steering)
    }

    /// A steering that begins with `snapshot`; hooks are yet to be [installed](Self::install). Changes are written to
    /// `state`, where there is one, and vectors found by `live`.
    pub fn with_snapshot(
        snapshot: Snapshot,
        source: Option<Source>,
        state: Option<StateFolder>,
        live: Option<Live>,
    ) -> Self {
        let metrics = Metrics::new();
        metrics.set_vectors(snapshot.library.iter().map(|(name, _)| name));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            inner: Arc::new(Inner {
                current: RwLock::new(Arc::new(snapshot)),
                changing: Mutex::new(()),
                programs: Mutex::default(),
                compiling: Arc::new(Semaphore::new(cores.div_ceil(4))),
                sent: Mutex::default(),
                live,
                source,
                state,
                metrics,
            }),
            caller: None,
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

    /// The same steering; what is changed through it is said to be changed by `caller`.
    pub fn on_behalf_of(&self, caller: &str) -> Self {
        Self {
            caller: Some(caller.into()),
            ..self.clone()
        }
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
        let admitted = claimed.downcast_ref::<Claimed>()?.admit(&Prompt::text(prompt));
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
        Ok(self.prepared(self.compiled(model, asked)?))
    }

    /// What a request to a model comes to.
    fn compiled(&self, model: Option<&str>, asked: Option<&RequestSteering>) -> Result<Compiled, SteeringError> {
        let snapshot = self.snapshot();
        let model = snapshot.model(model)?;
        let of_default = || model.default.as_ref().map(|default| default.program.clone());
        let mut compiled = Compiled {
            model: model.id.clone(),
            program: None,
            own: None,
            readings: None,
        };
        let Some(asked) = asked else {
            compiled.program = of_default();
            return Ok(compiled);
        };
        asked.validate("steering.")?;
        snapshot.check_policy(model, asked)?;
        if asked.only_reads() {
            compiled.program = of_default();
        } else {
            let default = model.default.as_ref().map(|default| &default.spec);
            asked.check_changes(default, "steering.")?;
            let spec = asked.resolve(default);
            let exempt = default.map_or(0, |default| asked.kept_of(default));
            if !spec.vectors.is_empty() {
                compiled.program = Some(self.inner.compile(&snapshot, model, &spec, exempt)?);
            }
            let own = asked.vectors.as_ref().map_or(0, Vec::len);
            compiled.own = Some(spec.vectors.len().saturating_sub(own));
        }
        if let Some(readouts) = model.readouts(asked, &snapshot.library, "steering.")? {
            model.texts.prepare();
            compiled.readings = Some(Readings::new(
                Arc::new(readouts),
                model.texts.clone(),
                snapshot.reading.bytes,
            ));
        }
        Ok(compiled)
    }

    /// Finds a vector from pairs: [`Inner::found`], measured.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn find(&self, asked: PairsVector) -> Result<Arc<Found>, SteeringError> {
        Ok(self.inner.found(asked, true, "").await?.1)
    }

    /// What finds vectors from pairs, where there is something.
    pub(crate) fn live(&self) -> Option<&Live> {
        self.inner.live()
    }

    /// As [`request`](Self::request), off the async worker: carrying a vector through a large map takes as long as reading
    /// its matrix from memory does. So many are compiled at a time that the engine keeps cores of its own.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub async fn prepare(
        &self,
        model: Option<&str>,
        asked: Option<RequestSteering>,
    ) -> Result<SteeredRequest, SteeringError> {
        let Some(asked) = asked else {
            return self.request(model, None);
        };
        Ok(self.prepared(self.compile_asked(model, asked).await?))
    }

    /// As [`compiled`](Self::compiled), off the async worker, with the vectors found that `asked` brings pairs for.
    async fn compile_asked(&self, model: Option<&str>, mut asked: RequestSteering) -> Result<Compiled, SteeringError> {
        // Before anything is done for it. The snapshot isn't held while vectors are found.
        {
            asked.validate("steering.")?;
            let snapshot = self.snapshot();
            snapshot.check_policy(snapshot.model(model)?, &asked)?;
        }
        self.inner.find_all(&mut asked).await?;
        let permit = self.inner.compiling.clone().acquire_owned().await;
        let (steering, model) = (self.clone(), model.map(str::to_string));
        let compiled = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            steering.compiled(model.as_deref(), Some(&asked))
        });
        compiled.await.unwrap_or_else(|stopped| {
            let found = format!("a spec whose compilation stopped: {stopped}");
            Err(SteeringError::value("steering", found, "one that compiles"))
        })
    }

    /// Prepares a request to `model` (the engine's default one if `None`) that is steered by `program`, which need not come
    /// from this library.
    ///
    /// # Errors
    ///
    /// A model that is not there.
    pub fn run(&self, model: Option<&str>, program: impl Into<Arc<Program>>) -> Result<SteeredRequest, SteeringError> {
        let model = self.snapshot().model(model)?.id.clone();
        Ok(self.prepared(Compiled {
            model,
            program: Some(program.into()),
            own: Some(0),
            readings: None,
        }))
    }

    fn prepared(&self, compiled: Compiled) -> SteeredRequest {
        let Compiled {
            model,
            program,
            own,
            readings,
        } = compiled;
        let names: BTreeSet<&String> = program.iter().flat_map(|program| &program.used).collect();
        for name in names {
            self.inner.metrics.vector(name).requests.inc();
        }
        SteeredRequest {
            asked: Arc::new_cyclic(|me| SteeringField {
                me: me.clone(),
                steering: self.inner.clone(),
                model,
                program,
                own,
                readings: readings.map(Arc::new),
                ids: Mutex::default(),
                prompt_error: Mutex::default(),
            }),
        }
    }
}

/// What a request comes to.
struct Compiled {
    /// The engine's name of the model.
    model: String,
    program: Option<Arc<Program>>,
    /// The first step that the request asked for itself, after those of the default that it extends; `None`: it gets the default.
    own: Option<usize>,
    readings: Option<Readings>,
}

impl Inner {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// Remembers what was sent as the request `id`.
    pub(crate) fn remember(&self, id: usize, sent: Sent) {
        lock(&self.sent).insert(id, sent);
    }

    /// Forgets requests that were sent.
    pub(crate) fn forget(&self, ids: &[usize]) {
        let mut sent = lock(&self.sent);
        ids.iter().for_each(|id| {
            sent.remove(id);
        });
    }

    /// A request's `spec` compiled for `model`, once for all that ask for it. The vectors whose bits `exempt` has are the default's.
    fn compile(
        &self,
        snapshot: &Snapshot,
        model: &Model,
        spec: &SteeringSpec,
        exempt: u32,
    ) -> Result<Arc<Program>, SteeringError> {
        let key = Key::new(&model.id, spec, exempt);
        let known = key
            .as_ref()
            .and_then(|key| lock(&self.programs).get(snapshot.generation, key));
        self.metrics.program_cache(known.is_some());
        if let Some(program) = known {
            return Ok(program);
        }
        let start = Instant::now();
        let asker = Asker::Request { exempt };
        let program = Arc::new(model.compile(spec, &snapshot.library, "steering.", asker)?);
        self.metrics.compiled(start.elapsed());
        // If another request was faster, its program is taken: equal steering is one program.
        Ok(match key {
            Some(key) => lock(&self.programs).insert(snapshot.generation, key, program),
            None => program,
        })
    }

    /// What holds for the request that the engine knows as `id`, in the model `model`.
    pub(crate) fn claim(&self, model: &str, id: usize) -> Result<Option<RequestState>, String> {
        let stray = |meant: &str| {
            Err(format!(
                "steering: the request was made for the model {meant:?} and reached {model:?}"
            ))
        };
        let sent = lock(&self.sent).get(&id).cloned();
        let claimed = match sent {
            Some(Sent::Steered(asked)) => match asked.upgrade() {
                Some(asked) if asked.model == model => {
                    asked.claimed(id);
                    Claimed::Steered {
                        program: asked.program.clone(),
                        metrics: self.metrics.clone(),
                        asked: Some((asked, id)),
                    }
                }
                Some(asked) => return stray(&asked.model),
                // Whoever sent it is gone; without its steering it must not run.
                None => return Err(GIVEN_UP.to_string()),
            },
            Some(Sent::Captured(field)) => match field.upgrade() {
                Some(field) if field.model == model => Claimed::Captured(field.capture.clone()),
                Some(field) => return stray(&field.model),
                None => return Err(GIVEN_UP.to_string()),
            },
            None if id & MARKED != 0 => return Err(GIVEN_UP.to_string()),
            None => Claimed::Steered {
                program: self.snapshot().default_program(model),
                metrics: self.metrics.clone(),
                asked: None,
            },
        };
        Ok(Some(Arc::new(claimed)))
    }
}

/// Said of a request whose sender is gone: without its steering it must not run.
pub(crate) const GIVEN_UP: &str = "steering: the request was given up before the engine took it up";

/// A request that is about to be sent. It must live until it is answered. It may be sent again and again.
#[derive(Clone)]
pub struct SteeredRequest {
    asked: Arc<SteeringField>,
}

/// What a request asked for.
pub(crate) struct SteeringField {
    me: Weak<SteeringField>,
    steering: Arc<Inner>,
    model: String,
    program: Option<Arc<Program>>,
    /// The first step that the request asked for itself, after those of the default that it extends; `None`: it gets the default.
    own: Option<usize>,
    /// What is read of the stream.
    readings: Option<Arc<Readings>>,
    /// The requests that were sent, the oldest first, and whether the engine has taken them up.
    ids: Mutex<VecDeque<(usize, bool)>>,
    prompt_error: Mutex<Option<String>>,
}

impl SteeredRequest {
    /// What the answer will be steered with; `None` for nothing.
    pub fn fingerprint(&self) -> Option<&str> {
        Some(self.asked.program.as_ref()?.fingerprint.as_str())
    }

    /// The layers at which the operator's bound made scales less than asked for, ascending.
    pub fn clamped(&self) -> &[usize] {
        self.asked.program.as_ref().map_or(&[], |program| &program.clamped)
    }

    /// The layers at which the second generated token is the first that is steered, since what decides on it is known at a later
    /// layer. Ascending.
    pub fn late_layers(&self) -> Vec<usize> {
        self.asked
            .program
            .as_ref()
            .map_or(Vec::new(), |program| program.late_layers())
    }

    /// What is read of the stream, if anything.
    pub fn readings(&self) -> Option<&Arc<Readings>> {
        self.asked.readings.as_ref()
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

    /// Why the engine refused the request for its prompt's sake.
    pub fn prompt_error(&self) -> Option<String> {
        lock(&self.asked.prompt_error).clone()
    }
}

impl SteeringField {
    /// The engine has taken up the request `id`.
    fn claimed(&self, id: usize) {
        if let Some(readings) = &self.readings {
            readings.claimed(id);
        }
        let mut ids = lock(&self.ids);
        if let Some((_, claimed)) = ids.iter_mut().find(|(known, _)| *known == id) {
            *claimed = true;
        }
    }

    /// Forgets the oldest requests that the engine has taken up, so that a request that is sent again and again does not
    /// grow. The last ones are kept: the engine takes a request up again for each round of a tool's calls.
    fn forget_oldest(&self) {
        let mut ids = lock(&self.ids);
        while ids.len() > KEPT_IDS {
            let Some(oldest) = ids.iter().position(|(_, claimed)| *claimed) else {
                return;
            };
            if let Some((id, _)) = ids.remove(oldest) {
                self.steering.forget(&[id]);
            }
        }
    }
}

impl RequestMark for SteeringField {
    fn sent_as(&self, request: usize) {
        self.forget_oldest();
        self.steering.remember(request, Sent::Steered(self.me.clone()));
        lock(&self.ids).push_back((request, false));
        if let Some(readings) = &self.readings {
            readings.sent_as(request);
        }
        // Of the span in which the request is sent, if it has such a field.
        Span::current().record("request_id", request & !MARKED);
    }
}

impl Drop for SteeringField {
    fn drop(&mut self) {
        let ids: Vec<usize> = lock(&self.ids).drain(..).map(|(id, _)| id).collect();
        self.steering.forget(&ids);
    }
}

/// What a request was claimed with.
pub(crate) enum Claimed {
    /// It is steered, or not.
    Steered {
        program: Option<Arc<Program>>,
        metrics: Metrics,
        /// With the engine's number of it. Absent for requests that were sent without a mark: they are steered by the default.
        asked: Option<(Arc<SteeringField>, usize)>,
    },
    /// The stream of its prompt is kept.
    Captured(Arc<StreamCapture>),
}

impl Claimed {
    /// Whether what is done depends on where the messages of a chat lie.
    pub(crate) fn wants_turns(&self) -> bool {
        matches!(self, Self::Steered { program: Some(program), .. } if program.has_roles())
    }

    /// How a sequence with this prompt runs.
    pub(crate) fn admit(&self, prompt: &Prompt<'_>) -> Result<Admission, String> {
        let (program, metrics, asked) = match self {
            Self::Steered {
                program,
                metrics,
                asked,
            } => (program, metrics, asked),
            Self::Captured(capture) => {
                return Ok(Admission {
                    // All of the prompt is to be seen.
                    read_cache: false,
                    state: Some(capture.clone()),
                    ..Admission::default()
                });
            }
        };
        let readings = asked
            .as_ref()
            .and_then(|(asked, id)| Some((asked.readings.as_ref()?, *id)));
        let program = match (program, readings) {
            (Some(program), _) => program.clone(),
            (None, None) => return Ok(Admission::default()),
            (None, Some(_)) => Arc::new(Program::none()),
        };
        let readouts = readings.map(|(readings, _)| readings.readouts());
        let own = asked.as_ref().and_then(|(asked, _)| asked.own);
        let fits = for_prompt(&program, readouts, prompt, own);
        if let (Err(reason), Some((asked, _))) = (&fits, asked) {
            *lock(&asked.prompt_error) = Some(reason.clone());
        }
        let (program, prompt) = (fits?, prompt.tokens);
        let reader = readings.map(|(readings, id)| readings.admit(id, prompt.len()));
        let decisions = metrics.clone();
        Ok(admission(&program, prompt, reader, move |holds| {
            decisions.condition(holds)
        }))
    }
}

/// The program as it is for this prompt; refuses one that a request's steering or readouts don't fit. `own` is the first step that the
/// request asked for itself; `None`: it gets the default.
fn for_prompt(
    program: &Arc<Program>,
    readouts: Option<&Readouts>,
    prompt: &Prompt<'_>,
    own: Option<usize>,
) -> Result<Arc<Program>, String> {
    check_work(program, readouts, prompt.tokens.len())?;
    let program = match program.has_roles() {
        true => by_roles(program, prompt, own)?,
        false => program.clone(),
    };
    if own.is_some() {
        program.validate_prompt(prompt.tokens)?;
    }
    if let Some(states) = readouts.and_then(|readouts| readouts.states.as_ref()) {
        let fits = states.positions.are_of(prompt.tokens.len());
        fits.map_err(|reason| format!("steering.states.{reason}"))?;
    }
    Ok(program)
}

/// A program that goes by roles, in this chat.
fn by_roles(program: &Arc<Program>, prompt: &Prompt<'_>, own: Option<usize>) -> Result<Arc<Program>, String> {
    let steps = program.steps.iter().enumerate();
    let by_roles = steps
        .filter(|(_, step)| step.prompt.has_roles())
        .map(|(index, _)| index);
    let refused = |index: usize, reason: &str| Err(format!("steering.vectors[{index}].apply.prompt: {reason}"));
    let mut asked = by_roles.clone().filter(|index| own.is_some_and(|own| own <= *index));
    match (prompt.turns, asked.next()) {
        // Of a default there is nothing to do.
        (Ok([]), Some(index)) => refused(index, "found roles for a prompt without messages, expected a chat"),
        (Ok(turns), _) => Ok(in_turns(program, turns)),
        (Err(reason), _) => refused(by_roles.into_iter().next().unwrap_or_default(), reason),
    }
}

/// The program for a prompt with these turns: itself, where it doesn't go by roles.
pub(crate) fn in_turns(program: &Arc<Program>, turns: &[Turn]) -> Arc<Program> {
    match program.has_roles() {
        true => Arc::new(program.in_turns(turns)),
        false => program.clone(),
    }
}

/// Refuses a prompt that is too long for the steps that act on it.
fn check_work(program: &Program, readouts: Option<&Readouts>, prompt_len: usize) -> Result<(), String> {
    let reading = readouts.map_or(0, |readouts| readouts.work() as u64);
    let work = program
        .work(prompt_len)
        .saturating_add(reading.saturating_mul(prompt_len as u64));
    if work <= MAX_PROMPT_WORK {
        return Ok(());
    }
    Err(format!(
        "steering.vectors: found {work} positions times layers of the {prompt_len} tokens of this prompt, summed over the \
         vectors that act on it or are read, expected at most {MAX_PROMPT_WORK}"
    ))
}

/// How a sequence with the prompt `prompt` runs under `program`, read by `reader`.
pub(crate) fn admission(
    program: &Arc<Program>,
    prompt: &[u32],
    reader: Option<Arc<SequenceReader>>,
    on_decision: impl Fn(bool) + Send + Sync + 'static,
) -> Admission {
    let reads_prompt = reader.as_ref().is_some_and(|reader| reader.readouts().reads_prompt());
    let sharing = program.sharing(prompt);
    Admission {
        salts: sharing.salts.into(),
        own_from: sharing.own_from,
        // A cache holds keys and values, not the states that conditions and readouts look at.
        read_cache: !(program.sees_all_of_the_prompt() || reads_prompt),
        state: Some(Arc::new(SequenceState::new(program.clone(), reader, on_decision))),
    }
}

/// Locks `mutex`, also where a thread panicked with it: the data is consistent after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{library, target};

    fn steering() -> Steering {
        let target = target();
        let model = Model {
            id: target.model.clone(),
            names: Vec::new(),
            layers: (0..target.num_layers).collect(),
            target,
            chat: false,
            architecture: None,
            tokenizer: None,
            texts: Arc::new(TokenTexts::new(None)),
            context: Some(1 << 20),
            refusal: None,
            bound: None,
            default: None,
            configured: None,
            overridden: false,
        };
        Steering::with_snapshot(Snapshot::new(library(), vec![model], None), None, None, None)
    }

    #[test]
    fn a_request_that_is_sent_again_and_again_does_not_grow() {
        let steering = steering();
        let request = steering
            .request(None, Some(&crate::VectorUse::new("a", 1.0).into()))
            .unwrap();
        let remembered = || lock(&steering.inner.sent).len();
        let model = request.model().to_string();
        for id in 0..1000 {
            let id = id | MARKED;
            request.asked.sent_as(id);
            // The engine takes a request up again for each round of a tool's calls.
            assert!(steering.inner.claim(&model, id).is_ok() && steering.inner.claim(&model, id).is_ok());
        }
        assert!(remembered() <= KEPT_IDS + 1, "{}", remembered());
        // None is forgotten before the engine has taken it up.
        for id in 1000..1300 {
            request.asked.sent_as(id | MARKED);
        }
        assert!((1000..1300).all(|id| steering.inner.claim(&model, id | MARKED).is_ok()));
        drop(request);
        assert_eq!(remembered(), 0);
        assert!(steering.inner.claim(&model, 1299 | MARKED).is_err());
    }

    #[test]
    fn a_prompt_that_is_too_long_for_its_steps_is_refused() {
        let steering = steering();
        let many: Vec<crate::VectorUse> = (0..32).map(|_| crate::VectorUse::new("a", 0.1)).collect();
        let request = steering.request(None, Some(&SteeringSpec::from(many).into())).unwrap();
        // 32 vectors at 2 layers.
        let most = (MAX_PROMPT_WORK / 64) as usize;
        let admit = |len: usize| {
            request.asked.sent_as(7 | MARKED);
            let claimed = steering.inner.claim(request.model(), 7 | MARKED).unwrap().unwrap();
            claimed
                .downcast_ref::<Claimed>()
                .unwrap()
                .admit(&Prompt::text(&vec![1; len]))
                .map(|_| ())
        };
        assert_eq!(admit(most), Ok(()));
        let refused = admit(most + 1).unwrap_err();
        let expected = format!(
            "steering.vectors: found {} positions times layers",
            MAX_PROMPT_WORK + 64
        );
        assert!(refused.starts_with(&expected), "{refused}");
        assert_eq!(request.prompt_error(), Some(refused));
    }
}
