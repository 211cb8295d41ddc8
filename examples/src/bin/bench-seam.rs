//! Cost of the seam: the published engine against the patched one without a hook, with a hook that wants no layer, and
//! with an addition at every layer. Run by `cargo xtask bench seam`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use residual_hooks::{BatchView, ResidualHook};
use steermap_examples::figures::quartiles;
use steermap_plugin::{Program, SteeringHook};

use process::Launch;

#[path = "../../bench/model.rs"]
mod model;
#[path = "../../bench/process.rs"]
mod process;
#[path = "../../bench/worker.rs"]
mod worker;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    worker: Option<Worker>,
    /// The worker that was built against the published engine
    #[arg(long, default_value = "target/release/bench-stock")]
    stock: PathBuf,
    /// The model's folder
    #[arg(long, default_value = "models/smollm2-135m")]
    model: String,
    /// How often all processes are started anew: throughput differs between launches of the same binary by several per
    /// cent
    #[arg(long, default_value_t = 6)]
    launches: usize,
    /// Paired rounds per launch
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Tokens of a prompt
    #[arg(long, default_value_t = 256)]
    prefill: usize,
    /// Tokens to generate
    #[arg(long, default_value_t = 48)]
    decode: usize,
}

#[derive(Subcommand)]
enum Worker {
    /// (used by the benchmark itself)
    Worker { model: String },
}

/// The patched engine's modes, by the names that the worker expects.
const MODES: [&str; 3] = [
    "without a hook",
    "a hook that wants nothing",
    "an addition at every layer",
];

/// Wants no layer.
struct WantsNothing;

impl ResidualHook for WantsNothing {
    fn layers(&self) -> Vec<usize> {
        Vec::new()
    }
    fn after_block(
        &self,
        _: usize,
        _: &candle_core::Tensor,
        _: &BatchView,
    ) -> candle_core::Result<Option<candle_core::Tensor>> {
        unreachable!("it asked for no layer")
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    match args.worker {
        Some(Worker::Worker { model }) => run_worker(&model).await,
        None => measure(&args),
    }
}

async fn run_worker(folder: &str) -> Result<()> {
    let model = model::load(folder).await;
    let slot = steermap_plugin::attach::slot(model.inner(), None)?;
    let stream = slot.stream()?;
    worker::serve(&model, |mode| match MODES.iter().position(|m| *m == mode) {
        Some(0) => slot.remove(),
        Some(1) => slot.install(Arc::new(WantsNothing)).expect("the model can be hooked"),
        Some(2) => {
            // The addition is small, so that the model keeps generating text.
            let offset = vec![1e-3; stream.hidden_size];
            let layers: BTreeMap<_, _> = (0..stream.num_layers).map(|layer| (layer, offset.clone())).collect();
            let hook = SteeringHook::fixed(Program::adding(layers));
            slot.install(Arc::new(hook)).expect("the model can be hooked");
        }
        _ => panic!("mode: found {mode:?}, expected one of {MODES:?}"),
    })
    .await;
    Ok(())
}

fn measure(args: &Args) -> Result<()> {
    let kinds = [("prefill", args.prefill), ("decode", args.decode)];
    let mut rounds: [Vec<Vec<f64>>; 2] = Default::default();
    let bar = ProgressBar::new((args.launches * (args.rounds + 1)) as u64);
    for launch in 0..args.launches {
        let mut processes = Launch::start(&args.stock, &[&args.model], &args.model, launch % 2 == 1)?;
        for round in 0..=args.rounds {
            for (kind, (what, tokens)) in kinds.iter().enumerate() {
                // The same prompts in every launch; with these the model generates all tokens that are requested.
                let request = format!("{what} {tokens} {}", 1000 + round);
                let seconds = processes.round(&MODES, &request, launch + round)?;
                // The first round of a launch warms up.
                if round > 0 {
                    rounds[kind].push(seconds);
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    for ((what, tokens), rounds) in kinds.iter().zip(&rounds) {
        let (launches, model) = (args.launches, &args.model);
        println!(
            "{what}, {tokens} tokens, {} paired rounds in {launches} launches, {model}",
            rounds.len()
        );
        let speed = |who: usize| {
            quartiles(
                &rounds
                    .iter()
                    .map(|round| *tokens as f64 / round[who])
                    .collect::<Vec<_>>(),
            )[1]
        };
        println!("  {:<28} {:>7.1} tokens/s", "published engine", speed(0));
        for (index, name) in std::iter::once("published engine, again").chain(MODES).enumerate() {
            let ratios: Vec<f64> = rounds.iter().map(|round| round[0] / round[index + 1]).collect();
            let [low, median, high] = quartiles(&ratios);
            let speed = speed(index + 1);
            println!("  {name:<28} {speed:>7.1} tokens/s, ratio {median:.3} (quartiles {low:.3} to {high:.3})");
        }
    }
    Ok(())
}
