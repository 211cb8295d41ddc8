//! A cache of compiled programs for requests with equal specs.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::SteeringSpec;
use crate::compile::Program;

/// Most bytes of cached programs, with their directions counted as if programs shared none: more than most servers use
/// at a time. A program that is not cached is compiled again in well under a millisecond, since directions have their
/// own cache.
pub const MAX_KEPT_BYTES: u64 = 256 << 20;

/// The programs that were used last.
pub struct ProgramCache {
    generation: u64,
    kept: Cache<ProgramKey, Arc<Program>, ProgramBytes>,
}

/// A spec and its model.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProgramKey {
    model: String,
    /// The spec as JSON, which can be hashed and has one spelling per number.
    spec: String,
    /// Which of its vectors are the default's, as bits.
    exempt: u32,
}

impl ProgramKey {
    /// `None` for a spec that is not cached.
    pub fn new(model: &str, spec: &SteeringSpec, exempt: u32) -> Option<Self> {
        Some(Self {
            model: model.to_string(),
            spec: serde_json::to_string(spec).ok()?,
            exempt,
        })
    }
}

#[derive(Clone)]
struct ProgramBytes;

impl Weighter<ProgramKey, Arc<Program>> for ProgramBytes {
    fn weight(&self, key: &ProgramKey, program: &Arc<Program>) -> u64 {
        (size_of::<ProgramKey>() + key.model.len() + key.spec.len() + program.bytes()) as u64
    }
}

impl Default for ProgramCache {
    fn default() -> Self {
        Self::bounded(MAX_KEPT_BYTES)
    }
}

impl ProgramCache {
    fn bounded(bytes: u64) -> Self {
        Self {
            generation: 0,
            kept: Cache::with_weighter(256, bytes, ProgramBytes),
        }
    }

    /// The program of `key`, compiled from the snapshot of that generation.
    pub fn get(&mut self, generation: u64, key: &ProgramKey) -> Option<Arc<Program>> {
        self.forget_before(generation);
        if generation == self.generation {
            self.kept.get(key).cloned()
        } else {
            // The request uses an older snapshot than the cached programs.
            None
        }
    }

    /// Caches `program`, unless there is one already. Returns the cached one.
    pub fn insert(&mut self, generation: u64, key: ProgramKey, program: Arc<Program>) -> Arc<Program> {
        if let Some(known) = self.get(generation, &key) {
            return known;
        }
        if generation == self.generation {
            self.kept.insert(key, program.clone());
        }
        program
    }

    /// Drops the programs of earlier generations, which will not be used again.
    fn forget_before(&mut self, generation: u64) {
        if generation > self.generation {
            self.kept.clear();
            self.generation = generation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VectorUse;
    use crate::compile::compile;
    use crate::testing::{library, target, token};

    fn of(scale: f64) -> (ProgramKey, Arc<Program>) {
        let spec = SteeringSpec::from(VectorUse::new("a", scale));
        let program = compile(&spec, &library(), &target(), &token, "").unwrap();
        (ProgramKey::new("m", &spec, 0).unwrap(), Arc::new(program))
    }

    #[test]
    fn the_first_of_equal_programs_is_kept_until_the_library_changes() {
        let mut programs = ProgramCache::default();
        let (key, first) = of(1.0);
        assert!(programs.get(1, &key).is_none());
        assert!(Arc::ptr_eq(&programs.insert(1, key.clone(), first.clone()), &first));
        let (same, second) = of(1.0);
        assert!(Arc::ptr_eq(&programs.insert(1, same, second.clone()), &first));
        // A request of the past neither finds nor leaves anything.
        assert!(Arc::ptr_eq(&programs.insert(0, key.clone(), second.clone()), &second));
        assert!(Arc::ptr_eq(&programs.get(1, &key).unwrap(), &first));
        assert!(programs.get(2, &key).is_none() && programs.get(1, &key).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let mut programs = ProgramCache::bounded(50_000);
        for number in 0..500 {
            let (key, program) = of(f64::from(number));
            programs.insert(1, key, program);
            assert!(programs.kept.weight() <= 50_000);
        }
        assert!(programs.kept.len() > 5);
    }
}
