//! A small model steers a large one: `cargo xtask demo`.
//!
//! With the embedded models only: fits the map from the small to the large one, finds the vector of a mood on the small
//! one, measures how it moves the large one, then serves the large one over HTTP and requests continuations of stories:
//! unsteered, with the mapped vector, with its own native vector, and with a random direction.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use steermap_examples::programs::{binary, run_to_end};
use steermap_examples::server::{Server, source_tables};
use steermap_examples::show::{columns, is_watched, playground};
use steermap_examples::slopes::{ALPHAS, RANDOM, SlopeBench};
use steermap_examples::{exit_code, family, random_files};
use steermap_mapper::behaviour::Choices;
use steermap_mapper::session::Session;
use steermap_mapper::tasks;
use steermap_maps::{MapFile, OffsetRule, VectorFile};

#[derive(Parser)]
#[command(
    about = "Fit a map from a small to a large model, find a vector on the small one, and steer the large one with it"
)]
struct Args {
    /// Where the map, the vectors and the configuration files are written
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Stories to fit the map on
    #[arg(long, default_value_t = 3000)]
    stories: usize,
    /// Length of the offset, in units of the stream's mean norm
    #[arg(long, default_value_t = STRENGTH)]
    strength: f64,
    /// End after the answers, without serving the playground
    #[arg(long)]
    end: bool,
}

const SOURCE: &str = family::SIZES[0];
const TARGET: &str = family::SIZES[2];
const CONCEPT: &str = "mood";
/// The layer at which the vector is found on the source, and the one at which it steers the target. Both are in the
/// middle, where its effect passes half of the blocks and mostly does not go straight to the logits
/// (examples/family/report).
const SOURCE_LAYER: usize = 2;
const TARGET_LAYER: usize = 4;
const STRENGTH: f64 = 0.3;
/// Names of the written files. The first two also ship in maps/.
const MAP: &str = "stories-260k--stories-3m.toml";
const VECTOR: &str = "stories-260k-mood.toml";
const NATIVE: &str = "stories-3m-mood.toml";
const RANDOM_VECTOR: &str = "random.toml";
/// Seed of the stories that the map is fitted on: no model was trained on them.
const SEED: u64 = 7;

/// Prompts that the served model continues.
const PROMPTS: [&str; 3] = [
    "In the garden, Tom saw the",
    "Her coat was blue, and her",
    "After the lunch, the gardener",
];

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let file = |name: &str| args.out.join(name);
    let (map, vector, native) = (file(MAP), file(VECTOR), file(NATIVE));

    println!(
        "1. Fitting the map from {SOURCE} to {TARGET}, on {} stories that neither was trained on\n",
        args.stories
    );
    let corpus = file("stories.jsonl");
    family::write_corpus(&corpus, args.stories, SEED)?;
    let pair = format!("{SOURCE_LAYER}:{TARGET_LAYER}");
    mapper(&[
        "fit",
        "--cpu",
        "--dtype",
        "f32",
        "--batch",
        "64",
        "--pairs",
        &pair,
        "--source",
        text(&family::model(SOURCE))?,
        "--target",
        text(&family::model(TARGET))?,
        "--corpus",
        text(&corpus)?,
        "--out",
        text(&map)?,
    ])?;

    println!("\n2. Finding the vector {CONCEPT} on {SOURCE}, and for comparison on {TARGET} itself\n");
    let pairs = family::pairs(CONCEPT);
    for (model, layer, out) in [(SOURCE, SOURCE_LAYER, &vector), (TARGET, TARGET_LAYER, &native)] {
        mapper(&[
            "vector",
            "--cpu",
            "--dtype",
            "f32",
            "--batch",
            "64",
            "--concept",
            CONCEPT,
            "--position",
            "mean",
            "--layers",
            &layer.to_string(),
            "--pairs",
            text(&pairs)?,
            "--model",
            text(&family::model(model))?,
            "--out",
            text(out)?,
        ])?;
    }

    let map = MapFile::load(&map)?;
    let native = VectorFile::load(&native)?;
    let mapped = map.apply(&VectorFile::load(&vector)?, OffsetRule::Linear, true)?;
    let mapped = mapped
        .layers
        .first()
        .context("the map made no direction for the layer")?;
    let mean_norm = mapped.mean_norm;
    measure(&native, &mapped.direction, mean_norm).await?;

    random_files::like(&native, 1)?.save(&file(RANDOM_VECTOR))?;
    serve(&args.out, args.strength * mean_norm)?;
    println!(
        "\nThe map, the vectors and the last configuration file are in {}.",
        args.out.display()
    );
    if args.end || !is_watched() {
        return Ok(());
    }
    show(&args)
}

