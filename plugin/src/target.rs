//! The model that specs are compiled for.

use candle_core::DType;
use steermap_maps::ModelInfo;

/// The model that a spec is compiled for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, for messages.
    pub model: String,
    /// Width of its residual stream.
    pub hidden_size: usize,
    /// Number of its decoder blocks.
    pub num_layers: usize,
    /// The fingerprint of its weights and tokenizer; `None` if it is not known or not to be compared.
    pub fingerprint: Option<String>,
    /// The dtype of its stream; `None` if it is not known. Values that no dtype can hold are refused even then.
    pub dtype: Option<DType>,
}

impl Target {
    /// Whether `model`, as a vector or map file states it, is this model: equal sizes, and an equal fingerprint if that
    /// is compared.
    pub fn is(&self, model: &ModelInfo) -> bool {
        let known = self.fingerprint.as_ref();
        model.hidden_size == self.hidden_size
            && model.num_layers == self.num_layers
            && known.is_none_or(|known| *known == model.fingerprint)
    }

    /// The same as vector files state it; a fingerprint that is not compared is left empty.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            model: self.model.clone(),
            fingerprint: self.fingerprint.clone().unwrap_or_default(),
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
        }
    }
}
