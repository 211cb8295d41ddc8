//! From nothing to a steered answer, on a real model: `cargo xtask demo --real`.
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
use steermap_examples::exit_code;
use steermap_examples::server::{Server, binary};
use steermap_examples::show::columns;
use steermap_mapper::behaviour::{Choices, random_direction};
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::statistics::mean;
use steermap_mapper::tasks;
use steermap_maps::VectorFile;
use steermap_plugin::{Library, Program, SteeringHook, SteeringSpec, VectorUse, attach, detach};

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
    steermap_cpu::check();
    exit_code(run(Args::parse()).await)
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
        device: DeviceChoice::Cpu,
        ..ModelSource::new(args.model.to_str().context("the model's path is not Unicode")?)
    };
    let session = Session::load(source).await?;
    // Both halves: nothing is chosen here.
    let task = tasks::read(ITEMS.as_ref())?;
    let (items, _) = Choices::of(&session, &[task.finding, task.measuring].concat()).await?;
    let hidden = vector.model().hidden_size;
    let mut library = Library::default();
    library.insert("happy", vector)?;
    let spec = |sign: f64| {
        let used = |&(layer, scale): &(usize, f64)| VectorUse::new("happy", sign * scale).at_layers([layer]);
        SteeringSpec::from(scales.iter().map(used).collect::<Vec<_>>())
    };
    println!(
        "\n2. Propensity: logit of a happy word less that of a sad one, mean over the {} items of {ITEMS}",
        items.len()
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
            .map(|&(layer, scale)| {
                let unit = random_direction(hidden, (seed * 1000 + layer) as u64);
                (layer, unit.iter().map(|&x| (f64::from(x) * scale) as f32).collect())
            })
            .collect();
        session
            .slot()
            .install(Arc::new(SteeringHook::fixed(Program::adding(layers))))?;
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
        print!("{}", columns(&["unsteered", "steered"], &[left, right], 48));
    }
    println!("\nThe vector and the configuration file are in {}.", args.out.display());
    Ok(())
}
