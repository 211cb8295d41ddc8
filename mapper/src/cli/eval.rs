//! `mapper eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use steermap_mapper::eval::{Alphas, Draws, EvalJob, Judge, SteeredLayers, Stopped, TextDraws, config};
use steermap_mapper::tasks::Form;
use steermap_mapper::vector::Method;
use steermap_maps::{OffsetRule, atomic};

use super::models::ModelPairArgs;
use super::text::TextArgs;
use super::{STOPPED, check_out_folder, command_line, stop_flag};

/// Arguments of `mapper eval`.
#[derive(clap::Args)]
pub struct EvalArgs {
    /// The map file
    #[arg(long)]
    map: PathBuf,
    #[command(flatten)]
    models: ModelPairArgs,
    /// Folder of tasks: ours (.toml with .jsonl), Anthropic's model-written evaluations (.jsonl), CAA's (.json)
    #[arg(long)]
    tasks: PathBuf,
    /// Folder to write the report, its figures and the vectors to
    #[arg(long)]
    out: PathBuf,
    /// How strongly to steer: `relative` (-0.2 to 0.2 of the stream's mean norm), `relative:FIRST:LAST:STEP`, or lengths
    /// FIRST:LAST:STEP, as the paper's -20:20:2
    #[arg(long, default_value = "relative", allow_hyphen_values = true)]
    alphas: Alphas,
    /// Target layers that are steered: `band`, the middle half of the target's depth (layers whose effect goes mostly straight
    /// to the logits are left out of the headlines), `all` that the map reaches, or a list such as `3,5-9`
    #[arg(long, default_value_t = SteeredLayers::Band)]
    layers: SteeredLayers,
    /// Neutral text for R², CKA and perplexity: files as for `mapper fit`, of which only those documents are taken that a fit
    /// holds out (one in ten); absent: a short English one that is built in
    #[arg(long)]
    text: Vec<PathBuf>,
    /// Take all documents of the text: the map's fit saw none of it
    #[arg(long, requires = "text")]
    unseen_text: bool,
    #[command(flatten)]
    text_options: TextArgs,
    /// How the map carries vectors: `linear` (A v) or, as the paper does, `affine` (A v + p)
    #[arg(long, default_value_t = OffsetRule::Linear)]
    offset: OffsetRule,
    /// How vectors are found
    #[arg(long, value_enum, default_value_t = Method::MeanDifference)]
    method: Method,
    /// Ask published data through the chat template
    #[arg(long)]
    chat: bool,
    /// Random directions of the source, mapped, per task: the decisive control; absent: as many as a claim at 5% over all
    /// tasks needs, 99 at least
    #[arg(long, value_name = "DRAWS")]
    control_draws: Option<usize>,
    /// Most items that a control is measured on
    #[arg(long, default_value_t = 16)]
    control_items: usize,
    /// Vectors from half samples of a task's pairs, for the vectors' own uncertainty
    #[arg(long, default_value_t = 10)]
    half_samples: usize,
    /// A map of the same models that was fitted on shuffled pairings, as a further control
    #[arg(long, value_name = "MAP")]
    shuffled_map: Option<PathBuf>,
    /// Isotropic random directions of the target, per task
    #[arg(long, default_value_t = 20)]
    random: usize,
    /// How many of the alphas these are measured at
    #[arg(long, default_value_t = 5)]
    random_alphas: usize,
    /// Most items of each half of a task
    #[arg(long)]
    items: Option<usize>,
    /// Paired positions that R² and CKA are of
    #[arg(long, default_value_t = 2000)]
    positions: usize,
    /// Tokens that perplexity is of
    #[arg(long, default_value_t = 512)]
    perplexity_tokens: usize,
    /// Most that a proposed spec may multiply perplexity by
    #[arg(long, default_value_t = 1.1)]
    perplexity_budget: f64,
    /// How many of the alphas above 0 texts are generated at
    #[arg(long, default_value_t = 4)]
    text_alphas: usize,
    /// Texts of each prompt and strength, the first greedy, the others sampled; 0 generates none
    #[arg(long, default_value_t = 2)]
    texts: usize,
    /// Most tokens of a generated text
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// Let a model score the texts too: the address of an OpenAI-compatible server, such as http://localhost:8000/v1. Texts and
    /// prompts are sent there; the key is read from STEERMAP_JUDGE_KEY, for https://api.openai.com from OPENAI_API_KEY too
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge: Option<String>,
    /// The judge's name on that server
    #[arg(long, value_name = "NAME", requires = "judge")]
    judge_model: Option<String>,
    /// Resamples of each bootstrap
    #[arg(long, default_value_t = 2000)]
    resamples: usize,
    /// Seed of random directions and resampling
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take models other than those that the map was fitted on
    #[arg(long)]
    ignore_fingerprints: bool,
}

