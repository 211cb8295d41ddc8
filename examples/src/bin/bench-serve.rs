//! Cost of steering while serving: tokens per second at 1, 8 and 32 concurrent requests with requests steered in all
//! ways, relative to the published engine and to unsteered requests. Run by `cargo xtask bench serve`.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;
use steermap_examples::figures::{median_interval, quartiles, write_json};
use steermap_examples::random_files;
use steermap_maps::ModelInfo;
use steermap_plugin::{Library, RequestSteering, SteeredRequest, Steering};

use process::Launch;
use serve_worker::{Sending, Traffic};

#[path = "../../bench/model.rs"]
mod model;
#[path = "../../bench/process.rs"]
mod process;
#[path = "../../bench/serve_worker.rs"]
mod serve_worker;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    worker: Option<Worker>,
    /// The worker that was built against the published engine
    #[arg(long, default_value = "target/release/bench-stock")]
    stock: PathBuf,
    /// Use two more idle processes of this build in place of the published engine
    #[arg(long)]
    without_published: bool,
    /// The measured modes beside `plugin idle`, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(&MODES[1..]))]
    modes: Vec<String>,
    /// The model's folder
    #[arg(long, default_value = "models/smollm2-135m")]
    model: String,
    /// How often all processes are started anew: throughput differs between launches of the same binary by several per
    /// cent
    #[arg(long, default_value_t = 4)]
    launches: usize,
    /// Paired rounds per launch
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Concurrent requests
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    at_once: Vec<usize>,
    /// Tokens of each answer
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Where to write the figures, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Worker {
    /// (used by the benchmark itself)
    Worker { model: String },
}

/// The plugin's modes, by the names that the worker expects.
const MODES: [&str; 10] = [
    "plugin idle",
    "all steered alike",
    "all steered differently",
    "half steered",
    "conditional",
    "windowed",
    "4 readouts",
    "condition at each token",
    "scheduled",
    "all three",
];

/// Index of the idle plugin among the measured processes and modes: before it are the reference, and the same program in a second process,
/// which shows the noise.
const IDLE: usize = 2;

/// Random vectors, each at every layer.
const VECTORS: usize = 8;

/// Sends requests steered as the mode requires.
struct SteeredTraffic {
    steering: Steering,
    mode: String,
    requests: Vec<Option<SteeredRequest>>,
}

impl Traffic for SteeredTraffic {
    fn mode(&mut self, mode: &str) {
        assert!(MODES.contains(&mode), "mode: found {mode:?}, expected one of {MODES:?}");
        self.mode = mode.to_string();
    }

    fn begin(&mut self, count: usize) {
        let request = |index| {
            let asked = steering_of(&self.mode, index)?;
            Some(
                self.steering
                    .request(None, Some(&asked))
                    .expect("the spec fits the model"),
            )
        };
        self.requests = (0..count).map(request).collect();
    }

    fn send<'a>(&'a self, index: usize, send: Sending<'a>) -> Sending<'a> {
        match &self.requests[index] {
            Some(request) => Box::pin(request.scope(send)),
            None => send,
        }
    }
}

/// The steering of request number `index`. The scales are small, so that the text stays ordinary.
fn steering_of(mode: &str, index: usize) -> Option<RequestSteering> {
    let readouts: Vec<_> = (4..8)
        .map(|v| json!({"vector": format!("v{v}"), "layer": 3 * v}))
        .collect();
    let when = json!({"any": [
        {"vector": "v1", "layer": 5, "each": "token", "above": 0.0, "release": -1.0},
        {"vector": "v2", "layer": 10, "each": "token", "below": 0.0, "window": 4},
    ]});
    let schedule = json!({"shape": "cosine", "from": 1.0, "to": 0.1, "tokens": 24});
    let own = json!({"vector": format!("v{}", index % VECTORS), "scale": 1e-3 * (index + 1) as f64});
    let vector = match mode {
        "all steered alike" => json!({"vector": "v0", "scale": 1e-3}),
        "all steered differently" => own,
        "half steered" if index.is_multiple_of(2) => own,
        "conditional" => json!({"vector": "v0", "scale": 1e-3, "when": {"vector": "v1", "layer": 10, "above": 0.0}}),
        "windowed" => json!({"vector": "v0", "scale": 1e-3, "apply": {
            "prompt": {"windows": [[2, 9]], "exclude_positions": [-1]},
            "generation": {"windows": [[0, 8], [16]], "exclude_tokens": [1000 + index]},
        }}),
        "4 readouts" => json!({"vector": "v0", "scale": 1e-3}),
        "condition at each token" => json!({"vector": "v0", "scale": 1e-3, "when": when}),
        "scheduled" => json!({"vector": "v0", "scale": 1e-3, "schedule": schedule}),
        "all three" => json!({"vector": "v0", "scale": 1e-3, "when": when, "schedule": schedule}),
        _ => return None,
    };
    let mut asked = json!({"vectors": [vector]});
    if ["4 readouts", "all three"].contains(&mode) {
        asked["readout"] = readouts.into();
    }
    let asked = serde_json::from_value(asked);
    Some(asked.expect("a spec"))
}

