//! Vectors found from pairs while a server runs: time to the first token of a request with pairs of its own, and the
//! slowdown of a concurrent stream. Run by `cargo xtask bench live`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;
use serde_json::{Value, json};
use steermap_examples::figures::{quartiles, write_json};
use steermap_examples::server::{Server, agent};
use steermap_mapper::pairs::{Pair, read_pairs};

#[derive(Parser)]
#[command(about = "Measure requests that contain the pairs of their vector")]
struct Args {
    /// The served model's folder
    #[arg(long, default_value = "examples/family/stories-3m")]
    model: PathBuf,
    /// The kind of the model in mistral.rs's configuration
    #[arg(long, default_value = "text")]
    kind: String,
    /// The model that vectors are found on
    #[arg(long, default_value = "examples/family/stories-260k")]
    source: PathBuf,
    /// The map from the latter to the former
    #[arg(long, default_value = "maps/stories-260k--stories-3m.toml")]
    map: PathBuf,
    /// Contrastive pairs, JSON lines
    #[arg(long, default_value = "examples/family/concepts/mood.pairs.jsonl")]
    pairs: PathBuf,
    /// Pairs per request
    #[arg(long, default_value_t = 16)]
    count: usize,
    /// Rounds, each of all measurements; one more warms up
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Tokens of the stream
    #[arg(long, default_value_t = 400)]
    tokens: usize,
    /// The share of time that finding may take while the stream runs; absent: the server's default
    #[arg(long)]
    share: Option<f64>,
    /// Where to write the figures, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// First quartile, median, third quartile.
type Quartiles = [f64; 3];

#[derive(Serialize)]
struct Figures {
    /// Milliseconds to the first token: unsteered, with new pairs, with the same pairs again.
    unsteered: Quartiles,
    found: Quartiles,
    found_again: Quartiles,
    /// Tokens per second of a stream alone, and while vectors are found without a pause.
    alone: Quartiles,
    beside: Quartiles,
    /// Ratio of the latter to the former in the same round.
    ratio: Quartiles,
    /// Vectors found per second meanwhile.
    vectors_per_second: Quartiles,
}

/// A client, and the pairs that its requests contain.
struct LiveClient {
    url: String,
    pairs: Vec<Pair>,
    /// Seed that makes a request new: it is part of the vector's key, although the method draws nothing.
    seed: AtomicUsize,
    prompt: String,
    /// Logit bias that keeps the model from ending its text.
    bias: Value,
}

impl LiveClient {
    fn steering(&self, seed: usize) -> Value {
        let vector = json!({"model": "small", "pairs": self.pairs, "position": "mean", "seed": seed});
        json!({"vectors": [{"vector": vector, "map": "map", "relative_scale": 0.1}]})
    }

    fn new_seed(&self) -> usize {
        self.seed.fetch_add(1, Ordering::Relaxed)
    }

    /// Seconds after which each token of a stream arrived.
    fn stream(&self, agent: &ureq::Agent, tokens: usize, steering: Option<Value>) -> Result<Vec<f64>> {
        let mut body = json!({"model": "default", "prompt": self.prompt, "max_tokens": tokens, "stream": true,
            "temperature": 0.0, "logit_bias": self.bias});
        if let Some(steering) = steering {
            body["steering"] = steering;
        }
        let start = Instant::now();
        let reply = agent.post(format!("{}/v1/completions", self.url)).send_json(&body)?;
        ensure!(
            reply.status() == 200,
            "the server answered with status {}",
            reply.status()
        );
        let mut times = Vec::with_capacity(tokens);
        for line in BufReader::new(reply.into_body().into_reader()).lines() {
            if line?.contains("\"text\"") {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        ensure!(
            times.len() == tokens,
            "stream: found {} tokens, expected {tokens}",
            times.len()
        );
        Ok(times)
    }
}

fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    ensure!(args.rounds > 0, "--rounds: found 0, expected at least 1");
    ensure!(args.tokens > 1, "--tokens: found {}, expected at least 2", args.tokens);
    let mut pairs = read_pairs(&args.pairs)?;
    pairs.truncate(args.count);
    ensure!(
        pairs.len() == args.count,
        "{}: found {} pairs, expected at least {}",
        args.pairs.display(),
        pairs.len(),
        args.count
    );
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), &config(&args)?)?;
    let asking = LiveClient {
        url: server.url().to_string(),
        pairs,
        seed: AtomicUsize::new(0),
        prompt: "Now, Mia goes to".to_string(),
        bias: no_end(&args.model)?,
    };
    let agent = agent();
    let mut kinds = [const { Vec::new() }; 7];
    for round in 0..=args.rounds {
        let seed = asking.new_seed();
        let first = |steering| Ok::<f64, anyhow::Error>(asking.stream(&agent, 1, steering)?[0] * 1e3);
        let unsteered = first(None)?;
        let found = first(Some(asking.steering(seed)))?;
        let again = first(Some(asking.steering(seed)))?;
        // The order alternates.
        let (alone, beside) = if round % 2 == 0 {
            let alone = speed(&asking.stream(&agent, args.tokens, None)?);
            (alone, disturbed(&asking, &agent, args.tokens)?)
        } else {
            let beside = disturbed(&asking, &agent, args.tokens)?;
            (speed(&asking.stream(&agent, args.tokens, None)?), beside)
        };
        if round == 0 {
            continue;
        }
        let (beside, vectors) = beside;
        let row = [unsteered, found, again, alone, beside, beside / alone, vectors];
        kinds.iter_mut().zip(row).for_each(|(kind, value)| kind.push(value));
    }
    let [unsteered, found, found_again, alone, beside, ratio, vectors_per_second] =
        kinds.each_ref().map(|values| quartiles(values));
    let figures = Figures {
        unsteered,
        found,
        found_again,
        alone,
        beside,
        ratio,
        vectors_per_second,
    };
    print(&args, &figures);
    write_json(args.json.as_deref(), &figures)
}

