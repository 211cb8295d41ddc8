//! Asking one at a time, and many at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::client::{Answer, Client, CompletionRequest, Outcome};
use super::exchanges::Exchange;

/// What each request gets when nothing else is asked meanwhile. None is given up.
///
/// # Errors
///
/// A request that is refused, or whose prompt has other tokens than it was made of.
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
            Outcome::Whole(answer) => answer,
            other => bail!("request {index} was answered with {other:?}: {ask:?}"),
        };
        if let Some(tokens) = answer.prompt_tokens {
            let expected = exchange.prompt_tokens;
            ensure!(
                tokens == expected,
                "request {index} has {tokens} prompt tokens, not {expected}: {ask:?}"
            );
        }
        done();
        Ok(answer)
    });
    answers.collect()
}

/// What the requests get when `at_once` connections ask them, each the next one that nobody has asked, in the order that
/// `order` says. The outcomes come in the order of `exchanges`.
///
/// # Errors
///
/// A connection that fails.
pub fn storm(url: &str, exchanges: &[Exchange], order: &[usize], at_once: usize) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Outcome>>> = exchanges.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let connections: Vec<_> = (0..at_once)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let client = Client::new(url);
                    while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let exchange = &exchanges[index];
                        // The arrival times of the traffic: nothing is waited for.
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
        outcome.context("a request was not asked")
    });
    outcomes.collect()
}
