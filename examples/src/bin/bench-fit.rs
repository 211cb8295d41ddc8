//! Speed of fitting maps: the sums against faer's own products, the whole fit against scikit-learn. Run by `cargo xtask
//! bench fit`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args as ClapArgs, Parser, Subcommand};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::traits::ComplexField;
use faer::{Accum, Mat, MatRef, Par};
use indicatif::ProgressBar;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use steermap_examples::memory;
use steermap_fit::stats::{Layout, PairSpec, Precision, Rows, Split, Statistics};
use steermap_fit::{FittedWeight, RankChoice, RidgeChoice, fit_pairs};
use steermap_mapper::statistics::median;

/// Number of directions that the synthetic streams share.
const RANK: usize = 256;
/// Rows that are made, and read, at a time, as a model would produce them.
const BATCH: usize = 512;
/// Rows of the corpus of arXiv 2506.00653, and its minutes of AdamW on a Grace Hopper node.
const PAPER: (f64, f64) = (1e7, 200.0);

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    worker: Option<Worker>,
    #[command(flatten)]
    sizes: Sizes,
    /// Rounds of sums against faer's products
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rounds of whole fits against scikit-learn's
    #[arg(long, default_value_t = 3)]
    fits: usize,
    /// Blocks of rows of one round
    #[arg(long, default_value_t = 2)]
    blocks: usize,
}

#[derive(ClapArgs, Clone, Copy)]
struct Sizes {
    /// Width of the source's stream
    #[arg(long, default_value_t = 2304)]
    source: usize,
    /// Width of the target's stream
    #[arg(long, default_value_t = 3584)]
    target: usize,
    /// Train rows
    #[arg(long, default_value_t = 32768)]
    rows: usize,
    /// Validation rows, and test rows, which steermap sums too: few, so that both do nearly the same work
    #[arg(long, default_value_t = 256)]
    held_out: usize,
    /// Seed of the synthetic streams
    #[arg(long, default_value_t = 11)]
    seed: u64,
}

#[derive(Subcommand)]
enum Worker {
    /// (used by the benchmark itself)
    Worker {
        folder: PathBuf,
        precision: String,
        /// Chosen by validation if absent
        #[arg(long)]
        lambda: Option<f64>,
        #[command(flatten)]
        sizes: Sizes,
    },
}

impl Sizes {
    fn layout(self) -> Layout {
        Layout {
            source_hidden: self.source,
            target_hidden: self.target,
            pairs: vec![PairSpec {
                source_layers: vec![0],
                target_layer: 0,
            }],
        }
    }

    fn splits(self) -> [(Split, usize); 3] {
        [
            (Split::Train, self.rows),
            (Split::Validation, self.held_out),
            (Split::Test, self.held_out),
        ]
    }

    /// Floating-point operations per row. The whole Gram matrix is counted although only a triangle is computed.
    fn flops(self) -> f64 {
        2.0 * self.source as f64 * (self.source + self.target) as f64
    }

    fn arguments(self) -> Vec<String> {
        let text = |name: &str, value: u64| [format!("--{name}"), value.to_string()];
        let pairs = [
            text("source", self.source as u64),
            text("target", self.target as u64),
            text("rows", self.rows as u64),
            text("held-out", self.held_out as u64),
            text("seed", self.seed),
        ];
        pairs.into_iter().flatten().collect()
    }
}

fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    match args.worker {
        Some(Worker::Worker {
            folder,
            precision,
            lambda,
            sizes,
        }) => {
            let choice = lambda.map_or(RidgeChoice::Auto, RidgeChoice::Fixed);
            let result = run_worker(&folder, &precision, choice, sizes)?;
            println!("{}", serde_json::to_string(&result)?);
            Ok(())
        }
        None => {
            let sizes = args.sizes;
            ensure!(
                sizes.source > 0 && sizes.target > 0,
                "--source, --target: found {} and {}, expected at least 1",
                sizes.source,
                sizes.target
            );
            ensure!(
                sizes.rows >= 2 && sizes.held_out >= 2 && args.rounds > 0 && args.fits > 0 && args.blocks > 0,
                "expected at least 2 rows of each split, 1 round of each kind and 1 block"
            );
            let cores = std::thread::available_parallelism()?;
            println!("{} -> {}, {cores} cores", sizes.source, sizes.target);
            sums(&args)?;
            whole_fits(sizes, args.fits)
        }
    }
}

