//! Retention of every concept between every ordered pair of the embedded models: `cargo xtask transfer`.
//!
//! For each pair of models a map is fitted on stories that no model was trained on. The layer pair of each concept is
//! chosen on the first half of the concept's items, by how strongly the mapped vector steers; everything that is reported
//! is measured on the second half.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use steermap_examples::exit_code;
use steermap_examples::family;
use steermap_examples::transfer::Transfer;
use steermap_mapper::behaviour::read_items;
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::{CollectJob, Outcome};
use steermap_mapper::fit::RidgeChoice;
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::map::fit_map;
use steermap_mapper::session::Session;
use steermap_mapper::stats::Precision;
use steermap_mapper::vector::VectorJob;
use steermap_maps::{MapFile, TokenPosition, VectorFile};

#[derive(Parser)]
#[command(
    about = "Measure, for every ordered pair of the embedded models and every concept, what a mapped vector retains"
)]
struct Args {
    /// Folder for the table (TRANSFER.md) and the numbers (transfer.json)
    #[arg(long, default_value = family::FOLDER)]
    out: PathBuf,
    /// Folder for the corpus and checkpoints
    #[arg(long, default_value = "target/transfer")]
    work: PathBuf,
    /// Stories to fit on
    #[arg(long, default_value_t = 2000)]
    stories: usize,
    /// Seed of those stories (the models were trained on others)
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Only these concepts
    #[arg(long, value_delimiter = ',', default_values_t = family::CONCEPTS.map(String::from))]
    concepts: Vec<String>,
    /// Only these models
    #[arg(long, value_delimiter = ',', default_values_t = all_models())]
    models: Vec<String>,
}

fn all_models() -> Vec<String> {
    family::SIZES
        .into_iter()
        .chain([family::OTHER_TOKENIZER])
        .map(String::from)
        .collect()
}

/// One concept from one model to another.
#[derive(Serialize)]
struct Row {
    source: String,
    target: String,
    concept: String,
    #[serde(flatten)]
    transfer: Transfer,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(&args.work).with_context(|| args.work.display().to_string())?;
    let corpus = args.work.join("corpus.jsonl");
    family::write_corpus(&corpus, args.stories, args.seed)?;
    let mut sessions = BTreeMap::new();
    for model in &args.models {
        sessions.insert(model.clone(), Session::load(family::source(model)).await?);
    }
    let bar = bar((sessions.len() * args.concepts.len()) as u64, "vectors");
    let mut vectors = BTreeMap::new();
    for (model, session) in &sessions {
        for concept in &args.concepts {
            let vector = find_vector(session, concept).await?;
            vectors.insert((model.as_str(), concept.as_str()), vector);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let ordered: Vec<(&String, &String)> = args
        .models
        .iter()
        .flat_map(|source| args.models.iter().map(move |target| (source, target)))
        .filter(|(source, target)| source != target)
        .collect();
    let mut rows = Vec::new();
    for (source, target) in ordered {
        let map = fit(&args, &corpus, &sessions[source], &sessions[target]).await?;
        for concept in &args.concepts {
            let found = &vectors[&(source.as_str(), concept.as_str())];
            let native = &vectors[&(target.as_str(), concept.as_str())];
            let items = read_items(&family::items(concept))?;
            let transfer = Transfer::measure(&sessions[target], &map, &items, found, native).await?;
            println!("{source} -> {target}  {concept:<9} {transfer}");
            let row = Row {
                source: source.clone(),
                target: target.clone(),
                concept: concept.clone(),
                transfer,
            };
            rows.push(row);
        }
    }
    let json = serde_json::to_string_pretty(&rows)? + "\n";
    std::fs::write(args.out.join("transfer.json"), json)?;
    std::fs::write(args.out.join("TRANSFER.md"), table(&rows, &args))?;
    println!("wrote {}", args.out.join("TRANSFER.md").display());
    Ok(())
}

/// The vector of a concept at every layer of a model.
async fn find_vector(session: &Session, concept: &str) -> Result<VectorFile> {
    let job = VectorJob {
        source: session.source().clone(),
        pairs: family::pairs(concept),
        concept: concept.to_string(),
        layers: LayerSelection::All,
        position: POSITION,
        command: "transfer".to_string(),
        progress: false,
    };
    job.run_on(session).await
}

/// Where vectors are read: see examples/family/README.md.
const POSITION: TokenPosition = TokenPosition::Mean;

/// The map between the layers of the same relative depth.
async fn fit(args: &Args, corpus: &Path, source: &Session, target: &Session) -> Result<MapFile> {
    let job = CollectJob {
        source: source.source().clone(),
        target: target.source().clone(),
        corpus: vec![corpus.to_path_buf()],
        pairs: PairSelection::RelativeDepth,
        rules: Rules::default(),
        precision: Precision::F64,
        limit: None,
        shard: Shard::default(),
        checkpoint: args.work.join("transfer.checkpoint.stats"),
        checkpoint_every: Duration::from_secs(60),
        progress: true,
    };
    let Outcome::Whole(collected) = job.run_on(source, target, &AtomicBool::new(false)).await? else {
        anyhow::bail!("the run was stopped");
    };
    let map = fit_map(*collected, RidgeChoice::Auto, "transfer".to_string(), |_| ())?;
    std::fs::remove_file(&job.checkpoint)?;
    Ok(map)
}

fn table(rows: &[Row], args: &Args) -> String {
    let mut text = format!(
        "# Does it transfer?\n\nMade by `cargo xtask transfer`; the numbers are in `transfer.json` too. Maps were fitted on {} stories (seed\n\
         {}), ridge, lambda chosen on held-out stories. A concept's layer pair is the one at which the mapped vector\n\
         steers most on the first half of the concept's items; all numbers are from the second half. Slopes are of the mean\n\
         propensity, `logit(positive) - logit(negative)`, against alpha in units of the layer's mean stream norm. Retention is\n\
         the mapped vector's slope over the native one's; `random` is the mean slope of {} random directions over the native\n\
         one's, with its 95% interval.\n",
        args.stories,
        args.seed,
        steermap_examples::transfer::RANDOM
    );
    let mut pairs: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row.source.as_str(), row.target.as_str()))
        .collect();
    pairs.dedup();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a string does not fail");
    for (source, target) in pairs {
        line(format_args!("\n## {source} to {target}\n"));
        line(format_args!(
            "| concept | layers | R² | cosine | native slope | mapped slope | retention | random |"
        ));
        line(format_args!("| --- | --- | --- | --- | --- | --- | --- | --- |"));
        for row in rows.iter().filter(|row| row.source == source && row.target == target) {
            line(format_args!("| {} | {} |", row.concept, row.transfer.cells()));
        }
    }
    text
}

fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("a valid template");
    ProgressBar::new(length).with_style(style).with_message(what)
}
