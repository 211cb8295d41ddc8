//! A model loaded in mistral.rs.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{D, DType, Tensor};
use mistralrs::core::{
    AutoDeviceMapParams, DefaultSchedulerMethod, DeviceMapSetting, GGUF_MULTI_FILE_DELIMITER, GGUFLoaderBuilder,
    GGUFSpecificConfig, MistralRsBuilder, RequestMessage, SchedulerConfig, TokenSource, parse_isq_value,
};
use mistralrs::{
    Model, ModelBuilder, ModelDType, NormalRequest, Request, Response, SamplingParams, TextMessageRole, TextMessages,
};
use residual_hooks::HookSlot;
use serde::{Deserialize, Serialize};
use steermap_maps::ModelInfo;
use steermap_plugin::SteeredRequest;
use steermap_plugin::model_files::{ModelFiles, Sizes, display_name};
use tokenizers::Tokenizer;
use tokio::sync::mpsc::{Receiver, channel};

use crate::capture::{LayerStates, StreamCapture};
use crate::device::DeviceChoice;
use crate::pairs::{Message, Text};
use crate::tasks::quoted;
use likelihood::negative_log_likelihood;
use words::without_backtrace;

mod before;
pub(crate) mod likelihood;
mod words;

/// Which model to load, and how.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// A folder, or an id on the model hub.
    pub model: String,
    /// GGUF files in it, separated by semicolons; `None` for a model in the Hugging Face format.
    pub gguf: Option<String>,
    /// For GGUF: folder or id of the model whose tokenizer is used in place of the files' own.
    pub tok_model_id: Option<String>,
    /// The dtype to run in.
    pub dtype: ModelDType,
    /// In-situ quantisation, as mistral.rs spells it (`q8_0`, `4`, ...).
    pub isq: Option<String>,
    /// Where it runs.
    pub device: DeviceChoice,
    /// Most requests that run at a time.
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

    /// The sizes that the model's files state, and its tokenizer where it lies beside them: without loading it.
    ///
    /// # Errors
    ///
    /// Files that are not on this machine, or don't say the sizes.
    pub fn described(&self) -> Result<(Sizes, Option<Tokenizer>)> {
        let files = self.files();
        let files =
            files.with_context(|| format!("model: found {:?}, whose files are not on this machine", self.model))?;
        let sizes = files.sizes();
        let sizes = sizes.with_context(|| format!("model: the files of {:?} do not say its sizes", self.model))?;
        Ok((sizes, files.tokenizer()))
    }

    fn files(&self) -> Option<ModelFiles> {
        match &self.gguf {
            Some(names) => ModelFiles::gguf(&self.model, names, self.tok_model_id.as_deref(), None),
            None => ModelFiles::folder(&self.model, None),
        }
    }
}

/// A model loaded in the engine, without prefix caching: every prompt is run whole, so that a hook sees all of it.
pub struct Session {
    model: Model,
    source: ModelSource,
    slot: HookSlot,
}

impl Session {
    /// Loads the model.
    ///
    /// # Errors
    ///
    /// A path that leads nowhere, a folder without a model, a dtype that can't be run in, a model that neither the cache nor
    /// the hub has, or what mistral.rs says.
    pub async fn load(source: ModelSource) -> Result<Self> {
        let checked = before::check(&source)?;
        let model = match &source.gguf {
            Some(names) => load_gguf(&source, names).await,
            None => load_folder(&source).await,
        };
        let model = model.map_err(|error| checked.not_loaded(&source, &error))?;
        let slot = steermap_plugin::attach::slot(model.inner(), None)?;
        Ok(Self { model, source, slot })
    }

    /// The model, to use with the SDK.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What was loaded, and how.
    pub fn source(&self) -> &ModelSource {
        &self.source
    }

    /// Where hooks are installed.
    pub fn slot(&self) -> &HookSlot {
        &self.slot
    }

