//! Unit directions in a model's stream: what vectors are made into once, and programs share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use steermap_maps::digest::sha256;
use steermap_maps::{OffsetRule, Spread};

/// Most bytes of directions that are kept for the next spec: 8,192 of them at a width of 8192, or every layer of a hundred
/// vectors of an 80-layer model.
pub const MAX_KEPT_BYTES: u64 = 256 << 20;

/// A direction in a residual stream, with what identifies it.
pub struct Direction {
    values: Vec<f32>,
    digest: String,
    peak: f32,
}

impl Direction {
    /// `values`: `[hidden_size]`, finite.
    pub fn new(values: Vec<f32>) -> Self {
        // -0 is 0: no stream is moved by it.
        let bytes: Vec<u8> = values.iter().flat_map(|x| (x + 0.0).to_le_bytes()).collect();
        Self {
            digest: sha256(&bytes),
            peak: values.iter().fold(0.0, |peak, x| x.abs().max(peak)),
            values,
        }
    }

    /// `[hidden_size]`
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// SHA-256 of the values, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The largest absolute value.
    pub fn peak(&self) -> f32 {
        self.peak
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(self.values.as_slice()) + self.digest.len()
    }
}

impl PartialEq for Direction {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Direction").field(&self.values).finish()
    }
}

/// A vector's direction at one layer of a model, found once.
pub(crate) struct Found {
    /// Of length 1.
    pub(crate) direction: Arc<Direction>,
    /// Length of the vector's direction, as its file has it or as it came out of the map; above 0.
    pub(crate) norm: f64,
    /// Mean L2 norm of the model's stream at this layer; 0: not known.
    pub(crate) mean_norm: f64,
    /// Where the stream's component along it lies on neutral text, if that is known.
    pub(crate) neutral: Option<Spread>,
}

/// What tells a vector or a map from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// A number of [`DirectionCache::id`].
    Number(u64),
    /// SHA-256 of a vector that a spec brought along: of its layer and its numbers.
    Content([u8; 32]),
}

/// What a direction was made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) vector: Identity,
    pub(crate) map: Option<(Identity, OffsetRule)>,
    pub(crate) layer: usize,
}

/// The directions that specs asked for last, bounded by [`MAX_KEPT_BYTES`].
pub(crate) struct DirectionCache {
    kept: Mutex<Cache<Key, Arc<Found>, Bytes>>,
    next_id: AtomicU64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Found>> for Bytes {
    fn weight(&self, _: &Key, found: &Arc<Found>) -> u64 {
        (size_of::<Key>() + size_of::<Found>() + found.direction.bytes()) as u64
    }
}

impl Default for DirectionCache {
    fn default() -> Self {
        Self::bounded(MAX_KEPT_BYTES)
    }
}

impl DirectionCache {
    fn bounded(bytes: u64) -> Self {
        Self {
            kept: Mutex::new(Cache::with_weighter(1024, bytes, Bytes)),
            next_id: AtomicU64::new(0),
        }
    }

    /// What no other vector or map of this cache has.
    pub(crate) fn id(&self) -> Identity {
        Identity::Number(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The direction of `key`; `make` is called if it is not kept, outside of any lock.
    ///
    /// # Errors
    ///
    /// That of `make`; nothing is kept then.
    pub(crate) fn get<E>(&self, key: Key, make: impl FnOnce() -> Result<Found, E>) -> Result<Arc<Found>, E> {
        if let Some(found) = self.lock().get(&key) {
            return Ok(found.clone());
        }
        let made = Arc::new(make()?);
        let mut kept = self.lock();
        // If another thread was faster, its direction is taken: programs share one.
        if let Some(found) = kept.get(&key) {
            return Ok(found.clone());
        }
        kept.insert(key, made.clone());
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache<Key, Arc<Found>, Bytes>> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: usize) -> Found {
        Found {
            direction: Arc::new(Direction::new(vec![0.5; values])),
            norm: 1.0,
            mean_norm: 0.0,
            neutral: None,
        }
    }

    #[test]
    fn a_direction_is_made_once_and_errors_are_not_kept() {
        let cache = DirectionCache::default();
        let (vector, other) = (cache.id(), cache.id());
        assert_ne!(vector, other);
        let key = |vector, layer| Key {
            vector,
            map: None,
            layer,
        };
        assert!(cache.get(key(vector, 1), || Err("no")).is_err());
        let made = cache.get(key(vector, 1), || Ok::<_, ()>(found(4))).unwrap();
        let again = cache.get(key(vector, 1), || -> Result<Found, ()> { panic!("made twice") });
        assert!(Arc::ptr_eq(&made, &again.unwrap()));
        for different in [key(vector, 2), key(other, 1)] {
            let made_too = cache.get(different, || Ok::<_, ()>(found(4))).unwrap();
            assert!(!Arc::ptr_eq(&made, &made_too));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let cache = DirectionCache::bounded(100_000);
        for layer in 0..1000 {
            let key = Key {
                vector: Identity::Number(0),
                map: None,
                layer,
            };
            cache.get(key, || Ok::<_, ()>(found(1000))).unwrap();
            assert!(cache.lock().weight() <= 100_000);
        }
        assert!(cache.lock().len() > 10);
    }

    #[test]
    fn equal_values_are_one_direction_and_zero_has_no_sign() {
        assert_eq!(Direction::new(vec![0.0, 1.0]), Direction::new(vec![-0.0, 1.0]));
        assert_ne!(Direction::new(vec![0.0, 1.0]), Direction::new(vec![0.0, -1.0]));
        assert_eq!(Direction::new(vec![0.5, -2.0]).peak(), 2.0);
    }
}
