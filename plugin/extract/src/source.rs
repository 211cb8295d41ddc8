//! The model that a session loads, and its settings.

use mistralrs::ModelDType;
use tokenizers::Tokenizer;

use crate::ExtractError;
use crate::device::DeviceChoice;
use crate::model_files::{ModelFiles, StreamSizes};

/// A model to load, and its settings.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// A folder, or an id on the model hub.
    pub model: String,
    /// GGUF files in the folder, separated by semicolons; `None` for a model in the Hugging Face format.
    pub gguf: Option<String>,
    /// For GGUF: folder or id of the model whose tokenizer replaces that of the files.
    pub tok_model_id: Option<String>,
    /// The dtype to run in.
    pub dtype: ModelDType,
    /// In-situ quantisation, as mistral.rs spells it (`q8_0`, `4`, ...).
    pub isq: Option<String>,
    /// The device.
    pub device: DeviceChoice,
    /// Most requests that run together.
    pub batch: usize,
}

impl ModelSource {
    /// The model in the Hugging Face format at `model`, as mistral.rs would run it by default.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            gguf: None,
            tok_model_id: None,
            dtype: ModelDType::Auto,
            isq: None,
            device: DeviceChoice::Auto,
            batch: 16,
        }
    }

    /// The sizes that the model's files state, and its tokenizer if it lies beside them, without loading the model.
    ///
    /// # Errors
    ///
    /// The files are not on this machine, or don't state the sizes.
    pub fn described(&self) -> Result<(StreamSizes, Option<Tokenizer>), ExtractError> {
        let files = self.files().ok_or_else(|| {
            ExtractError::Input(format!(
                "model: found {:?}, whose files are not on this machine",
                self.model
            ))
        })?;
        let sizes = files.sizes().ok_or_else(|| {
            ExtractError::Input(format!("model: the files of {:?} do not state its sizes", self.model))
        })?;
        Ok((sizes, files.tokenizer()))
    }

    /// The model's files; `None` if they are not on this machine.
    pub fn files(&self) -> Option<ModelFiles> {
        match &self.gguf {
            Some(names) => ModelFiles::gguf(&self.model, names, self.tok_model_id.as_deref(), None),
            None => ModelFiles::folder(&self.model, None),
        }
    }
}
