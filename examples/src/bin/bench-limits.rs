//! Steering at its limits: 64 concurrent requests on a running server, with 1 to 64 different steerings among them, at
//! one layer and at all layers, with and without a map, with the same and with new steerings in each round, compared
//! with the same requests unsteered. Run by `cargo xtask bench limits`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use steermap_examples::figures::write_json;
use steermap_examples::random_files;
use steermap_examples::server::{Server, agent};
use steermap_mapper::statistics::{quantile, quantiles};
use steermap_maps::{ModelInfo, fingerprint_folder};

/// Number of different vectors, and of concurrent requests.
const REQUESTS: usize = 64;
/// Numbers of different steerings among the requests.
const DISTINCT: [usize; 4] = [1, 8, 32, 64];

#[derive(Parser)]
#[command(about = "Measure 64 concurrent requests with up to 64 different steerings")]
struct Args {
    /// The model's folder
    #[arg(long, default_value = "models/smollm2-135m")]
    model: PathBuf,
    /// Rounds, each of all cases in another order; one more warms up
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tokens of each answer
    #[arg(long, default_value_t = 24)]
    tokens: usize,
    /// Where to write the figures, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How the requests of a round are steered.
#[derive(Clone, Copy, PartialEq, Serialize)]
struct SteeringCase {
    /// Number of different steerings; 0 for none.
    distinct: usize,
    all_layers: bool,
    mapped: bool,
    /// Whether each request has a steering that no earlier request had.
    fresh: bool,
}

const UNSTEERED: SteeringCase = SteeringCase {
    distinct: 0,
    all_layers: false,
    mapped: false,
    fresh: false,
};

impl SteeringCase {
    /// All cases: unsteered, unsteered again, and all steered ones.
    fn all() -> Vec<Self> {
        let mut all = vec![UNSTEERED; 2];
        for mapped in [false, true] {
            for all_layers in [false, true] {
                let kind = |distinct, fresh| Self {
                    distinct,
                    all_layers,
                    mapped,
                    fresh,
                };
                all.extend(DISTINCT.map(|distinct| kind(distinct, false)));
                // New steerings need as many steerings as requests.
                all.push(kind(REQUESTS, true));
            }
        }
        all
    }

    fn name(self) -> String {
        if self.distinct == 0 {
            return "unsteered".into();
        }
        let layers = if self.all_layers { "all layers" } else { "one layer" };
        let map = if self.mapped { ", mapped" } else { "" };
        let fresh = if self.fresh { ", new each time" } else { "" };
        format!("{}, {layers}{map}{fresh}", self.distinct)
    }

    /// The steering of request number `index`. Scales are small, so that the text stays ordinary.
    fn steering(self, index: usize, new: &mut usize) -> Value {
        if self.distinct == 0 {
            return json!({"mode": "off"});
        }
        let vector = index % self.distinct;
        let scale = if self.fresh {
            *new += 1;
            1e-3 + 1e-8 * *new as f64
        } else {
            1e-3
        };
        let name = format!("{}{vector}", if self.all_layers { "all" } else { "one" });
        let mut used = json!({"vector": name, "scale": scale});
        if self.mapped {
            used["map"] = "turned".into();
        }
        json!({"vectors": [used]})
    }
}

/// Times of one round of a case.
struct RoundTimes {
    tokens_per_second: f64,
    /// Seconds from sending each request to its first token.
    first: Vec<f64>,
    /// Seconds between successive tokens.
    between: Vec<f64>,
}

/// The reported figures of a case.
#[derive(Serialize)]
struct Figures {
    kind: SteeringCase,
    tokens_per_second: f64,
    /// Ratio to the unsteered case of the same round: first quartile, median, third quartile.
    ratio: [f64; 3],
    /// Milliseconds: the median and the 99th percentile.
    first_token: [f64; 2],
    between_tokens: [f64; 2],
}

fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    ensure!(args.rounds > 0, "--rounds: at least 1");
    ensure!(
        args.tokens > 1,
        "--tokens: found {}, expected at least 2 to measure the time between them",
        args.tokens
    );
    let folder = tempfile::tempdir()?;
    let model = args.model.canonicalize().with_context(|| {
        format!(
            "{}: run `cargo xtask models smollm2-135m` to fetch the model",
            args.model.display()
        )
    })?;
    let config = write_files(folder.path(), &model)?;
    let server = Server::start(folder.path(), &config)?;
    let kinds = SteeringCase::all();
    let mut rounds: Vec<Vec<RoundTimes>> = kinds.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    let (mut rng, mut new) = (ChaCha8Rng::seed_from_u64(1), 0);
    let bar = ProgressBar::new(((args.rounds + 1) * kinds.len()) as u64);
    for round in 0..=args.rounds {
        order.shuffle(&mut rng);
        for &kind in &order {
            let asked: Vec<Value> = (0..REQUESTS)
                .map(|index| kinds[kind].steering(index, &mut new))
                .collect();
            let measured = together(server.url(), &model, asked, args.tokens, round)?;
            if round > 0 {
                rounds[kind].push(measured);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    println!(
        "{REQUESTS} at once, 16 tokens of prompt, {} more, {} rounds in turns, {}, {} cores",
        args.tokens,
        args.rounds,
        args.model.display(),
        std::thread::available_parallelism()?
    );
    println!(
        "{:<36}{:>9}  {:<24}{:>20}{:>20}",
        "different steerings", "tokens/s", "beside unsteered", "first token, ms", "between tokens, ms"
    );
    println!(
        "{:<36}{:>9}  {:<24}{:>20}{:>20}",
        "", "", "", "median / p99", "median / p99"
    );
    let mut figures = Vec::new();
    for (kind, measured) in kinds.iter().zip(&rounds) {
        let speed = |round: &RoundTimes| round.tokens_per_second;
        let ratios: Vec<f64> = measured
            .iter()
            .zip(&rounds[0])
            .map(|(a, b)| speed(a) / speed(b))
            .collect();
        let speeds: Vec<f64> = measured.iter().map(speed).collect();
        let first: Vec<f64> = measured.iter().flat_map(|round| &round.first).copied().collect();
        let between: Vec<f64> = measured.iter().flat_map(|round| &round.between).copied().collect();
        let both = |times: &[f64]| quantiles(times, [0.5, 0.99]).map(|times| times.map(|seconds| 1e3 * seconds));
        let of = Figures {
            kind: *kind,
            tokens_per_second: quantile(&speeds, 0.5).context("no round was measured")?,
            ratio: quantiles(&ratios, [0.25, 0.5, 0.75]).context("no round was measured")?,
            first_token: both(&first).context("no token came")?,
            between_tokens: both(&between).context("no answer has two tokens")?,
        };
        let [low, median, high] = of.ratio;
        let ratio = format!("{median:.3} ({low:.3} to {high:.3})");
        let pair = |[median, p99]: [f64; 2]| format!("{median:.0} / {p99:.0}");
        println!(
            "{:<36}{:>9.1}  {ratio:<24}{:>20}{:>20}",
            kind.name(),
            of.tokens_per_second,
            pair(of.first_token),
            pair(of.between_tokens)
        );
        figures.push(of);
    }
    write_json(args.json.as_deref(), &figures)?;
    Ok(())
}

/// Sends all of `asked` concurrently and measures the answers.
fn together(url: &str, model: &Path, asked: Vec<Value>, tokens: usize, round: usize) -> Result<RoundTimes> {
    let start = Barrier::new(asked.len());
    let began = Instant::now();
    let answers: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
        let requests: Vec<_> = asked
            .into_iter()
            .enumerate()
            .map(|(index, steering)| {
                let (start, body) = (&start, body(model, steering, tokens, 1000 * round + index));
                scope.spawn(move || {
                    start.wait();
                    answer(url, &body)
                })
            })
            .collect();
        requests
            .into_iter()
            .map(|request| request.join().expect("no panic"))
            .collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let answers: Vec<Vec<f64>> = answers.into_iter().collect::<Result<_>>()?;
    let count: usize = answers.iter().map(Vec::len).sum();
    Ok(RoundTimes {
        tokens_per_second: count as f64 / seconds,
        first: answers.iter().map(|times| times[0]).collect(),
        between: answers
            .iter()
            .flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]))
            .collect(),
    })
}

