//! Checks that no request's steering affects another's answer: all requests are sent one at a time, then in storms
//! without a prefix cache, with an empty one, and with one that the requests have filled.

use std::path::Path;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::client::Answer;
use super::compare::{Comparison, compare};
use super::exchanges::{Exchange, Exchanges};
use super::prefix_cache::{self, CacheFigures};
use super::served::{Served, Settings, Tolerance};
use super::storm::{alone, storm};
use crate::server::Server;

/// Settings of a run.
#[derive(Clone, Debug)]
pub struct IsolationPlan {
    /// Number of requests.
    pub requests: usize,
    /// Number of concurrent requests.
    pub at_once: usize,
    /// Seed of all random choices.
    pub seed: u64,
}

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct IsolationReport {
    /// Number of requests per storm.
    pub requests: usize,
    /// Number of concurrent requests.
    pub at_once: usize,
    /// Seed of all random choices.
    pub seed: u64,
    /// Results of the storms.
    pub storms: Vec<StormResult>,
}

/// Results of one storm.
#[derive(Clone, Debug, Serialize)]
pub struct StormResult {
    /// State of the prefix cache.
    pub prefix_cache: &'static str,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// Share of sequences with a hit in the prefix cache, if the engine logged it.
    pub hit_rate: Option<f64>,
    /// The most sequences that ran together, among the engine's log lines.
    pub largest_batch: usize,
    /// Comparison with the answers of the requests alone.
    pub answers: Comparison,
}

/// Runs the plan. `checkout` is the top folder of this project's checkout, `folder` an empty one.
///
/// # Errors
///
/// If a server does not start, a connection fails, or a request is refused when it is sent alone.
pub fn run(plan: &IsolationPlan, checkout: &Path, folder: &Path) -> Result<IsolationReport> {
    let served = Served::prepare(checkout, folder)?;
    let exchanges: Vec<Exchange> = Exchanges::new(&served, plan.seed)?.take(plan.requests).collect();
    let settings = |prefix_cache| Settings {
        prefix_cache,
        default_scale: Some(served.base.default_scale),
        ..Settings::default()
    };
    let uncached = Server::start(folder, &served.config(&settings(false)))?;
    let bar = ProgressBar::new(4 * plan.requests as u64);
    let answers = alone(uncached.url(), &exchanges, || bar.inc(1))?;
    let cached = Server::start(folder, &served.config(&settings(true)))?;
    let mut storms = Vec::new();
    for (turn, (prefix_cache, server)) in [("off", &uncached), ("on, empty", &cached), ("on, filled", &cached)]
        .into_iter()
        .enumerate()
    {
        storms.push(one_storm(plan, turn, (prefix_cache, server), &exchanges, &answers)?);
        bar.inc(plan.requests as u64);
    }
    bar.finish_and_clear();
    Ok(IsolationReport {
        requests: plan.requests,
        at_once: plan.at_once,
        seed: plan.seed,
        storms,
    })
}

/// The most repetitions until the engine has logged that it ran several sequences together.
const MAX_STORMS: usize = 8;

fn one_storm(
    plan: &IsolationPlan,
    turn: usize,
    (prefix_cache, server): (&'static str, &Server),
    exchanges: &[Exchange],
    answers: &[Answer],
) -> Result<StormResult> {
    let mut order: Vec<usize> = (0..exchanges.len()).collect();
    let from = server.log_lines();
    let mut again = 0;
    loop {
        // The order changes each time, so that other requests run together.
        let seed = plan.seed.wrapping_add((turn + 3 * again) as u64);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let start = std::time::Instant::now();
        let outcomes = storm(server.url(), exchanges, &order, plan.at_once).context(prefix_cache)?;
        let answers = compare(exchanges, answers, &outcomes, Tolerance::F32);
        let logged = logged(server, from);
        again += 1;
        // The engine logs its figures every five seconds; a fast machine may finish sooner.
        let seen = logged.iter().any(|figures| figures.running > 1);
        if answers.unsteered.is_right() && answers.steered.is_right() && !seen && again < MAX_STORMS {
            continue;
        }
        return Ok(StormResult {
            prefix_cache,
            seconds: start.elapsed().as_secs_f64(),
            hit_rate: logged.last().map(|figures| figures.hit_rate),
            largest_batch: logged.iter().map(|figures| figures.running).max().unwrap_or(0),
            answers,
        });
    }
}

/// All figures logged since line `from`.
fn logged(server: &Server, from: usize) -> Vec<CacheFigures> {
    let all = std::cell::RefCell::new(Vec::new());
    server.logged(from, std::time::Duration::ZERO, |line| {
        all.borrow_mut().extend(prefix_cache::parse(line));
        None::<()>
    });
    all.into_inner()
}

impl IsolationReport {
    /// Whether every answer equals the one that its request gets alone.
    pub fn is_right(&self) -> bool {
        let mut kinds = self
            .storms
            .iter()
            .flat_map(|storm| [&storm.answers.unsteered, &storm.answers.steered]);
        kinds.all(|kind| kind.is_right())
    }

    /// A readable summary.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} requests, {} at once, against their answers alone\n",
            self.requests, self.at_once
        );
        for storm in &self.storms {
            let rate = storm
                .hit_rate
                .map_or("no".into(), |rate| format!("{:.1}%", 100.0 * rate));
            text += &format!(
                "prefix cache {}: {:.1} s, up to {} sequences in a batch, {rate} prefix hits\n",
                storm.prefix_cache, storm.seconds, storm.largest_batch
            );
            for (name, kind) in [
                ("unsteered", &storm.answers.unsteered),
                ("steered", &storm.answers.steered),
            ] {
                text += &format!("  {name:<10}{}\n", kind.describe());
                for wrong in kind.wrong.iter().chain(&kind.fingerprints).take(5) {
                    text += &format!("    {wrong}\n");
                }
            }
        }
        text
    }
}
