//! Compiled programs, kept for the next request that asks for the same.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::SteeringSpec;
use crate::compile::Program;

/// Most bytes of programs that are kept, with their directions as if no two programs shared any: more than specs are in use
/// at a time on most servers. What is not kept is compiled again in well under a millisecond, since directions are kept by
/// themselves.
pub const MAX_KEPT_BYTES: u64 = 256 << 20;

/// The programs used last.
pub struct Programs {
    generation: u64,
    kept: Cache<Key, Arc<Program>, Bytes>,
}

/// Which spec, of which model.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    model: String,
    /// As JSON: it has a hash, and numbers are written so that equal ones alone look the same.
    spec: String,
    /// Which of its vectors are the default's.
    exempt: u32,
}

impl Key {
    /// `None` for a spec that is not to be kept.
    pub fn new(model: &str, spec: &SteeringSpec, exempt: u32) -> Option<Self> {
        Some(Self {
            model: model.to_string(),
            spec: serde_json::to_string(spec).ok()?,
            exempt,
        })
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Program>> for Bytes {
    fn weight(&self, key: &Key, program: &Arc<Program>) -> u64 {
        (size_of::<Key>() + key.model.len() + key.spec.len() + program.bytes()) as u64
    }
}

impl Default for Programs {
    fn default() -> Self {
        Self::bounded(MAX_KEPT_BYTES)
    }
}

impl Programs {
    fn bounded(bytes: u64) -> Self {
        Self {
            generation: 0,
            kept: Cache::with_weighter(256, bytes, Bytes),
        }
    }

    /// The program of `key`, compiled from the snapshot of that generation.
    pub fn get(&mut self, generation: u64, key: &Key) -> Option<Arc<Program>> {
        self.forget_before(generation);
        match generation == self.generation {
            true => self.kept.get(key).cloned(),
            // A request of the past: what is kept is of what came after it.
            false => None,
        }
    }

    /// Keeps `program`, unless there is one already; the one that is kept.
    pub fn insert(&mut self, generation: u64, key: Key, program: Arc<Program>) -> Arc<Program> {
        if let Some(known) = self.get(generation, &key) {
            return known;
        }
        if generation == self.generation {
            self.kept.insert(key, program.clone());
        }
        program
    }

    /// Programs of the past will not be asked for again.
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

    fn of(scale: f64) -> (Key, Arc<Program>) {
        let spec = SteeringSpec::from(VectorUse::new("a", scale));
        let program = compile(&spec, &library(), &target(), &token, "").unwrap();
        (Key::new("m", &spec, 0).unwrap(), Arc::new(program))
    }

    #[test]
    fn the_first_of_equal_programs_is_kept_until_the_library_changes() {
        let mut programs = Programs::default();
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
        let mut programs = Programs::bounded(50_000);
        for number in 0..500 {
            let (key, program) = of(f64::from(number));
            programs.insert(1, key, program);
            assert!(programs.kept.weight() <= 50_000);
        }
        assert!(programs.kept.len() > 5);
    }
}
