//! The steering of an engine's models, request by request.
//!
//! A [`Steering`] holds the vectors, the maps and each model's default as one immutable [`Snapshot`]. A request is
//! compiled against the current snapshot and keeps its program, whatever changes later. The engine's hooks find the
//! request by the mark that [`SteeredRequest::scope`] puts on everything that is sent within it.

mod admin;
mod dry_run;
mod found;
mod programs;
mod readings;
mod snapshot;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Instant;

use residual_hooks::{Admission, MARKED, Marked, Prompt, RequestMark, RequestState, Turn, marked};
use steermap_extract::VectorOfPairs;
use steermap_extract::capture::StreamCapture;
use tokio::sync::Semaphore;
use tracing::Span;

use crate::apply::reader::SequenceReader;
use crate::apply::sequence::SequenceState;
use crate::compile::{Program, Readouts};
use crate::live::Live;
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::sent::SentRequests;
use crate::spec::PairsVector;
use crate::state::StateFolder;
#[cfg(test)]
use crate::token_texts::TokenTexts;
use crate::{RequestSteering, SteeringError, SteeringSpec};
use programs::{ProgramCache, ProgramKey};
pub use readings::Readings;
pub(crate) use snapshot::name_of_configuration;
pub use snapshot::{Model, ModelDefault, Snapshot, SpecOwner};

/// Most positions times steps times layers that a spec may steer in one prompt: 32 vectors at 32 layers on 32,768
/// tokens. A request with more is refused before it runs.
pub const MAX_PROMPT_WORK: u64 = 1 << 25;

/// Ids of sent requests that each [`SteeredRequest`] remembers in addition to those that the engine has yet to claim.
const KEPT_IDS: usize = 64;

/// Steers the models of one engine. Clones share the same steering; when the last is dropped, the models serve
/// unsteered.
#[derive(Clone)]
pub struct Steering {
    pub(crate) inner: Arc<SharedSteering>,
    /// The caller that changes it through this clone, for the log and the history.
    caller: Option<Arc<str>>,
}

pub(crate) struct SharedSteering {
    current: RwLock<Arc<Snapshot>>,
    /// Held while a change is prepared, so that no change is lost.
    changing: Mutex<()>,
    programs: Mutex<ProgramCache>,
    /// Limits how many specs are compiled at the same time.
    compiling: Arc<Semaphore>,
    /// The requests that were sent and not yet forgotten, by their ids in the engine.
    sent: SentRequests<SteeringField>,
    /// Finds vectors from pairs.
    live: Option<Live>,
    /// The configuration file, for a reload.
    source: Option<ConfigSource>,
    /// The folder that keeps changes across restarts.
    state: Option<StateFolder>,
    metrics: Metrics,
}

/// The configuration file that a steering was made from.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// Whether vectors that were found on other weights are accepted.
    pub ignore_fingerprints: bool,
}

