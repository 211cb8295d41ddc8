//! The server's counters, for Prometheus.
//!
//! Label values are names from the configuration and the library, or constants, never a client's text. So the number of
//! series is bounded by the models and vectors. [`Metrics::set_vectors`] sets the vectors; the series of a removed
//! vector end, and requests that still use it don't restore them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use residual_hooks::Phase;

/// Upper bounds of the buckets of compile times, in seconds: from a spec of native vectors to many mapped ones.
const COMPILE_BUCKETS: [f64; 8] = [0.0001, 0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0];

/// Upper bounds of the buckets of the time to find a vector, in seconds: from a few short pairs to thousands.
const FIND_BUCKETS: [f64; 7] = [0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 100.0];

/// The counters of one server. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Counters>);

struct Counters {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    vector_requests: Family<VectorLabels, Counter>,
    vector_tokens: Family<VectorLabels, Counter>,
    /// The counters of the present vectors.
    by_vector: RwLock<BTreeMap<String, VectorMetrics>>,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    compile: Histogram,
    apply: Counter<f64, AtomicU64>,
    cache_hits: Counter,
    cache_misses: Counter,
    reloads_done: Counter,
    reloads_refused: Counter,
    refusals: Family<ConstantLabel, Counter>,
    conditions_met: Counter,
    conditions_unmet: Counter,
    vectors: Gauge<i64, AtomicI64>,
    found: Histogram,
    found_hits: Counter,
    found_misses: Counter,
}

/// The counters of one vector. A user of the vector keeps them, so that counting takes one atomic addition.
#[derive(Clone, Debug, Default)]
pub struct VectorMetrics {
    /// Requests that use the vector.
    pub requests: Counter,
    /// Tokens whose states the vector changed.
    pub tokens: Counter,
}

/// What happened to a request, as far as steering is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SteeringOutcome {
    /// It was answered, steered.
    Steered,
    /// It was answered as by stock mistral.rs.
    Unsteered,
    /// It was refused for its steering.
    Refused,
}

/// Why a request was refused for its steering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its body is too large or can't be read.
    Body,
    /// Its `steering` field is invalid.
    Field,
    /// The route can't be steered.
    Route,
    /// The field is combined with `background`.
    Background,
    /// It names a vector, map or model that does not exist.
    Unknown,
    /// It conflicts with the present state.
    Conflict,
    /// Its spec is invalid, or the model can't be steered by it.
    Spec,
    /// Its spec does not fit its prompt.
    Prompt,
    /// The operator doesn't allow it.
    Policy,
    /// Too many vectors are already waiting to be found.
    Busy,
}