/// Synthetic streams: both are linear in the same few hidden directions, with decreasing weights, plus noise and a
/// mean.
struct Streams {
    rng: ChaCha8Rng,
    source: Mat<f32>,
    target: Mat<f32>,
    means: [Vec<f32>; 2],
}

impl Streams {
    fn new(sizes: Sizes) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(sizes.seed);
        let mut mixing = |width: usize| {
            Mat::from_fn(width, RANK, |_, direction| {
                rng.sample::<f32, _>(StandardNormal) / (1.0 + direction as f32).sqrt()
            })
        };
        let (source, target) = (mixing(sizes.source), mixing(sizes.target));
        let mut mean = |width: usize| (0..width).map(|_| 3.0 * rng.sample::<f32, _>(StandardNormal)).collect();
        let means = [mean(sizes.source), mean(sizes.target)];
        Self {
            rng,
            source,
            target,
            means,
        }
    }

    /// The next rows of both streams, row by row.
    fn next(&mut self, rows: usize) -> [Vec<f32>; 2] {
        let rng = &mut self.rng;
        let hidden = Mat::from_fn(RANK, rows, |_, _| rng.sample::<f32, _>(StandardNormal));
        [(&self.source, &self.means[0]), (&self.target, &self.means[1])].map(|(mixing, mean)| {
            let mut states = vec![0f32; rows * mean.len()];
            let to = faer::MatMut::from_column_major_slice_mut(states.as_mut_slice(), mean.len(), rows);
            matmul(to, Accum::Replace, mixing, &hidden, 1.0, Par::rayon(0));
            for row in states.chunks_exact_mut(mean.len()) {
                for (state, mean) in row.iter_mut().zip(mean) {
                    *state += mean + 0.3 * rng.sample::<f32, _>(StandardNormal);
                }
            }
            states
        })
    }
}

fn add(statistics: &mut Statistics, split: Split, first: usize, [source, target]: &[Vec<f32>; 2]) -> Result<()> {
    let rows = source.len() / statistics.layout().source_hidden;
    // Odd multiples of a golden-ratio constant are distinct and spread over the 64 bits.
    let key = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let keys: Vec<u64> = (first..first + rows).map(key).collect();
    let rows = Rows {
        keys: &keys,
        source: vec![source],
        target: vec![target],
    };
    Ok(statistics.add(split, &rows)?)
}

