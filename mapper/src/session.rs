//! A model loaded in mistral.rs: logits, likelihoods and texts. [`steermap_extract::StreamSession`] reads its streams.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{D, DType, Tensor};
use mistralrs::{NormalRequest, Response, SamplingParams};
use serde::{Deserialize, Serialize};
pub use steermap_extract::ModelSource;
use steermap_extract::running::{finish, finish_counted, one_token};
use steermap_extract::words::without_backtrace;
use steermap_plugin::SteeredRequest;

use likelihood::negative_log_likelihood;

pub(crate) mod likelihood;

/// A model in a separate engine without prefix caching: every prompt is run as a whole, so that a hook sees all of it.
pub struct Session(steermap_extract::StreamSession);

impl Deref for Session {
    type Target = steermap_extract::StreamSession;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Session {
    /// Loads the model.
    ///
    /// # Errors
    ///
    /// As [`steermap_extract::StreamSession::load`].
    pub async fn load(source: ModelSource) -> Result<Self> {
        Ok(Self(steermap_extract::StreamSession::load(source).await?))
    }

    /// Calls `read` with the index of each prompt and the logits of the token that follows it, `[vocabulary]` in f32,
    /// and returns its results. `steering` gives the steering of each prompt; with `None`, the installed hook applies.
    ///
    /// # Errors
    ///
    /// The first error of the engine or of `read`.
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
                let sending = self.running().send(tokens, one_token(), tap.tapping());
                let (_, answers) = steered_by(&steered, sending).await?;
                // A steered request must be kept alive until it is answered.
                waiting.push((answers, tap, steered));
            }
            for (mut answers, tap, _steered) in waiting {
                finish(&mut answers).await?;
                // Only the first counts: the engine may run the sequence once more before this is read.
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
    /// An error of the engine.
    pub async fn prompt_logits(&self, prompt: &[u32]) -> Result<Vec<Vec<f32>>> {
        let logits = self.raw_logits(prompt).await?;
        Ok(logits.to_dtype(DType::F32)?.to_vec2()?)
    }

    /// The negative log likelihood, in nats, that the model gives the tokens of `text` behind `prompt`; of a long
    /// prompt, behind its last 512 tokens.
    ///
    /// # Errors
    ///
    /// A prompt without tokens, an error of the engine.
    pub async fn nats_behind(&self, prompt: &[u32], text: &[u32]) -> Result<f64> {
        // The logits of all positions are held together.
        let prompt = &prompt[prompt.len().saturating_sub(NATS_CONTEXT)..];
        let before = prompt
            .len()
            .checked_sub(1)
            .context("found a prompt without tokens, expected at least one")?;
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
        let (_, mut answers) = self
            .running()
            .send(prompt, SamplingParams::deterministic(), raw)
            .await?;
        let answer = answers.recv().await;
        // The engine runs the sequence once more and panics if the channel is closed.
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
            Some(_) => bail!("the engine gave an answer of another kind, expected raw logits"),
            None => bail!("the engine ended without an answer"),
        }
    }

    /// Continues a prompt greedily, by at most `max_tokens` tokens. Returns the text and, for each step, the logits
    /// that its token was picked from.
    ///
    /// # Errors
    ///
    /// An error of the engine.
    pub async fn generate(&self, prompt: &[u32], max_tokens: usize) -> Result<(String, Vec<Vec<f32>>)> {
        let tap = LogitsTap::default();
        let sampling = SamplingParams {
            max_len: Some(max_tokens),
            ..SamplingParams::deterministic()
        };
        let (_, mut answers) = self.running().send(prompt, sampling, tap.tapping()).await?;
        let text = finish(&mut answers).await?;
        let mut steps = tap.take();
        steps.truncate(max_tokens);
        Ok((text, steps))
    }

    /// Continues prompts, each by at most `max_tokens` tokens, as many at a time as the source says. `done` is called
    /// after each.
    ///
    /// # Errors
    ///
    /// An error of the engine.
    pub async fn continuations(
        &self,
        requests: &[ContinuationRequest<'_>],
        max_tokens: usize,
        mut done: impl FnMut(),
    ) -> Result<Vec<Continuation>> {
        let mut continuations = Vec::with_capacity(requests.len());
        for part in requests.chunks(self.source().batch.max(1)) {
            let mut waiting = Vec::with_capacity(part.len());
            for one in part {
                let tap = TokensTap::default();
                let sampling = one.sampling(max_tokens);
                let sending = self.running().send(one.prompt, sampling, tap.tapping(one.prompt.len()));
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
}

/// Maximum number of prompt tokens in front of a text whose likelihood is taken.
const NATS_CONTEXT: usize = 512;

/// A prompt to be continued.
#[derive(Clone)]
pub struct ContinuationRequest<'a> {
    /// Its tokens.
    pub prompt: &'a [u32],
    /// How it is steered; with `None`, the installed hook applies.
    pub steered: Option<SteeredRequest>,
    /// The seed of sampling at temperature 1; `None` continues greedily.
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

/// A model's continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuation {
    /// As text.
    pub text: String,
    /// As tokens, without the last one that was picked, which may be the end of the text.
    pub tokens: Vec<u32>,
}

/// Keeps the sampled tokens of one request, except the last.
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

/// Runs `sending` so that the request that it sends is steered, if `steered` is given.
pub(crate) async fn steered_by<F: Future>(steered: &Option<SteeredRequest>, sending: F) -> F::Output {
    match steered {
        Some(steered) => steered.scope(sending).await,
        None => sending.await,
    }
}