impl SteeringOutcome {
    fn word(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Unsteered => "unsteered",
            Self::Refused => "refused",
        }
    }
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Field => "field",
            Self::Route => "route",
            Self::Background => "background",
            Self::Unknown => "unknown",
            Self::Conflict => "conflict",
            Self::Spec => "spec",
            Self::Prompt => "prompt",
            Self::Policy => "policy",
            Self::Busy => "busy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VectorLabels {
    vector: String,
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("steering");
        let requests = Family::default();
        registry.register(
            "requests",
            "Requests by model and what became of them",
            requests.clone(),
        );
        let vector_requests = Family::default();
        let help = "Requests that use a vector";
        registry.register("vector_requests", help, vector_requests.clone());
        let vector_tokens = Family::default();
        let help = "Tokens whose states a vector changed";
        registry.register("vector_tokens", help, vector_tokens.clone());
        let tokens = Family::default();
        registry.register("tokens", "Tokens whose states were steered", tokens.clone());
        let compile = Histogram::new(COMPILE_BUCKETS);
        registry.register("compile_seconds", "Time to compile a spec for a model", compile.clone());
        let apply = Counter::default();
        registry.register("apply_seconds", "Time spent in the forward passes' hook", apply.clone());
        let cache = Family::default();
        registry.register("program_cache", "Look-ups of compiled specs", cache.clone());
        let reloads = Family::default();
        registry.register("reloads", "Reloads of the configuration", reloads.clone());
        let refusals = Family::default();
        registry.register("refusals", "Requests refused for their steering", refusals.clone());
        let conditions = Family::default();
        registry.register("conditions", "Decisions of conditional vectors", conditions.clone());
        let vectors = Gauge::default();
        registry.register("vectors", "Vectors that requests can name", vectors.clone());
        let found = Histogram::new(FIND_BUCKETS);
        registry.register("find_seconds", "Time to find a vector from pairs", found.clone());
        let found_cache = Family::default();
        registry.register(
            "found_cache",
            "Look-ups of vectors found from pairs",
            found_cache.clone(),
        );
        Self(Arc::new(Counters {
            registry,
            requests,
            vector_requests,
            vector_tokens,
            by_vector: RwLock::default(),
            prompt_tokens: labelled(&tokens, "phase", "prompt"),
            generated_tokens: labelled(&tokens, "phase", "generation"),
            compile,
            apply,
            cache_hits: labelled(&cache, "result", "hit"),
            cache_misses: labelled(&cache, "result", "miss"),
            reloads_done: labelled(&reloads, "result", "done"),
            reloads_refused: labelled(&reloads, "result", "refused"),
            refusals,
            conditions_met: labelled(&conditions, "decision", "met"),
            conditions_unmet: labelled(&conditions, "decision", "unmet"),
            vectors,
            found,
            found_hits: labelled(&found_cache, "result", "hit"),
            found_misses: labelled(&found_cache, "result", "miss"),
        }))
    }

    /// Counts a request to `model`, a name of the engine.
    pub fn request(&self, model: &str, outcome: SteeringOutcome) {
        let labels = RequestLabels {
            model: escaped(model),
            outcome: outcome.word(),
        };
        self.0.requests.get_or_create(&labels).inc();
    }

    /// Counts a request to `model` that was refused, and why.
    pub fn refused(&self, model: &str, reason: Reason) {
        self.request(model, SteeringOutcome::Refused);
        self.0.refusals.get_or_create(&[("reason", reason.word())]).inc();
    }

    /// The counters of `vector`. If the vector no longer exists, they are not rendered.
    pub fn vector(&self, vector: &str) -> VectorMetrics {
        let known = self.0.by_vector.read().unwrap_or_else(|e| e.into_inner());
        known.get(vector).cloned().unwrap_or_default()
    }

    /// Counts tokens whose states `vector` changed, if there is such a vector. Allocates nothing.
    pub fn steered_by(&self, vector: &str, tokens: u64) {
        let known = self.0.by_vector.read().unwrap_or_else(|e| e.into_inner());
        if let Some(counters) = known.get(vector) {
            counters.tokens.inc_by(tokens);
        }
    }

    /// Sets the vectors; the series of all others end.
    pub fn set_vectors<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut known = self.0.by_vector.write().unwrap_or_else(|e| e.into_inner());
        let mut gone = std::mem::take(&mut *known);
        for name in names {
            let counters = gone.remove(name).unwrap_or_else(|| self.shown(name));
            known.insert(name.to_string(), counters);
        }
        for vector in gone.into_keys() {
            let labels = VectorLabels { vector };
            self.0.vector_requests.remove(&labels);
            self.0.vector_tokens.remove(&labels);
        }
        self.0.vectors.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
    }

    /// The rendered counters of `vector`.
    fn shown(&self, vector: &str) -> VectorMetrics {
        let labels = VectorLabels {
            vector: vector.to_string(),
        };
        VectorMetrics {
            requests: self.0.vector_requests.get_or_create(&labels).clone(),
            tokens: self.0.vector_tokens.get_or_create(&labels).clone(),
        }
    }

    /// Counts prompt tokens or generated tokens whose states were changed.
    pub fn tokens(&self, phase: Phase, count: u64) {
        let counter = match phase {
            Phase::Prompt => &self.0.prompt_tokens,
            Phase::Generation => &self.0.generated_tokens,
        };
        counter.inc_by(count);
    }

    /// Records how long the compilation of a spec took.
    pub fn compiled(&self, took: Duration) {
        self.0.compile.observe(took.as_secs_f64());
    }

    /// Adds to the time spent in the hook. Call it once per forward pass.
    pub fn applied(&self, took: Duration) {
        self.0.apply.inc_by(took.as_secs_f64());
    }

    /// Counts a look-up of a compiled spec.
    pub fn program_cache(&self, hit: bool) {
        let counter = if hit { &self.0.cache_hits } else { &self.0.cache_misses };
        counter.inc();
    }

    /// Records how long it took to find a vector from pairs, or to fail.
    pub fn found(&self, took: Duration) {
        self.0.found.observe(took.as_secs_f64());
    }

    /// Counts a look-up of a vector found from pairs.
    pub fn found_cache(&self, hit: bool) {
        let counter = if hit { &self.0.found_hits } else { &self.0.found_misses };
        counter.inc();
    }

    /// Counts a reload of the configuration: one that was `done`, or one that was refused and changed nothing.
    pub fn reload(&self, done: bool) {
        let counter = if done {
            &self.0.reloads_done
        } else {
            &self.0.reloads_refused
        };
        counter.inc();
    }

    /// Counts the decision of a conditional vector for one sequence.
    pub fn condition(&self, met: bool) {
        let counter = if met {
            &self.0.conditions_met
        } else {
            &self.0.conditions_unmet
        };
        counter.inc();
    }

    /// All counters in the OpenMetrics text format, which Prometheus reads: [`CONTENT_TYPE`](Self::CONTENT_TYPE).
    pub fn render(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry).expect("writing to a string does not fail");
        text
    }

    /// The media type of [`render`](Self::render)'s output.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Escapes a label's value for the text format; prometheus-client writes values unescaped.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// One label with a constant value.
