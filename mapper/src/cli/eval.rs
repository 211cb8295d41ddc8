//! `mapper eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use steermap_mapper::eval::{Alphas, Draws, EvalJob, Judge, SteeredLayers, Stopped, TextDraws, config};
use steermap_mapper::tasks::PromptForm;
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
    /// Folder for the report, its figures and the vectors
    #[arg(long)]
    out: PathBuf,
    /// Strengths to steer at: `relative` (-0.2 to 0.2 of the stream's mean norm), `relative:FIRST:LAST:STEP`, or offset
    /// norms FIRST:LAST:STEP, such as the paper's -20:20:2
    #[arg(long, default_value = "relative", allow_hyphen_values = true)]
    alphas: Alphas,
    /// Target layers to steer: `band`, the middle half of the target's depth (headlines leave out layers whose effect
    /// goes mostly straight to the logits), `all` that the map reaches, or a list such as `3,5-9`
    #[arg(long, default_value_t = SteeredLayers::Band)]
    layers: SteeredLayers,
    /// Neutral text for R², CKA and perplexity: files as for `mapper fit`, of which only the documents that a fit holds
    /// out for testing are used (one in ten). Default: a short English text that is built in
    #[arg(long)]
    text: Vec<PathBuf>,
    /// Use all documents of the text, since the map was fitted on none of them
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
    /// Ask the items of published data sets through the chat template
    #[arg(long)]
    chat: bool,
    /// Mapped random directions of the source per task, the decisive control. Default: as many as a claim at 5% over
    /// all tasks needs, at least 99
    #[arg(long, value_name = "DRAWS")]
    control_draws: Option<usize>,
    /// Maximum number of items that a control is measured on
    #[arg(long, default_value_t = 16)]
    control_items: usize,
    /// Vectors to find from random halves of a task's pairs, for the uncertainty of the vectors
    #[arg(long, default_value_t = 10)]
    half_samples: usize,
    /// A map of the same models that was fitted on shuffled pairings, as another control
    #[arg(long, value_name = "MAP")]
    shuffled_map: Option<PathBuf>,
    /// Isotropic random directions of the target, per task
    #[arg(long, default_value_t = 20)]
    random: usize,
    /// How many of the alphas random directions are measured at
    #[arg(long, default_value_t = 5)]
    random_alphas: usize,
    /// Maximum number of items in each half of a task
    #[arg(long)]
    items: Option<usize>,
    /// Number of paired positions that R² and CKA are measured on
    #[arg(long, default_value_t = 2000)]
    positions: usize,
    /// Number of tokens that perplexity is measured on
    #[arg(long, default_value_t = 512)]
    perplexity_tokens: usize,
    /// The factor by which a proposed spec may raise perplexity at most
    #[arg(long, default_value_t = 1.1)]
    perplexity_budget: f64,
    /// How many of the alphas above 0 to generate texts at
    #[arg(long, default_value_t = 4)]
    text_alphas: usize,
    /// Texts to generate per prompt and strength: the first is greedy, the others are sampled; 0 generates none
    #[arg(long, default_value_t = 2)]
    texts: usize,
    /// Maximum number of tokens of a generated text
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// Have a model score the texts too, at this address of an OpenAI-compatible server, such as
    /// http://localhost:8000/v1. Texts and prompts are sent there. The key is read from STEERMAP_JUDGE_KEY; for
    /// https://api.openai.com also from OPENAI_API_KEY
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge: Option<String>,
    /// The judging model's name on that server
    #[arg(long, value_name = "NAME", requires = "judge")]
    judge_model: Option<String>,
    /// Resamples of each bootstrap
    #[arg(long, default_value_t = 2000)]
    resamples: usize,
    /// Seed of random directions and resampling
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accept models other than those that the map was fitted on
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
        form: if args.chat { PromptForm::Chat } else { PromptForm::Plain },
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
                "stopped; run the same command to continue from {}",
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
        atomic::write_bytes(&path, table.as_bytes())?;
        println!("wrote {}", path.display());
    }
    // The report contains everything that the journal held.
    std::fs::remove_file(job.journal_path())?;
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `mapper report`.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// The folder of an evaluation
    folder: PathBuf,
}

/// Writes the report of an evaluation again, from its report.json.
pub fn report(args: ReportArgs) -> Result<()> {
    let evaluation = steermap_report::read(&args.folder)?;
    print!("{}", steermap_report::text(&evaluation));
    println!();
    for path in steermap_report::write(&evaluation, &args.folder)? {
        println!("wrote {}", path.display());
    }
    Ok(())
}
