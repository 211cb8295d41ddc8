//! What steering keeps through maps between the embedded models: `cargo xtask transfer`.
//!
//! For each ordered pair of models a map is fitted on stories that no model was trained on, and evaluated as `mapper eval`
//! does it, on all concepts. The table has a line per concept; where the evaluation of two real models lies beside it, that
//! one's too.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use steermap_examples::exit_code;
use steermap_examples::family;
use steermap_fit::stats::Precision;
use steermap_fit::{RankChoice, RidgeChoice};
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::side::SideSource;
use steermap_mapper::collect::{CollectJob, Outcome};
use steermap_mapper::corpus::TextOptions;
use steermap_mapper::eval::result::{Evaluation, Spread, TaskResult};
use steermap_mapper::eval::{Alphas, EvalJob};
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::map::{MapJob, fit_map};
use steermap_mapper::tasks::Form;
use steermap_mapper::vector::Method;
use steermap_maps::OffsetRule;
use steermap_maps::map::spell_source_layers;

#[derive(Parser)]
#[command(about = "Evaluate the maps between all ordered pairs of the embedded models, and write the table")]
struct Args {
    /// Folder for the table (TRANSFER.md)
    #[arg(long, default_value = family::FOLDER)]
    out: PathBuf,
    /// Folder for the corpus, the maps and the evaluations
    #[arg(long, default_value = "target/transfer")]
    work: PathBuf,
    /// The evaluation of real models, as `mapper eval` wrote it
    #[arg(long, default_value = "examples/real-models/report/report.json")]
    real: PathBuf,
    /// Stories to fit on
    #[arg(long, default_value_t = 2000)]
    stories: usize,
    /// Seed of those stories (the models were trained on others)
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Alphas, as for `mapper eval`
    #[arg(long, default_value = "relative:-0.1:0.1:0.05", allow_hyphen_values = true)]
    alphas: Alphas,
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

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(&args.work).with_context(|| args.work.display().to_string())?;
    let corpus = args.work.join("corpus.jsonl");
    family::write_corpus(&corpus, args.stories, args.seed)?;
    let mut evaluations = Vec::new();
    for source in &args.models {
        for target in args.models.iter().filter(|target| *target != source) {
            let map = args.work.join(format!("{source}--{target}.toml"));
            fit(&corpus, source, target, &map).await?;
            let evaluation = evaluate(&args, &corpus, source, target, map).await?;
            println!("{source} to {target}: {}", evaluation.summary.verdict.sentence);
            evaluations.push(evaluation);
        }
    }
    let mut text = introduction(&args);
    for evaluation in &evaluations {
        table(&mut text, evaluation);
    }
    if args.real.exists() {
        let json = std::fs::read_to_string(&args.real)?;
        let real = serde_json::from_str(&json).with_context(|| args.real.display().to_string())?;
        table(&mut text, &real);
    }
    let path = args.out.join("TRANSFER.md");
    std::fs::write(&path, text)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// The map between the layers of the same relative depth.
async fn fit(corpus: &Path, source: &str, target: &str, out: &Path) -> Result<()> {
    let job = CollectJob {
        source: SideSource::Model(family::source(source)),
        target: SideSource::Model(family::source(target)),
        corpus: vec![corpus.to_path_buf()],
        text: TextOptions::default(),
        pairs: PairSelection::RelativeDepth,
        rules: Rules::default(),
        precision: Precision::F64,
        held_out_rows: None,
        limit: None,
        shard: Shard::default(),
        checkpoint: out.with_extension("checkpoint.stats"),
        checkpoint_every: Duration::from_secs(60),
        fits: None,
        progress: true,
    };
    let Outcome::Whole(collected) = job.run(&AtomicBool::new(false)).await? else {
        bail!("the run was stopped");
    };
    let map = MapJob {
        out: out.to_path_buf(),
        ridge: RidgeChoice::Auto,
        shape: RankChoice::Full.into(),
        command: "transfer".to_string(),
    };
    fit_map(*collected, &map, |_| ())?;
    Ok(std::fs::remove_file(&job.checkpoint)?)
}

async fn evaluate(args: &Args, corpus: &Path, source: &str, target: &str, map: PathBuf) -> Result<Evaluation> {
    let job = EvalJob {
        out: map.with_extension(""),
        map,
        source: family::source(source),
        target: family::source(target),
        tasks: family::tasks(),
        form: Form::Plain,
        text: vec![corpus.to_path_buf()],
        text_options: TextOptions::default(),
        alphas: args.alphas.clone(),
        layers: LayerSelection::All,
        offset: OffsetRule::Linear,
        method: Method::MeanDifference,
        seed: 1,
        random: 20,
        random_alphas: 3,
        resamples: 2000,
        items: None,
        positions: 2000,
        // The table has neither perplexity nor texts.
        perplexity_tokens: 1,
        perplexity_budget: 1.1,
        max_tokens: 1,
        ignore_fingerprints: false,
        command: "transfer".to_string(),
        progress: true,
    };
    let evaluation = job.run(AtomicBool::new(false).into()).await?;
    std::fs::remove_file(job.journal_path())?;
    Ok(evaluation)
}

fn introduction(args: &Args) -> String {
    format!(
        "# Does it transfer?\n\nMade by `cargo xtask transfer`. Maps between the embedded models were fitted on {} stories (seed {}), \
         ridge,\nlambda chosen on held-out stories, and evaluated as `mapper eval` does it: {}, of the target stream's mean norm. A\n\
         concept's layer is the one at which the target's own vector steers most on the finding half of the items; all numbers are\n\
         from the other half. Retention: slope of the mean propensity against alpha with the mapped vector over that with the native\n\
         one, with its 95% interval over resampled items; `random`: what 95% of 20 random directions have of that slope. Pearson and MSE\n\
         are by item, over alphas, between native and mapped steering: mean ± standard deviation over items; MSE of logits, and\n\
         of the probability of the positive answer.\n\nThe paper (arXiv 2506.00653) has Pearson correlations of 0.73 to 0.98 and mean \
         squared errors of 0.005 to 0.096 for its pairs.\n",
        args.stories, args.seed, args.alphas
    )
}

fn table(text: &mut String, evaluation: &Evaluation) {
    let run = &evaluation.run;
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string does not fail");
    line(format!("\n## {} to {}\n", run.source.model, run.target.model));
    line(format!("{}\n", evaluation.summary.verdict.sentence));
    line(
        "| task | layers | R² | cosine | retention | random | Pearson | MSE (logits) | MSE (probability) |".to_string(),
    );
    line("| --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_string());
    for task in &evaluation.tasks {
        line(row(evaluation, task));
    }
}

fn row(evaluation: &Evaluation, task: &TaskResult) -> String {
    let pairs = &evaluation.representation.pairs;
    let pair = pairs
        .iter()
        .find(|pair| pair.source_layers == task.source_layers && pair.target_layer == task.target_layer);
    let r2 = pair.map_or("-".to_string(), |pair| format!("{:.3}", pair.r2));
    // Between these models the errors span four orders of magnitude.
    let error = |spread: &Spread| format!("{:.1e} ± {:.1e}", spread.mean, spread.deviation);
    let [low, high] = task.random_retention.range;
    format!(
        "| {} | {} -> {} | {r2} | {:.3} | {:.3} ({:.3} to {:.3}) | {low:+.2} to {high:+.2} | {} | {} | {} |",
        task.name,
        spell_source_layers(&task.source_layers),
        task.target_layer,
        task.cosine,
        task.retention.value,
        task.retention.low,
        task.retention.high,
        format_args!("{:.3} ± {:.3}", task.pearson.mean, task.pearson.deviation),
        error(&task.mse),
        error(&task.mse_probability),
    )
}
