//! One connection's requests to a server.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::server::agent;

/// The header with the fingerprint of an answer's steering: 64 hexadecimal digits, or `none`.
pub const FINGERPRINT_HEADER: &str = "x-steering-fingerprint";

/// A client with a connection to a server, kept between requests.
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
    patience: Option<Duration>,
}

/// A server's reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
    /// The header [`FINGERPRINT_HEADER`].
    pub fingerprint: Option<String>,
    /// The header `retry-after`, in seconds.
    pub retry_after: Option<u64>,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// If the body is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("status {}: {}", self.status, self.body))
    }

    /// The JSON body, if the status is a success.
    ///
    /// # Errors
    ///
    /// If the status is not a success, or the body is not JSON.
    pub fn success(&self) -> Result<Value> {
        ensure!(
            (200..300).contains(&self.status),
            "status {}: {}",
            self.status,
            self.body
        );
        self.json()
    }

    /// The message of an error: its `message` field, or the whole body.
    pub fn message(&self) -> String {
        let body: Option<Value> = serde_json::from_str(&self.body).ok();
        let message = body.as_ref().and_then(|body| body.pointer("/error/message")?.as_str());
        message.unwrap_or(&self.body).to_string()
    }
}

/// When a client cancels a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cancel {
    /// After this number of events of a stream.
    AfterEvents(usize),
    /// After this time.
    After(Duration),
}

/// A request for a greedy completion with the log probabilities of its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// The served model.
    pub model: String,
    /// The text to continue.
    pub prompt: String,
    /// The text as messages of a chat, roles and texts. If empty, a completion is requested.
    pub turns: Vec<(&'static str, String)>,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// The field `steering`. Without it the server's default applies.
    pub steering: Option<Value>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// When the request is cancelled, if it is.
    pub cancel: Option<Cancel>,
    /// Number of answers.
    pub choices: usize,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// A regular expression that answers must match.
    pub grammar: Option<String>,
}

impl CompletionRequest {
    /// A request for one whole completion, under the server's default.
    pub fn new(model: &str, prompt: &str, max_tokens: usize) -> Self {
        Self {
            model: model.to_string(),
            prompt: prompt.to_string(),
            turns: Vec::new(),
            max_tokens,
            steering: None,
            stream: false,
            cancel: None,
            choices: 1,
            stop: Vec::new(),
            grammar: None,
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({"model": self.model, "max_tokens": self.max_tokens, "temperature": 0.0});
        let fields = body.as_object_mut().expect("made as an object");
        if self.turns.is_empty() {
            fields.insert("prompt".into(), self.prompt.as_str().into());
            fields.insert("logprobs".into(), 2.into());
        } else {
            let messages = self.turns.iter();
            let messages = messages.map(|(role, content)| json!({"role": role, "content": content}));
            fields.insert("messages".into(), messages.collect());
            fields.insert("logprobs".into(), true.into());
            fields.insert("top_logprobs".into(), 2.into());
        }
        if self.stream {
            fields.insert("stream".into(), true.into());
        }
        if let Some(steering) = &self.steering {
            fields.insert("steering".into(), steering.clone());
        }
        if self.choices != 1 {
            fields.insert("n".into(), self.choices.into());
        }
        if !self.stop.is_empty() {
            fields.insert("stop".into(), json!(self.stop));
        }
        if let Some(regex) = &self.grammar {
            fields.insert("grammar".into(), json!({"type": "regex", "value": regex}));
        }
        body
    }
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The text that it adds.
    pub text: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The same of the second best token.
    pub second: Option<f64>,
}

/// One text of a completion, or its received part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// The text, without the white space that it starts with: the engine leaves that out of answers that are not
    /// streamed.
    pub text: String,
    /// The tokens. A streamed token without text (half of a character) has no event, so it is missing here.
    pub tokens: Vec<Token>,
    /// The finish reason, such as `stop`.
    pub finish: Option<String>,
    /// Readouts of the stream, token by token, if requested.
    pub readout: Vec<TokenReadout>,
}

