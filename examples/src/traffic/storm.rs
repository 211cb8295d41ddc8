//! Sending requests one at a time, and many at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::client::{Answer, Client, CompletionOutcome, CompletionRequest};
use super::exchanges::Exchange;

/// The answer to each request when it is sent alone. None is cancelled.
///
/// # Errors
///
/// If a request is refused, or its prompt has another number of tokens than expected.
pub fn alone(url: &str, exchanges: &[Exchange], mut done: impl FnMut()) -> Result<Vec<Answer>> {
    let client = Client::new(url);
    let answers = exchanges.iter().enumerate().map(|(index, exchange)| {
        let ask = CompletionRequest {
            cancel: None,
            ..exchange.ask.clone()
        };
        let answer = match client
            .complete(&ask)
            .with_context(|| format!("request {index}: {ask:?}"))?
        {
            CompletionOutcome::Whole(answer) => answer,
            other => bail!("request {index}: found {other:?}, expected a whole answer: {ask:?}"),
        };
        if let Some(tokens) = answer.prompt_tokens {
            let expected = exchange.prompt_tokens;
            ensure!(
                tokens == expected,
                "request {index}: found {tokens} prompt tokens, expected {expected}: {ask:?}"
            );
        }
        done();
        Ok(answer)
    });
    answers.collect()
}

/// The outcomes when `at_once` connections send the requests, each taking the next one in `order` that is not sent yet.
/// The outcomes are in the order of `exchanges`.
///
/// # Errors
///
/// If a connection fails.
pub fn storm(url: &str, exchanges: &[Exchange], order: &[usize], at_once: usize) -> Result<Vec<CompletionOutcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<CompletionOutcome>>> = exchanges.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let connections: Vec<_> = (0..at_once)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let client = Client::new(url);
                    while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let exchange = &exchanges[index];
                        // The pause only spreads the arrival times; it waits for nothing.
                        std::thread::sleep(exchange.pause);
                        let outcome = client.complete(&exchange.ask);
                        let outcome = outcome.with_context(|| format!("request {index}: {:?}", exchange.ask))?;
                        *outcomes[index].lock().map_err(|_| anyhow!("a connection panicked"))? = Some(outcome);
                    }
                    Ok(())
                })
            })
            .collect();
        connections
            .into_iter()
            .try_for_each(|connection| connection.join().map_err(|_| anyhow!("a connection panicked"))?)
    })?;
    let outcomes = outcomes.into_iter().map(|outcome| {
        let outcome = outcome.into_inner().map_err(|_| anyhow!("a connection panicked"))?;
        outcome.context("a request was not sent")
    });
    outcomes.collect()
}