/// A request whose prompt is 16 words, each one token of SmolLM2, in an order that depends on `seed`.
fn body(model: &Path, steering: Value, tokens: usize, seed: usize) -> Value {
    const WORDS: [&str; 8] = [
        " house", " water", " time", " people", " work", " year", " world", " school",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
    let prompt: String = (0..16).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
    json!({
        "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0.0, "stream": true, "steering": steering,
    })
}

/// Seconds after which each token arrived.
fn answer(url: &str, body: &Value) -> Result<Vec<f64>> {
    let agent = agent();
    let sent = Instant::now();
    let mut reply = agent.post(format!("{url}/v1/completions")).send_json(body)?;
    if reply.status() != 200 {
        anyhow::bail!("{}: {}", reply.status(), reply.body_mut().read_to_string()?);
    }
    let mut times = Vec::new();
    for line in BufReader::new(reply.into_body().into_reader()).lines() {
        if line?.starts_with("data: {") {
            times.push(sent.elapsed().as_secs_f64());
        }
    }
    ensure!(!times.is_empty(), "found no token in the answer to {body}");
    Ok(times)
}

/// Writes vectors and a map of the model to itself; returns the configuration.
fn write_files(folder: &Path, model: &Path) -> Result<String> {
    let config: Value = serde_json::from_slice(&std::fs::read(model.join("config.json"))?)?;
    let size = |name: &str| config[name].as_u64().with_context(|| format!("config.json: {name}"));
    let info = ModelInfo {
        model: model.display().to_string(),
        fingerprint: fingerprint_folder(model)?,
        hidden_size: size("hidden_size")? as usize,
        num_layers: size("num_hidden_layers")? as usize,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut vectors = String::new();
    for index in 0..REQUESTS {
        let middle = info.num_layers / 2;
        for (name, layers) in [("one", middle..middle + 1), ("all", 0..info.num_layers)] {
            random_files::vector(&info, layers, &mut rng)?.save(&folder.join(format!("{name}{index}.toml")))?;
            vectors += &format!("{name}{index} = \"{name}{index}.toml\"\n");
        }
    }
    let layers = (0..info.num_layers).map(|layer| (layer, layer));
    // With such weights the map about preserves a vector's norm.
    let largest = (3.0 / info.hidden_size as f32).sqrt();
    random_files::map(&info, &info, layers, largest, 1.0, &mut rng)?.save(&folder.join("turned.toml"))?;
    Ok(format!(
        "[runtime]\nmax_seqs = {REQUESTS}\nprefix_cache_n = 0\n\
         [[models]]\nkind = \"text\"\nmodel_id = {model:?}\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
         [steering.maps]\nturned = \"turned.toml\"\n[steering.vectors]\n{vectors}"
    ))
}
