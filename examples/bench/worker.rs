//! Runs prefill and decode on demand: one request per line on stdin, one result per line on stdout.
//!
//! The same file is built against the patched engine (`bench-seam`) and against the published one (xtask/stock), so
//! that the two differ only in the engine.

use std::io::{BufRead, Write};
use std::time::Instant;

use mistralrs::core::RequestMessage;
use mistralrs::{Model, NormalRequest, Request, Response, SamplingParams};

use crate::model::{number, prompt};

/// Answers lines of `prefill TOKENS SEED` and `decode TOKENS SEED` with the seconds they took; any other line is passed
/// to `other`, and answered when that returns.
pub async fn serve(model: &Model, mut other: impl FnMut(&str)) {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        let seconds = match words[..] {
            ["prefill", tokens, seed] => run(model, &prompt(number(tokens), number(seed)), 1).await,
            ["decode", tokens, seed] => run(model, &prompt(8, number(seed)), number(tokens)).await,
            _ => {
                other(&line);
                0.0
            }
        };
        println!("{seconds}");
        std::io::stdout().flush().expect("stdout is open");
    }
}

/// Seconds from sending a prompt to the end of an answer of `tokens` tokens.
async fn run(model: &Model, prompt: &[u32], tokens: usize) -> f64 {
    let engine = model.inner();
    let (sender, mut answers) = tokio::sync::mpsc::channel(1);
    let sampling = SamplingParams {
        max_len: Some(tokens),
        ..SamplingParams::deterministic()
    };
    let message = RequestMessage::CompletionTokens(prompt.to_vec());
    let request = NormalRequest::new_simple(message, sampling, sender, engine.next_request_id(), None, None);
    let engine = engine.get_sender(None).expect("an engine");
    let start = Instant::now();
    engine
        .send(Request::Normal(Box::new(request)))
        .await
        .expect("the engine runs");
    match answers.recv().await {
        Some(Response::CompletionDone(done)) => {
            let seconds = start.elapsed().as_secs_f64();
            assert_eq!(
                done.usage.completion_tokens, tokens,
                "the model ended early: another seed is needed"
            );
            seconds
        }
        _ => panic!("a completion was expected"),
    }
}
