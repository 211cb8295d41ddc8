//! Finds vectors while the server runs, on a source of the configuration or on a served model, with the code of `mapper
//! vector`.
//!
//! | module | role |
//! | --- | --- |
//! | `queue` | one vector at a time, and rests while served models run |
//! | `served` | the streams of a served model and of a source |

mod queue;
mod served;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use mistralrs_core::MistralRs;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use steermap_extract::find::{Origin, VectorOfPairs, Wanted, distinct, find};
use steermap_extract::statistics::FOLDS;
use steermap_extract::{ExtractError, ModelSource, ReadProgress, Running, StreamSession};
use steermap_maps::digest::sha256;
use steermap_maps::{ModelInfo, Provenance};

use crate::SteeringError;
use crate::config::LiveLimits;
use crate::lock::lock;
use crate::sent::SentRequests;
use crate::spec::PairsVector;
pub(crate) use queue::QueueFull;
use queue::{Pace, Queue, QueueTurn};
use served::{CaptureField, Paced, ServedReader};

/// A loaded model to find vectors on.
pub struct LiveSource {
    session: StreamSession,
    origin: Origin,
}

/// Finds vectors.
pub struct Live {
    engine: Arc<MistralRs>,
    sources: BTreeMap<String, LiveSource>,
    /// By served model: how its weights are quantised, as vector files state it.
    quantization: BTreeMap<String, String>,
    limits: LiveLimits,
    queue: Queue,
    pace: Pace,
    found: Mutex<Cache<String, CachedVector, VectorBytes>>,
    /// The prompts that were sent to served models.
    captures: Arc<SentRequests<CaptureField>>,
    /// How often the weights of a served model may have changed. Vectors found before are no longer taken from the cache.
    weights_epoch: AtomicU64,
}

/// The vectors that were found, by [`Live::key`].
#[derive(Clone)]
struct CachedVector {
    found: Arc<VectorOfPairs>,
    /// Whether its separation of held-out pairs was measured.
    measured: bool,
}

#[derive(Clone)]
struct VectorBytes;

impl Weighter<String, CachedVector> for VectorBytes {
    fn weight(&self, key: &String, CachedVector { found, .. }: &CachedVector) -> u64 {
        let layers = found.vector.layers().iter();
        let numbers: usize = layers.map(|layer| size_of_val(layer.direction.as_slice())).sum();
        let pairs = found.pairs.pairs.iter();
        let texts: usize = pairs
            .map(|pair| pair.positive.bytes() + pair.negative.bytes() + 128)
            .sum();
        (key.len() + numbers + texts + 1024) as u64
    }
}

impl LiveSource {
    /// Loads a model.
    ///
    /// # Errors
    ///
    /// The engine's error, or the model's stream can't be read.
    pub async fn load(name: &str, source: ModelSource) -> Result<Self, SteeringError> {
        let at = |reason| SteeringError::find(format!("steering.sources.{name}"), reason);
        let session = StreamSession::load(source).await.map_err(at)?;
        let origin = Origin {
            model: session.info().map_err(at)?,
            quantization: session.quantization(),
        };
        Ok(Self { session, origin })
    }
}

/// Most bytes of states in memory: those of all positions of one text, and one state per text.
const MAX_STATE_BYTES: usize = 1 << 30;

/// Most multiplications for finding a direction, over all layers and folds of a cross-validation: about twenty seconds
/// on two cores.
const MAX_METHOD_WORK: u64 = 200_000_000_000;

/// Most bytes of one text. The engine tokenises it ahead of other work.
pub(crate) const MAX_TEXT_BYTES: usize = 16 << 10;

/// Refuses too many tokens, and rests between layers.
struct FindProgress {
    /// The tokens that the request has read for its vectors so far.
    spent: Arc<AtomicUsize>,
    most: usize,
    /// Bytes of one token's states at all layers.
    token_bytes: usize,
    pace: Pace,
}

