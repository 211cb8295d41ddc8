//! Cost of taking statistics relative to the forward passes themselves: `cargo xtask bench collect`.
//!
//! The same texts, in the same batches, go through both models without statistics (the engine's prefill, no hook) and
//! through `mapper fit`'s collecting, in turns; the ratio is taken per round. If `STEERMAP_PYTHON` names an interpreter
//! with transformers (`cargo xtask bench peers` makes one), its forward passes are measured in turn with them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use mistralrs::ModelDType;
use steermap_examples::exit_code;
use steermap_examples::family::write_documents;
use steermap_examples::stories::Story;
use steermap_examples::worker_process::WorkerProcess;
use steermap_fit::stats::Precision;
use steermap_mapper::align::TokenizedText;
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::side::SideSource;
use steermap_mapper::collect::texts::WindowReader;
use steermap_mapper::collect::{CollectJob, CollectOutcome, GROUP_TOKENS};
use steermap_mapper::corpus::{Corpus, TextOptions};
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::statistics::quantiles;
use steermap_mapper::windows::WINDOW_BYTES;

/// Stories per document: three windows of 256 tokens.
const STORIES: usize = 12;

// The allocator that the mapper uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Compare `mapper fit`'s collecting with the bare forward passes of both models")]
struct Args {
    /// The source model
    #[arg(long, default_value = "models/smollm2-135m")]
    source: String,
    /// The target model
    #[arg(long, default_value = "models/smollm2-135m")]
    target: String,
    /// Text; without it, the stories of the embedded family
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Layer pairs, as for `mapper fit`
    #[arg(long, default_value = "relative-depth")]
    pairs: PairSelection,
    /// Documents of the corpus; without one, documents of twelve stories each
    #[arg(long, default_value_t = 16)]
    documents: usize,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    steermap_plugin::allocator::keep_freed_memory();
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let corpus = folder.path().join("corpus.jsonl");
    match &args.corpus {
        Some(path) => {
            let lines = Corpus::open(std::slice::from_ref(path), &TextOptions::default())?;
            let documents = lines.documents().take(args.documents);
            let texts: Result<Vec<String>> = documents.map(|document| Ok(document?.text)).collect();
            write_documents(&corpus, texts?)?;
        }
        None => {
            let document = |document: usize| {
                let stories = (0..STORIES).map(|i| Story::generate(7, (document * STORIES + i) as u64).text());
                stories.collect::<Vec<_>>().join("\n")
            };
            write_documents(&corpus, (0..args.documents).map(document))?;
        }
    }
    let source = |model: &str| ModelSource {
        dtype: ModelDType::F32,
        ..ModelSource::new(model)
    };
    let sessions = [
        Session::load(source(&args.source)).await?,
        Session::load(source(&args.target)).await?,
    ];
    let groups = groups(&sessions, &corpus)?;
    let tokens: usize = groups.iter().flatten().flatten().map(Vec::len).sum();
    let (mut peer, version) = match std::env::var("STEERMAP_PYTHON") {
        Ok(python) => {
            let (peer, version) = transformers(&python, &args, &groups, folder.path())?;
            (Some(peer), version)
        }
        Err(_) => (None, String::new()),
    };
    let job = |precision| CollectJob {
        source: SideSource::Model(source(&args.source)),
        target: SideSource::Model(source(&args.target)),
        corpus: vec![corpus.clone()],
        text: TextOptions::default(),
        pairs: args.pairs.clone(),
        rules: Rules::default(),
        precision,
        held_out_rows: None,
        limit: None,
        shard: Shard::default(),
        checkpoint: folder.path().join("bench.stats"),
        checkpoint_every: Duration::from_secs(3600),
        fits: None,
        progress: false,
    };
    let jobs = [Precision::F64, Precision::F32].map(job);
    // Seconds by round: the bare passes, statistics in float64 and in float32, transformers, and the bare passes again.
    let mut rounds: Vec<[Option<f64>; 5]> = Vec::new();
    for round in 0..=args.rounds {
        let mut seconds = [None; 5];
        for turn in 0..seconds.len() {
            // The order changes each time, so that none always follows the same other.
            let turn = (turn + round) % seconds.len();
            let start = Instant::now();
            match turn {
                0 | 4 => prefill(&sessions, &groups).await?,
                3 => match &mut peer {
                    Some(peer) => peer.ask("go").map(|_| ())?,
                    None => continue,
                },
                _ => collect(&jobs[turn - 1], &sessions).await?,
            }
            seconds[turn] = Some(start.elapsed().as_secs_f64());
        }
        // The first round warms up.
        if round > 0 {
            rounds.push(seconds);
        }
    }
    println!(
        "{tokens} tokens of {} and {} together, {} rounds in turns",
        args.source, args.target, args.rounds
    );
    let names = [
        "bare passes of both",
        "statistics, f64",
        "statistics, f32",
        &version,
        "bare passes, again",
    ];
    for (turn, name) in names.iter().enumerate() {
        let speeds: Vec<f64> = rounds.iter().filter_map(|r| Some(tokens as f64 / r[turn]?)).collect();
        let Some([_, speed, _]) = quantiles(&speeds, [0.25, 0.5, 0.75]) else {
            continue;
        };
        let beside = |other: usize| {
            let ratios: Vec<f64> = rounds.iter().filter_map(|r| Some(r[other]? / r[turn]?)).collect();
            let [low, middle, high] = quantiles(&ratios, [0.25, 0.5, 0.75])?;
            Some(format!("{middle:.3} ({low:.3} to {high:.3})"))
        };
        print!("  {name:<42} {speed:9.1} tokens/s");
        if turn != 0 {
            print!(", of the bare passes {}", beside(0).unwrap_or_default());
        }
        if let Some(ratio) = beside(3).filter(|_| turn != 3) {
            print!(", of transformers {ratio}");
        }
        println!();
    }
    println!("  (medians, quartiles of the rounds' ratios)");
    Ok(())
}