/// Readouts of the stream at one token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenReadout {
    /// The token's position in the sequence.
    pub position: usize,
    /// Its text.
    pub token: String,
    /// Value by readout; `None` where it is not read.
    pub values: Vec<Option<f64>>,
}

/// A completion, or its received part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The first text.
    pub first: Choice,
    /// The other texts, if several were requested.
    pub others: Vec<Choice>,
    /// Tokens of the prompt, if the engine states them; it does not for a streamed completion.
    pub prompt_tokens: Option<usize>,
    /// The header [`FINGERPRINT_HEADER`].
    pub fingerprint: Option<String>,
    /// `usage.steering.fingerprint`, if there is a `usage`.
    pub usage_fingerprint: Option<String>,
}

/// How an [`CompletionRequest`] ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CompletionOutcome {
    /// The whole answer.
    Whole(Answer),
    /// Cancelled, with the part that was received.
    Cut(Answer),
    /// An error status and its message.
    Refused(u16, String),
}

impl Client {
    /// A connection to the server at `url`.
    pub fn new(url: &str) -> Self {
        Self {
            agent: agent(),
            url: url.to_string(),
            token: None,
            patience: None,
        }
    }

    /// Sets a limit to the time of a completion; exceeding it is an error.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sets a bearer token.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_string());
        self
    }

    /// A GET.
    ///
    /// # Errors
    ///
    /// If the connection fails. An error status is returned, not an error, by all methods here.
    pub fn get(&self, route: &str) -> Result<Reply> {
        self.bare("GET", route)
    }

    /// A DELETE.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn delete(&self, route: &str) -> Result<Reply> {
        self.bare("DELETE", route)
    }

    /// A POST of JSON.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn post(&self, route: &str, body: &Value) -> Result<Reply> {
        self.send("POST", route, "application/json", body.to_string().as_bytes())
    }

    /// A PUT of JSON.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn put(&self, route: &str, body: &Value) -> Result<Reply> {
        self.send("PUT", route, "application/json", body.to_string().as_bytes())
    }

    /// A POST of a form with these fields, each with a file's bytes, as browsers send it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn post_form(&self, route: &str, fields: &[(&str, &[u8])]) -> Result<Reply> {
        let (content_type, body) = form(fields);
        self.send("POST", route, &content_type, &body)
    }

    /// A request with a body of any kind.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn send(&self, method: &str, route: &str, content_type: &str, body: &[u8]) -> Result<Reply> {
        let mut request = match method {
            "PUT" => self.agent.put(self.at(route)),
            _ => self.agent.post(self.at(route)),
        };
        request = request.header("content-type", content_type);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.send(body))
    }

    /// A GET of a file: its name, if the answer states one, and its bytes.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and if the status is not 200.
    pub fn download(&self, route: &str) -> Result<(Option<String>, Vec<u8>)> {
        let mut request = self.agent.get(self.at(route));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reply = request.call()?;
        ensure!(reply.status() == 200, "{route}: status {}", reply.status());
        let stated = reply.headers().get("content-disposition");
        let name = stated
            .and_then(|value| value.to_str().ok())
            .and_then(|value| Some(value.split_once("filename=\"")?.1.trim_end_matches('"').to_string()));
        Ok((name, reply.into_body().read_to_vec()?))
    }

    fn bare(&self, method: &str, route: &str) -> Result<Reply> {
        let mut request = match method {
            "DELETE" => self.agent.delete(self.at(route)),
            _ => self.agent.get(self.at(route)),
        };
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.call())
    }

    fn at(&self, route: &str) -> String {
        format!("{}{route}", self.url)
    }

    /// Requests a completion.
    ///
    /// # Errors
    ///
    /// If the connection fails without having been cancelled, or the answer is not a valid completion.
    pub fn complete(&self, ask: &CompletionRequest) -> Result<CompletionOutcome> {
        let request = self.agent.post(self.at(if ask.turns.is_empty() {
            "/v1/completions"
        } else {
            "/v1/chat/completions"
        }));
        let limit = match ask.cancel {
            Some(Cancel::After(time)) => Some(time),
            _ => None,
        };
        let request = request.config().timeout_global(limit.or(self.patience)).build();
        let reply = match request.send_json(ask.body()) {
            Err(ureq::Error::Timeout(_)) if limit.is_some() => return Ok(CompletionOutcome::Cut(Answer::default())),
            other => other?,
        };
        let status = reply.status().as_u16();
        let fingerprint = header(&reply);
        if status != 200 {
            let body = reply.into_body().read_to_string()?;
            let reply = Reply {
                status,
                body,
                fingerprint,
                retry_after: None,
            };
            return Ok(CompletionOutcome::Refused(status, reply.message()));
        }
        if ask.stream {
            return streamed(BufReader::new(reply.into_body().into_reader()), ask, fingerprint);
        }
        match reply.into_body().read_to_string() {
            Err(ureq::Error::Timeout(_)) if limit.is_some() => Ok(CompletionOutcome::Cut(Answer {
                fingerprint,
                ..Answer::default()
            })),
            body => Ok(CompletionOutcome::Whole(whole(
                &serde_json::from_str(&body?)?,
                fingerprint,
            )?)),
        }
    }
}

