//! Retention of steering through maps between the embedded models: `cargo xtask transfer`.
//!
//! For each ordered pair of models, a map is fitted on stories that no model was trained on, and evaluated on all
//! concepts as `mapper eval` does. The table has a row per concept. The evaluation of two real models can be added as
//! another table.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Parser;
use steermap_examples::exit_code;
use steermap_examples::family;
use steermap_examples::show::outcome_name;
use steermap_mapper::corpus::TextOptions;
use steermap_mapper::eval::{Alphas, Draws, EvalJob, SteeredLayers, TextDraws};
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::tasks::PromptForm;
use steermap_mapper::vector::Method;
use steermap_maps::OffsetRule;
use steermap_maps::map::spell_source_layers;
use steermap_report::result::{Estimate, Evaluation, TaskResult, ValueSpread};

#[derive(Parser)]
#[command(about = "Evaluate the maps between all ordered pairs of the embedded models, and write the table")]
struct Args {
    /// Folder for the table (TRANSFER.md)
    #[arg(long, default_value = family::FOLDER)]
    out: PathBuf,
    /// Folder for the corpus, the maps and the evaluations
    #[arg(long, default_value = "target/transfer")]
    work: PathBuf,
    /// The folder of an evaluation of real models by `mapper eval`, to add as another table
    #[arg(long)]
    real: Option<PathBuf>,
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
    steermap_cpu::check();
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
            // Pairs of layers at the same relative depth.
            let pairs = PairSelection::RelativeDepth;
            family::fit(&corpus, (source, target), pairs, "transfer", true, &map).await?;
            let evaluation = evaluate(&args, &corpus, source, target, map).await?;
            println!("{source} to {target}: {}", evaluation.summary.verdict.sentence);
            evaluations.push(evaluation);
        }
    }
    let mut text = introduction(&args);
    for evaluation in &evaluations {
        table(&mut text, evaluation);
    }
    if let Some(real) = &args.real {
        table(&mut text, &steermap_report::read(real)?);
    }
    let path = args.out.join("TRANSFER.md");
    std::fs::write(&path, text)?;
    println!("wrote {}", path.display());
    Ok(())
}

async fn evaluate(args: &Args, corpus: &Path, source: &str, target: &str, map: PathBuf) -> Result<Evaluation> {
    let job = EvalJob {
        out: map.with_extension(""),
        map,
        shuffled_map: None,
        source: family::source(source),
        target: family::source(target),
        tasks: family::tasks(),
        form: PromptForm::Plain,
        text: vec![corpus.to_path_buf()],
        text_options: TextOptions::default(),
        unseen_text: false,
        alphas: args.alphas.clone(),
        layers: SteeredLayers::Band,
        draws: Draws {
            control: None,
            items: 16,
            halves: 10,
        },
        offset: OffsetRule::Linear,
        method: Method::MeanDifference,
        seed: 1,
        random: 20,
        random_alphas: 3,
        resamples: 2000,
        items: None,
        positions: 2000,
        // The table shows neither perplexity nor texts.
        perplexity_tokens: 1,
        perplexity_budget: 1.1,
        texts: TextDraws {
            alphas: 1,
            per_prompt: 0,
            max_tokens: 2,
        },
        judge: None,
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
        "# Does it transfer?\n\nMade by `cargo xtask transfer`. Maps between the embedded models were fitted on {} stories (seed {}) by \
         ridge\nregression, with lambda chosen on held-out stories, and evaluated as by `mapper eval`: {}, in units of the\ntarget \
         stream's mean norm, at the layers of the middle half of the target's depth. Layers whose effect goes mostly straight \
         to\nthe logits are left out.\n\n\
         `band`: mean retention over these layers. `retention`: retention at the one in their middle, fixed beforehand. Both \
         are\nslopes of the mean propensity against alpha with the mapped vector over that with the native one, on the measuring \
         half,\nwith 95% intervals over clusters of items and over the vectors' own uncertainty. `mapped random`: the central 95% \
         of\nmapped random directions, and the p-value of the mapped vector's rank among them after Holm's correction. `own / \
         others`:\nratio of its effect on its own task to that on the others. Pearson and MSE are the paper's, between native and \
         mapped\nsteering: the correlation over items at each alpha, mean \u{b1} standard deviation over alphas; MSE of logits, and of \
         the\nprobability of the positive answer.\n\nThe paper (arXiv 2506.00653) reports Pearson correlations of 0.73 to 0.98 and \
         mean squared errors of 0.005 to 0.096 for its\npairs, of propensities, which it defines as differences of logits; it does \
         not state their scale.\n",
        args.stories, args.seed, args.alphas
    )
}

fn table(text: &mut String, evaluation: &Evaluation) {
    let run = &evaluation.run;
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string does not fail");
    line(format!("\n## {} to {}\n", run.source.model, run.target.model));
    line(format!("{}\n", evaluation.summary.verdict.sentence));
    line(
        "| task | verdict | band | layers | R² | cosine | retention | mapped random | own / others | Pearson | MSE (logits) | MSE \
         (probability) |"
            .to_string(),
    );
    line("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_string());
    for task in &evaluation.tasks {
        line(row(evaluation, task));
    }
    for failed in &evaluation.failed {
        line(format!("\n{} could not be measured: {}", failed.name, failed.reason));
    }
}

fn row(evaluation: &Evaluation, task: &TaskResult) -> String {
    let pairs = &evaluation.representation.pairs;
    let pair = pairs
        .iter()
        .find(|pair| pair.source_layers == task.source_layers && pair.target_layer == task.target_layer);
    let dash = || "-".to_string();
    let r2 = pair.map_or_else(dash, |pair| format!("{:.3}", pair.r2));
    let estimate = |of: &Estimate| format!("{:.3} ({:.3} to {:.3})", of.value, of.low, of.high);
    // Between these models the errors span four orders of magnitude.
    let error = |spread: &ValueSpread| format!("{:.1e} ± {:.1e}", spread.mean, spread.deviation);
    let random = task.decisive().map_or_else(dash, |control| {
        let [low, high] = control.spread.range;
        let p = control.p_adjusted.unwrap_or(control.p_value);
        format!("{low:+.2} to {high:+.2}, p {p:.3}")
    });
    let outcome = outcome_name(task.verdict.outcome);
    format!(
        "| {} | {outcome} | {} | {} -> {} | {r2} | {:.3} | {} | {random} | {} | {:.3} ± {:.3} | {} | {} |",
        task.name,
        task.band_retention.as_ref().map_or_else(dash, estimate),
        spell_source_layers(&task.source_layers),
        task.target_layer,
        task.cosine,
        estimate(&task.retention),
        task.specificity.as_ref().map_or_else(dash, |specificity| format!(
            "{:.1}",
            specificity.own / specificity.others
        )),
        task.item_pearson.mean,
        task.item_pearson.deviation,
        error(&task.mse),
        error(&task.mse_probability),
    )
}
