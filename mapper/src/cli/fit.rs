//! `mapper fit`, `mapper stats` and `mapper merge`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use steermap_fit::stats::Precision;
use steermap_fit::{MapShape, RankChoice, RidgeChoice};
use steermap_mapper::by_rank;
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::{Rules, WindowRule};
use steermap_mapper::collect::{CollectJob, CollectOutcome, Collected};
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::map::{MapJob, fit_map};
use steermap_mapper::progress::{Progress, Unit};
use steermap_mapper::statistics::quantile;
use steermap_mapper::windows::WINDOW_BYTES;
use steermap_maps::{FloatDtype, MapFile, describe};

use super::models::ModelPairArgs;
use super::text::TextArgs;
use super::{STOPPED, check_inputs, check_out, command_line, stop_flag};

/// Arguments of every command that collects statistics.
#[derive(clap::Args)]
pub struct CollectArgs {
    #[command(flatten)]
    models: ModelPairArgs,
    /// Folders of the source's activations, as `mapper capture` writes them, in place of --source
    #[arg(long, num_args = 1.., value_name = "FOLDER", conflicts_with_all = ["source", "source_dtype", "source_isq", "source_device"])]
    source_activations: Vec<PathBuf>,
    /// Folders of the target's activations, in place of --target
    #[arg(long, num_args = 1.., value_name = "FOLDER", conflicts_with_all = ["target", "target_dtype", "target_isq", "target_device"])]
    target_activations: Vec<PathBuf>,
    /// Text to run through both: JSON lines or a JSON array with a "text" key, Parquet, or plain text with blank lines
    /// between documents, each also as .gz or .zst; `-` is standard input
    #[arg(long, num_args = 1..)]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    text: TextArgs,
    /// Layer pairs: `relative-depth`, `all`, or a list such as `14:11,12+14:11` (source:target, several source layers
    /// concatenated). Default: relative-depth, or with --stats all pairs in the statistics
    #[arg(long)]
    pairs: Option<PairSelection>,
    /// Stop after the window of text in which this many paired positions are reached
    #[arg(long)]
    tokens: Option<u64>,
    /// Longest text to run at once, in bytes; longer documents are cut at white space
    #[arg(long, value_name = "BYTES", default_value_t = WINDOW_BYTES)]
    window: usize,
    /// Leave out this many positions at the start of each text; 0 leaves none out
    #[arg(long, default_value_t = Rules::default().skip_first)]
    skip_first: usize,
    /// Leave out rows whose norm exceeds their text's median norm by more than this factor at any layer; `off` leaves
    /// none out
    #[arg(long, default_value_t = Outliers(Rules::default().outliers), allow_negative_numbers = true)]
    outliers: Outliers,
    /// Precision of products of states: f64 is exact, f32 twice as fast
    #[arg(long, value_enum, default_value_t = PrecisionArg::F64)]
    precision: PrecisionArg,
    /// Rows to keep of the validation documents, which lambda is chosen on, and of the test documents, which quality is
    /// measured on. Default: as many as fit into 256 MiB each, at least 512 and at most 4096
    #[arg(long)]
    held_out_rows: Option<usize>,
    /// Only print what it would cost: rows, memory and disk space
    #[arg(long)]
    plan: bool,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 60)]
    checkpoint_every: u64,
}

/// The names of the options that affect only how statistics are collected; they conflict with --stats.
const COLLECTING: [&str; 30] = [
    "text_key",
    "text_format",
    "plan",
    "source",
    "target",
    "source_gguf",
    "target_gguf",
    "source_tok_model_id",
    "target_tok_model_id",
    "source_dtype",
    "target_dtype",
    "source_device",
    "target_device",
    "source_isq",
    "target_isq",
    "dtype",
    "isq",
    "cpu",
    "batch",
    "source_activations",
    "target_activations",
    "corpus",
    "tokens",
    "window",
    "skip_first",
    "outliers",
    "precision",
    "held_out_rows",
    "checkpoint_every",
    "keep_stats",
];