/// Serves the target again for the playground, with the source model and with the vectors available by name.
fn show(args: &Args) -> Result<()> {
    let models = model_table()?;
    let source = std::path::absolute(family::model(SOURCE))?.display().to_string();
    let server = Server::start(
        &args.out,
        &format!(
            "{models}\n[steering.vectors]\nmood = \"{VECTOR}\"\nnative-mood = \"{NATIVE}\"\nrandom = \"{RANDOM_VECTOR}\"\n\n\
             [steering.maps]\nsmall-to-large = \"{MAP}\"\n\n{}",
            source_tables(&source)
        ),
    )?;
    let card = json!({
        "vector": "mood", "label": "mood", "map": "small-to-large", "layers": [TARGET_LAYER], "unit": "relative",
        "amount": args.strength,
    });
    let settings = json!({"v": 1, "kind": "completion", "prompt": PROMPTS[0], "temperature": 0, "cards": [card]});
    playground(server, &settings)
}

/// The `[[models]]` table that serves the target.
fn model_table() -> Result<String> {
    let model = std::path::absolute(family::model(TARGET))?.display().to_string();
    Ok(format!(
        "[[models]]\nkind = \"text\"\nmodel_id = {model:?}\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n"
    ))
}

/// Prints how far the mapped vector, the native one and random directions move the propensity.
async fn measure(native: &VectorFile, mapped: &[f32], mean_norm: f64) -> Result<()> {
    let session = Session::load(family::source(TARGET)).await?;
    let path = family::items(CONCEPT);
    // The measuring half; the other half was used to choose the layers.
    let (items, _) = Choices::of(&session, &tasks::read(&path)?.measuring).await?;
    println!(
        "\n3. Propensity on {TARGET}: logit of the happy word less that of the sad one, mean over {} items of\n   {}; \
         alpha in units of the stream's mean norm\n",
        items.len(),
        path.display()
    );
    let bench = SlopeBench {
        session: &session,
        items: &items,
    };
    let native = native
        .direction(TARGET_LAYER)
        .context("the native vector lacks the layer")?;
    let measured = bench.measure(TARGET_LAYER, mean_norm, native, mapped).await?;
    let alphas: Vec<f64> = [ALPHAS[0], 0.0, ALPHAS[ALPHAS.len() - 1]]
        .map(|alpha| alpha * mean_norm)
        .to_vec();
    println!(
        "   {:<20} {:>12} {:>12} {:>12}      slope",
        "alpha",
        ALPHAS[0],
        0,
        ALPHAS[ALPHAS.len() - 1]
    );
    for (name, direction, slope) in [
        ("mapped vector", mapped, measured.mapped),
        ("native vector", native, measured.native),
    ] {
        let unit = steermap_mapper::behaviour::unit(direction).context("the vector has no direction")?;
        let curve = items.curve(&session, TARGET_LAYER, &unit, &alphas).await?;
        println!(
            "   {name:<20} {:>+12.3} {:>+12.3} {:>+12.3} {slope:>+10.3}",
            curve[0], curve[1], curve[2]
        );
    }
    let (share, half_width) = measured.random_share();
    println!(
        "\n   retention, mapped over native slope: {:.3}   cosine of the two: {:.3}",
        measured.retention(),
        measured.cosine
    );
    println!(
        "   {RANDOM} random directions of the same norm: {share:+.3} ± {half_width:.3} of the native slope (95% interval of the mean)"
    );
    Ok(())
}

/// Serves the target four times and prints its continuations of the prompts.
fn serve(out: &Path, scale: f64) -> Result<()> {
    let model = std::path::absolute(family::model(TARGET))?.display().to_string();
    let models = model_table()?;
    let steered = |name: &str, file: &str, maps: &str, map: &str| {
        format!(
            "[steering.vectors]\n{name} = \"{file}\"\n{maps}\n[[steering.defaults]]\n[[steering.defaults.vectors]]\n\
             vector = \"{name}\"\n{map}scale = {scale:.3}\n"
        )
    };
    let maps = format!("\n[steering.maps]\nsmall-to-large = \"{MAP}\"\n");
    let through = steered("mood", VECTOR, &maps, "map = \"small-to-large\"\n");
    println!("\n4. Serving {TARGET} over HTTP, unsteered, then with this (the map reaches layer {TARGET_LAYER}):\n");
    through.lines().for_each(|line| println!("       {line}"));
    let configurations = [
        String::new(),
        steered("native", NATIVE, "", ""),
        steered("random", RANDOM_VECTOR, "", ""),
        through,
    ];
    let mut answers: Vec<Vec<String>> = Vec::new();
    for steering in &configurations {
        let server = Server::start(out, &format!("{models}\n{steering}"))?;
        let answer = |prompt: &&str| server.complete(&model, prompt, 40);
        answers.push(PROMPTS.iter().map(answer).collect::<Result<_>>()?);
    }
    for (index, prompt) in PROMPTS.iter().enumerate() {
        println!("\n   > {prompt} ...");
        let texts: Vec<&str> = answers.iter().map(|answers| answers[index].as_str()).collect();
        print!(
            "{}",
            columns(
                &["unsteered", "native vector", "random direction", "mapped vector"],
                &texts,
                26
            )
        );
    }
    Ok(())
}

/// Runs `mapper`, as a user would.
fn mapper(args: &[&str]) -> Result<()> {
    run_to_end(Command::new(binary("mapper")?).args(args))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not Unicode")
}