impl ReadProgress for FindProgress {
    fn tokenized(&self, tokens: &[usize]) -> Result<(), ExtractError> {
        let count: usize = tokens.iter().sum();
        let before = self.spent.fetch_add(count, Ordering::Relaxed);
        if before.saturating_add(count) > self.most {
            let beside = match before {
                0 => String::new(),
                before => format!(", beside {before} in the request's other pairs"),
            };
            let message = format!(
                "found {count} tokens in the texts{beside}, expected at most {}, the server's request_tokens",
                self.most
            );
            return Err(ExtractError::Input(message));
        }
        let longest = tokens.iter().copied().max().unwrap_or(0);
        for (held, what) in [
            (longest, format!("a text of {longest} tokens")),
            (tokens.len(), format!("{} texts", tokens.len())),
        ] {
            let bytes = held.saturating_mul(self.token_bytes);
            if bytes > MAX_STATE_BYTES {
                let message = format!(
                    "found {what}, whose states at these layers take {bytes} bytes, expected at most {MAX_STATE_BYTES}: fewer \
                     layers, or less text"
                );
                return Err(ExtractError::Input(message));
            }
        }
        Ok(())
    }

    /// Runs on a separate thread, which may sleep.
    fn found(&self, took: Duration) {
        std::thread::sleep(self.pace.rest_after(took));
    }
}

/// Refuses a method that would take too long on this many pairs.
fn check_work(wanted: &Wanted, pairs: usize, width: usize, measured: bool) -> Result<(), ExtractError> {
    let times = wanted.layers.len() as u64 * if measured { 1 + FOLDS as u64 } else { 1 };
    let work = wanted.method.work(pairs, width).saturating_mul(times);
    if work <= MAX_METHOD_WORK {
        return Ok(());
    }
    Err(ExtractError::Input(format!(
        "method: found {} with {pairs} pairs at {} layers, which takes about {:.1e} products, expected at most {:.1e}: fewer pairs, \
         fewer layers, or mean-difference",
        wanted.method,
        wanted.layers.len(),
        work as f64,
        MAX_METHOD_WORK as f64
    )))
}

/// The model that a vector is found on.
pub(crate) enum FindModel<'a> {
    Source(&'a LiveSource),
    Served { id: String, origin: Origin },
}

impl Live {
    /// Finds vectors on `sources` and on the models of `engine`. `quantization` states how the weights of served models
    /// are quantised.
    pub fn new(
        engine: Arc<MistralRs>,
        sources: BTreeMap<String, LiveSource>,
        quantization: BTreeMap<String, String>,
        limits: LiveLimits,
    ) -> Self {
        Self {
            engine,
            sources,
            quantization,
            limits,
            queue: Queue::new(limits.queue_bytes),
            pace: Pace::new(limits.share),
            found: Mutex::new(Cache::with_weighter(256, limits.cache_bytes, VectorBytes)),
            captures: Arc::default(),
            weights_epoch: AtomicU64::new(0),
        }
    }

    /// The weights of a served model were quantised again, or its files are read again: what was found on served models
    /// is found anew.
    pub(crate) fn weights_changed(&self) {
        self.weights_epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// The key of a vector in the cache. Sources never change.
    pub(crate) fn key(&self, asked: &PairsVector) -> String {
        let mut key = sha256(&serde_json::to_vec(asked).unwrap_or_default());
        if !self.sources.contains_key(&asked.model) {
            key = format!("{key}@{}", self.weights_epoch.load(Ordering::Relaxed));
        }
        key
    }

    /// The sources, by name.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &LiveSource)> {
        self.sources.iter().map(|(name, source)| (name.as_str(), source))
    }

    /// Whether requests may contain pairs.
    pub(crate) fn takes_pairs(&self) -> bool {
        self.limits.requests
    }

    /// The engine of the served models.
    pub(crate) fn engine(&self) -> &Arc<MistralRs> {
        &self.engine
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether the sources include a model of this name and these sizes.
    pub(crate) fn has_origin(&self, model: &ModelInfo) -> bool {
        self.sources.values().any(|source| source.origin.model == *model)
    }

    /// The limits for finding vectors.
    pub(crate) fn limits(&self) -> &LiveLimits {
        &self.limits
    }

    /// The source of this name.
    pub(crate) fn source(&self, name: &str) -> Option<FindModel<'_>> {
        self.sources.get(name).map(FindModel::Source)
    }

