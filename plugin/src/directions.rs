//! Unit directions in a model's stream. Each is made once per vector and layer, and shared by programs.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use steermap_maps::digest::sha256;
use steermap_maps::{OffsetRule, Spread};

use crate::lock::lock;

/// Most bytes of cached directions: 8,192 of them at a width of 8192, or every layer of a hundred vectors of an
/// 80-layer model.
pub const MAX_KEPT_BYTES: u64 = 256 << 20;

/// A direction in a residual stream, with its hash.
pub struct Direction {
    values: Vec<f32>,
    digest: String,
    peak: f32,
}

impl Direction {
    /// `values`: `[hidden_size]`, finite.
    pub fn new(values: Vec<f32>) -> Self {
        // -0 and 0 have the same effect, so they get the same hash.
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

    /// Its size in memory.
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

/// A vector's direction at one layer of a model.
pub(crate) struct LayerDirection {
    /// The unit direction.
    pub(crate) direction: Arc<Direction>,
    /// Length of the vector at this layer, in its file or as the map's result; above 0.
    pub(crate) norm: f64,
    /// Mean L2 norm of the model's stream at this layer; 0: not known.
    pub(crate) mean_norm: f64,
    /// Mean and standard deviation of the stream's component along it on neutral text, if known.
    pub(crate) neutral: Option<Spread>,
}

/// Identifies a vector or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// A number of [`DirectionCache::id`].
    Number(u64),
    /// SHA-256 of an inline vector: of its layer and its numbers.
    Content([u8; 32]),
}

/// Identifies a direction by what it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DirectionKey {
    pub(crate) vector: Identity,
    pub(crate) map: Option<(Identity, OffsetRule)>,
    pub(crate) layer: usize,
}

/// The directions that specs used last, bounded by [`MAX_KEPT_BYTES`].
pub(crate) struct DirectionCache {
    kept: Mutex<Cache<DirectionKey, Arc<LayerDirection>, DirectionBytes>>,
    next_id: AtomicU64,
}

#[derive(Clone)]
struct DirectionBytes;

impl Weighter<DirectionKey, Arc<LayerDirection>> for DirectionBytes {
    fn weight(&self, _: &DirectionKey, found: &Arc<LayerDirection>) -> u64 {
        (size_of::<DirectionKey>() + size_of::<LayerDirection>() + found.direction.bytes()) as u64
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
            kept: Mutex::new(Cache::with_weighter(1024, bytes, DirectionBytes)),
            next_id: AtomicU64::new(0),
        }
    }

    /// An identity that no other vector or map of this cache has.
    pub(crate) fn id(&self) -> Identity {
        Identity::Number(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The direction of `key`. If it is not cached, calls `make`, without holding a lock.
    ///
    /// # Errors
    ///
    /// The error of `make`; nothing is cached then.
    pub(crate) fn get<E>(
        &self,
        key: DirectionKey,
        make: impl FnOnce() -> Result<LayerDirection, E>,
    ) -> Result<Arc<LayerDirection>, E> {
        if let Some(found) = lock(&self.kept).get(&key) {
            return Ok(found.clone());
        }
        let made = Arc::new(make()?);
        let mut kept = lock(&self.kept);
        // If another thread was faster, its direction is used, so that programs share one.
        if let Some(found) = kept.get(&key) {
            return Ok(found.clone());
        }
        kept.insert(key, made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: usize) -> LayerDirection {
        LayerDirection {
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
        let key = |vector, layer| DirectionKey {
            vector,
            map: None,
            layer,
        };
        assert!(cache.get(key(vector, 1), || Err("no")).is_err());
        let made = cache.get(key(vector, 1), || Ok::<_, ()>(found(4))).unwrap();
        let again = cache.get(key(vector, 1), || -> Result<LayerDirection, ()> {
            panic!("made twice")
        });
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
            let key = DirectionKey {
                vector: Identity::Number(0),
                map: None,
                layer,
            };
            cache.get(key, || Ok::<_, ()>(found(1000))).unwrap();
            assert!(lock(&cache.kept).weight() <= 100_000);
        }
        assert!(lock(&cache.kept).len() > 10);
    }

    #[test]
    fn equal_values_are_one_direction_and_zero_has_no_sign() {
        assert_eq!(Direction::new(vec![0.0, 1.0]), Direction::new(vec![-0.0, 1.0]));
        assert_ne!(Direction::new(vec![0.0, 1.0]), Direction::new(vec![0.0, -1.0]));
        assert_eq!(Direction::new(vec![0.5, -2.0]).peak(), 2.0);
    }
}
