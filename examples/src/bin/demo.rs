//! From nothing to a steered answer, on a real model: `cargo xtask demo`.
//!
//! Finds the vector happy-minus-sad on SmolLM2-135M-Instruct, measures how far it moves the model's choices between
//! happy and sad words, then serves the model over HTTP without and with `[steering]` and asks both the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use mistralrs::ModelDType;
use serde::Deserialize;
use steermap_examples::server::{Server, binary};
use steermap_mapper::pairs::Text;
use steermap_mapper::session::{ModelSource, Session};
use steermap_maps::VectorFile;
use steermap_plugin::compile::Offsets;
use steermap_plugin::{SteeringHook, SteeringSpec, VectorLibrary, VectorUse, attach, detach};

#[derive(Parser)]
#[command(about = "Find a steering vector on SmolLM2-135M-Instruct, serve the model with it, ask with and without it")]
struct Args {
    /// The model's folder (`cargo xtask models smollm2-135m` makes it)
    #[arg(long, default_value = "models/smollm2-135m")]
    model: PathBuf,
    /// Where the vector and the configuration file are written
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Layers to steer
    #[arg(long, value_delimiter = ',', default_values_t = [14])]
    layers: Vec<usize>,
    /// Length of the offset at each layer, in units of the stream's mean norm there
    #[arg(long, default_value_t = 0.22)]
    strength: f64,
    /// Random directions to compare with
    #[arg(long, default_value_t = 8)]
    random: usize,
}

/// A prompt and two words that could follow it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    prompt: String,
    positive: String,
    negative: String,
}

const PAIRS: &str = "examples/concepts/happy-sad.jsonl";
const ITEMS: &str = "examples/concepts/happy-sad.items.jsonl";

/// What both servers are asked.
const QUESTIONS: [&str; 4] = [
    "How was your day?",
    "Write two sentences about a walk in the rain.",
    "Tell me about your old dog.",
    "What do you think of Mondays?",
];

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    let vector = find_vector(&args)?;
    let scales: Vec<(usize, f64)> = args
        .layers
        .iter()
        .map(|&layer| {
            let found = vector
                .layer(layer)
                .with_context(|| format!("layers: the model has no layer {layer}"))?;
            Ok((layer, args.strength * found.mean_norm))
        })
        .collect::<Result<_>>()?;
    measure(&args, vector, &scales).await?;
    serve(&args, &scales)
}

/// Runs `mapper vector`, as a user would.
fn find_vector(args: &Args) -> Result<VectorFile> {
    let path = args.out.join("happy.toml");
    println!("1. Finding the vector: {PAIRS} through {}", args.model.display());
    let status = Command::new(binary("mapper")?)
        .args([
            "vector",
            "--dtype",
            "f32",
            "--cpu",
            "--concept",
            "happy",
            "--pairs",
            PAIRS,
            "--model",
        ])
        .arg(&args.model)
        .arg("--out")
        .arg(&path)
        .status()?;
    ensure!(status.success(), "mapper vector ended with {status}");
    Ok(VectorFile::load(&path)?)
}

/// Prints how far the vector, its opposite and random directions move the propensity: the logit of the happy word less
/// that of the sad one, at the end of each item's prompt.
async fn measure(args: &Args, vector: VectorFile, scales: &[(usize, f64)]) -> Result<()> {
    let source = ModelSource {
        dtype: ModelDType::F32,
        cpu: true,
        ..ModelSource::new(args.model.to_str().context("the model's path is not Unicode")?)
    };
    let session = Session::load(source).await?;
    let items = Items::load(&session).await?;
    let hidden = vector.model().hidden_size;
    let mut library = VectorLibrary::default();
    library.insert("happy", vector)?;
    let spec = |sign: f64| {
        let used = |&(layer, scale): &(usize, f64)| VectorUse::new("happy", sign * scale).at_layers([layer]);
        SteeringSpec {
            vectors: scales.iter().map(used).collect(),
        }
    };
    println!(
        "\n2. Propensity: logit of a happy word less that of a sad one, mean over the {} items of {ITEMS}",
        items.prompts.len()
    );
    let engine = session.model().inner();
    for (name, sign) in [("towards sad", -1.0), ("unsteered", 0.0), ("towards happy", 1.0)] {
        attach(engine, None, &spec(sign), &library)?;
        let propensities = items.propensities(&session).await?;
        let happy = propensities.iter().filter(|p| **p > 0.0).count();
        println!(
            "   {name:<20} {:+7.3}   happier word preferred in {happy} of {}",
            mean(&propensities),
            propensities.len()
        );
    }
    let mut random = Vec::new();
    for seed in 0..args.random {
        let layers: BTreeMap<usize, Vec<f32>> = scales
            .iter()
            .map(|&(layer, scale)| (layer, random_direction(hidden, scale, (seed * 1000 + layer) as u64)))
            .collect();
        let offsets = Offsets {
            layers,
            fingerprint: format!("{:064x}", seed + 1),
        };
        session.slot().install(Arc::new(SteeringHook::new(offsets)))?;
        random.push(mean(&items.propensities(&session).await?));
    }
    detach(engine, None)?;
    if !random.is_empty() {
        let (low, high) = random
            .iter()
            .fold((f64::MAX, f64::MIN), |(l, h), &p| (l.min(p), h.max(p)));
        println!(
            "   {:<20} {:+7.3}   {} directions of the same length, {low:+.3} to {high:+.3}",
            "random directions",
            mean(&random),
            random.len()
        );
    }
    Ok(())
}