/// Arguments of `mapper fit`.
#[derive(clap::Args)]
pub struct FitArgs {
    #[command(flatten)]
    collect: CollectArgs,
    /// Fit from these statistics files instead of running models
    #[arg(long, num_args = 1.., conflicts_with_all = COLLECTING)]
    stats: Vec<PathBuf>,
    /// The map file to write (.toml; its tensors go beside it)
    #[arg(long)]
    out: PathBuf,
    /// Ridge penalty: `auto` (chosen per pair on held-out documents), or lambda in
    /// mean squared error + lambda * ||A||^2
    #[arg(long, default_value = "auto", allow_negative_numbers = true)]
    ridge: Ridge,
    /// Rank of the maps: `full`, a number (two factors in place of a matrix), or `auto`: per pair the smallest whose
    /// error on validation rows is within 1% of the best. R² by rank is printed
    #[arg(long, default_value = "full")]
    rank: Rank,
    /// The type that weights are stored in: f32, bf16 or f16. Quality is measured with the rounded weights
    #[arg(long, default_value_t = FloatDtype::F32)]
    map_dtype: FloatDtype,
    /// With --stats: fit even if shards of the text are missing
    #[arg(long, requires = "stats")]
    partial: bool,
    /// Also fit a map on shuffled pairings of the sampled validation rows, in OUT.shuffled.toml, as a control for
    /// `mapper eval --shuffled-map`
    #[arg(long)]
    shuffle_control: bool,
    /// Also keep the statistics, in this file (.stats)
    #[arg(long)]
    keep_stats: Option<PathBuf>,
}

/// Arguments of `mapper stats`.
#[derive(clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    collect: CollectArgs,
    /// The statistics file to write (.stats)
    #[arg(long)]
    out: PathBuf,
    /// Read only every COUNT-th document, starting with number INDEX (from 0)
    #[arg(long, value_name = "INDEX/COUNT", default_value = "0/1")]
    shard: Shard,
}

/// Arguments of `mapper merge`.
#[derive(clap::Args)]
pub struct MergeArgs {
    /// Statistics files (.stats)
    #[arg(required = true, num_args = 1..)]
    stats: Vec<PathBuf>,
    /// Merge even if shards of the text are missing
    #[arg(long)]
    partial: bool,
    /// The statistics file to write (.stats)
    #[arg(long)]
    out: PathBuf,
}

/// [`Rules::outliers`] as an argument.
#[derive(Clone, Copy)]
struct Outliers(Option<f64>);

impl FromStr for Outliers {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self(None)),
            text => match text.parse() {
                Ok(ratio) if f64::is_finite(ratio) && ratio > 0.0 => Ok(Self(Some(ratio))),
                _ => bail!("found {text:?}, expected a number above 0, or `off`"),
            },
        }
    }
}

impl std::fmt::Display for Outliers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ratio) => write!(f, "{ratio}"),
            None => write!(f, "off"),
        }
    }
}

/// [`RidgeChoice`] as an argument.
#[derive(Clone, Copy)]
struct Ridge(RidgeChoice);

impl FromStr for Ridge {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self(RidgeChoice::Auto)),
            text => match text.parse() {
                Ok(lambda) if f64::is_finite(lambda) && lambda >= 0.0 => Ok(Self(RidgeChoice::Fixed(lambda))),
                _ => bail!("found {text:?}, expected `auto`, or a number of 0 or more"),
            },
        }
    }
}

/// [`RankChoice`] as an argument.
#[derive(Clone, Copy)]
struct Rank(RankChoice);

impl FromStr for Rank {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "full" => Ok(Self(RankChoice::Full)),
            "auto" => Ok(Self(RankChoice::Auto)),
            text => match text.parse() {
                Ok(rank) if rank > 0 => Ok(Self(RankChoice::Fixed(rank))),
                _ => bail!("found {text:?}, expected `full`, `auto`, or a whole number of 1 or more"),
            },
        }
    }
}

/// [`Precision`] as an argument.
#[derive(Clone, Copy, clap::ValueEnum)]
enum PrecisionArg {
    F64,
    F32,
}

