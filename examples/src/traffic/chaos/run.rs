//! The run: alone, in the storm, and afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plan::{ChaosPlan, StormLength};
use super::report::{ChaosReport, HostileTally};
use crate::server::Server;
use crate::traffic::client::{Answer, Client};
use crate::traffic::compare::Comparison;
use crate::traffic::continuations::Continuations;
use crate::traffic::exchanges::{Exchange, Exchanges};
use crate::traffic::hostile::send::{PATIENCE, Sender};
use crate::traffic::hostile::{Hostile, HostileRequest};
use crate::traffic::served::{Served, Settings};
use crate::traffic::storm::alone;
use crate::traffic::watch::ServerWatch;

/// Number of sequences whose prefixes are cached: about as many as run at once, so that others soon hit what one
/// leaves.
const CACHED_SEQUENCES: usize = 64;
/// One in this many ordinary requests continues from another's answer.
const CONTINUED_ONE_IN: usize = 3;
/// The share of ordinary requests in the storm.
const ORDINARY: f64 = 0.5;

/// Runs the plan. `checkout` is the top folder of this project's checkout, `folder` an empty one.
///
/// # Errors
///
/// If a server does not start or ends early, or an ordinary request is refused when it is sent alone.
pub fn run(plan: &ChaosPlan, checkout: &Path, folder: &Path) -> Result<ChaosReport> {
    let served = Served::prepare_model(plan.model, checkout, folder)?;
    let settings = |prefix_cache| Settings {
        prefix_cache,
        cached_sequences: Some(CACHED_SEQUENCES),
        default_scale: Some(plan.model.default_scale),
        dtype: plan.dtype,
        ..Settings::default()
    };
    let clean = Server::start(folder, &served.config(&settings(false)))?;
    let server = Server::start(folder, &served.config(&settings(true)))?;

    // Runs the three parts.
    let bar = ProgressBar::new(plan.ordinary as u64);
    let known = known(plan, &served, &clean, &bar)?;
    let prompts = known.iter().map(|(exchange, _)| exchange.ask.prompt.clone()).collect();
    let storm = StormState {
        url: server.url(),
        plan,
        known: &known,
        drawn: Mutex::new(RequestDraw::new(
            plan,
            known.len(),
            Hostile::new(&served, plan.dtype, prompts, plan.seed.wrapping_add(3))?,
        )),
        answered: AtomicUsize::new(0),
        last_answered: known.iter().map(|_| AtomicUsize::new(0)).collect(),
        found: Mutex::default(),
    };
    let mut watch = ServerWatch::new(&server);
    let start = Instant::now();
    storm.rage(&mut watch, &bar)?;
    let seconds = start.elapsed().as_secs_f64();
    let memory = std::mem::take(&mut watch.memory);

    begin(&bar, 2 * plan.continuations as u64);
    let texts = Continuations::new(&served, plan.seed.wrapping_add(4))?.after(&storm.latest(), plan.continuations)?;
    // One at a time, since the question is whether the cached states are right.
    let expected = alone(clean.url(), &texts, || bar.inc(1)).context("on the clean server")?;
    let mut found = storm.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let client = Client::new(server.url()).with_patience(PATIENCE);
    for (index, (exchange, expected)) in texts.iter().zip(&expected).enumerate() {
        match client.complete(&exchange.ask) {
            Ok(outcome) => {
                let tolerance = plan.dtype.tolerance();
                found.continuations.add(index, exchange, expected, &outcome, tolerance);
            }
            Err(error) => found
                .unanswered
                .push(format!("afterwards: {error:#}: {:?}", exchange.ask)),
        }
        bar.inc(1);
    }
    watch.read_log();
    bar.finish_and_clear();
    Ok(ChaosReport {
        model: plan.model.name,
        dtype: plan.dtype,
        at_once: plan.at_once,
        seconds,
        ordinary: found.ordinary,
        continuations: found.continuations,
        unanswered: found.unanswered,
        hostile: found.hostile,
        alarms: watch.alarms,
        hit_rate: watch.hit_rate,
        memory,
    })
}

fn begin(bar: &ProgressBar, length: u64) {
    bar.reset();
    bar.set_length(length);
}

/// The ordinary requests, some of which continue from answers to others, with the answers that they get alone.
fn known(plan: &ChaosPlan, served: &Served, clean: &Server, bar: &ProgressBar) -> Result<Vec<(Exchange, Answer)>> {
    let continued = plan.ordinary / CONTINUED_ONE_IN;
    let first: Vec<Exchange> = Exchanges::new(served, plan.seed)?
        .take(plan.ordinary - continued)
        .collect();
    let answers = alone(clean.url(), &first, || bar.inc(1))?;
    let answered: Vec<_> = first.iter().zip(&answers).collect();
    let second = Continuations::new(served, plan.seed.wrapping_add(2))?.after(&answered, continued)?;
    let more = alone(clean.url(), &second, || bar.inc(1))?;
    let exchanges = first.into_iter().chain(second);
    Ok(exchanges.zip(answers.into_iter().chain(more)).collect())
}

