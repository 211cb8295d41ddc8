//! Finds vectors while the server runs, on a source of the configuration or on a served model, with the code of `mapper
//! vector`.
//!
//! ```toml
//! [steering.sources.small]           # a model in addition to the served ones; requests can't be sent to it
//! model = "models/small"             # a folder, or an id on the hub; gguf, tok_model_id, dtype, isq, device as in mapper's arguments
//!
//! [steering.live]                    # these are the defaults
//! requests = true                    # whether requests may contain pairs; absent: true if there is a source
//! request_bytes = 262144             # of the texts of one vector's pairs
//! request_tokens = 16384
//! queue_bytes = 1048576              # of the texts in the queue; 429 above it
//! cache_bytes = 67108864             # of vectors cached for requests with the same pairs
//! share = 0.3                        # of the time, while served models run
//! ```
//!
//! | module | role |
//! | --- | --- |
//! | [`config`] | the two tables |
//! | `queue` | one vector at a time, and rests while served models run |
//! | `served` | the streams of a served model and of a source |

pub mod config;
pub(crate) mod queue;
pub(crate) mod served;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mistralrs_core::MistralRs;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use steermap_extract::find::{Found, Origin, Wanted, distinct, find};
use steermap_extract::statistics::FOLDS;
use steermap_extract::{ExtractError, ModelSource, ReadProgress, Running, Session};
use steermap_maps::Provenance;
use steermap_maps::digest::sha256;

use crate::SteeringError;
use crate::library::not_found;
use crate::lock::lock;
use crate::spec::{FoundVector, PairsVector, RequestSteering, VectorRef};
use crate::steering::{SharedSteering, Snapshot};
use config::LiveLimits;
use queue::{Pace, Queue, QueueFull};
use served::{Paced, ServedReader};

/// A loaded model to find vectors on.
pub struct LiveSource {
    session: Session,
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
    /// How often the weights of a served model may have changed. Vectors found before are no longer taken from the cache.
    weights_epoch: AtomicU64,
}