    /// The served model `id`, which `info` describes.
    pub(crate) fn served(&self, id: &str, mut info: ModelInfo) -> FindModel<'_> {
        if info.fingerprint.is_empty() {
            // A served model's fingerprint isn't compared either.
            info.fingerprint = "unknown".to_string();
        }
        FindModel::Served {
            id: id.to_string(),
            origin: Origin {
                model: info,
                quantization: self.quantization.get(id).cloned(),
            },
        }
    }

    /// The prompt that was sent as request `id` to be captured, if there was one.
    pub(crate) fn captured(&self, id: usize) -> Option<Weak<CaptureField>> {
        self.captures.get(id)
    }

    /// Waits for a turn to find a vector from texts of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], without waiting.
    pub(crate) async fn turn(&self, bytes: usize) -> Result<QueueTurn, QueueFull> {
        self.queue.turn(bytes).await
    }

    /// The cached vector; `measured` says whether its separation of held-out pairs must have been measured.
    pub(crate) fn cached(&self, key: &str, measured: bool) -> Option<Arc<VectorOfPairs>> {
        let cached = lock(&self.found).get(key).cloned()?;
        (cached.measured || !measured).then_some(cached.found)
    }

    /// Caches a vector.
    pub(crate) fn cache(&self, key: String, found: Arc<VectorOfPairs>, measured: bool) {
        lock(&self.found).insert(key, CachedVector { found, measured });
    }

    /// Finds the vector of `asked` on a model. `measured` says whether its separation of held-out pairs is measured, and
    /// `at` is the path of the field, ending with a dot or empty.
    ///
    /// # Errors
    ///
    /// The pairs are too many, the model does not distinguish the texts, or the engine fails.
    pub(crate) async fn find(
        &self,
        on: FindModel<'_>,
        asked: &PairsVector,
        measured: bool,
        at: &str,
        spent: Arc<AtomicUsize>,
    ) -> Result<VectorOfPairs, SteeringError> {
        let of = |reason| SteeringError::find(format!("{at}pairs"), reason);
        let stream = match &on {
            FindModel::Source(source) => source.session.stream().map_err(of)?,
            FindModel::Served { id, .. } => {
                let slot = crate::slot::slot(&self.engine, Some(id))?;
                slot.stream().map_err(|reason| SteeringError::Install {
                    model: id.clone(),
                    reason,
                })?
            }
        };
        let layers = asked.layers.clone().unwrap_or_default().resolve(&stream);
        let wanted = Wanted {
            // The concept is set when the vector gets a name.
            concept: "(pairs)".to_string(),
            layers: layers.map_err(|reason| SteeringError::find_at(at, "layers", reason))?,
            method: asked.method,
            sign: asked.sign,
            position: asked.position,
            seed: asked.seed,
            neutral: asked.neutral,
        };
        let pairs = distinct(&asked.pairs).map_err(of)?;
        check_work(&wanted, pairs.pairs.len(), stream.hidden_size, measured)
            .map_err(|reason| SteeringError::find_at(at, "method", reason))?;
        let watched = FindProgress {
            spent,
            most: self.limits.request_tokens,
            token_bytes: wanted.layers.len() * stream.hidden_size * size_of::<f32>(),
            pace: self.pace.clone(),
        };
        let texts = serde_json::to_vec(&asked.pairs).unwrap_or_default();
        let made = Provenance {
            tool: concat!("mistralrs-steered ", env!("CARGO_PKG_VERSION")).to_string(),
            date: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            command: "POST /v1/steering/vectors".to_string(),
            seed: None,
            corpus: "pairs of a request".to_string(),
            corpus_sha256: sha256(&texts),
        };
        let vector = match on {
            FindModel::Source(source) => {
                let reader = Paced {
                    reader: &source.session,
                    pace: &self.pace,
                };
                find(&reader, &source.origin, &pairs, &wanted, made, measured, &watched).await
            }
            FindModel::Served { id, origin } => {
                let served = ServedReader {
                    running: Running::new(self.engine.clone(), id.clone()),
                    model: &id,
                    hidden_size: stream.hidden_size,
                    sent: self.captures.clone(),
                };
                let reader = Paced {
                    reader: &served,
                    pace: &self.pace,
                };
                find(&reader, &origin, &pairs, &wanted, made, measured, &watched).await
            }
        };
        Ok(VectorOfPairs {
            vector: vector.map_err(of)?,
            pairs,
        })
    }
}

/// Describes a source for `/v1/steering`.
pub(crate) fn describe(name: &str, source: &LiveSource) -> serde_json::Value {
    let model = &source.origin.model;
    serde_json::json!({
        "source": name,
        "model": model.model,
        "hidden_size": model.hidden_size,
        "num_layers": model.num_layers,
        "fingerprint": model.fingerprint,
    })
}
