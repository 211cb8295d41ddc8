//! Reads the streams of a served model while it serves requests.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use residual_hooks::{RequestMark, marked};
use steermap_extract::capture::{LayerStates, StreamCapture};
use steermap_extract::running::{finish, one_token};
use steermap_extract::session::whole;
use steermap_extract::{ExtractError, Reader, Running, Text};

use super::queue::Pace;
use crate::lock::lock;
use crate::sent::SentRequests;

/// Reads a served model: prompts are sent like requests, and the model's hook captures their streams. The model's
/// default does not steer them.
pub(super) struct ServedReader<'a> {
    pub(super) running: Running,
    pub(super) model: &'a str,
    pub(super) hidden_size: usize,
    pub(super) sent: Arc<SentRequests<CaptureField>>,
}

/// Reads a model text by text, with rests while served models run for other requests.
pub(super) struct Paced<'a, R> {
    pub(super) reader: &'a R,
    pub(super) pace: &'a Pace,
}

/// A prompt whose stream is captured.
pub(crate) struct CaptureField {
    /// The model that it is sent to.
    pub(crate) model: String,
    /// The capture.
    pub(crate) capture: Arc<StreamCapture>,
    me: Weak<CaptureField>,
    sent: Arc<SentRequests<CaptureField>>,
    ids: Mutex<Vec<usize>>,
}

impl RequestMark for CaptureField {
    fn sent_as(&self, request: usize) {
        self.sent.remember(request, self.me.clone());
        lock(&self.ids).push(request);
    }
}

impl Drop for CaptureField {
    fn drop(&mut self) {
        self.sent.forget(&std::mem::take(&mut *lock(&self.ids)));
    }
}

impl Reader for ServedReader<'_> {
    async fn tokenize(&self, text: &Text) -> Result<Vec<u32>, ExtractError> {
        self.running.tokenize(text).await
    }

    fn max_tokens(&self) -> usize {
        self.running.max_sequence()
    }

    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    async fn streams(
        &self,
        capture: &Arc<StreamCapture>,
        prompts: &[&[u32]],
        done: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<LayerStates>>, ExtractError> {
        let mut streams = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let field = Arc::new_cyclic(|me| CaptureField {
                model: self.model.to_string(),
                capture: capture.clone(),
                me: me.clone(),
                sent: self.sent.clone(),
                ids: Mutex::default(),
            });
            let sending = self.running.send(prompt, one_token(), |_| ());
            let (_, mut answers) = marked(field.clone(), sending).await?;
            finish(&mut answers).await?;
            let mut seen = capture.take();
            let id = lock(&field.ids).first().copied().unwrap_or_default();
            streams.push(whole(seen.remove(&id), prompt.len())?);
            done();
        }
        Ok(streams)
    }
}

impl<R: Reader> Reader for Paced<'_, R> {
    async fn tokenize(&self, text: &Text) -> Result<Vec<u32>, ExtractError> {
        self.reader.tokenize(text).await
    }

    fn max_tokens(&self) -> usize {
        self.reader.max_tokens()
    }

    fn hidden_size(&self) -> usize {
        self.reader.hidden_size()
    }

    async fn streams(
        &self,
        capture: &Arc<StreamCapture>,
        prompts: &[&[u32]],
        done: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<LayerStates>>, ExtractError> {
        let mut streams = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let start = Instant::now();
            streams.extend(self.reader.streams(capture, &[prompt], &mut *done).await?);
            tokio::time::sleep(self.pace.rest_after(start.elapsed())).await;
        }
        Ok(streams)
    }
}
