//! Vectors found from the pairs of a request, or of an administrator.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use steermap_extract::{ExtractError, VectorOfPairs};

use super::SharedSteering;
use crate::SteeringError;
use crate::library::not_found;
use crate::live::{FindModel, Live, MAX_TEXT_BYTES, QueueFull};
use crate::spec::{FoundVector, PairsVector, RequestSteering, VectorRef};

impl SharedSteering {
    /// Finds the vector of `asked`, or takes the cached one. `measured` says whether its separation of held-out pairs
    /// is measured, `at` is the path of the field, ending with a dot or empty, and `spent` counts the tokens that are read for
    /// one request. Works off the async worker, and finishes even if the caller stops waiting.
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
        spent: Arc<AtomicUsize>,
    ) -> Result<(String, Arc<VectorOfPairs>), SteeringError> {
        let Some(live) = self.live() else {
            return Err(SteeringError::Forbidden {
                field: format!("{at}pairs"),
                found: "pairs".to_string(),
                expected: "a vector's name: this server finds no vectors".to_string(),
            });
        };
        let bytes = asked.bytes();
        check_bytes(bytes, live, at)?;
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
        if let Some(found) = live.cached(&key, measured) {
            metrics.found_cache(true);
            return Ok((key, found));
        }
        // An unknown model is refused before waiting.
        self.find_model(live, &asked.model, at)?;
        let turn = live
            .turn(bytes)
            .await
            .map_err(|QueueFull { seconds }| SteeringError::Busy {
                field: format!("{at}pairs"),
                seconds,
            })?;
        // A request earlier in the queue may have found the same vector.
        if let Some(found) = live.cached(&key, measured) {
            metrics.found_cache(true);
            turn.idle();
            return Ok((key, found));
        }
        metrics.found_cache(false);
        let (inner, handle, field) = (self.clone(), tokio::runtime::Handle::current(), format!("{at}pairs"));
        let at = at.to_string();
        let working = tokio::task::spawn_blocking(move || {
            let start = std::time::Instant::now();
            let found = handle.block_on(inner.find_now(&asked, measured, &at, spent));
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
                live.cache(key.clone(), found.clone(), measured);
            }
            Ok((key, found))
        });
        working.await.unwrap_or_else(|stopped| {
            let reason = ExtractError::Engine(format!("finding the vector stopped: {stopped}"));
            Err(SteeringError::find(field, reason))
        })
    }

    async fn find_now(
        &self,
        asked: &PairsVector,
        measured: bool,
        at: &str,
        spent: Arc<AtomicUsize>,
    ) -> Result<VectorOfPairs, SteeringError> {
        let Some(live) = self.live() else {
            return Err(SteeringError::value(at, "pairs", "a server that finds vectors"));
        };
        let on = self.find_model(live, &asked.model, at)?;
        live.find(on, asked, measured, at, spent).await
    }

    /// The source or the served model of this name.
    fn find_model<'a>(&self, live: &'a Live, name: &str, at: &str) -> Result<FindModel<'a>, SteeringError> {
        if let Some(source) = live.source(name) {
            return Ok(source);
        }
        let snapshot = self.snapshot();
        let Ok(model) = snapshot.model(Some(name)) else {
            let sources = live.sources().map(|(name, _)| name);
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
        Ok(live.served(&model.id, model.target.info()))
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
        let Some(live) = self.live().filter(|live| live.takes_pairs()) else {
            return Err(SteeringError::Forbidden {
                field: format!("{first}.pairs"),
                found: "pairs".to_string(),
                expected: "a vector's name: the server's steering.live.requests is false".to_string(),
            });
        };
        // Errors that need no vectors are reported before any are found.
        asked.validate("steering.")?;
        let snapshot = self.snapshot();
        for (index, used) in asked.vectors.iter().flatten().enumerate() {
            if let Some(map) = used.map.as_deref().filter(|map| snapshot.library.map(map).is_none()) {
                return Err(not_found(format!("steering.vectors[{index}].map"), map, "a map's name"));
            }
        }
        drop(snapshot);
        // Equal pairs are found once.
        let (mut distinct, mut bytes) = (Vec::new(), 0);
        for (_, field, pairs) in &wanted {
            if !distinct.contains(&pairs) {
                distinct.push(pairs);
                bytes += pairs.bytes();
                check_bytes(bytes, live, &format!("{field}."))?;
            }
        }
        let spent = Arc::new(AtomicUsize::new(0));
        for (number, field, pairs) in wanted {
            let (key, found) = self.found(pairs, false, &format!("{field}."), spent.clone()).await?;
            if let Some(vector) = asked.vector_refs_mut().into_iter().nth(number) {
                *vector = VectorRef::Found(FoundVector { key, found });
            }
        }
        Ok(())
    }
}

/// Refuses a request with more bytes of texts than the server takes.
fn check_bytes(bytes: usize, live: &Live, at: &str) -> Result<(), SteeringError> {
    let most = live.limits().request_bytes;
    if bytes <= most {
        return Ok(());
    }
    Err(SteeringError::value(
        format!("{at}pairs"),
        format!("{bytes} bytes of texts in the request's pairs"),
        format!("at most {most}, the server's request_bytes"),
    ))
}