    /// The model as files name it.
    ///
    /// # Errors
    ///
    /// A model without a residual stream that can be hooked, or files that can't be read.
    pub fn info(&self) -> Result<ModelInfo> {
        let stream = self.slot.stream()?;
        let files = self.source.files().with_context(|| {
            format!(
                "the files of {:?} are not where they were looked for, so they have no fingerprint",
                self.source.model
            )
        })?;
        Ok(ModelInfo {
            model: display_name(&self.source.model),
            fingerprint: files.fingerprint()?,
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

    /// The tokens of a text, with what the tokenizer adds by itself. A chat goes through the model's template; the
    /// header of an answer is added unless the last message is an answer.
    ///
    /// # Errors
    ///
    /// What the tokenizer or the template says; a text without tokens.
    pub async fn tokenize(&self, text: &Text) -> Result<Vec<u32>> {
        let tokens = match text {
            Text::Plain(text) => {
                let text = either::Either::Right(text.clone());
                self.model.tokenize(text, None, true, false, None).await
            }
            Text::Chat(messages) => {
                let open = messages.last().is_none_or(|last| last.role != "assistant");
                let text = either::Either::Left(chat(messages));
                self.model.tokenize(text, None, true, open, None).await
            }
        };
        let tokens = tokens.with_context(|| format!("could not tokenize {}", shown(text)))?;
        ensure!(!tokens.is_empty(), "no tokens in {}", shown(text));
        Ok(tokens)
    }

    /// Runs prompts through the model and returns the request id of each. Neighbours of about one length run in one batch,
    /// at most as many as the source says, so it pays to pass prompts in order of length. `done` is called after each.
    ///
    /// # Errors
    ///
    /// The first error that the engine answers with.
    pub async fn prefill(&self, prompts: &[&[u32]], mut done: impl FnMut()) -> Result<Vec<usize>> {
        let mut ids = Vec::with_capacity(prompts.len());
        for chunk in self.batches(prompts) {
            let mut waiting = Vec::new();
            for tokens in chunk {
                let (id, answers) = self.send(tokens, one_token(), |_| ()).await?;
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

    /// Runs prompts as [`prefill`](Self::prefill) does, with `capture` installed, and returns the states of each prompt:
    /// one [`LayerStates`] for each of the capture's layers, with all of the prompt's positions. What hook the model had
    /// is gone afterwards.
    ///
    /// # Errors
    ///
    /// A layer that can't be seen, or the first error that the engine answers with.
    pub async fn streams(
        &self,
        capture: &Arc<StreamCapture>,
        prompts: &[&[u32]],
        done: impl FnMut(),
    ) -> Result<Vec<Vec<LayerStates>>> {
        self.slot.install(capture.clone())?;
        let ids = self.prefill(prompts, done).await;
        self.slot.remove();
        let mut seen = capture.take();
        let whole = |(id, prompt): (usize, &&[u32])| {
            seen.remove(&id)
                .filter(|layers| layers.iter().all(|states| states.len() == prompt.len()))
                .context("the engine answered a prompt without running all of it")
        };
        ids?.into_iter().zip(prompts).map(whole).collect()
    }

    /// Where the model runs: `cpu`, `cuda` or `metal`.
    pub fn device(&self) -> &'static str {
        let config = self.model.inner().config(None).ok();
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
    /// A model without one.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>> {
        let config = self.model.inner().config(None).map_err(|error| anyhow!(error))?;
        config
            .tokenizer
            .with_context(|| format!("model {:?} has no tokenizer", self.source.model))
    }

    /// Whether the model runs on the CPU.
    pub fn on_cpu(&self) -> bool {
        self.device() == "cpu"
    }

    /// Longest sequence that the model takes, in tokens.
    pub fn max_sequence(&self) -> usize {
        let config = self.model.inner().config(None).ok();
        config.and_then(|config| config.max_seq_len).unwrap_or(usize::MAX)
    }

    /// What `read` makes of the logits of the token that follows each prompt, `[vocabulary]` in f32: it is told the
    /// prompt's index. `steering` says how each prompt is steered; `None` by whatever hook is installed.
    ///
    /// # Errors
    ///
    /// The first error that the engine answers with, or that `read` does.
    pub async fn next_token<T>(
        &self,
        prompts: &[&[u32]],
        steering: impl Fn(usize) -> Option<SteeredRequest>,
        mut read: impl FnMut(usize, &[f32]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(prompts.len());
        for chunk in self.batches(prompts) {
            let mut waiting = Vec::new();
            for tokens in chunk {
                let tap = LogitsTap::default();
                let steered = steering(values.len() + waiting.len());
                let sending = self.send(tokens, one_token(), tap.tapping());
                let (_, answers) = steered_by(&steered, sending).await?;
                // A steered request must live until it is answered.
                waiting.push((answers, tap, steered));
            }
            for (mut answers, tap, _steered) in waiting {
                finish(&mut answers).await?;
                // The first: the engine may run the sequence once more before this is read.
                let first = tap.take().into_iter().next();
                let logits = first.context("the engine answered without sampling a token")?;
                values.push(read(values.len(), &logits)?);
            }
        }
        Ok(values)
    }

    /// The logits at every position of a prompt, `[positions][vocabulary]`, in f32.
    ///
    /// # Errors
    ///
    /// What the engine answers with.
    pub async fn prompt_logits(&self, prompt: &[u32]) -> Result<Vec<Vec<f32>>> {
        let logits = self.raw_logits(prompt).await?;
        Ok(logits.to_dtype(DType::F32)?.to_vec2()?)
    }

    /// The negative log likelihood, in nats, that the model gives the tokens of `text` behind `prompt`; of a long prompt, behind
    /// its last 512 tokens.
    ///
    /// # Errors
    ///
    /// A prompt without tokens, what the engine answers with.
    pub async fn nats_behind(&self, prompt: &[u32], text: &[u32]) -> Result<f64> {
        // The logits of all positions are held together.
        let prompt = &prompt[prompt.len().saturating_sub(NATS_CONTEXT)..];
        let before = prompt
            .len()
            .checked_sub(1)
            .context("found a prompt without tokens, expected one at least")?;
        let whole = [prompt, text].concat();
        let logits = self.raw_logits(&whole).await?;
        // Each position's logits are of the token behind it.
        let nats = text.iter().enumerate().map(|(row, &token)| {
            let logits: Vec<f32> = logits.get(before + row)?.to_dtype(DType::F32)?.to_vec1()?;
            Ok(negative_log_likelihood(&logits, token as usize))
        });
        nats.sum()
    }

    /// `[positions, vocabulary]`, in the dtype that the engine has them in.
    async fn raw_logits(&self, prompt: &[u32]) -> Result<Tensor> {
        let raw = |request: &mut NormalRequest| request.return_raw_logits = true;
        let (_, mut answers) = self.send(prompt, SamplingParams::deterministic(), raw).await?;
        let answer = answers.recv().await;
        // The engine runs the sequence once more and panics if nobody is there to be told.
        tokio::spawn(async move { while answers.recv().await.is_some() {} });
        match answer {
            Some(Response::Raw { logits_chunks, .. }) => {
                let logits = logits_chunks.first().context("the engine answered without logits")?;
                let vocabulary = logits.dim(D::Minus1)?;
                let logits = logits.reshape(((), vocabulary))?;
                ensure!(
                    logits.dim(0)? == prompt.len(),
                    "the engine answered with the logits of {} positions, expected {}",
                    logits.dim(0)?,
                    prompt.len()
                );
                Ok(logits)
            }
            Some(Response::InternalError(error) | Response::ValidationError(error)) => {
                bail!(without_backtrace(&error.to_string()))
            }
            Some(_) => bail!("the engine gave an answer of another kind than was asked for"),
            None => bail!("the engine ended without an answer"),
        }
    }

    /// Continues a prompt greedily, by at most `max_tokens` tokens. Returns the text and, for each step, the logits
    /// that its token was picked from.
    ///
    /// # Errors
    ///
    /// What the engine answers with.
    pub async fn generate(&self, prompt: &[u32], max_tokens: usize) -> Result<(String, Vec<Vec<f32>>)> {
        let tap = LogitsTap::default();
        let sampling = SamplingParams {
            max_len: Some(max_tokens),
            ..SamplingParams::deterministic()
        };
        let (_, mut answers) = self.send(prompt, sampling, tap.tapping()).await?;
        let text = finish(&mut answers).await?;
        let mut steps = tap.take();
        steps.truncate(max_tokens);
        Ok((text, steps))
    }

    /// Continues prompts, each by at most `max_tokens` tokens, as many at a time as the source says. `done` is called after
    /// each.
    ///
    /// # Errors
    ///
    /// What the engine answers with.
    pub async fn continuations(
        &self,
        requests: &[ContinuationRequest<'_>],
        max_tokens: usize,
        mut done: impl FnMut(),
    ) -> Result<Vec<Continuation>> {
        let mut continuations = Vec::with_capacity(requests.len());
        for part in requests.chunks(self.source.batch.max(1)) {
            let mut waiting = Vec::with_capacity(part.len());
            for one in part {
                let tap = TokensTap::default();
                let sending = self.send(one.prompt, one.sampling(max_tokens), tap.tapping(one.prompt.len()));
                let (_, answers) = steered_by(&one.steered, sending).await?;
                waiting.push((answers, tap));
            }
            for (mut answers, tap) in waiting {
                let (text, picked) = finish_counted(&mut answers).await?;
                let mut tokens = tap.take();
                // The engine may run the sequence once more before this is read, so the last one may be there or not.
                tokens.truncate(picked.saturating_sub(1));
                continuations.push(Continuation { text, tokens });
                done();
            }
        }
        Ok(continuations)
    }

    /// As many neighbours as may run at a time. The engine batches those of about one length.
    fn batches<'a>(&self, prompts: &'a [&'a [u32]]) -> impl Iterator<Item = &'a [&'a [u32]]> {
        prompts.chunks(self.source.batch.max(1))
    }

    async fn send(
        &self,
        tokens: &[u32],
        sampling: SamplingParams,
        adjust: impl FnOnce(&mut NormalRequest),
    ) -> Result<(usize, Receiver<Response>)> {
        let engine = self.model.inner();
        let id = engine.next_request_id();
        let (sender, answers) = channel(8);
        let message = RequestMessage::CompletionTokens(tokens.to_vec());
        let mut request = NormalRequest::new_simple(message, sampling, sender, id, None, None);
        adjust(&mut request);
        engine
            .get_sender(None)?
            .send(Request::Normal(Box::new(request)))
            .await
            .context("the engine is gone")?;
        Ok((id, answers))
    }
}

/// Tokens of a prompt that a text is read behind, at most.
const NATS_CONTEXT: usize = 512;

/// A prompt to be continued.
#[derive(Clone)]
pub struct ContinuationRequest<'a> {
    /// Its tokens.
    pub prompt: &'a [u32],
    /// How it is steered; `None` by whatever hook is installed.
    pub steered: Option<SteeredRequest>,
    /// Of sampling at temperature 1; `None` continues greedily.
    pub seed: Option<u64>,
}

impl ContinuationRequest<'_> {
    fn sampling(&self, max_tokens: usize) -> SamplingParams {
        let sampling = match self.seed {
            None => SamplingParams::deterministic(),
            Some(seed) => SamplingParams {
                temperature: Some(1.0),
                seed: Some(seed),
                ..SamplingParams::neutral()
            },
        };
        SamplingParams {
            max_len: Some(max_tokens),
            ..sampling
        }
    }
}

/// What a model wrote behind a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuation {
    /// As text.
    pub text: String,
    /// As tokens, without the last one that was picked, which may be the end of the text.
    pub tokens: Vec<u32>,
}

/// Keeps the tokens that were picked for one request, but for the last.
#[derive(Clone, Default)]
struct TokensTap {
    tokens: Arc<Mutex<Vec<u32>>>,
}

impl TokensTap {
    /// Puts this tap into a request whose prompt is of `prompt` tokens.
    fn tapping(&self, prompt: usize) -> impl FnOnce(&mut NormalRequest) + use<> {
        let tap = self.clone();
        let processor = move |logits: &Tensor, context: &[u32]| {
            let mut tokens = tap.tokens.lock().unwrap_or_else(|e| e.into_inner());
            *tokens = context.get(prompt..).unwrap_or_default().to_vec();
            Ok(logits.clone())
        };
        move |request| request.logits_processors = Some(vec![Arc::new(processor)])
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.tokens.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// Keeps the logits of every step of one request.
#[derive(Clone, Default)]
struct LogitsTap {
    steps: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl LogitsTap {
    /// Puts this tap into a request.
    fn tapping(&self) -> impl FnOnce(&mut NormalRequest) {
        let tap = self.clone();
        move |request| request.logits_processors = Some(vec![tap.processor()])
    }

    fn processor(self) -> Arc<dyn mistralrs::CustomLogitsProcessor> {
        Arc::new(move |logits: &Tensor, _: &[u32]| {
            let values = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
            self.steps.lock().unwrap_or_else(|e| e.into_inner()).push(values);
            Ok(logits.clone())
        })
    }

    fn take(&self) -> Vec<Vec<f32>> {
        std::mem::take(&mut self.steps.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// `sending`, with the request that it sends steered so, or left as it is.
pub(crate) async fn steered_by<F: Future>(steered: &Option<SteeredRequest>, sending: F) -> F::Output {
    match steered {
        Some(steered) => steered.scope(sending).await,
        None => sending.await,
    }
}

fn one_token() -> SamplingParams {
    SamplingParams {
        max_len: Some(1),
        ..SamplingParams::deterministic()
    }
}

/// Waits for the end of an answer; its text.
async fn finish(answers: &mut Receiver<Response>) -> Result<String> {
    Ok(finish_counted(answers).await?.0)
}

/// Waits for the end of an answer; its text, and how many tokens were picked.
async fn finish_counted(answers: &mut Receiver<Response>) -> Result<(String, usize)> {
    match answers.recv().await {
        Some(Response::CompletionDone(done)) => {
            let choice = done.choices.into_iter().next();
            let text = choice.map(|choice| choice.text).unwrap_or_default();
            Ok((text, done.usage.completion_tokens))
        }
        Some(Response::CompletionModelError(message, _) | Response::ModelError(message, _)) => {
            bail!(without_backtrace(&message))
        }
        Some(Response::InternalError(error) | Response::ValidationError(error)) => {
            bail!(without_backtrace(&error.to_string()))
        }
        Some(_) => bail!("the engine gave an answer of another kind than was asked for"),
        None => bail!("the engine ended without an answer"),
    }
}

/// The beginning of a text, for messages.
fn shown(text: &Text) -> String {
    match text {
        Text::Plain(text) => quoted(text),
        Text::Chat(messages) => match messages.last() {
            Some(last) => format!("the chat that ends in {}", quoted(&last.content)),
            None => "a chat without messages".to_string(),
        },
    }
}

fn chat(messages: &[Message]) -> TextMessages {
    messages.iter().fold(TextMessages::new(), |chat, message| {
        let role = match message.role.as_str() {
            "user" => TextMessageRole::User,
            "assistant" => TextMessageRole::Assistant,
            "system" => TextMessageRole::System,
            "tool" => TextMessageRole::Tool,
            other => TextMessageRole::Custom(other.to_string()),
        };
        chat.add_message(role, &message.content)
    })
}

async fn load_folder(source: &ModelSource) -> Result<Model> {
    let mut builder = ModelBuilder::new(&source.model)
        .with_dtype(source.dtype)
        .with_max_num_seqs(source.batch.max(1))
        .with_prefix_cache_n(None);
    let device = source.device.device()?;
    builder = builder.with_device(device.clone());
    if source.device == DeviceChoice::Cpu {
        builder = builder.with_force_cpu();
    }
    if let Some(isq) = &source.isq {
        builder = builder.with_isq(parse_isq_value(isq, Some(&device)).map_err(|error| anyhow!("isq: {error}"))?);
    }
    builder.build().await
}

/// As the SDK's builder of GGUF models does it, but in the dtype that was asked for.
async fn load_gguf(source: &ModelSource, names: &str) -> Result<Model> {
    ensure!(source.isq.is_none(), "isq: GGUF files are quantised already");
    let files = names.split(GGUF_MULTI_FILE_DELIMITER).map(str::to_string).collect();
    let (model, tok_model_id) = (source.model.clone(), source.tok_model_id.clone());
    let config = GGUFSpecificConfig { topology: None };
    let loader = GGUFLoaderBuilder::new(None, tok_model_id, model, files, config, false, None).build();
    let pipeline = loader.load_model_from_hf(
        None,
        TokenSource::CacheToken,
        &source.dtype,
        &source.device.device()?,
        true,
        DeviceMapSetting::Auto(AutoDeviceMapParams::default_text()),
        None,
        None,
    )?;
    let method = DefaultSchedulerMethod::Fixed(NonZeroUsize::MIN.saturating_add(source.batch.saturating_sub(1)));
    let engine = MistralRsBuilder::new(pipeline, SchedulerConfig::DefaultScheduler { method }, false, None);
    Ok(Model::new(engine.with_no_prefix_cache(true).build().await))
}