#[tokio::main]
async fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    match &args.worker {
        Some(Worker::Worker { model }) => run_worker(model).await,
        None => measure(&args),
    }
}

async fn run_worker(folder: &str) -> Result<()> {
    let loaded = model::load(folder).await;
    let stream = steermap_plugin::attach::slot(loaded.inner(), None)?.stream()?;
    let info = ModelInfo {
        model: "the measured model".into(),
        fingerprint: "not compared".into(),
        hidden_size: stream.hidden_size,
        num_layers: stream.num_layers,
    };
    let mut library = Library::default();
    for index in 0..VECTORS {
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        library.insert(
            &format!("v{index}"),
            random_files::vector(&info, 0..info.num_layers, &mut rng)?,
        )?;
    }
    let traffic = SteeredTraffic {
        steering: Steering::new(loaded.inner(), library)?,
        mode: MODES[0].to_string(),
        requests: Vec::new(),
    };
    serve_worker::serve(&loaded, traffic).await;
    Ok(())
}

/// The speed of one mode.
#[derive(Serialize)]
struct ModeSpeed {
    mode: String,
    at_once: usize,
    tokens_per_second: f64,
    /// First quartile, median and third quartile of the paired ratios to the reference.
    ratio: [f64; 3],
    /// The same relative to the idle plugin.
    of_idle: [f64; 3],
    /// A 95% confidence interval of the median of these ratios.
    of_idle_interval: [f64; 2],
}

fn measure(args: &Args) -> Result<()> {
    let modes: Vec<&str> = MODES
        .into_iter()
        .filter(|&mode| mode == MODES[0] || args.modes.is_empty() || args.modes.iter().any(|asked| asked == mode))
        .collect();
    let own = std::env::current_exe()?;
    let (reference, program, program_args) = if args.without_published {
        ("idle process", &own, ["worker", &args.model])
    } else {
        ("published engine", &args.stock, [args.model.as_str(), "serve"])
    };
    let mut rounds: Vec<Vec<Vec<f64>>> = vec![Vec::new(); args.at_once.len()];
    let bar = ProgressBar::new((args.launches * (args.rounds + 1) * args.at_once.len()) as u64);
    for launch in 0..args.launches {
        let mut processes = Launch::start(program, &program_args, &args.model, launch % 2 == 1)?;
        for round in 0..=args.rounds {
            for (index, at_once) in args.at_once.iter().enumerate() {
                let request = format!("together {at_once} {} {}", args.tokens, round + 1);
                let seconds = processes.round(&modes, &request, launch + round)?;
                // The first round of a launch warms up.
                if round > 0 {
                    rounds[index].push(seconds);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let again = format!("{reference}, again");
    let names: Vec<&str> = [reference, &again].into_iter().chain(modes).collect();
    let mut speeds = Vec::new();
    for (&at_once, rounds) in args.at_once.iter().zip(&rounds) {
        let (launches, model, tokens) = (args.launches, &args.model, args.tokens);
        println!(
            "{at_once} at once, {tokens} tokens each, {} paired rounds in {launches} launches, {model}",
            rounds.len()
        );
        println!(
            "  {:<26}{:>9}   {:<24}{:<24}95% interval of that median",
            "median (quartiles)",
            "tokens/s",
            format!("to the {reference}"),
            "to the plugin idle"
        );
        for (who, mode) in names.iter().enumerate() {
            let speed = ModeSpeed::new(mode, who, at_once, tokens, rounds);
            println!("{}", speed.line());
            speeds.push(speed);
        }
    }
    write_json(args.json.as_deref(), &speeds)?;
    Ok(())
}

impl ModeSpeed {
    /// The speed of process or mode number `who`, of the seconds of all in each round.
    fn new(mode: &str, who: usize, at_once: usize, tokens: usize, rounds: &[Vec<f64>]) -> Self {
        let ratios = |to: usize| -> Vec<f64> { rounds.iter().map(|round| round[to] / round[who]).collect() };
        let per_second: Vec<f64> = rounds
            .iter()
            .map(|round| (at_once * tokens) as f64 / round[who])
            .collect();
        Self {
            mode: mode.to_string(),
            at_once,
            tokens_per_second: quartiles(&per_second)[1],
            ratio: quartiles(&ratios(0)),
            of_idle: quartiles(&ratios(IDLE)),
            of_idle_interval: median_interval(&ratios(IDLE)),
        }
    }

    /// The line of a table.
    fn line(&self) -> String {
        let ratio = |[low, median, high]: [f64; 3]| format!("{median:.3} ({low:.3} to {high:.3})");
        let interval = match self.of_idle_interval {
            [low, _] if low.is_nan() => "(too few rounds)".to_string(),
            [low, high] => format!("{low:.3} to {high:.3}"),
        };
        format!(
            "  {:<26}{:>9.1}   {:<24}{:<24}{interval}",
            self.mode,
            self.tokens_per_second,
            ratio(self.ratio),
            ratio(self.of_idle),
        )
    }
}