impl Steering {
    /// A steering with this first `snapshot`; hooks must still be [installed](Self::install). Changes are written to
    /// `state`, if given, and `live` finds vectors.
    pub fn with_snapshot(
        snapshot: Snapshot,
        source: Option<ConfigSource>,
        state: Option<StateFolder>,
        live: Option<Live>,
    ) -> Self {
        let metrics = Metrics::new();
        metrics.set_vectors(snapshot.library.iter().map(|(name, _)| name));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            inner: Arc::new(SharedSteering {
                current: RwLock::new(Arc::new(snapshot)),
                changing: Mutex::new(()),
                programs: Mutex::default(),
                compiling: Arc::new(Semaphore::new(cores.div_ceil(4))),
                sent: SentRequests::default(),
                live,
                source,
                state,
                metrics,
            }),
            caller: None,
        }
    }

    /// The same steering; changes through it are logged as those of `caller`.
    pub fn on_behalf_of(&self, caller: &str) -> Self {
        Self {
            caller: Some(caller.into()),
            ..self.clone()
        }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot()
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// What the engine's hook would do with a request sent from here; `None` outside of any scope.
    #[cfg(test)]
    pub(crate) fn admit_as_the_engine_does(&self, prompt: &[u32]) -> Option<Result<Option<Arc<Program>>, String>> {
        let mark = residual_hooks::current_mark()?;
        let id = MARKED | 7;
        mark.sent_as(id);
        let model = self.snapshot().default_model.clone()?;
        let claimed = self.inner.claim(&model, id).unwrap()?;
        let admitted = claimed.downcast_ref::<ClaimedRequest>()?.admit(&Prompt::text(prompt));
        let program = |admission: Admission| {
            let state = admission.state?;
            Some(state.downcast_ref::<SequenceState>()?.program().clone())
        };
        Some(admitted.map(program))
    }

    /// Prepares a request to `model` (the engine's default model if `None`), steered by `asked`, or by the model's
    /// default if `asked` is `None`.
    ///
    /// # Errors
    ///
    /// The model does not exist ([`SteeringError::NotFound`]) or can't be steered, or `asked` is wrong.
    pub fn request(
        &self,
        model: Option<&str>,
        asked: Option<&RequestSteering>,
    ) -> Result<SteeredRequest, SteeringError> {
        Ok(self.prepared(self.compiled(model, asked)?))
    }

    /// Compiles a request to a model.
    fn compiled(&self, model: Option<&str>, asked: Option<&RequestSteering>) -> Result<CompiledRequest, SteeringError> {
        let snapshot = self.snapshot();
        let model = snapshot.model(model)?;
        let of_default = || model.default.as_ref().map(|default| default.program.clone());
        let mut compiled = CompiledRequest {
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

    /// Finds a vector from pairs: [`SharedSteering::found`], measured.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn find(&self, asked: PairsVector) -> Result<Arc<VectorOfPairs>, SteeringError> {
        Ok(self.inner.found(asked, true, "", Arc::default()).await?.1)
    }

    /// What finds vectors from pairs, if the server has it.
    pub(crate) fn live(&self) -> Option<&Live> {
        self.inner.live()
    }

    /// See [`Live::weights_changed`].
    pub(crate) fn weights_changed(&self) {
        if let Some(live) = self.live() {
            live.weights_changed();
        }
    }

    /// As [`request`](Self::request), off the async worker: carrying a vector through a large map takes as long as
    /// reading its matrix from memory. The number compiled at a time is limited, so that the engine keeps some cores.
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

    /// As [`compiled`](Self::compiled), off the async worker, after finding the vectors for the pairs in `asked`.
    async fn compile_asked(
        &self,
        model: Option<&str>,
        mut asked: RequestSteering,
    ) -> Result<CompiledRequest, SteeringError> {
        // Checked before any work. The snapshot isn't held while vectors are found.
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

    /// Prepares a request to `model` (the engine's default model if `None`) that is steered by `program`, which need
    /// not come from this library.
    ///
    /// # Errors
    ///
    /// The model does not exist.
    pub fn run(&self, model: Option<&str>, program: impl Into<Arc<Program>>) -> Result<SteeredRequest, SteeringError> {
        let model = self.snapshot().model(model)?.id.clone();
        Ok(self.prepared(CompiledRequest {
            model,
            program: Some(program.into()),
            own: Some(0),
            readings: None,
        }))
    }

    fn prepared(&self, compiled: CompiledRequest) -> SteeredRequest {
        let CompiledRequest {
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

/// A request with its compiled steering.
struct CompiledRequest {
    /// The engine's name of the model.
    model: String,
    program: Option<Arc<Program>>,
    /// The request's own first step, after those of the default that it extends; `None`: the request gets the default.
    own: Option<usize>,
    readings: Option<Readings>,
}

impl SharedSteering {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// Compiles a request's `spec` for `model`, or takes the cached program. The vectors whose bits are set in `exempt`
    /// are the default's.
    fn compile(
        &self,
        snapshot: &Snapshot,
        model: &Model,
        spec: &SteeringSpec,
        exempt: u32,
    ) -> Result<Arc<Program>, SteeringError> {
        let key = ProgramKey::new(&model.id, spec, exempt);
        let known = key
            .as_ref()
            .and_then(|key| lock(&self.programs).get(snapshot.generation, key));
        self.metrics.program_cache(known.is_some());
        if let Some(program) = known {
            return Ok(program);
        }
        let start = Instant::now();
        let asker = SpecOwner::Request { exempt };
        let program = Arc::new(model.compile(spec, &snapshot.library, "steering.", asker)?);
        self.metrics.compiled(start.elapsed());
        // If another request was faster, its program is used, so that equal steering shares one program.
        Ok(match key {
            Some(key) => lock(&self.programs).insert(snapshot.generation, key, program),
            None => program,
        })
    }

    /// The steering of the request `id` of the engine, sent to `model`.
    pub(crate) fn claim(&self, model: &str, id: usize) -> Result<Option<RequestState>, String> {
        let stray = |meant: &str| {
            Err(format!(
                "steering: the request was made for the model {meant:?} and reached {model:?}"
            ))
        };
        let claimed = if let Some(asked) = self.sent.get(id) {
            match asked.upgrade() {
                Some(asked) if asked.model == model => {
                    asked.claimed(id);
                    ClaimedRequest::Steered {
                        program: asked.program.clone(),
                        metrics: self.metrics.clone(),
                        asked: Some((asked, id)),
                    }
                }
                Some(asked) => return stray(&asked.model),
                // The sender is gone. The request must not run without its steering.
                None => return Err(GIVEN_UP.to_string()),
            }
        } else if let Some(prompt) = self.live().and_then(|live| live.captured(id)) {
            match prompt.upgrade() {
                Some(prompt) if prompt.model == model => ClaimedRequest::Captured(prompt.capture.clone()),
                Some(prompt) => return stray(&prompt.model),
                None => return Err(GIVEN_UP.to_string()),
            }
        } else if id & MARKED != 0 {
            return Err(GIVEN_UP.to_string());
        } else {
            ClaimedRequest::Steered {
                program: self.snapshot().default_program(model),
                metrics: self.metrics.clone(),
                asked: None,
            }
        };
        Ok(Some(Arc::new(claimed)))
    }
}

/// The refusal of a request whose sender is gone: it must not run without its steering.
pub(crate) const GIVEN_UP: &str = "steering: the request was given up before the engine took it up";

/// A request that is ready to be sent. It must live until it is answered. It may be sent several times.
#[derive(Clone)]
pub struct SteeredRequest {
    asked: Arc<SteeringField>,
}

/// The compiled steering of a request.
pub(crate) struct SteeringField {
    me: Weak<SteeringField>,
    steering: Arc<SharedSteering>,
    model: String,
    program: Option<Arc<Program>>,
    /// The request's own first step, after those of the default that it extends; `None`: the request gets the default.
    own: Option<usize>,
    /// What is read from the stream.
    readings: Option<Arc<Readings>>,
    /// The requests that were sent, oldest first, and whether the engine has claimed each.
    ids: Mutex<VecDeque<(usize, bool)>>,
    prompt_error: Mutex<Option<String>>,
}

impl SteeredRequest {
    /// The fingerprint of the answer's steering; `None` for none.
    pub fn fingerprint(&self) -> Option<&str> {
        Some(self.asked.program.as_ref()?.fingerprint.as_str())
    }

    /// The layers at which the operator's bound reduced scales, ascending.
    pub fn clamped(&self) -> &[usize] {
        self.asked.program.as_ref().map_or(&[], |program| &program.clamped)
    }

    /// The layers at which the first generated token is not steered though later ones are, since the condition for it
    /// is decided at a later layer. Ascending.
    pub fn late_layers(&self) -> Vec<usize> {
        self.asked
            .program
            .as_ref()
            .map_or(Vec::new(), |program| program.late_layers())
    }

    /// What is read from the stream, if anything.
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

    /// Runs `future` so that everything it sends to the engine has this steering. Tasks that it spawns are not covered.
    pub fn scope<F: Future>(&self, future: F) -> Marked<F> {
        marked(self.asked.clone(), future)
    }

    /// Why the engine refused the request's prompt, if it did.
    pub fn prompt_error(&self) -> Option<String> {
        lock(&self.asked.prompt_error).clone()
    }
}

impl SteeringField {
    /// Records that the engine has claimed the request `id`.
    fn claimed(&self, id: usize) {
        if let Some(readings) = &self.readings {
            readings.claimed(id);
        }
        let mut ids = lock(&self.ids);
        if let Some((_, claimed)) = ids.iter_mut().find(|(known, _)| *known == id) {
            *claimed = true;
        }
    }

    /// Forgets the oldest requests that the engine has claimed, so that the list stays bounded when a request is sent
    /// repeatedly. The last ones are kept, since the engine claims a request again for each round of tool calls.
    fn forget_oldest(&self) {
        let mut ids = lock(&self.ids);
        while ids.len() > KEPT_IDS {
            let Some(oldest) = ids.iter().position(|(_, claimed)| *claimed) else {
                return;
            };
            if let Some((id, _)) = ids.remove(oldest) {
                self.steering.sent.forget(&[id]);
            }
        }
    }
}

impl RequestMark for SteeringField {
    fn sent_as(&self, request: usize) {
        self.forget_oldest();
        self.steering.sent.remember(request, self.me.clone());
        lock(&self.ids).push_back((request, false));
        if let Some(readings) = &self.readings {
            readings.sent_as(request);
        }
        // A field of the span in which the request is sent, if it has one.
        Span::current().record("request_id", request & !MARKED);
    }
}

impl Drop for SteeringField {
    fn drop(&mut self) {
        let ids: Vec<usize> = lock(&self.ids).drain(..).map(|(id, _)| id).collect();
        self.steering.sent.forget(&ids);
    }
}

/// The steering of a request that the engine has claimed.
pub(crate) enum ClaimedRequest {
    /// A request, steered or not.
    Steered {
        program: Option<Arc<Program>>,
        metrics: Metrics,
        /// With the request's number in the engine. Absent for requests that were sent without a mark, which are
        /// steered by the default.
        asked: Option<(Arc<SteeringField>, usize)>,
    },
    /// A request whose prompt's stream is captured.
    Captured(Arc<StreamCapture>),
}

impl ClaimedRequest {
    /// Whether its steering depends on the positions of a chat's messages.
    pub(crate) fn wants_turns(&self) -> bool {
        matches!(self, Self::Steered { program: Some(program), .. } if program.has_roles())
    }

    /// Admits a sequence with this prompt.
    pub(crate) fn admit(&self, prompt: &Prompt<'_>) -> Result<Admission, String> {
        let (program, metrics, asked) = match self {
            Self::Steered {
                program,
                metrics,
                asked,
            } => (program, metrics, asked),
            Self::Captured(capture) => {
                return Ok(Admission {
                    // The whole prompt must be computed.
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

/// The program for this prompt. Refuses a prompt that does not fit a request's steering or readouts. `own` is the
/// request's own first step; `None`: the request gets the default.
fn for_prompt(
    program: &Arc<Program>,
    readouts: Option<&Readouts>,
    prompt: &Prompt<'_>,
    own: Option<usize>,
) -> Result<Arc<Program>, String> {
    check_work(program, readouts, prompt.tokens.len())?;
    let program = if program.has_roles() {
        by_roles(program, prompt, own)?
    } else {
        program.clone()
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

/// The program of a spec with roles, for this chat.
fn by_roles(program: &Arc<Program>, prompt: &Prompt<'_>, own: Option<usize>) -> Result<Arc<Program>, String> {
    let steps = program.steps.iter().enumerate();
    let by_roles = steps
        .filter(|(_, step)| step.prompt.has_roles())
        .map(|(index, _)| index);
    let refused = |index: usize, reason: &str| Err(format!("steering.vectors[{index}].apply.prompt: {reason}"));
    let mut asked = by_roles.clone().filter(|index| own.is_some_and(|own| own <= *index));
    match (prompt.turns, asked.next()) {
        // A default does nothing in a prompt without messages.
        (Ok([]), Some(index)) => refused(index, "found roles for a prompt without messages, expected a chat"),
        (Ok(turns), _) => Ok(in_turns(program, turns)),
        (Err(reason), _) => refused(by_roles.into_iter().next().unwrap_or_default(), reason),
    }
}

/// The program for a prompt with these turns; itself if it has no roles.
pub(crate) fn in_turns(program: &Arc<Program>, turns: &[Turn]) -> Arc<Program> {
    if program.has_roles() {
        Arc::new(program.in_turns(turns))
    } else {
        program.clone()
    }
}

/// Refuses a prompt that is too long for its number of steps.
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

/// Admits a sequence with this prompt under `program`, read by `reader`.
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
        // A cache holds keys and values, not the states that conditions and readouts need.
        read_cache: !(program.sees_all_of_the_prompt() || reads_prompt),
        state: Some(Arc::new(SequenceState::new(program.clone(), reader, on_decision))),
    }
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
        let remembered = || steering.inner.sent.len();
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
                .downcast_ref::<ClaimedRequest>()
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
