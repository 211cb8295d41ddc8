//! `mapper fit`, `mapper stats` and `mapper merge`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::{CollectJob, Collected, Outcome};
use steermap_mapper::fit::RidgeChoice;
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::map::fit_map;
use steermap_mapper::stats::Precision;
use steermap_maps::describe;

use super::models::ModelPairArgs;
use super::{STOPPED, check_out, command_line, stop_flag};

/// What statistics are taken of, and how.
#[derive(clap::Args)]
pub struct CollectArgs {
    #[command(flatten)]
    models: ModelPairArgs,
    /// Text to run through both: .jsonl with {"text": ".."} per line, or plain text with blank lines between documents;
    /// `-` is standard input
    #[arg(long, num_args = 1..)]
    corpus: Vec<PathBuf>,
    /// Layer pairs: `relative-depth`, `all`, or a list such as `14:11,12+14:11` (source:target, several source layers
    /// concatenated)
    #[arg(long, default_value = "relative-depth")]
    pairs: PairSelection,
    /// Stop after the document that brings this many paired positions
    #[arg(long)]
    tokens: Option<u64>,
    /// Longest text that runs at once, in source tokens; longer documents are cut at white space
    #[arg(long, default_value_t = Rules::default().window)]
    window: usize,
    /// Leave out this many positions at the start of each text; 0 leaves none out
    #[arg(long, default_value_t = Rules::default().skip_first)]
    skip_first: usize,
    /// Leave out rows whose norm is more than this many times their text's median at any layer; `off` leaves none out
    #[arg(long, default_value_t = Outliers(Rules::default().outliers), allow_negative_numbers = true)]
    outliers: Outliers,
    /// Multiply states in this precision: f64 is exact, f32 twice as fast
    #[arg(long, value_enum, default_value_t = PrecisionArg::F64)]
    precision: PrecisionArg,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 60)]
    checkpoint_every: u64,
}

/// Arguments of `mapper fit`.
#[derive(clap::Args)]
pub struct FitArgs {
    #[command(flatten)]
    collect: CollectArgs,
    /// Fit from these files of statistics instead of running models
    #[arg(long, num_args = 1.., conflicts_with_all = ["source", "target", "corpus"])]
    stats: Vec<PathBuf>,
    /// The map file to write (.toml; its tensors go beside it)
    #[arg(long)]
    out: PathBuf,
    /// Ridge penalty: `auto` (chosen per pair on held-out documents), or lambda in
    /// mean squared error + lambda * ||A||^2
    #[arg(long, default_value = "auto", allow_negative_numbers = true)]
    ridge: Ridge,
    /// Also keep the statistics, in this file (.stats)
    #[arg(long)]
    keep_stats: Option<PathBuf>,
}

/// Arguments of `mapper stats`.
#[derive(clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    collect: CollectArgs,
    /// The file of statistics to write (.stats)
    #[arg(long)]
    out: PathBuf,
    /// Only every COUNT-th document, from the INDEX-th on
    #[arg(long, value_name = "INDEX/COUNT", default_value = "0/1")]
    shard: Shard,
}

/// Arguments of `mapper merge`.
#[derive(clap::Args)]
pub struct MergeArgs {
    /// Files of statistics
    #[arg(required = true, num_args = 1..)]
    stats: Vec<PathBuf>,
    /// The file of statistics to write (.stats)
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
                _ => bail!("found {text:?}, expected `auto`, or a number from 0 on"),
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
    fn job(self, checkpoint: PathBuf, shard: Shard) -> Result<CollectJob> {
        let Some((source, target)) = self.models.sources() else {
            bail!("source or target: found nothing, expected a folder or an id for both");
        };
        ensure!(
            !self.corpus.is_empty(),
            "corpus: found nothing, expected files of text, or - for standard input"
        );
        Ok(CollectJob {
            source,
            target,
            corpus: self.corpus,
            pairs: self.pairs,
            rules: Rules {
                window: self.window,
                skip_first: self.skip_first,
                outliers: self.outliers.0,
            },
            precision: match self.precision {
                PrecisionArg::F64 => Precision::F64,
                PrecisionArg::F32 => Precision::F32,
            },
            limit: self.tokens,
            shard,
            checkpoint,
            checkpoint_every: Duration::from_secs(self.checkpoint_every),
            progress: true,
        })
    }
}

/// Fits a map and writes it.
pub async fn fit(args: FitArgs) -> Result<ExitCode> {
    check_out(&args.out, "toml")?;
    if let Some(keep) = &args.keep_stats {
        check_out(keep, "stats")?;
    }
    let checkpoint = args.out.with_extension("checkpoint.stats");
    let mut collected = if args.stats.is_empty() {
        let job = args.collect.job(checkpoint.clone(), Shard::default())?;
        match job.run(&stop_flag()).await? {
            Outcome::Whole(collected) => *collected,
            Outcome::Stopped => return Ok(stopped(&checkpoint)),
        }
    } else {
        merged(&args.stats)?
    };
    if let Some(keep) = &args.keep_stats {
        collected.save(keep)?;
        println!("wrote {}", keep.display());
    }
    let pairs = collected.statistics.layout().pairs.len() as u64;
    let style = ProgressStyle::with_template("fitting {wide_bar} {pos}/{len} {eta}").expect("a valid template");
    let bar = ProgressBar::new(pairs).with_style(style);
    let map = fit_map(collected, args.ridge.0, command_line(), |done| {
        bar.set_position(done as u64)
    })?;
    bar.finish_and_clear();
    map.save(&args.out)?;
    // Only now is the work safe.
    if args.stats.is_empty() {
        std::fs::remove_file(&checkpoint).with_context(|| checkpoint.display().to_string())?;
    }
    print!("{}", describe::map(&map));
    println!("wrote {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Takes the statistics of a shard and writes them.
pub async fn stats(args: StatsArgs) -> Result<ExitCode> {
    check_out(&args.out, "stats")?;
    // The file is its own checkpoint.
    let job = args.collect.job(args.out.clone(), args.shard)?;
    match job.run(&stop_flag()).await? {
        Outcome::Whole(collected) => {
            print!("{}", collected.describe());
            println!("wrote {}", args.out.display());
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped => Ok(stopped(&args.out)),
    }
}

/// Adds files of statistics up and writes the sum.
pub fn merge(args: MergeArgs) -> Result<()> {
    check_out(&args.out, "stats")?;
    let mut collected = merged(&args.stats)?;
    collected.save(&args.out)?;
    print!("{}", collected.describe());
    println!("wrote {}", args.out.display());
    Ok(())
}

fn merged(paths: &[PathBuf]) -> Result<Collected> {
    let mut sum: Option<Collected> = None;
    for path in paths {
        let next = Collected::load(path)?;
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
    sum.context("stats: found no file, expected one at least")
}

fn stopped(checkpoint: &Path) -> ExitCode {
    eprintln!("stopped; the same command goes on from {}", checkpoint.display());
    ExitCode::from(STOPPED)
}
