//! Loads a model into a separate engine to read its streams.

use std::num::NonZeroUsize;
use std::sync::Arc;

use mistralrs::core::{
    AutoDeviceMapParams, DefaultSchedulerMethod, DeviceMapSetting, GGUF_MULTI_FILE_DELIMITER, GGUFLoaderBuilder,
    GGUFSpecificConfig, MistralRsBuilder, SchedulerConfig, TokenSource, parse_isq_value,
};
use mistralrs::{Model, ModelBuilder};
use residual_hooks::{HookSlot, StreamInfo};
use steermap_maps::ModelInfo;
use tokenizers::Tokenizer;

use crate::capture::{LayerStates, StreamCapture};
use crate::device::DeviceChoice;
use crate::model_files::display_name;
use crate::running::{Running, finish, one_token};
use crate::states::Reader;
use crate::{ExtractError, Text};

mod before;

pub use crate::source::ModelSource;

/// A model in a separate engine without prefix caching, so that a hook sees every token of each prompt.
pub struct StreamSession {
    running: Running,
    source: ModelSource,
    slot: HookSlot,
}

impl StreamSession {
    /// Loads the model.
    ///
    /// # Errors
    ///
    /// The path does not exist, the folder has no model, the dtype is not supported, neither the cache nor the hub has
    /// the model, or mistral.rs fails.
    pub async fn load(source: ModelSource) -> Result<Self, ExtractError> {
        let checked = before::check(&source)?;
        let model = match &source.gguf {
            Some(names) => load_gguf(&source, names).await,
            None => load_folder(&source).await,
        };
        let model = model.map_err(|error| checked.not_loaded(&source, &error))?;
        let config = model.inner().config(None).map_err(ExtractError::Engine)?;
        Ok(Self {
            running: model.into(),
            source,
            slot: config.residual_hooks,
        })
    }

    /// The engine, to use with the SDK.
    pub fn model(&self) -> &Model {
        self.running.model()
    }

    /// The model, to send prompts to.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The source it was loaded from.
    pub fn source(&self) -> &ModelSource {
        &self.source
    }

    /// The slot for hooks.
    pub fn slot(&self) -> &HookSlot {
        &self.slot
    }

    /// Sizes of its residual stream.
    ///
    /// # Errors
    ///
    /// The model's stream can't be hooked.
    pub fn stream(&self) -> Result<StreamInfo, ExtractError> {
        self.slot
            .stream()
            .map_err(|error| ExtractError::Input(error.to_string()))
    }

    /// The model as vector files describe it.
    ///
    /// # Errors
    ///
    /// The model's stream can't be hooked, or its files can't be read.
    pub fn info(&self) -> Result<ModelInfo, ExtractError> {
        let stream = self.stream()?;
        let files = self.source.files().ok_or_else(|| {
            ExtractError::Input(format!(
                "the files of {:?} were not found, so the model has no fingerprint",
                self.source.model
            ))
        })?;
        let fingerprint = files.fingerprint();
        Ok(ModelInfo {
            model: display_name(&self.source.model),
            fingerprint: fingerprint.map_err(|error| ExtractError::Input(error.to_string()))?,
            hidden_size: stream.hidden_size,
            num_layers: stream.num_layers,
        })
    }

    /// The weights' quantisation, as files name it.
    pub fn quantization(&self) -> Option<String> {
        self.source
            .isq
            .clone()
            .or_else(|| self.source.gguf.as_ref().map(|_| "gguf".to_string()))
    }

    /// As [`Running::tokenize`].
    ///
    /// # Errors
    ///
    /// As [`Running::tokenize`].
    pub async fn tokenize(&self, text: &Text) -> Result<Vec<u32>, ExtractError> {
        self.running.tokenize(text).await
    }

    /// Runs prompts through the model and returns the request id of each. Neighbours of similar length run in one
    /// batch, at most as many as the source's `batch`, so prompts should be in order of length. `done` is called after
    /// each.
    ///
    /// # Errors
    ///
    /// The engine's first error.
    pub async fn prefill(&self, prompts: &[&[u32]], mut done: impl FnMut()) -> Result<Vec<usize>, ExtractError> {
        let mut ids = Vec::with_capacity(prompts.len());
        for chunk in self.batches(prompts) {
            let mut waiting = Vec::new();
            for tokens in chunk {
                let (id, answers) = self.running.send(tokens, one_token(), |_| ()).await?;
                ids.push(id);
                waiting.push(answers);
            }
            for answers in &mut waiting {
                finish(answers).await?;
                done();
            }
        }
        Ok(ids)
    }