impl Answer {
    /// All of its texts.
    pub fn choices(&self) -> impl Iterator<Item = &Choice> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn new(mut choices: Vec<Choice>) -> Self {
        for choice in &mut choices {
            choice.text = choice.text.trim_start().to_string();
        }
        let mut choices = choices.into_iter();
        Self {
            first: choices.next().unwrap_or_default(),
            others: choices.collect(),
            ..Self::default()
        }
    }
}

fn whole(body: &Value, fingerprint: Option<String>) -> Result<Answer> {
    let entries = body.get("choices").and_then(Value::as_array).context("no choices")?;
    let mut choices = vec![Choice::default(); entries.len()];
    for entry in entries {
        let tokens = entry.get("logprobs").and_then(tokens);
        let choice = number(entry, "/index").and_then(|index| choices.get_mut(index));
        *choice.context("a choice that was not requested")? = Choice {
            text: text(entry).context("no text")?.to_string(),
            tokens: tokens.context("no logprobs, or a token without the best two tokens")?,
            finish: finish(entry),
            readout: readout(entry).context("a malformed readout")?,
        };
    }
    Ok(Answer {
        prompt_tokens: number(body, "/usage/prompt_tokens"),
        fingerprint,
        usage_fingerprint: usage_fingerprint(body),
        ..Answer::new(choices)
    })
}

/// Reads a stream of events to its end, or until it is cancelled.
fn streamed(
    mut events: impl BufRead,
    ask: &CompletionRequest,
    fingerprint: Option<String>,
) -> Result<CompletionOutcome> {
    let mut choices = vec![Choice::default(); ask.choices];
    let (mut line, mut count) = (String::new(), 0);
    let mut usage = None;
    let done = loop {
        if ask.cancel == Some(Cancel::AfterEvents(count)) {
            break false;
        }
        line.clear();
        match events.read_line(&mut line) {
            Ok(0) => bail!("a stream ended without [DONE] after {count} events: {choices:?}"),
            Ok(_) => {}
            Err(_) if matches!(ask.cancel, Some(Cancel::After(_))) => break false,
            Err(error) => return Err(error).context("a stream broke off"),
        }
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            continue;
        };
        if data == "[DONE]" {
            break true;
        }
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            bail!("an event that is not JSON: {data}");
        };
        count += 1;
        for entry in chunk.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let choice = choices.get_mut(number(entry, "/index").unwrap_or(0));
            let choice = choice.context("a choice that was not requested")?;
            choice.text += text(entry).unwrap_or_default();
            choice
                .tokens
                .extend(entry.get("logprobs").and_then(tokens).into_iter().flatten());
            choice.finish = choice.finish.take().or_else(|| finish(entry));
            choice.readout.extend(readout(entry).context("a malformed readout")?);
        }
        usage = usage.or_else(|| usage_fingerprint(&chunk));
    };
    let answer = Answer {
        fingerprint,
        usage_fingerprint: usage,
        ..Answer::new(choices)
    };
    Ok(if done {
        CompletionOutcome::Whole(answer)
    } else {
        CompletionOutcome::Cut(answer)
    })
}