impl CollectArgs {
    fn job(self, checkpoint: PathBuf, shard: Shard, fits: Option<RankChoice>) -> Result<CollectJob> {
        let [source, target] = self.models.sides([self.source_activations, self.target_activations])?;
        Ok(CollectJob {
            source,
            target,
            corpus: self.corpus,
            text: self.text.options(),
            pairs: self.pairs.unwrap_or(PairSelection::RelativeDepth),
            rules: Rules {
                window: WindowRule::Bytes { bytes: self.window },
                skip_first: self.skip_first,
                outliers: self.outliers.0,
            },
            precision: match self.precision {
                PrecisionArg::F64 => Precision::F64,
                PrecisionArg::F32 => Precision::F32,
            },
            held_out_rows: self.held_out_rows,
            limit: self.tokens,
            shard,
            checkpoint,
            checkpoint_every: Duration::from_secs(self.checkpoint_every),
            fits,
            progress: true,
        })
    }
}

/// Fits a map and writes it.
pub async fn fit(args: FitArgs) -> Result<ExitCode> {
    check_out(&args.out, "toml")?;
    let inputs = || args.stats.iter().chain(&args.collect.corpus).map(PathBuf::as_path);
    check_inputs(&args.out, inputs())?;
    if let Some(keep) = &args.keep_stats {
        check_out(keep, "stats")?;
        check_inputs(keep, inputs())?;
    }
    let checkpoint = args.out.with_extension("checkpoint.stats");
    let plan = args.collect.plan;
    let mut collected = if args.stats.is_empty() {
        let job = args
            .collect
            .job(checkpoint.clone(), Shard::default(), Some(args.rank.0))?;
        if plan {
            return print_plan(&job);
        }
        let stop = stop_flag()?;
        match job.run(&stop).await? {
            CollectOutcome::Whole(collected) => *collected,
            CollectOutcome::Stopped => return Ok(stopped(&checkpoint)),
        }
    } else {
        let selection = args.collect.pairs.clone();
        restrict_pairs(merge_files(&args.stats, args.partial)?, selection)?
    };
    if let Some(keep) = &args.keep_stats {
        collected.save(keep)?;
        println!("wrote {}", keep.display());
    }
    let pairs = collected.statistics.layout().pairs.len() as u64;
    let notes = collected.notes();
    let shuffled = args.shuffle_control.then(|| collected.shuffled()).transpose()?;
    let progress = Progress::new(true, "fitting", Unit::Of("pairs"), pairs);
    let job = MapJob {
        out: args.out.clone(),
        ridge: args.ridge.0,
        shape: MapShape {
            rank: args.rank.0,
            dtype: args.map_dtype,
        },
        command: command_line(),
    };
    let (map, by_rank) = fit_map(collected, &job, |done| {
        progress.set(done as u64);
        progress.step("");
    })?;
    progress.finish();
    let control = shuffled
        .map(|shuffled| shuffle_control(shuffled, &map, &job))
        .transpose()?;
    // The map is on disk, so the checkpoint is no longer needed.
    if args.stats.is_empty() {
        std::fs::remove_file(&checkpoint).with_context(|| checkpoint.display().to_string())?;
    }
    print!("{notes}{}", describe::map(&map));
    print!("{}", by_rank::table(&by_rank));
    for path in [&args.out].into_iter().chain(&control) {
        println!("wrote {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Fits the shuffled-pairing control of `map`, with the median of its pairs' lambdas, and writes it beside the map.
fn shuffle_control(shuffled: Collected, map: &MapFile, job: &MapJob) -> Result<PathBuf> {
    let lambdas: Vec<f64> = map.pairs().iter().map(|pair| pair.fit.lambda).collect();
    let control = MapJob {
        out: job.out.with_extension("shuffled.toml"),
        ridge: RidgeChoice::Fixed(quantile(&lambdas, 0.5).context("the map has no pair")?),
        shape: MapShape {
            rank: RankChoice::Full,
            dtype: job.shape.dtype,
        },
        command: job.command.clone(),
    };
    fit_map(shuffled, &control, |_| ()).context("shuffle-control")?;
    Ok(control.out)
}

/// Prints what a job would cost; an error if memory or disk space is too small for it.
fn print_plan(job: &CollectJob) -> Result<ExitCode> {
    let plan = job.plan()?;
    print!("{plan}");
    plan.check(&job.checkpoint)?;
    Ok(ExitCode::SUCCESS)
}

/// Collects the statistics of a shard and writes them.
pub async fn stats(args: StatsArgs) -> Result<ExitCode> {
    check_out(&args.out, "stats")?;
    check_inputs(&args.out, args.collect.corpus.iter().map(PathBuf::as_path))?;
    // The file is its own checkpoint.
    let plan = args.collect.plan;
    let job = args.collect.job(args.out.clone(), args.shard, None)?;
    if plan {
        return print_plan(&job);
    }
    let stop = stop_flag()?;
    match job.run(&stop).await? {
        CollectOutcome::Whole(collected) => {
            print!("{}", collected.describe());
            println!("wrote {}", args.out.display());
            Ok(ExitCode::SUCCESS)
        }
        CollectOutcome::Stopped => Ok(stopped(&args.out)),
    }
}

/// Merges statistics files and writes the result.
pub fn merge(args: MergeArgs) -> Result<()> {
    check_out(&args.out, "stats")?;
    check_inputs(&args.out, args.stats.iter().map(PathBuf::as_path))?;
    let mut collected = merge_files(&args.stats, args.partial)?;
    collected.save(&args.out)?;
    print!("{}", collected.describe());
    println!("wrote {}", args.out.display());
    Ok(())
}

/// The statistics of the selected pairs; of all pairs without a selection.
fn restrict_pairs(collected: Collected, selection: Option<PairSelection>) -> Result<Collected> {
    let Some(selection) = selection else {
        return Ok(collected);
    };
    let Collected { statistics, header } = collected;
    let [source, target] = [&header.source, &header.target].map(|side| side.stream());
    let pairs = selection.resolve(&source, &target)?;
    Ok(Collected {
        statistics: statistics.restrict(&pairs)?,
        header,
    })
}

fn merge_files(paths: &[PathBuf], partial: bool) -> Result<Collected> {
    let mut sum: Option<Collected> = None;
    for path in paths {
        if !path.exists() {
            return Err(StatsPending::Missing(path.clone()).into());
        }
        let next = Collected::load(path)?;
        if next.header.parts.iter().any(|part| !part.complete) {
            return Err(StatsPending::Unfinished(path.clone()).into());
        }
        sum = Some(match sum {
            Some(mut sum) => {
                sum.merge(next).with_context(|| path.display().to_string())?;
                sum
            }
            None => {
                next.header.check_parts().with_context(|| path.display().to_string())?;
                next
            }
        });
    }
    let sum = sum.context("stats: found no file, expected at least one")?;
    if let Some(missing) = sum.header.missing_shards().filter(|_| !partial) {
        bail!("stats: {missing} missing: give these files too, or leave them out with --partial");
    }
    Ok(sum)
}

/// Statistics that another process may still be writing. The exit code is [`TEMPORARY_FAILURE`], unlike that of
/// permanent errors.
#[derive(Debug, thiserror::Error)]
pub enum StatsPending {
    /// The file doesn't exist.
    #[error("{}: found nothing, expected a statistics file", .0.display())]
    Missing(PathBuf),
    /// It is the checkpoint of a run that is in progress or was stopped.
    #[error(
        "{}: found the statistics of an unfinished run, expected those of a finished one: run the same command again",
        .0.display()
    )]
    Unfinished(PathBuf),
}

/// Exit code of a command that may succeed later: EX_TEMPFAIL of sysexits.h.
pub const TEMPORARY_FAILURE: u8 = 75;

fn stopped(checkpoint: &Path) -> ExitCode {
    if checkpoint.exists() {
        eprintln!(
            "stopped; run the same command to continue from {}",
            checkpoint.display()
        );
    } else {
        eprintln!("stopped before anything was read");
    }
    ExitCode::from(STOPPED)
}