/// Takes the statistics and deletes them.
async fn collect(job: &CollectJob, sessions: &[Session; 2]) -> Result<()> {
    let CollectOutcome::Whole(_) = job.run_on(&sessions[0], &sessions[1], &AtomicBool::new(false)).await? else {
        bail!("the run was stopped");
    };
    std::fs::remove_file(&job.checkpoint).context("the checkpoint")
}

/// Texts as tokens of both models.
type Group = [Vec<Vec<u32>>; 2];

/// All texts, cut, grouped and ordered as [`CollectJob`] does if neither memory nor a model's context limits it.
fn groups(sessions: &[Session; 2], corpus: &PathBuf) -> Result<Vec<Group>> {
    let corpus = Corpus::open(std::slice::from_ref(corpus), &TextOptions::default())?;
    let (a, b) = (sessions[0].tokenizer()?, sessions[1].tokenizer()?);
    let (mut groups, mut group, mut tokens) = (Vec::new(), Group::default(), 0);
    for window in WindowReader::new(&corpus, Shard::default(), WINDOW_BYTES) {
        let text = window?.text;
        let texts = [&a, &b].map(|tokenizer| TokenizedText::new(tokenizer, &text).map(|text| text.ids));
        let [source, target] = texts;
        let (source, target) = (source?, target?);
        tokens += source.len().max(target.len());
        group[0].push(source);
        group[1].push(target);
        if tokens >= GROUP_TOKENS {
            groups.push(std::mem::take(&mut group));
            tokens = 0;
        }
    }
    groups.push(group);
    groups
        .iter_mut()
        .flatten()
        .for_each(|texts| texts.sort_by_key(Vec::len));
    Ok(groups)
}

/// Runs all texts through both models.
async fn prefill(sessions: &[Session; 2], groups: &[Group]) -> Result<()> {
    for group in groups {
        for (session, texts) in sessions.iter().zip(group) {
            let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            session.prefill(&prompts, || ()).await?;
        }
    }
    Ok(())
}

/// Starts transformers in a separate process, and returns its version.
fn transformers(python: &str, args: &Args, groups: &[Group], folder: &Path) -> Result<(WorkerProcess, String)> {
    let tokens = folder.join("tokens.json");
    let of = |model: usize| groups.iter().flat_map(|group| &group[model]).collect::<Vec<_>>();
    std::fs::write(&tokens, serde_json::to_vec(&[of(0), of(1)])?).with_context(|| tokens.display().to_string())?;
    let mut command = Command::new(python);
    command
        .arg("examples/bench/hidden_states.py")
        .args([&args.source, &args.target])
        .arg(&tokens)
        .arg(std::thread::available_parallelism()?.to_string());
    WorkerProcess::start(command).context("STEERMAP_PYTHON: expected an interpreter with transformers")
}
