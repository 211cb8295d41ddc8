//! What taking statistics costs beside the forward passes themselves: `cargo xtask bench collect`.
//!
//! The same texts, in the same batches, go through both models bare (the engine's prefill, no hook) and through
//! `mapper fit`'s collecting, in turns; the ratio of the two is taken round by round.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use mistralrs::ModelDType;
use steermap_examples::exit_code;
use steermap_mapper::align::{TokenizedText, windows};
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::{CollectJob, Outcome};
use steermap_mapper::corpus::Corpus;
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::stats::Precision;

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
    /// Documents of the corpus, or stories
    #[arg(long, default_value_t = 64)]
    documents: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let corpus = folder.path().join("corpus.jsonl");
    match &args.corpus {
        Some(path) => {
            let lines = Corpus::open(std::slice::from_ref(path))?;
            let documents = lines.documents().take(args.documents);
            let text: Result<String> = documents
                .map(|document| Ok(serde_json::json!({"text": document?.text}).to_string() + "\n"))
                .collect();
            std::fs::write(&corpus, text?)?;
        }
        None => steermap_examples::family::write_corpus(&corpus, args.documents, 7)?,
    }
    let source = |model: &str| ModelSource {
        dtype: ModelDType::F32,
        ..ModelSource::new(model)
    };
    let sessions = [
        Session::load(source(&args.source)).await?,
        Session::load(source(&args.target)).await?,
    ];
    let job = CollectJob {
        source: source(&args.source),
        target: source(&args.target),
        corpus: vec![corpus.clone()],
        pairs: args.pairs.clone(),
        rules: Rules::default(),
        precision: Precision::F64,
        limit: None,
        shard: Shard::default(),
        checkpoint: folder.path().join("bench.stats"),
        checkpoint_every: Duration::from_secs(3600),
        progress: false,
    };
    let (mut bare, mut collected, mut ratios, mut tokens) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..=args.rounds {
        let start = Instant::now();
        tokens = prefill(&sessions, &corpus, &job.rules).await?;
        let plain = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let Outcome::Whole(_) = job.run_on(&sessions[0], &sessions[1], &AtomicBool::new(false)).await? else {
            bail!("the run was stopped");
        };
        let fit = start.elapsed().as_secs_f64();
        std::fs::remove_file(&job.checkpoint).context("the checkpoint")?;
        // The first round warms up.
        if round > 0 {
            bare.push(tokens as f64 / plain);
            collected.push(tokens as f64 / fit);
            ratios.push(plain / fit);
        }
    }
    println!(
        "{tokens} tokens of {} and {} together, {} rounds in turns",
        args.source, args.target, args.rounds
    );
    println!("  bare prefill of both    {:9.1} tokens/s (median)", median(&mut bare));
    println!(
        "  statistics taken        {:9.1} tokens/s (median)",
        median(&mut collected)
    );
    let middle = median(&mut ratios);
    println!(
        "  ratio                   {middle:9.3} (median; {:.3} to {:.3})",
        ratios.first().copied().unwrap_or(f64::NAN),
        ratios.last().copied().unwrap_or(f64::NAN)
    );
    Ok(())
}

/// Runs all texts through both models, batched as [`CollectJob`] batches them; the number of tokens.
async fn prefill(sessions: &[Session; 2], corpus: &PathBuf, rules: &Rules) -> Result<usize> {
    let corpus = Corpus::open(std::slice::from_ref(corpus))?;
    let (a, b) = (sessions[0].tokenizer()?, sessions[1].tokenizer()?);
    let mut texts: [Vec<Vec<u32>>; 2] = [Vec::new(), Vec::new()];
    for document in corpus.documents() {
        for piece in windows(&a, &document?.text, rules.window)? {
            texts[0].push(TokenizedText::new(&a, piece)?.ids);
            texts[1].push(TokenizedText::new(&b, piece)?.ids);
        }
    }
    let mut tokens = 0;
    for (session, texts) in sessions.iter().zip(&mut texts) {
        texts.sort_by_key(Vec::len);
        tokens += texts.iter().map(Vec::len).sum::<usize>();
        let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        session.prefill(&prompts, || ()).await?;
    }
    Ok(tokens)
}

/// Sorts; the middle value.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
