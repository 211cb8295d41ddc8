//! Which model a file is about, and at which numerics its streams were seen.

use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// Which model: the same four keys in a vector's `[model]` and in a map's `[source]` and `[target]`.
///
/// This is what must agree between a file and the model it's used on. [`Numerics`] stands beside it, not in it, since
/// the same model served at another precision is still the same model: worth a warning, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Id or folder name, for people. Two models are told apart by `fingerprint`.
    pub model: String,
    /// Fingerprint of the weights and the tokenizer: see [`crate::fingerprint`].
    pub fingerprint: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder blocks; layers are `0..num_layers`.
    pub num_layers: usize,
}

/// The numerics a model ran at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numerics {
    /// The dtype of the residual stream, such as `"bf16"`.
    pub dtype: String,
    /// The weights' quantisation, such as `"q4_k_m"`; `None` if they weren't quantised.
    pub quantization: Option<String>,
}

/// [`ModelInfo`] and [`Numerics`] as the one TOML table they share.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    model: String,
    fingerprint: String,
    hidden_size: usize,
    num_layers: usize,
    dtype: String,
    quantization: Option<String>,
}

impl ModelTable {
    pub(crate) fn new(model: ModelInfo, numerics: Numerics) -> Self {
        let ModelInfo {
            model,
            fingerprint,
            hidden_size,
            num_layers,
        } = model;
        let Numerics { dtype, quantization } = numerics;
        Self {
            model,
            fingerprint,
            hidden_size,
            num_layers,
            dtype,
            quantization,
        }
    }

    pub(crate) fn split(self) -> (ModelInfo, Numerics) {
        let Self {
            model,
            fingerprint,
            hidden_size,
            num_layers,
            dtype,
            quantization,
        } = self;
        (
            ModelInfo {
                model,
                fingerprint,
                hidden_size,
                num_layers,
            },
            Numerics { dtype, quantization },
        )
    }
}

impl ModelInfo {
    /// Checks all values; `table` is the TOML table's name.
    pub(crate) fn check(&self, table: &str) -> Result<(), Problem> {
        Problem::unless_said(&format!("{table}.model"), &self.model)?;
        Problem::unless_said(&format!("{table}.fingerprint"), &self.fingerprint)?;
        for (key, count) in [("hidden_size", self.hidden_size), ("num_layers", self.num_layers)] {
            if !(1..=MAX_COUNT).contains(&count) {
                return Err(Problem::value(format!("{table}.{key}"), count, "1 to 2147483647"));
            }
        }
        Ok(())
    }
}

/// The most that `hidden_size` and `num_layers` can be: far above any model, and far below where arithmetic on sizes
/// or a TOML integer (64 bits, signed) could overflow.
const MAX_COUNT: usize = i32::MAX as usize;

impl Numerics {
    /// Checks all values; `table` is the TOML table's name.
    pub(crate) fn check(&self, table: &str) -> Result<(), Problem> {
        Problem::unless_said(&format!("{table}.dtype"), &self.dtype)?;
        match &self.quantization {
            Some(quantization) => Problem::unless_said(&format!("{table}.quantization"), quantization),
            None => Ok(()),
        }
    }
}
