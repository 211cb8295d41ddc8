//! One model of a running engine: tokenizes texts, and sends prompts as tokens.

use std::sync::Arc;

use mistralrs::core::{ChatTurnsRequest, MistralRs, RequestMessage};
use mistralrs::error::Error;
use mistralrs::{Model, NormalRequest, Request, Response, SamplingParams, TextMessageRole, TextMessages};
use residual_hooks::Turn;
use tokio::sync::mpsc::{Receiver, channel};

use crate::ExtractError;
use crate::error::{bail, ensure};
use crate::text::{Message, Text, quoted};
use crate::words::without_backtrace;

/// One model of a running engine.
pub struct Running {
    model: Model,
    /// `None`: the engine's default model.
    id: Option<String>,
}

impl From<Model> for Running {
    /// The default model of an engine.
    fn from(model: Model) -> Self {
        Self { model, id: None }
    }
}

impl Running {
    /// The model that `engine` has as `id`.
    pub fn new(engine: Arc<MistralRs>, id: String) -> Self {
        Self {
            model: Model::new(engine),
            id: Some(id),
        }
    }

    /// The engine, to use with the SDK.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens of a text, including special tokens that the tokenizer adds. A chat goes through the model's
    /// template; the header of an answer is added unless the last message is an answer.
    ///
    /// # Errors
    ///
    /// The tokenizer or the template fails, or the text has no tokens.
    pub async fn tokenize(&self, text: &Text) -> Result<Vec<u32>, ExtractError> {
        let open = match text {
            Text::Plain(_) => false,
            Text::Chat(messages) => messages.last().is_none_or(|last| last.role != "assistant"),
        };
        self.tokens(text, open).await
    }

    /// The tokens of a text as the prompt of a request: the header of an answer is always added.
    ///
    /// # Errors
    ///
    /// As [`tokenize`](Self::tokenize).
    pub async fn tokenize_prompt(&self, text: &Text) -> Result<Vec<u32>, ExtractError> {
        self.tokens(text, true).await
    }

    /// The tokens of a chat as the prompt of a request, and the positions of its messages among them, or why these are
    /// not known.
    ///
    /// # Errors
    ///
    /// As [`tokenize`](Self::tokenize).
    pub async fn chat_turns(
        &self,
        messages: &[Message],
    ) -> Result<(Vec<u32>, Result<Vec<Turn>, String>), ExtractError> {
        let (response, mut answers) = channel(1);
        let request = Request::ChatTurns(ChatTurnsRequest {
            messages: chat(messages).into(),
            response,
        });
        let engine = self.model.inner().get_sender(self.id.as_deref());
        let engine = engine.map_err(ExtractError::engine)?;
        engine.send(request).await.map_err(|_| gone())?;
        let told = answers.recv().await.ok_or_else(gone)?;
        told.map_err(|error| ExtractError::Input(untokenized(&Text::Chat(messages.to_vec()), &error.to_string())))
    }

    async fn tokens(&self, text: &Text, open: bool) -> Result<Vec<u32>, ExtractError> {
        let given = match text {
            Text::Plain(text) => either::Either::Right(text.clone()),
            Text::Chat(messages) => either::Either::Left(chat(messages)),
        };
        let id = self.id.as_deref();
        let tokens = self.model.tokenize_with_model(given, None, true, open, None, id).await;
        let tokens = tokens.map_err(|error| {
            let message = untokenized(text, &error.to_string());
            match error {
                // The tokenizer or the template failed.
                Error::Inference(_) => ExtractError::Input(message),
                _ => ExtractError::Engine(message),
            }
        })?;
        ensure!(!tokens.is_empty(), "no tokens in {}", shown(text));
        Ok(tokens)
    }

    /// Longest sequence that the model takes, in tokens.
    pub fn max_sequence(&self) -> usize {
        let config = self.model.inner().config(self.id.as_deref()).ok();
        config.and_then(|config| config.max_seq_len).unwrap_or(usize::MAX)
    }

    /// Sends a prompt. Returns the request's id, which the engine's rows have unless the request is
    /// [marked](residual_hooks::marked), and the receiver of the answers. `adjust` may change the request.
    ///
    /// # Errors
    ///
    /// The engine has stopped.
    pub async fn send(
        &self,
        tokens: &[u32],
        sampling: SamplingParams,
        adjust: impl FnOnce(&mut NormalRequest),
    ) -> Result<(usize, Receiver<Response>), ExtractError> {
        let engine = self.model.inner();
        let id = engine.next_request_id();
        let (sender, answers) = channel(8);
        let message = RequestMessage::CompletionTokens(tokens.to_vec());
        let mut request = NormalRequest::new_simple(message, sampling, sender, id, None, None);
        request.model_id.clone_from(&self.id);
        adjust(&mut request);
        let engine = engine.get_sender(self.id.as_deref()).map_err(ExtractError::engine)?;
        let sent = engine.send(Request::Normal(Box::new(request))).await;
        match sent {
            Ok(()) => Ok((id, answers)),
            Err(_) => Err(gone()),
        }
    }
}

/// Sampling parameters for a request that only needs its prompt to be read.
pub fn one_token() -> SamplingParams {
    SamplingParams {
        max_len: Some(1),
        ..SamplingParams::deterministic()
    }
}

/// Waits for the end of an answer. Returns its text.
///
/// # Errors
///
/// The engine's error.
pub async fn finish(answers: &mut Receiver<Response>) -> Result<String, ExtractError> {
    Ok(finish_counted(answers).await?.0)
}

/// Waits for the end of an answer. Returns its text and the number of generated tokens.
///
/// # Errors
///
/// The engine's error.
pub async fn finish_counted(answers: &mut Receiver<Response>) -> Result<(String, usize), ExtractError> {
    match answers.recv().await {
        Some(Response::CompletionDone(done)) => {
            let choice = done.choices.into_iter().next();
            let text = choice.map(|choice| choice.text).unwrap_or_default();
            Ok((text, done.usage.completion_tokens))
        }
        Some(Response::CompletionModelError(message, _) | Response::ModelError(message, _)) => {
            Err(ExtractError::engine(message))
        }
        // For example, a prompt that is too long.
        Some(Response::ValidationError(error)) => {
            bail!("{}", without_backtrace(&error.to_string()))
        }
        Some(Response::InternalError(error)) => Err(ExtractError::engine(error)),
        Some(_) => Err(ExtractError::engine("the engine gave an answer of an unexpected kind")),
        None => Err(ExtractError::engine("the engine ended without an answer")),
    }
}

/// The error of an engine that no longer takes requests.
fn gone() -> ExtractError {
    ExtractError::Engine("the engine is gone".to_string())
}

/// The message for a text that can't be tokenized, with the engine's `reason`.
fn untokenized(text: &Text, reason: &str) -> String {
    format!("could not tokenize {}: {}", shown(text), without_backtrace(reason))
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