/// Serves the model without and with `[steering]` and prints what the two answer.
fn serve(args: &Args, scales: &[(usize, f64)]) -> Result<()> {
    let model = std::path::absolute(&args.model)?.display().to_string();
    let plain =
        format!("[[models]]\nkind = \"text\"\nmodel_id = {model:?}\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n");
    let steering: String = scales
        .iter()
        .map(|(layer, scale)| {
            format!("[[steering.defaults.vectors]]\nvector = \"happy\"\nscale = {scale:.3}\nlayers = [{layer}]\n")
        })
        .collect();
    let steered = format!("{plain}\n[steering.vectors]\nhappy = \"happy.toml\"\n\n[[steering.defaults]]\n{steering}");
    println!(
        "\n3. Serving over HTTP, without and with this in {}:\n",
        args.out.join("mistralrs.toml").display()
    );
    for line in steered.lines().skip_while(|line| !line.starts_with("[steering")) {
        println!("       {line}");
    }
    let ask = |config: &str| -> Result<Vec<String>> {
        let server = Server::start(&args.out, config)?;
        QUESTIONS
            .iter()
            .map(|question| server.chat(&model, question, 48))
            .collect()
    };
    let (unsteered, steered) = (ask(&plain)?, ask(&steered)?);
    for (question, (left, right)) in QUESTIONS.iter().zip(unsteered.iter().zip(&steered)) {
        println!("\n   > {question}");
        side_by_side(left, right);
    }
    println!("\nThe vector and the configuration file are in {}.", args.out.display());
    Ok(())
}

/// Items with their tokens.
struct Items {
    prompts: Vec<Vec<u32>>,
    words: Vec<(usize, usize)>,
}

impl Items {
    async fn load(session: &Session) -> Result<Self> {
        let text = std::fs::read_to_string(ITEMS).context(ITEMS)?;
        let mut items = Self {
            prompts: Vec::new(),
            words: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let item: Item = serde_json::from_str(line).with_context(|| format!("{ITEMS}, line {}", index + 1))?;
            let (positive, negative) = (
                first_token(session, &item.positive).await?,
                first_token(session, &item.negative).await?,
            );
            ensure!(
                positive != negative,
                "{ITEMS}, line {}: both words begin with the same token",
                index + 1
            );
            items.prompts.push(session.tokenize(&Text::Plain(item.prompt)).await?);
            items.words.push((positive, negative));
        }
        Ok(items)
    }

    async fn propensities(&self, session: &Session) -> Result<Vec<f64>> {
        let prompts: Vec<&[u32]> = self.prompts.iter().map(Vec::as_slice).collect();
        let logits = session.next_token_logits(&prompts).await?;
        let of = |(logits, &(p, n)): (&Vec<f32>, &(usize, usize))| f64::from(logits[p]) - f64::from(logits[n]);
        Ok(logits.iter().zip(&self.words).map(of).collect())
    }
}

async fn first_token(session: &Session, word: &str) -> Result<usize> {
    let tokens = session.tokenize(&Text::Plain(word.to_string())).await?;
    Ok(*tokens.first().context("a word without tokens")? as usize)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A direction drawn evenly from all, of the given length: normal numbers by Box and Muller's method.
fn random_direction(size: usize, length: f64, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66;
    let mut uniform = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let normal: Vec<f64> = (0..size)
        .map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos())
        .collect();
    let norm = normal.iter().map(|x| x * x).sum::<f64>().sqrt();
    normal.iter().map(|x| (x / norm * length) as f32).collect()
}

/// Prints two texts in two columns.
fn side_by_side(left: &str, right: &str) {
    const WIDTH: usize = 48;
    let (left, right) = (wrap(left, WIDTH), wrap(right, WIDTH));
    println!("     {:<WIDTH$}   steered", "unsteered");
    for i in 0..left.len().max(right.len()) {
        let line = |lines: &[String]| lines.get(i).cloned().unwrap_or_default();
        println!("     {:<WIDTH$}   {}", line(&left), line(&right));
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