    /// Runs prompts like [`prefill`](Self::prefill) with `capture` installed, and returns the states of each prompt:
    /// one [`LayerStates`] for each of the capture's layers, with all of the prompt's positions. The model has no hook
    /// afterwards.
    ///
    /// # Errors
    ///
    /// A layer can't be read, or the engine's first error.
    pub async fn streams(
        &self,
        capture: &Arc<StreamCapture>,
        prompts: &[&[u32]],
        done: impl FnMut(),
    ) -> Result<Vec<Vec<LayerStates>>, ExtractError> {
        let installed = self.slot.install(capture.clone());
        installed.map_err(|error| ExtractError::Input(error.to_string()))?;
        let ids = self.prefill(prompts, done).await;
        self.slot.remove();
        let mut seen = capture.take();
        let ids = ids?.into_iter().zip(prompts);
        ids.map(|(id, prompt)| whole(seen.remove(&id), prompt.len())).collect()
    }

    /// The model's device: `cpu`, `cuda` or `metal`.
    pub fn device(&self) -> &'static str {
        let config = self.model().inner().config(None).ok();
        match config.map(|config| config.device) {
            Some(device) if device.is_cuda() => "cuda",
            Some(device) if device.is_metal() => "metal",
            _ => "cpu",
        }
    }

    /// The tokenizer, for its offsets.
    ///
    /// # Errors
    ///
    /// The model has no tokenizer.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>, ExtractError> {
        let config = self.model().inner().config(None).map_err(ExtractError::Engine)?;
        let missing = || ExtractError::Input(format!("model {:?} has no tokenizer", self.source.model));
        config.tokenizer.ok_or_else(missing)
    }

    /// Whether the model runs on the CPU.
    pub fn on_cpu(&self) -> bool {
        self.device() == "cpu"
    }

    /// Longest sequence that the model takes, in tokens.
    pub fn max_sequence(&self) -> usize {
        self.running.max_sequence()
    }

    /// Chunks of neighbours that may run together. The engine batches those of similar length.
    pub fn batches<'a>(&self, prompts: &'a [&'a [u32]]) -> impl Iterator<Item = &'a [&'a [u32]]> + use<'a> {
        prompts.chunks(self.source.batch.max(1))
    }
}

impl Reader for StreamSession {
    async fn tokenize(&self, text: &Text) -> Result<Vec<u32>, ExtractError> {
        self.running.tokenize(text).await
    }

    fn max_tokens(&self) -> usize {
        self.running.max_sequence()
    }

    fn hidden_size(&self) -> usize {
        self.stream().map_or(0, |stream| stream.hidden_size)
    }

    async fn streams(
        &self,
        capture: &Arc<StreamCapture>,
        prompts: &[&[u32]],
        done: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<LayerStates>>, ExtractError> {
        Self::streams(self, capture, prompts, done).await
    }
}

/// The captured states of a prompt of `tokens` tokens, if they are complete.
///
/// # Errors
///
/// The prompt was not run, or not completely.
pub fn whole(seen: Option<Vec<LayerStates>>, tokens: usize) -> Result<Vec<LayerStates>, ExtractError> {
    seen.filter(|layers| layers.iter().all(|states| states.len() == tokens))
        .ok_or_else(|| ExtractError::engine("the engine answered a prompt without running all of it"))
}

async fn load_folder(source: &ModelSource) -> Result<Model, String> {
    let device = source.device.device().map_err(|error| error.to_string())?;
    let mut builder = ModelBuilder::new(&source.model)
        .with_dtype(source.dtype)
        .with_max_num_seqs(source.batch.max(1))
        .with_prefix_cache_n(None)
        .with_device(device.clone());
    if source.device == DeviceChoice::Cpu {
        builder = builder.with_force_cpu();
    }
    if let Some(isq) = &source.isq {
        let isq = parse_isq_value(isq, Some(&device)).map_err(|error| format!("isq: {error}"))?;
        builder = builder.with_isq(isq);
    }
    builder.build().await.map_err(|error| format!("{error:#}"))
}

/// Like the SDK's builder of GGUF models, but with the source's dtype.
async fn load_gguf(source: &ModelSource, names: &str) -> Result<Model, String> {
    if source.isq.is_some() {
        return Err("isq: GGUF files are quantised already".to_string());
    }
    let files = names.split(GGUF_MULTI_FILE_DELIMITER).map(str::to_string).collect();
    let (model, tok_model_id) = (source.model.clone(), source.tok_model_id.clone());
    let config = GGUFSpecificConfig { topology: None };
    let loader = GGUFLoaderBuilder::new(None, tok_model_id, model, files, config, false, None).build();
    let pipeline = loader.load_model_from_hf(
        None,
        TokenSource::CacheToken,
        &source.dtype,
        &source.device.device().map_err(|error| error.to_string())?,
        true,
        DeviceMapSetting::Auto(AutoDeviceMapParams::default_text()),
        None,
        None,
    );
    let pipeline = pipeline.map_err(|error| format!("{error:#}"))?;
    let method = DefaultSchedulerMethod::Fixed(NonZeroUsize::MIN.saturating_add(source.batch.saturating_sub(1)));
    let engine = MistralRsBuilder::new(pipeline, SchedulerConfig::DefaultScheduler { method }, false, None);
    Ok(Model::new(engine.with_no_prefix_cache(true).build().await))
}