/// The vectors that were found, by [`Live::key`].
#[derive(Clone)]
struct CachedVector {
    found: Arc<Found>,
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
        let session = Session::load(source).await.map_err(at)?;
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
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Refuses too many tokens, and rests between layers.
struct FindProgress {
    most: usize,
    /// Bytes of one token's states at all layers.
    token_bytes: usize,
    pace: Pace,
}

impl ReadProgress for FindProgress {
    fn tokenized(&self, tokens: &[usize]) -> Result<(), ExtractError> {
        let count: usize = tokens.iter().sum();
        if count > self.most {
            let message = format!(
                "found {count} tokens in the texts, expected at most {}, the server's request_tokens",
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
enum FindModel<'a> {
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
            weights_epoch: AtomicU64::new(0),
        }
    }

    /// The weights of a served model were quantised again, or its files are read again: what was found on served models
    /// is found anew.
    pub(crate) fn weights_changed(&self) {
        self.weights_epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// The key of a vector in the cache. Sources never change.
    fn key(&self, asked: &PairsVector) -> String {
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
    pub(crate) fn has_origin(&self, model: &steermap_maps::ModelInfo) -> bool {
        self.sources.values().any(|source| source.origin.model == *model)
    }

    fn on(&self, name: &str, snapshot: &Snapshot, at: &str) -> Result<FindModel<'_>, SteeringError> {
        if let Some(source) = self.sources.get(name) {
            return Ok(FindModel::Source(source));
        }
        let Ok(model) = snapshot.model(Some(name)) else {
            let sources = self.sources.keys().map(String::as_str);
            let known: Vec<&str> = sources.chain(snapshot.models.keys().map(String::as_str)).collect();
            return Err(SteeringError::NotFound {
                field: format!("{at}model"),
                found: format!("{name:?}"),
                expected: format!("a source or a served model: {}", known.join(", ")),
            });
        };
        if let Some(reason) = &model.refusal {
            return Err(SteeringError::Install {
                model: model.id.clone(),
                reason: reason.clone(),
            });
        }
        let mut info = model.target.info();
        if info.fingerprint.is_empty() {
            // A served model's fingerprint isn't compared either.
            info.fingerprint = "unknown".to_string();
        }
        Ok(FindModel::Served {
            id: model.id.clone(),
            origin: Origin {
                model: info,
                quantization: self.quantization.get(&model.id).cloned(),
            },
        })
    }
}

impl SharedSteering {
    /// Finds the vector of `asked`, or takes the cached one. `measured` says whether its separation of held-out pairs
    /// is measured, and `at` is the path of the field, ending with a dot or empty. Works off the async worker, and
    /// finishes even if the caller stops waiting.
    ///
    /// # Errors
    ///
    /// The pairs are invalid or too many, the model does not exist, the queue is full, the model does not distinguish
    /// the texts, or the engine fails.
    pub(crate) async fn found(
        self: &Arc<Self>,
        asked: PairsVector,
        measured: bool,
        at: &str,
    ) -> Result<(String, Arc<Found>), SteeringError> {
        let Some(live) = self.live() else {
            return Err(SteeringError::Forbidden {
                field: format!("{at}pairs"),
                found: "pairs".to_string(),
                expected: "a vector's name: this server finds no vectors".to_string(),
            });
        };
        let bytes = asked.bytes();
        if bytes > live.limits.request_bytes {
            return Err(SteeringError::value(
                format!("{at}pairs"),
                format!("{bytes} bytes of texts"),
                format!("at most {}, the server's request_bytes", live.limits.request_bytes),
            ));
        }
        asked.validate(at)?;
        for (index, pair) in asked.pairs.iter().enumerate() {
            for (side, text) in [("positive", &pair.positive), ("negative", &pair.negative)] {
                if text.bytes() > MAX_TEXT_BYTES {
                    return Err(SteeringError::value(
                        format!("{at}pairs[{index}].{side}"),
                        format!("{} bytes", text.bytes()),
                        format!("at most {MAX_TEXT_BYTES}"),
                    ));
                }
            }
        }
        let key = live.key(&asked);
        let metrics = self.metrics();
        let kept = || {
            let kept = lock(&live.found).get(&key).cloned();
            kept.filter(|kept| kept.measured || !measured)
        };
        if let Some(kept) = kept() {
            metrics.found_cache(true);
            return Ok((key, kept.found));
        }
        // An unknown model is refused before waiting.
        live.on(&asked.model, &self.snapshot(), at)?;
        let turn = live
            .queue
            .turn(bytes)
            .await
            .map_err(|QueueFull { seconds }| SteeringError::Busy {
                field: format!("{at}pairs"),
                seconds,
            })?;
        // A request earlier in the queue may have found the same vector.
        if let Some(kept) = kept() {
            metrics.found_cache(true);
            turn.idle();
            return Ok((key, kept.found));
        }
        metrics.found_cache(false);
        let (inner, handle, field) = (self.clone(), tokio::runtime::Handle::current(), format!("{at}pairs"));
        let at = at.to_string();
        let working = tokio::task::spawn_blocking(move || {
            let start = std::time::Instant::now();
            let found = handle.block_on(inner.find_now(&asked, measured, &at));
            inner.metrics().found(start.elapsed());
            let found = match found {
                Ok(found) => Arc::new(found),
                Err(error) => {
                    // A failure does not count for the speed estimate.
                    turn.idle();
                    return Err(error);
                }
            };
            drop(turn);
            if let Some(live) = inner.live() {
                let kept = CachedVector {
                    found: found.clone(),
                    measured,
                };
                lock(&live.found).insert(key.clone(), kept);
            }
            Ok((key, found))
        });
        working.await.unwrap_or_else(|stopped| {
            let reason = ExtractError::Engine(format!("finding the vector stopped: {stopped}"));
            Err(SteeringError::find(field, reason))
        })
    }

    async fn find_now(self: &Arc<Self>, asked: &PairsVector, measured: bool, at: &str) -> Result<Found, SteeringError> {
        let Some(live) = self.live() else {
            return Err(SteeringError::value(at, "pairs", "a server that finds vectors"));
        };
        let snapshot = self.snapshot();
        let on = live.on(&asked.model, &snapshot, at)?;
        let of = |reason| SteeringError::find(format!("{at}pairs"), reason);
        let stream = match &on {
            FindModel::Source(source) => source.session.stream().map_err(of)?,
            FindModel::Served { id, .. } => {
                let slot = crate::slot::slot(&live.engine, Some(id))?;
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
            most: live.limits.request_tokens,
            token_bytes: wanted.layers.len() * stream.hidden_size * size_of::<f32>(),
            pace: live.pace.clone(),
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
                    pace: &live.pace,
                };
                find(&reader, &source.origin, &pairs, &wanted, made, measured, &watched).await
            }
            FindModel::Served { id, origin } => {
                let served = ServedReader {
                    running: Running::new(live.engine.clone(), id.clone()),
                    model: &id,
                    hidden_size: stream.hidden_size,
                    steering: self.clone(),
                };
                let reader = Paced {
                    reader: &served,
                    pace: &live.pace,
                };
                find(&reader, &origin, &pairs, &wanted, made, measured, &watched).await
            }
        };
        Ok(Found {
            vector: vector.map_err(of)?,
            pairs,
        })
    }

    /// Finds the vectors for the pairs of a request, and replaces the pairs by them.
    ///
    /// # Errors
    ///
    /// As [`found`](Self::found), or [`SteeringError::Forbidden`] if requests may not contain pairs.
    pub(crate) async fn find_all(self: &Arc<Self>, asked: &mut RequestSteering) -> Result<(), SteeringError> {
        let of_pairs = |(number, (field, vector)): (usize, (String, &VectorRef))| match vector {
            VectorRef::Pairs(pairs) => Some((number, field, (**pairs).clone())),
            _ => None,
        };
        let refs = asked.vector_refs("steering.").into_iter().enumerate();
        let wanted: Vec<_> = refs.filter_map(of_pairs).collect();
        let Some((_, first, _)) = wanted.first() else {
            return Ok(());
        };
        if !self.live().is_some_and(|live| live.limits.requests) {
            return Err(SteeringError::Forbidden {
                field: format!("{first}.pairs"),
                found: "pairs".to_string(),
                expected: "a vector's name: the server's steering.live.requests is false".to_string(),
            });
        }
        // Errors that need no vectors are reported before any are found.
        asked.validate("steering.")?;
        let snapshot = self.snapshot();
        for (index, used) in asked.vectors.iter().flatten().enumerate() {
            if let Some(map) = used.map.as_deref().filter(|map| snapshot.library.map(map).is_none()) {
                return Err(not_found(format!("steering.vectors[{index}].map"), map, "a map's name"));
            }
        }
        drop(snapshot);
        for (number, field, pairs) in wanted {
            let (key, found) = self.found(pairs, false, &format!("{field}.")).await?;
            if let Some(vector) = asked.vector_refs_mut().into_iter().nth(number) {
                *vector = VectorRef::Found(FoundVector { key, found });
            }
        }
        Ok(())
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
