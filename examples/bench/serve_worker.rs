//! Answers many requests at once on demand: one command per line on stdin, one result per line on stdout.
//!
//! The same file is built against the patched engine (`bench-serve`) and against the published one (xtask/stock), so
//! that the two differ only in the engine and in [`Traffic`].

use std::future::Future;
use std::io::{BufRead, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use mistralrs::core::RequestMessage;
use mistralrs::{
    CustomLogitsProcessor, DType, Device, Model, NormalRequest, Request, Response, SamplingParams, Tensor,
};

use crate::model::{number, prompt};

/// Number of tokens of every prompt.
const PROMPT: usize = 16;
/// The special tokens of SmolLM2. None is generated, so that every answer has its full length.
const BANNED: [usize; 3] = [0, 1, 2];

/// A request on its way to the engine.
pub type Sending<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// How requests are sent.
pub trait Traffic {
    /// Sets the mode for the following requests.
    fn mode(&mut self, mode: &str);

    /// Prepares `count` requests; included in the measured time.
    fn begin(&mut self, count: usize);

    /// Sends request number `index`; awaiting `send` passes it to the engine.
    fn send<'a>(&'a self, index: usize, send: Sending<'a>) -> Sending<'a>;
}

/// Answers lines of `together COUNT TOKENS SEED` with the seconds from the first of COUNT requests to the end of the last
/// answer, each of TOKENS tokens; any other line is a mode.
pub async fn serve(model: &Model, mut traffic: impl Traffic) {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        let seconds = match words[..] {
            ["together", count, tokens, seed] => {
                together(model, &mut traffic, number(count), number(tokens), number(seed)).await
            }
            _ => {
                traffic.mode(&line);
                0.0
            }
        };
        println!("{seconds}");
        std::io::stdout().flush().expect("stdout is open");
    }
}

async fn together(model: &Model, traffic: &mut impl Traffic, count: usize, tokens: usize, seed: usize) -> f64 {
    let engine = model.inner();
    let start = Instant::now();
    traffic.begin(count);
    let mut answers = Vec::new();
    for index in 0..count {
        let (sender, answer) = tokio::sync::mpsc::channel(1);
        let sampling = SamplingParams {
            max_len: Some(tokens),
            ..SamplingParams::deterministic()
        };
        let message = RequestMessage::CompletionTokens(prompt(PROMPT, 1000 * seed + index));
        let mut request = NormalRequest::new_simple(message, sampling, sender, engine.next_request_id(), None, None);
        request.logits_processors = Some(vec![no_special_token()]);
        let send = async move {
            let sender = engine.get_sender(None).expect("an engine");
            sender
                .send(Request::Normal(Box::new(request)))
                .await
                .expect("the engine runs");
        };
        traffic.send(index, Box::pin(send)).await;
        answers.push(answer);
    }
    for mut answer in answers {
        match answer.recv().await {
            Some(Response::CompletionDone(done)) => assert_eq!(done.usage.completion_tokens, tokens, "ended early"),
            Some(Response::CompletionModelError(message, _)) => panic!("{message}"),
            Some(Response::ValidationError(error) | Response::InternalError(error)) => panic!("{error}"),
            _ => panic!("a completion was expected"),
        }
    }
    start.elapsed().as_secs_f64()
}

/// Excludes the special tokens from sampling.
fn no_special_token() -> Arc<dyn CustomLogitsProcessor> {
    Arc::new(|logits: &Tensor, _: &[u32]| {
        let size = logits.elem_count();
        let mut bias = vec![0f32; size];
        BANNED.iter().for_each(|&token| bias[token] = -1e9);
        let bias = Tensor::from_vec(bias, logits.dims(), &Device::Cpu)?;
        logits.to_dtype(DType::F32)?.add(&bias)
    })
}
