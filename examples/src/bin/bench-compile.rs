//! Cost of compiling specs for concurrent requests: ordinary requests to a served model, alone and while specs with new
//! scales are compiled for a large model.
//!
//! Of the large model only the sizes exist: vectors of width 4096 go through a map to 8192, which is the cost of
//! compiling. The model is never run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use mistralrs::{ModelBuilder, ModelDType, RequestBuilder, TextMessageRole};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use steermap_examples::random_files;
use steermap_mapper::statistics::{median, quantile};
use steermap_maps::ModelInfo;
use steermap_maps::digest::sha256;
use steermap_plugin::compile::Target;
use steermap_plugin::steering::{Model, Snapshot};
use steermap_plugin::token_texts::TokenTexts;
use steermap_plugin::{Library, RequestSteering, Steering, VectorUse};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const SERVED: &str = "examples/family/stories-3m";

#[derive(Parser)]
#[command(about = "Measure what compiling specs costs concurrent requests")]
struct Args {
    /// New specs per second
    #[arg(long, default_value_t = 64.0)]
    specs: f64,
    /// Number of vectors that the specs use in turn
    #[arg(long, default_value_t = 16)]
    vectors: usize,
    /// Number of layers that each vector is mapped to
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Width of the model that vectors were found on
    #[arg(long, default_value_t = 4096)]
    source: usize,
    /// Width of the model that they are mapped to
    #[arg(long, default_value_t = 8192)]
    target: usize,
    /// Concurrent ordinary requests
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Rounds, each without and with specs, in turns
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Seconds of each half of a round
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    let model = ModelBuilder::new(SERVED)
        .with_dtype(ModelDType::F32)
        .with_force_cpu()
        .with_prefix_cache_n(None)
        .with_max_num_seqs(64)
        .build()
        .await?;
    let model = Arc::new(model);
    let (steering, map_bytes) = steering(&args)?;
    println!(
        "{} vectors, {} -> {}, {} layers; {} cores",
        args.vectors,
        args.source,
        args.target,
        args.layers,
        std::thread::available_parallelism()?
    );

    println!("\na vector that is not known yet (median over the vectors), one core");
    let mut cold = Vec::new();
    for vector in 0..args.vectors {
        let begin = Instant::now();
        steering.prepare(Some("large"), Some(field(vector, 1.0))).await?;
        cold.push(begin.elapsed().as_secs_f64());
    }
    let mut warm = Vec::new();
    for number in 0..1000 {
        let begin = Instant::now();
        let scale = 2.0 + f64::from(number);
        steering
            .prepare(Some("large"), Some(field(number as usize % args.vectors, scale)))
            .await?;
        warm.push(begin.elapsed().as_secs_f64());
    }
    let snapshot = steering.snapshot();
    let map = snapshot.library.map("across").context("the map is there")?;
    let mut read = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        for pair in map.pairs() {
            for matrix in pair.map.load()?.matrices() {
                let numbers = matrix.as_bytes().as_chunks().0.iter();
                std::hint::black_box(numbers.map(|bytes| f32::from_le_bytes(*bytes)).sum::<f32>());
            }
        }
        read.push(begin.elapsed().as_secs_f64());
    }
    let (cold, warm, read) = (median(&cold), median(&warm), median(&read));
    println!("  compiling a spec                 {:8.2} ms", cold * 1e3);
    println!(
        "  reading the map's {:5.0} MiB once  {:8.2} ms, so {:.2} times that",
        map_bytes as f64 / f64::from(1 << 20),
        read * 1e3,
        cold / read
    );
    println!(
        "a new scale of a known vector\n  compiling a spec                 {:8.3} ms",
        warm * 1e3
    );

    println!(
        "\nordinary requests, {} at a time, {} rounds of {} s without and with {} new scales a second",
        args.at_once, args.rounds, args.seconds, args.specs
    );
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut p50, mut p99, mut compiled) = (Vec::new(), Vec::new(), 0);
    let mut scale = 1e4;
    for round in 0..=args.rounds {
        let mut halves = [Vec::new(), Vec::new()];
        // The halves alternate, so that neither always comes first.
        for half in [round % 2, 1 - round % 2] {
            let stop = Arc::new(AtomicBool::new(false));
            let specs = (half == 1)
                .then(|| tokio::spawn(compile(steering.clone(), args.specs, args.vectors, scale, stop.clone())));
            halves[half] = traffic(&model, args.at_once, Duration::from_secs_f64(args.seconds)).await?;
            stop.store(true, Ordering::Relaxed);
            if let Some(specs) = specs {
                let count = specs.await??;
                scale += f64::from(count);
                compiled += count;
            }
        }
        // The first warms up.
        if round == 0 {
            compiled = 0;
            continue;
        }
        let [a, b] = &mut halves;
        p50.push(median(b) / median(a));
        p99.push(quantile(b, 0.99).unwrap_or(f64::NAN) / quantile(a, 0.99).unwrap_or(f64::NAN));
        without.append(a);
        with.append(b);
    }
    for (name, times) in [("without", &mut without), ("with", &mut with)] {
        println!(
            "  {name:8} {:6} requests: median {:7.1} ms, p99 {:7.1} ms",
            times.len(),
            median(times) * 1e3,
            quantile(times, 0.99).unwrap_or(f64::NAN) * 1e3
        );
    }
    println!("  {compiled} specs were compiled");
    for (name, ratios) in [("median", &mut p50), ("p99", &mut p99)] {
        println!(
            "  {name}: with / without {:.3} (by round: {:.3} to {:.3})",
            median(ratios),
            quantile(ratios, 0.0).unwrap_or(f64::NAN),
            quantile(ratios, 1.0).unwrap_or(f64::NAN)
        );
    }
    Ok(())
}