type ConstantLabel = [(&'static str, &'static str); 1];

/// The counter of one label value, created now so that it is rendered before it is first counted.
fn labelled(family: &Family<ConstantLabel, Counter>, label: &'static str, value: &'static str) -> Counter {
    family.get_or_create(&[(label, value)]).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.request("tiny", SteeringOutcome::Steered);
        metrics.request("tiny", SteeringOutcome::Steered);
        metrics.clone().request("tiny", SteeringOutcome::Unsteered);
        metrics.refused("tiny", Reason::Prompt);
        metrics.set_vectors(["calm", "happy", "sad"]);
        let happy = metrics.vector("happy");
        happy.requests.inc();
        metrics.steered_by("happy", 7);
        metrics.tokens(Phase::Prompt, 5);
        metrics.tokens(Phase::Generation, 2);
        metrics.compiled(Duration::from_micros(300));
        metrics.applied(Duration::from_millis(250));
        metrics.applied(Duration::from_millis(250));
        metrics.program_cache(true);
        metrics.program_cache(false);
        metrics.reload(true);
        metrics.reload(false);
        metrics.condition(true);
        metrics.condition(false);
        metrics.found(Duration::from_millis(30));
        metrics.found_cache(true);
        metrics.found_cache(false);
        let text = metrics.render();
        for line in [
            "steering_requests_total{model=\"tiny\",outcome=\"steered\"} 2",
            "steering_requests_total{model=\"tiny\",outcome=\"unsteered\"} 1",
            "steering_requests_total{model=\"tiny\",outcome=\"refused\"} 1",
            "steering_refusals_total{reason=\"prompt\"} 1",
            "steering_vector_requests_total{vector=\"happy\"} 1",
            "steering_vector_tokens_total{vector=\"happy\"} 7",
            "steering_tokens_total{phase=\"prompt\"} 5",
            "steering_tokens_total{phase=\"generation\"} 2",
            "steering_compile_seconds_bucket{le=\"0.0005\"} 1",
            "steering_compile_seconds_count 1",
            "steering_apply_seconds_total 0.5",
            "steering_program_cache_total{result=\"hit\"} 1",
            "steering_program_cache_total{result=\"miss\"} 1",
            "steering_reloads_total{result=\"done\"} 1",
            "steering_reloads_total{result=\"refused\"} 1",
            "steering_conditions_total{decision=\"met\"} 1",
            "steering_conditions_total{decision=\"unmet\"} 1",
            "steering_vectors 3",
            "steering_find_seconds_bucket{le=\"0.05\"} 1",
            "steering_found_cache_total{result=\"hit\"} 1",
            "steering_found_cache_total{result=\"miss\"} 1",
            "# TYPE steering_apply_seconds counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_vector_that_is_gone_is_not_shown_and_does_not_come_back() {
        let metrics = Metrics::new();
        metrics.set_vectors(["happy", "sad"]);
        let sad = metrics.vector("sad");
        metrics.vector("happy").requests.inc();
        metrics.set_vectors(["happy"]);
        // Requests that run go on counting, and their program may be asked for again.
        sad.requests.inc();
        metrics.steered_by("sad", 1);
        let text = metrics.render();
        assert!(!text.contains("sad"), "{text}");
        assert!(text.contains("vector_requests_total{vector=\"happy\"} 1"), "{text}");
        metrics.set_vectors(["happy", "sad"]);
        let text = metrics.render();
        assert!(text.contains("vector_requests_total{vector=\"sad\"} 0"), "{text}");
        assert!(text.contains("vector_requests_total{vector=\"happy\"} 1"), "{text}");
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::new();
        metrics.request("a\"b\\c\nd", SteeringOutcome::Steered);
        let text = metrics.render();
        assert!(text.contains(r#"model="a\"b\\c\nd""#), "{text}");
    }
}