/// Evaluates, prints the table, and writes the report.
pub async fn eval(args: EvalArgs) -> Result<ExitCode> {
    let Some((source, target)) = args.models.sources() else {
        bail!("found no --source or no --target, expected both");
    };
    check_out_folder(&args.out)?;
    let judge = match args.judge.zip(args.judge_model) {
        None => None,
        Some((url, model)) => {
            // OpenAI's key is for OpenAI alone.
            let own = url.starts_with("https://api.openai.com/");
            let names = ["STEERMAP_JUDGE_KEY", "OPENAI_API_KEY"];
            let mut names = names.iter().take(if own { 2 } else { 1 });
            let key = names.find_map(|name| std::env::var(name).ok());
            Some(Judge::new(&url, &model, key)?)
        }
    };
    let job = EvalJob {
        map: args.map,
        shuffled_map: args.shuffled_map,
        source,
        target,
        tasks: args.tasks,
        form: match args.chat {
            true => Form::Chat,
            false => Form::Plain,
        },
        text: args.text,
        text_options: args.text_options.options(),
        unseen_text: args.unseen_text,
        out: args.out,
        alphas: args.alphas,
        layers: args.layers,
        draws: Draws {
            control: args.control_draws,
            items: args.control_items,
            halves: args.half_samples,
        },
        offset: args.offset,
        method: args.method,
        seed: args.seed,
        random: args.random,
        random_alphas: args.random_alphas,
        resamples: args.resamples,
        items: args.items,
        positions: args.positions,
        perplexity_tokens: args.perplexity_tokens,
        perplexity_budget: args.perplexity_budget,
        texts: TextDraws {
            alphas: args.text_alphas,
            per_prompt: args.texts,
            max_tokens: args.max_tokens,
        },
        judge,
        ignore_fingerprints: args.ignore_fingerprints,
        command: command_line(),
        progress: true,
    };
    let evaluation = match job.run(stop_flag()?).await {
        Ok(evaluation) => evaluation,
        Err(error) if error.is::<Stopped>() => {
            eprintln!(
                "stopped; the same command goes on from {}",
                job.journal_path().display()
            );
            return Ok(ExitCode::from(STOPPED));
        }
        Err(error) => return Err(error),
    };
    print!("{}", steermap_report::text(&evaluation));
    println!();
    for path in steermap_report::write(&evaluation, &job.out)? {
        println!("wrote {}", path.display());
    }
    if let Some(table) = config::table(&evaluation, &job.map, &job.out)? {
        let path = job.out.join("steering.toml");
        atomic::write(&path, |file| std::io::Write::write_all(file, table.as_bytes()))?;
        println!("wrote {}", path.display());
    }
    // What it held is in the report now.
    std::fs::remove_file(job.journal_path())?;
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `mapper report`.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// The folder of an evaluation
    folder: PathBuf,
}

/// Draws the report of an evaluation again, from its numbers.
pub fn report(args: ReportArgs) -> Result<()> {
    let evaluation = steermap_report::read(&args.folder)?;
    print!("{}", steermap_report::text(&evaluation));
    println!();
    for path in steermap_report::write(&evaluation, &args.folder)? {
        println!("wrote {}", path.display());
    }
    Ok(())
}