fn field(vector: usize, scale: f64) -> RequestSteering {
    VectorUse::new(format!("v{vector}"), scale).through("across").into()
}

/// Compiles specs at that rate until it is stopped; returns their number.
async fn compile(steering: Steering, rate: f64, vectors: usize, from: f64, stop: Arc<AtomicBool>) -> Result<u32> {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let scale = from + f64::from(count);
        steering
            .prepare(Some("large"), Some(field(count as usize % vectors, scale)))
            .await?;
        count += 1;
    }
    Ok(count)
}

/// Runs `at_once` concurrent requests for that long; returns the seconds that each took.
async fn traffic(model: &Arc<mistralrs::Model>, at_once: usize, time: Duration) -> Result<Vec<f64>> {
    let end = Instant::now() + time;
    let mut workers = JoinSet::new();
    for worker in 0..at_once {
        let model = model.clone();
        workers.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                let request = RequestBuilder::new()
                    .add_message(TextMessageRole::User, format!("Story {worker}, {}: a dog", times.len()))
                    .set_sampler_max_len(16)
                    .set_sampler_temperature(0.0);
                model
                    .send_chat_request(request)
                    .await
                    .map_err(|error| anyhow::anyhow!("{error}"))?;
                times.push(begin.elapsed().as_secs_f64());
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = workers.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

/// The steering of a large model that does not exist, and the size of the map's weights in bytes.
fn steering(args: &Args) -> Result<(Steering, usize)> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let source = info("small", args.source, 32);
    let target = info("large", args.target, 80);
    let mut library = Library::default();
    for vector in 0..args.vectors {
        library.insert(
            &format!("v{vector}"),
            random_files::vector(&source, 0..args.layers, &mut rng)?,
        )?;
    }
    let pairs = (0..args.layers).map(|layer| (layer, 40 + layer));
    library.insert_map(
        "across",
        random_files::map(&source, &target, pairs, 0.02, 100.0, &mut rng)?,
    )?;
    let model = Model {
        id: target.model.clone(),
        names: Vec::new(),
        target: Target {
            model: target.model,
            hidden_size: target.hidden_size,
            num_layers: target.num_layers,
            fingerprint: None,
            dtype: None,
        },
        layers: (0..target.num_layers).collect(),
        chat: false,
        architecture: None,
        tokenizer: None,
        texts: Arc::new(TokenTexts::new(None)),
        context: None,
        refusal: None,
        bound: None,
        default: None,
        configured: None,
        overridden: false,
    };
    let bytes = args.layers * args.source * args.target * size_of::<f32>();
    Ok((
        Steering::with_snapshot(Snapshot::new(library, vec![model], None), None, None, None),
        bytes,
    ))
}

fn info(model: &str, hidden_size: usize, num_layers: usize) -> ModelInfo {
    ModelInfo {
        model: model.into(),
        fingerprint: format!("sm1:{}", &sha256(model.as_bytes())[..32]),
        hidden_size,
        num_layers,
    }
}
