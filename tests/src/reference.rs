//! Values computed by Hugging Face transformers (tests/fixtures/make_*.py), and comparisons with them.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::fixture;

/// The references of one model.
pub struct Reference {
    tensors: HashMap<String, Tensor>,
}

impl Reference {
    /// Loads the references of `model`, such as `tiny-llama`: a file of tests/fixtures/references without its ending.
    pub fn load(model: &str) -> Self {
        Self::read(&fixture(&format!("references/{model}.safetensors")))
    }

    /// Loads the references in a file.
    pub fn read(path: &Path) -> Self {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("the references load");
        Self { tensors }
    }

    /// A tensor of float rows, `[rows][columns]`.
    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        self.tensor(name).to_vec2().expect(name)
    }

    /// A float vector.
    pub fn vector(&self, name: &str) -> Vec<f32> {
        self.tensor(name).to_vec1().expect(name)
    }

    /// Token ids.
    pub fn tokens(&self, name: &str) -> Vec<u32> {
        let tokens = self.tensor(name).to_dtype(DType::U32).expect(name);
        tokens.to_vec1().expect(name)
    }

    /// A tensor as it is.
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("there is no reference {name}"))
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        (0..)
            .take_while(|l| self.tensors.contains_key(&format!("vector.{l}")))
            .count()
    }

    /// The tokens of all prompts.
    pub fn prompts(&self) -> Vec<Vec<u32>> {
        (0..3).map(|i| self.tokens(&format!("p{i}.tokens"))).collect()
    }
}

/// Largest allowed difference between two engines in float32, relative to the largest value of the row: sums in another
/// order, carried through a few blocks (transformers itself differs by 5e-6 between passes with and without its cache).
const TOLERANCE: f32 = 1e-5;

/// Asserts that `found` equals `expected` up to float32 rounding.
pub fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_close_within(TOLERANCE, found, expected, what);
}

/// As [`assert_close`], with a tolerance in the same units.
pub fn assert_close_within(tolerance: f32, found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * largest,
            "{what}: element {i} is {a}, expected {b} (largest value {largest})"
        );
    }
}

/// As [`assert_close`], row by row.
pub fn assert_rows_close(found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_rows_close_within(TOLERANCE, found, expected, what);
}

/// As [`assert_close_within`], row by row.
pub fn assert_rows_close_within(tolerance: f32, found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: rows");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_close_within(tolerance, a, b, &format!("{what}, row {i}"));
    }
}