/// The text of a completion, of an answer in a chat, or of a part of it; empty for an answer without text.
fn text(entry: &Value) -> Option<&str> {
    let message = entry.get("message").or_else(|| entry.get("delta"));
    match message {
        Some(message) => message
            .get("content")
            .map(|content| content.as_str().unwrap_or_default()),
        None => entry.get("text")?.as_str(),
    }
}

/// The tokens of an answer, each with the second best one.
fn tokens(logprobs: &Value) -> Option<Vec<Token>> {
    if let Some(tokens) = logprobs.get("content") {
        return tokens.as_array()?.iter().map(chat_token).collect();
    }
    let list = |key: &str| logprobs.get(key)?.as_array();
    let (texts, logprobs, top) = (list("tokens")?, list("token_logprobs")?, list("top_logprobs")?);
    let token = |((text, logprob), top): ((&Value, &Value), &Value)| {
        let text = text.as_str()?;
        let others = top.as_object()?.iter().filter(|(other, _)| *other != text);
        Some(Token {
            text: text.to_string(),
            logprob: logprob.as_f64()?,
            second: others
                .filter_map(|(_, logprob)| logprob.as_f64())
                .max_by(f64::total_cmp),
        })
    };
    texts.iter().zip(logprobs).zip(top).map(token).collect()
}

/// A token of an answer in a chat.
fn chat_token(token: &Value) -> Option<Token> {
    let text = token.get("token")?.as_str()?;
    let top = token.get("top_logprobs")?.as_array()?.iter();
    let others = top.filter(|other| other.get("token").and_then(Value::as_str) != Some(text));
    let others = others.filter_map(|other| other.get("logprob")?.as_f64());
    Some(Token {
        text: text.to_string(),
        logprob: token.get("logprob")?.as_f64()?,
        second: others.max_by(f64::total_cmp),
    })
}

/// The readouts of a choice, empty if there are none; `None` if they are malformed.
fn readout(entry: &Value) -> Option<Vec<TokenReadout>> {
    let Some(tokens) = entry.pointer("/readout/tokens") else {
        return Some(Vec::new());
    };
    let reading = |token: &Value| {
        let values = token.get("values")?.as_array()?.iter();
        Some(TokenReadout {
            position: number(token, "/position")?,
            token: token.get("token")?.as_str()?.to_string(),
            values: values.map(Value::as_f64).collect(),
        })
    };
    tokens.as_array()?.iter().map(reading).collect()
}

fn finish(entry: &Value) -> Option<String> {
    Some(entry.get("finish_reason")?.as_str()?.to_string())
}

fn usage_fingerprint(body: &Value) -> Option<String> {
    Some(body.pointer("/usage/steering/fingerprint")?.as_str()?.to_string())
}

fn number(body: &Value, at: &str) -> Option<usize> {
    usize::try_from(body.pointer(at)?.as_u64()?).ok()
}

fn header<T>(reply: &ureq::http::Response<T>) -> Option<String> {
    let value = reply.headers().get(FINGERPRINT_HEADER)?;
    Some(value.to_str().ok()?.to_string())
}

fn retry_after<T>(reply: &ureq::http::Response<T>) -> Option<u64> {
    reply.headers().get("retry-after")?.to_str().ok()?.parse().ok()
}