/// State shared by the connections of a storm.
struct StormState<'a> {
    url: &'a str,
    plan: &'a ChaosPlan,
    /// Ordinary requests, with the answers that they get alone.
    known: &'a [(Exchange, Answer)],
    drawn: Mutex<RequestDraw>,
    /// Number of ordinary requests answered so far.
    answered: AtomicUsize,
    /// By ordinary request, the value of `answered` when it was last answered; 0 if it was not.
    last_answered: Vec<AtomicUsize>,
    found: Mutex<StormFindings>,
}

/// Results so far.
#[derive(Default)]
struct StormFindings {
    ordinary: Comparison,
    continuations: Comparison,
    unanswered: Vec<String>,
    hostile: BTreeMap<&'static str, HostileTally>,
}

/// The next request to send.
enum NextRequest {
    /// The ordinary request with this index.
    Ordinary(usize),
    Hostile(HostileRequest),
}

/// Draws the next request to send.
struct RequestDraw {
    rng: ChaCha8Rng,
    hostile: Hostile,
    known: usize,
    /// Ordinary requests that are still to be sent before any is repeated.
    order: Vec<usize>,
    /// When the storm ends, and after how many requests.
    end: Option<Instant>,
    left: usize,
}

impl RequestDraw {
    fn new(plan: &ChaosPlan, known: usize, hostile: Hostile) -> Self {
        let (end, left) = match plan.length {
            StormLength::Time(time) => (Some(Instant::now() + time), usize::MAX),
            StormLength::Requests(count) => (None, count),
        };
        Self {
            rng: ChaCha8Rng::seed_from_u64(plan.seed.wrapping_add(5)),
            hostile,
            known,
            order: Vec::new(),
            end,
            left,
        }
    }

    /// `None` when the storm is over.
    fn next(&mut self) -> Option<NextRequest> {
        if self.left == 0 || self.end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        self.left -= 1;
        if !self.rng.random_bool(ORDINARY) {
            return Some(NextRequest::Hostile(self.hostile.request()));
        }
        if self.order.is_empty() {
            self.order = (0..self.known).collect();
            self.order.shuffle(&mut self.rng);
        }
        self.order.pop().map(NextRequest::Ordinary)
    }
}

impl StormState<'_> {
    /// Sends requests on `plan.at_once` connections until the storm is over, and watches the server meanwhile.
    fn rage(&self, watch: &mut ServerWatch, bar: &ProgressBar) -> Result<()> {
        let start = Instant::now();
        begin(
            bar,
            match self.plan.length {
                StormLength::Time(time) => time.as_secs(),
                StormLength::Requests(count) => count as u64,
            },
        );
        std::thread::scope(|scope| {
            let (done, answers) = mpsc::channel();
            for _ in 0..self.plan.at_once {
                let done = done.clone();
                scope.spawn(move || {
                    self.connection(|| {
                        // The receiver has stopped only if the server is gone.
                        let _ = done.send(());
                    });
                });
            }
            drop(done);
            loop {
                match answers.recv_timeout(watch.left().max(Duration::from_millis(1))) {
                    Ok(()) if matches!(self.plan.length, StormLength::Requests(_)) => bar.inc(1),
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if let Err(gone) = watch.observe() {
                    // No connection needs to continue.
                    lock(&self.drawn).left = 0;
                    return Err(gone);
                }
                if matches!(self.plan.length, StormLength::Time(_)) {
                    bar.set_position(start.elapsed().as_secs());
                }
            }
            Ok(())
        })
    }

    /// Sends one request after another.
    fn connection(&self, mut done: impl FnMut()) {
        let client = Client::new(self.url).with_patience(PATIENCE);
        let sender = Sender::new(self.url);
        loop {
            // The lock is held for the draw only.
            let next = lock(&self.drawn).next();
            match next {
                Some(NextRequest::Ordinary(index)) => self.ordinary(&client, index),
                Some(NextRequest::Hostile(request)) => {
                    let outcome = sender.send(&request).and_then(|status| {
                        status.map_or(Ok(()), |status| request.accepts(status))?;
                        Ok(status)
                    });
                    let outcome = outcome.map_err(|error| format!("{error:#}: {}", beginning(&request.body)));
                    lock(&self.found).hostile.entry(request.name).or_default().add(outcome);
                }
                None => return,
            }
            done();
        }
    }

    fn ordinary(&self, client: &Client, index: usize) {
        let (exchange, expected) = &self.known[index];
        let outcome = client.complete(&exchange.ask);
        let mut found = lock(&self.found);
        match outcome {
            Ok(outcome) => {
                let tolerance = self.plan.dtype.tolerance();
                found.ordinary.add(index, exchange, expected, &outcome, tolerance);
                let order = 1 + self.answered.fetch_add(1, Ordering::Relaxed);
                self.last_answered[index].store(order, Ordering::Relaxed);
            }
            Err(error) => found.unanswered.push(format!("{error:#}: {:?}", exchange.ask)),
        }
    }

    /// The answered ordinary requests, the latest first, since the prefix cache holds the latest.
    fn latest(&self) -> Vec<(&Exchange, &Answer)> {
        let order = |index: &usize| self.last_answered[*index].load(Ordering::Relaxed);
        let mut answered: Vec<usize> = (0..self.known.len()).filter(|index| order(index) > 0).collect();
        answered.sort_by_key(|index| std::cmp::Reverse(order(index)));
        let known = answered.into_iter().map(|index| &self.known[index]);
        known.map(|(exchange, answer)| (exchange, answer)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The beginning of a body.
fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}
