//! Shared by all benchmark workers: the model, and prompts that are equal in every process.

use mistralrs::{Model, ModelBuilder, ModelDType};

/// Loads the model that all workers measure: `folder`, on the CPU, in float32, without prefix caching.
pub async fn load(folder: &str) -> Model {
    ModelBuilder::new(folder)
        .with_dtype(ModelDType::F32)
        .with_force_cpu()
        .with_prefix_cache_n(None)
        .build()
        .await
        .expect("the model loads")
}

/// A number of a request line.
pub fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Ordinary tokens in an order that depends on `seed`.
pub fn prompt(length: usize, seed: usize) -> Vec<u32> {
    let mut state = seed as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        1000 + (state >> 33) as u32 % 10_000
    };
    (0..length).map(|_| next()).collect()
}