/// Speed of a stream while two clients request vectors without a pause, and the number of vectors found per second.
fn disturbed(asking: &LiveClient, agent: &ureq::Agent, tokens: usize) -> Result<(f64, f64)> {
    let (stop, found) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..2)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                    while !stop.load(Ordering::Relaxed) {
                        let body = json!({"name": "found", "model": "small", "pairs": asking.pairs, "position": "mean",
                            "seed": asking.new_seed()});
                        let reply = agent.post(format!("{}/v1/steering/vectors", asking.url)).send_json(&body)?;
                        ensure!(reply.status() == 200, "the server answered with status {}", reply.status());
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
                })
                .collect();
        let start = Instant::now();
        let times = asking.stream(agent, tokens, None);
        let vectors = found.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            match client.join() {
                Ok(done) => done?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok((speed(&times?), vectors))
    })
}

/// A bias against the tokens that end a text.
fn no_end(model: &Path) -> Result<Value> {
    let mut bias = serde_json::Map::new();
    for file in ["config.json", "generation_config.json"] {
        let Ok(text) = std::fs::read_to_string(model.join(file)) else {
            continue;
        };
        let config: Value = serde_json::from_str(&text).with_context(|| file.to_string())?;
        let ends = match &config["eos_token_id"] {
            Value::Array(ends) => ends.clone(),
            Value::Null => Vec::new(),
            end => vec![end.clone()],
        };
        bias.extend(ends.into_iter().map(|end| (end.to_string(), (-100).into())));
    }
    Ok(bias.into())
}

/// Tokens per second after the first.
fn speed(times: &[f64]) -> f64 {
    (times.len() - 1) as f64 / (times[times.len() - 1] - times[0])
}

fn config(args: &Args) -> Result<String> {
    let at = |path: &Path| -> Result<String> {
        let path = path.canonicalize().with_context(|| path.display().to_string())?;
        Ok(format!("{:?}", path.display().to_string()))
    };
    let (model, source, map) = (at(&args.model)?, at(&args.source)?, at(&args.map)?);
    let kind = &args.kind;
    let share = args
        .share
        .map_or(String::new(), |share| format!("[steering.live]\nshare = {share:?}\n"));
    Ok(format!(
        "[runtime]\nprefix_cache_n = 0\n[[models]]\nkind = {kind:?}\nmodel_id = {model}\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
         [steering.maps]\nmap = {map}\n[steering.sources.small]\nmodel = {source}\ndtype = \"f32\"\ndevice = \"cpu\"\n\
         [steering.admin]\nopen_on_loopback = true\nuploads = true\n{share}"
    ))
}

fn print(args: &Args, figures: &Figures) {
    println!(
        "{} pairs of {}, found on {}, served: {}; {} rounds; median (quartiles)",
        args.count,
        args.pairs.display(),
        args.source.display(),
        args.model.display(),
        args.rounds
    );
    for (what, [low, median, high], digits) in [
        ("ms to the first token, unsteered", figures.unsteered, 1),
        ("ms to the first token, new pairs", figures.found, 1),
        ("ms to the first token, the same pairs again", figures.found_again, 1),
        ("tokens/s of a stream alone", figures.alone, 1),
        ("tokens/s while vectors are found", figures.beside, 1),
        ("the latter over the former", figures.ratio, 2),
        ("vectors found a second meanwhile", figures.vectors_per_second, 1),
    ] {
        println!("{what:<45} {median:>8.digits$} ({low:.digits$} to {high:.digits$})");
    }
}