fn read(reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply> {
    let mut reply = reply?;
    Ok(Reply {
        status: reply.status().as_u16(),
        fingerprint: header(&reply),
        retry_after: retry_after(&reply),
        body: reply.body_mut().read_to_string()?,
    })
}

/// A form's content type and body. The fields `toml`, `safetensors` and `gguf` are sent as files.
pub fn form(fields: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "steermap-form-boundary-7d1e0c5b";
    let mut body = Vec::new();
    for (name, bytes) in fields {
        let file = match *name {
            "toml" | "safetensors" | "gguf" => {
                format!("; filename=\"{name}\"\r\nContent-Type: application/octet-stream")
            }
            _ => String::new(),
        };
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// A JSON object with the fields of both; those of `more` take precedence.
pub fn merged(base: &Value, more: &Value) -> Value {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    Value::Object(fields(base).into_iter().chain(fields(more)).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A choice of a chunk with these tokens.
    fn entry(index: usize, tokens: &[&str]) -> Value {
        let top: Vec<_> = tokens
            .iter()
            .map(|token| json!({*token: -1.0, "other": -2.0}))
            .collect();
        let logprobs = json!({"tokens": tokens, "token_logprobs": vec![-1.0; tokens.len()], "top_logprobs": top});
        json!({"index": index, "text": tokens.concat(), "logprobs": logprobs})
    }

    fn event(choices: &[Value]) -> String {
        format!("data: {}\n\n", json!({"choices": choices}))
    }

    fn ask(cancel: Option<Cancel>, choices: usize) -> CompletionRequest {
        CompletionRequest {
            stream: true,
            cancel,
            choices,
            ..CompletionRequest::new("m", "p", 2)
        }
    }

    fn texts(choice: &Choice) -> Vec<&str> {
        choice.tokens.iter().map(|token| token.text.as_str()).collect()
    }

    #[test]
    fn a_stream_is_joined_and_may_be_cancelled() {
        let events = format!(
            "{}: keep-alive\n\n{}data: [DONE]\n\n",
            event(&[entry(0, &[" one"])]),
            event(&[entry(0, &[" two", " three"])])
        );
        let CompletionOutcome::Whole(answer) = streamed(events.as_bytes(), &ask(None, 1), None).unwrap() else {
            panic!("it is whole");
        };
        assert_eq!(answer.first.text, "one two three");
        assert_eq!(texts(&answer.first), [" one", " two", " three"]);
        let first = &answer.first.tokens[0];
        assert_eq!((first.logprob, first.second), (-1.0, Some(-2.0)));
        let cut = streamed(events.as_bytes(), &ask(Some(Cancel::AfterEvents(1)), 1), None).unwrap();
        assert!(matches!(cut, CompletionOutcome::Cut(answer) if answer.first.text == "one"));
        let broken = streamed(event(&[entry(0, &["x"])]).as_bytes(), &ask(None, 1), None).unwrap_err();
        assert!(broken.to_string().contains("[DONE]"), "{broken}");
        let message = streamed("data: no such thing\n".as_bytes(), &ask(None, 1), None).unwrap_err();
        assert!(message.to_string().contains("no such thing"), "{message}");
    }

    #[test]
    fn several_answers_are_distinguished() {
        let mut last = [entry(1, &[" d"]), entry(0, &[])];
        last[0]["finish_reason"] = "length".into();
        last[1]["finish_reason"] = "stop".into();
        let events = [
            event(&[entry(1, &[" c"])]),
            event(&[entry(0, &[" a"]), entry(1, &[])]),
            event(&last),
            "data: [DONE]\n\n".into(),
        ];
        let CompletionOutcome::Whole(answer) = streamed(events.concat().as_bytes(), &ask(None, 2), None).unwrap()
        else {
            panic!("it is whole");
        };
        let whole: Vec<_> = answer.choices().map(|choice| choice.text.as_str()).collect();
        assert_eq!(whole, ["a", "c d"]);
        assert_eq!(
            (texts(&answer.first), texts(&answer.others[0])),
            (vec![" a"], vec![" c", " d"])
        );
        assert_eq!(answer.first.finish.as_deref(), Some("stop"));
        assert_eq!(answer.others[0].finish.as_deref(), Some("length"));
        assert!(streamed(events.concat().as_bytes(), &ask(None, 1), None).is_err());
        let body = ask(None, 2).body();
        assert!(body["n"] == 2 && body.get("stop").is_none(), "{body}");
    }

    #[test]
    fn a_form_is_encoded_as_by_browsers() {
        let (content_type, body) = form(&[("name", b"v"), ("toml", b"a = 1")]);
        let boundary = content_type.split_once("boundary=").unwrap().1;
        let text = String::from_utf8(body).unwrap();
        assert!(text.starts_with(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nv\r\n"
        )));
        assert!(text.contains("filename=\"toml\""));
        assert!(text.ends_with(&format!("a = 1\r\n--{boundary}--\r\n")));
    }
}