/// Compares sums of rows with faer's own products of prepared matrices, in turns.
fn sums(args: &Args) -> Result<()> {
    let sizes = args.sizes;
    println!(
        "\nsums: Gram (a triangle, counted whole) and cross products, GFLOP/s, median of {} rounds",
        args.rounds
    );
    let precisions = [Precision::F64, Precision::F32];
    let mut statistics = precisions.map(|precision| Statistics::new(sizes.layout(), precision));
    let block = match &statistics[0] {
        Ok(statistics) => statistics.block_rows(),
        Err(error) => bail!("{error}"),
    };
    let rows = block * args.blocks;
    let states = Streams::new(sizes).next(rows);
    let mut doubles = BareProducts::new(
        sizes,
        states.each_ref().map(|s| s.iter().copied().map(f64::from).collect()),
        block,
    );
    let mut floats = BareProducts::new(sizes, states.clone(), block);
    let mut seconds: [[Vec<f64>; 2]; 2] = Default::default();
    let bar = ProgressBar::new(args.rounds as u64 + 1);
    for round in 0..=args.rounds {
        for (index, statistics) in statistics.iter_mut().enumerate() {
            let Ok(statistics) = statistics else {
                bail!("the sums do not fit in memory")
            };
            let mut ours = || -> Result<f64> {
                let start = Instant::now();
                // Blocks are complete, so all of them are multiplied now.
                add(statistics, Split::Train, round * rows, &states)?;
                Ok(start.elapsed().as_secs_f64())
            };
            let mut faers = || {
                let start = Instant::now();
                match index {
                    0 => doubles.multiply(1.0),
                    _ => floats.multiply(1.0),
                }
                start.elapsed().as_secs_f64()
            };
            // The order alternates between rounds.
            let two = if round % 2 == 0 {
                let first = ours()?;
                [first, faers()]
            } else {
                let first = faers();
                [ours()?, first]
            };
            // The first round warms up.
            if round > 0 {
                seconds[index]
                    .iter_mut()
                    .zip(two)
                    .for_each(|(list, time)| list.push(time));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for (precision, [ours, faers]) in precisions.iter().zip(&seconds) {
        let speed = |seconds: &[f64]| rows as f64 * sizes.flops() / median(seconds) / 1e9;
        let ratios: Vec<f64> = ours.iter().zip(faers).map(|(ours, faers)| faers / ours).collect();
        println!(
            "  {precision:?}  steermap {:>7.1}   faer's products alone {:>7.1}   ratio {:.3}",
            speed(ours),
            speed(faers),
            median(&ratios)
        );
    }
    Ok(())
}

/// States as matrices for faer, and the products that it accumulates.
struct BareProducts<T> {
    sizes: Sizes,
    states: [Vec<T>; 2],
    block: usize,
    gram: Mat<T>,
    cross: Mat<T>,
}

impl<T: ComplexField + Copy> BareProducts<T> {
    fn new(sizes: Sizes, states: [Vec<T>; 2], block: usize) -> Self {
        Self {
            sizes,
            states,
            block,
            gram: Mat::zeros(sizes.source, sizes.source),
            cross: Mat::zeros(sizes.source, sizes.target),
        }
    }

    /// Computes all products, in the same blocks as the sums.
    fn multiply(&mut self, one: T) {
        let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
        let Sizes { source, target, .. } = self.sizes;
        let blocks = self.states[0]
            .chunks(self.block * source)
            .zip(self.states[1].chunks(self.block * target));
        for (x, y) in blocks {
            let x = MatRef::from_row_major_slice(x, x.len() / source, source);
            let y = MatRef::from_row_major_slice(y, y.len() / target, target);
            let (gram, cross) = (&mut self.gram, &mut self.cross);
            triangular::matmul(gram, half, Accum::Add, x.transpose(), all, x, all, one, Par::rayon(0));
            matmul(cross, Accum::Add, x.transpose(), y, one, Par::rayon(0));
        }
    }
}

/// Result of a worker.
#[derive(Clone, Serialize, Deserialize)]
struct FitFigures {
    accumulate: f64,
    solve: f64,
    /// Peak memory of the process in bytes, and its increase over the memory before; 0 if the system does not report
    /// it.
    grown: u64,
    peak: u64,
    lambda: f64,
    r2: f64,
}

impl FitFigures {
    fn seconds(&self) -> f64 {
        self.accumulate + self.solve
    }
}

/// Result of scikit-learn's script.
#[derive(Clone, Deserialize)]
struct SklearnReport {
    version: String,
    seconds: f64,
    grown: u64,
    peak: u64,
}

/// A whole fit from files, in a separate process so that its memory can be measured.
fn run_worker(folder: &Path, name: &str, choice: RidgeChoice, sizes: Sizes) -> Result<FitFigures> {
    let precision = match name {
        "f64" => Precision::F64,
        "f32" => Precision::F32,
        other => bail!("precision: found {other:?}, expected f64 or f32"),
    };
    let mut files = [open(folder, "source")?, open(folder, "target")?];
    let before = memory::own_resident().unwrap_or(0);
    let mut accumulate = 0.0;
    let start = Instant::now();
    let mut statistics = Statistics::new(sizes.layout(), precision)?;
    accumulate += start.elapsed().as_secs_f64();
    for (split, rows) in sizes.splits() {
        for first in (0..rows).step_by(BATCH) {
            let batch = BATCH.min(rows - first);
            let states = [
                read(&mut files[0], batch * sizes.source)?,
                read(&mut files[1], batch * sizes.target)?,
            ];
            let start = Instant::now();
            add(&mut statistics, split, first, &states)?;
            accumulate += start.elapsed().as_secs_f64();
        }
    }
    let start = Instant::now();
    statistics.flush();
    accumulate += start.elapsed().as_secs_f64();
    let start = Instant::now();
    let fitted = fit_pairs(&statistics, choice, RankChoice::Full, |_| ())?.remove(0);
    let solve = start.elapsed().as_secs_f64();
    let peak = memory::own_peak().unwrap_or(0);
    let FittedWeight::Full(weight) = &fitted.weight else {
        bail!("expected a map with a full matrix")
    };
    let weight = weight.transpose();
    let path = folder.join(format!("steermap-{name}.f32"));
    write(&mut BufWriter::new(File::create(path)?), weight.as_slice())?;
    Ok(FitFigures {
        accumulate,
        solve,
        grown: peak.saturating_sub(before),
        peak,
        lambda: fitted.lambda,
        r2: fitted.r2,
    })
}

/// Measures the whole fit in both precisions, and scikit-learn's in the same.
fn whole_fits(sizes: Sizes, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    write_streams(folder, sizes)?;
    let [(_, train), (_, validation), (_, test)] = sizes.splits();
    println!(
        "\nwhole fit: {train} train rows; steermap also sums {validation} validation and {test} test rows and measures on the \
         latter"
    );
    // Lambda is chosen in f64 and the same for all later fits.
    let chosen = ours(folder, sizes, "f64", None)?;
    let lambda = chosen.lambda;
    let chosen = [chosen, ours(folder, sizes, "f32", None)?];
    let python = python();
    println!("lambda {lambda:.2e} given, rounds in turns: medians of {rounds}");
    println!("                       seconds  (sums + solve)   memory grown by, peak");
    let mut paper = Vec::new();
    for ((precision, dtype), chosen) in [("f64", "float64"), ("f32", "float32")].into_iter().zip(chosen) {
        let (mut given, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let mut one = || -> Result<()> {
                given.push(ours(folder, sizes, precision, Some(lambda))?);
                Ok(())
            };
            let mut other = || -> Result<()> {
                if let Ok(python) = &python {
                    theirs.push(sklearn(folder, sizes, python, lambda, dtype)?);
                }
                Ok(())
            };
            // The order alternates between rounds.
            if round % 2 == 0 {
                one()?;
                other()?;
            } else {
                other()?;
                one()?;
            }
        }
        let of = |get: &dyn Fn(&FitFigures) -> f64| median(&given.iter().map(get).collect::<Vec<_>>());
        let given_median = FitFigures {
            accumulate: of(&|result| result.accumulate),
            solve: of(&|result| result.solve),
            grown: of(&|result| result.grown as f64) as u64,
            peak: of(&|result| result.peak as f64) as u64,
            ..given[0]
        };
        line(&format!("steermap {precision}"), &given_median);
        match (&python, theirs.first()) {
            (Err(why), _) => println!("  scikit-learn         skipped: {why}"),
            (Ok(_), None) => {}
            (Ok(_), Some(first)) => {
                let of = |get: &dyn Fn(&SklearnReport) -> f64| median(&theirs.iter().map(get).collect::<Vec<_>>());
                let (grown, peak) = (of(&|result| result.grown as f64), of(&|result| result.peak as f64));
                println!(
                    "  scikit-learn {dtype} {:>6.2}                    {}   version {}",
                    of(&|result| result.seconds),
                    spell_memory(grown as u64, peak as u64),
                    first.version
                );
                let pairs = given.iter().zip(&theirs);
                let ratios: Vec<f64> = pairs.map(|(ours, theirs)| theirs.seconds / ours.seconds()).collect();
                println!(
                    "    scikit-learn takes {:.2} times steermap's seconds (each round's: {}), its memory grows by {:.1} times as \
                     much, peaks at {:.1} times; weights differ by {:.1e}",
                    median(&ratios),
                    ratios
                        .iter()
                        .map(|ratio| format!("{ratio:.2}"))
                        .collect::<Vec<_>>()
                        .join(", "),
                    grown / given_median.grown as f64,
                    peak / given_median.peak as f64,
                    difference(folder, sizes, &format!("steermap-{precision}"), "sklearn")?,
                );
            }
        }
        line(&format!("  lambda of 22, {precision}"), &chosen);
        let accumulate = given_median.accumulate / (train + validation + test) as f64 * PAPER.0;
        paper.push((precision, accumulate + given_median.solve, accumulate + chosen.solve));
    }
    println!(
        "  (weights of f32 differ from those of f64 by {:.1e})",
        difference(folder, sizes, "steermap-f32", "steermap-f64")?
    );
    println!(
        "\n10 million tokens, from the seconds per row above (the paper: {} minutes on a Grace Hopper node)",
        PAPER.1
    );
    for (precision, given, chosen) in paper {
        println!(
            "  steermap {precision}  {:>7.1} minutes, with lambda chosen {:.1}",
            given / 60.0,
            chosen / 60.0
        );
    }
    Ok(())
}

/// Prints the result of a fit by steermap.
fn line(name: &str, result: &FitFigures) {
    println!(
        "  {name:<20} {:>6.2}  ({:.2} + {:.2})    {}   lambda {:.2e}, R2 {:.4}",
        result.seconds(),
        result.accumulate,
        result.solve,
        spell_memory(result.grown, result.peak),
        result.lambda,
        result.r2
    );
}

/// Writes the rows of all splits to `source.f32` and `target.f32`.
fn write_streams(folder: &Path, sizes: Sizes) -> Result<()> {
    let mut streams = Streams::new(sizes);
    let create = |name: &str| File::create(folder.join(format!("{name}.f32"))).map(BufWriter::new);
    let mut files = [create("source")?, create("target")?];
    for (_, rows) in sizes.splits() {
        for first in (0..rows).step_by(BATCH) {
            let states = streams.next(BATCH.min(rows - first));
            for (file, states) in files.iter_mut().zip(&states) {
                write(file, states)?;
            }
        }
    }
    Ok(())
}

/// One fit by steermap in a separate process; lambda is chosen if none is given.
fn ours(folder: &Path, sizes: Sizes, precision: &str, lambda: Option<f64>) -> Result<FitFigures> {
    let lambda = lambda.map(|lambda| format!("--lambda={lambda:e}"));
    let output = Command::new(std::env::current_exe()?)
        .args(["worker".as_ref(), folder.as_os_str(), precision.as_ref()])
        .args(lambda)
        .args(sizes.arguments())
        .output()?;
    parse("the worker", &output)
}

/// One fit by scikit-learn in a separate process.
fn sklearn(folder: &Path, sizes: Sizes, python: &str, lambda: f64, dtype: &str) -> Result<SklearnReport> {
    let alpha = lambda * sizes.rows as f64;
    let output = Command::new(python)
        .args(["-c", include_str!("../../bench/ridge_sklearn.py")])
        .arg(folder)
        .args([sizes.source, sizes.target, sizes.rows].map(|n| n.to_string()))
        .args([alpha.to_string(), dtype.to_owned()])
        .output()?;
    parse("scikit-learn", &output)
}

/// Norm of the difference of two fits' weights relative to that of the second's weights.
fn difference(folder: &Path, sizes: Sizes, one: &str, other: &str) -> Result<f64> {
    let weights = |name: &str| read(&mut open(folder, name)?, sizes.source * sizes.target);
    let (one, other) = (weights(one)?, weights(other)?);
    let square = |value: f32| f64::from(value) * f64::from(value);
    let difference: f64 = one.iter().zip(&other).map(|(a, b)| square(a - b)).sum();
    Ok((difference / other.iter().map(|b| square(*b)).sum::<f64>()).sqrt())
}

/// The interpreter, if it has scikit-learn.
fn python() -> Result<String, String> {
    let python = std::env::var("STEERMAP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python)
        .args(["-c", "import numpy, sklearn"])
        .output()
        .map_err(|error| format!("{python} does not run: {error}; STEERMAP_PYTHON names another"))?;
    if !output.status.success() {
        return Err(format!(
            "{python} has no scikit-learn; STEERMAP_PYTHON names another interpreter"
        ));
    }
    Ok(python)
}

fn parse<T: serde::de::DeserializeOwned>(who: &str, output: &std::process::Output) -> Result<T> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{who} failed: {said}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("{who}: unexpected output {:?}", output.stdout))
}

fn spell_memory(grown: u64, peak: u64) -> String {
    format!(
        "{:>5.2}, {:>5.2} GiB",
        grown as f64 / f64::from(1 << 30),
        peak as f64 / f64::from(1 << 30)
    )
}

fn open(folder: &Path, name: &str) -> Result<BufReader<File>> {
    let path = folder.join(format!("{name}.f32"));
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    Ok(BufReader::new(file))
}

fn read(file: &mut impl Read, count: usize) -> Result<Vec<f32>> {
    let mut bytes = vec![0; count * size_of::<f32>()];
    file.read_exact(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks();
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

fn write(file: &mut impl Write, numbers: &[f32]) -> Result<()> {
    for number in numbers {
        file.write_all(&number.to_le_bytes())?;
    }
    Ok(file.flush()?)
}
