//! Checks that an evaluation reports broken maps as broken: `cargo xtask broken`.
//!
//! Fits a map between two of the embedded models, breaks it in five ways, runs `mapper eval` on each, and writes the
//! table. Fails without writing anything if a broken map is not reported as broken, or the intact map as carrying
//! steering.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use steermap_examples::broken_maps::{EvaluatedVariant, Variant, page};
use steermap_examples::exit_code;
use steermap_examples::family;
use steermap_examples::programs::{binary, run_to_end};
use steermap_mapper::eval::vectors;
use steermap_maps::{MapFile, VectorFile};
use steermap_report::result::Evaluation;

#[derive(Parser)]
#[command(
    about = "Evaluate a map between the embedded models beside broken ones, check the verdicts, and write the table"
)]
struct Args {
    /// Folder for the table (BROKEN.md)
    #[arg(long, default_value = family::FOLDER)]
    out: PathBuf,
    /// Folder for the corpus, the maps and the evaluations
    #[arg(long, default_value = "target/broken")]
    work: PathBuf,
    /// Stories to fit on
    #[arg(long, default_value_t = 3000)]
    stories: usize,
    /// Seed of those stories (the models were trained on others)
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

const SOURCE: &str = family::SIZES[0];
const TARGET: &str = family::SIZES[2];

/// How each map is evaluated. The layers are the middle half of the target's eight. They are given explicitly, since
/// the rule for layers whose effect goes straight to the logits would leave one task. The decisive control has the
/// protocol's draws. Results that the table does not show are reduced: fewer alphas and control items, no texts, no
/// perplexity.
const EVALUATION: [&str; 6] = [
    "--layers=2-5",
    "--alphas=relative:-0.2:0.2:0.1",
    "--random-alphas=3",
    "--control-items=8",
    "--perplexity-tokens=1",
    "--texts=0",
];

fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.work).with_context(|| args.work.display().to_string())?;
    let stories = args.work.join("stories.jsonl");
    family::write_corpus(&stories, args.stories, args.seed).with_context(|| stories.display().to_string())?;
    let fitted = fit(&stories, &Variant::Intact.path(&args.work))?;
    let intact = evaluate(args, &stories, Variant::Intact)?;
    let vectors = source_vectors(&intact.evaluation, &args.work.join(Variant::Intact.name()))?;
    let mut maps = vec![intact];
    for variant in Variant::BROKEN {
        if let Some(map) = variant.of(&fitted, &vectors).context(variant.name())? {
            map.save(&variant.path(&args.work))?;
        }
        maps.push(evaluate(args, &stories, variant)?);
    }
    let text = page(&maps, &format!("{} stories (seed {})", args.stories, args.seed));
    print!("\n{text}");
    let wrong: Vec<String> = maps.iter().filter_map(EvaluatedVariant::wrong).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let path = args.out.join("BROKEN.md");
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("\nwrote {}", path.display());
    Ok(())
}

/// Fits the map between all pairs of layers, and its control on shuffled pairings.
fn fit(stories: &Path, out: &Path) -> Result<MapFile> {
    println!("fitting the map from {SOURCE} to {TARGET}");
    let mut fit = mapper("fit")?;
    fit.args(["--pairs", "all", "--shuffle-control", "--corpus"])
        .arg(stories);
    fit.arg("--out").arg(out);
    run_to_end(&mut fit)?;
    Ok(MapFile::load(out)?)
}

fn evaluate(args: &Args, stories: &Path, variant: Variant) -> Result<EvaluatedVariant> {
    println!("evaluating: {}", variant.title());
    let out = args.work.join(variant.name());
    // An interrupted run measured maps that are fitted again now, so its journal is discarded.
    forget(&out.join("eval.journal"))?;
    let mut eval = mapper("eval")?;
    eval.args(EVALUATION);
    eval.arg("--text").arg(stories).arg("--tasks").arg(family::tasks());
    eval.arg("--map").arg(variant.path(&args.work)).arg("--out").arg(&out);
    run_to_end(&mut eval)?;
    Ok(EvaluatedVariant {
        variant,
        evaluation: steermap_report::read(&out)?,
    })
}

/// The tasks' vectors on the source, which an evaluation keeps beside its report.
fn source_vectors(evaluation: &Evaluation, folder: &Path) -> Result<Vec<VectorFile>> {
    let mut found = Vec::with_capacity(evaluation.tasks.len());
    for task in &evaluation.tasks {
        found.push(VectorFile::load(&vectors::path(folder, &task.name, false))?);
    }
    Ok(found)
}

/// `mapper COMMAND` between the two models.
fn mapper(command: &str) -> Result<Command> {
    let mut mapper = Command::new(binary("mapper")?);
    mapper.arg(command).args(["--cpu", "--dtype", "f32", "--batch", "64"]);
    mapper.arg("--source").arg(family::model(SOURCE));
    mapper.arg("--target").arg(family::model(TARGET));
    // Its output is in its files too; progress goes to standard error.
    mapper.stdout(Stdio::null());
    Ok(mapper)
}

/// Removes a file if it exists.
fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
        _ => Ok(()),
    }
}
