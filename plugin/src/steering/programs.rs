//! Compiled programs, kept for the next request that asks for the same.

use std::sync::Arc;

use crate::SteeringSpec;
use crate::compile::Program;

/// Programs that are kept: more than specs are in use at a time on most servers, and small beside a model.
const KEPT: usize = 256;

/// The programs used last, the oldest first.
#[derive(Default)]
pub struct Programs {
    known: Vec<(Key, Arc<Program>)>,
}

#[derive(PartialEq)]
struct Key {
    generation: u64,
    model: String,
    spec: SteeringSpec,
}

impl Programs {
    /// The program of `spec` for `model`, compiled from the snapshot of that generation.
    pub fn get(&mut self, generation: u64, model: &str, spec: &SteeringSpec) -> Option<Arc<Program>> {
        let at = self
            .known
            .iter()
            .rposition(|(key, _)| key.generation == generation && key.model == model && key.spec == *spec)?;
        let found = self.known.remove(at);
        let program = found.1.clone();
        self.known.push(found);
        Some(program)
    }

    /// Keeps `program`, unless there is one already; the one that is kept.
    pub fn insert(&mut self, generation: u64, model: &str, spec: &SteeringSpec, program: Arc<Program>) -> Arc<Program> {
        if let Some(known) = self.get(generation, model, spec) {
            return known;
        }
        // Those of the past will not be asked for again.
        self.known.retain(|(key, _)| key.generation >= generation);
        if self.known.len() >= KEPT {
            self.known.remove(0);
        }
        let key = Key {
            generation,
            model: model.to_string(),
            spec: spec.clone(),
        };
        self.known.push((key, program.clone()));
        program
    }
}
