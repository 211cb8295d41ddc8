//! How fast maps are fitted: the sums against faer's own products, the whole fit against scikit-learn. Run by
//! `cargo xtask bench fit`.

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
use steermap_mapper::fit::{RidgeChoice, fit_pairs};
use steermap_mapper::stats::{Layout, PairSpec, Precision, Rows, Split, Statistics};

/// Directions that the synthetic streams share.
const RANK: usize = 256;
/// Rows that are made, and read, at a time: as a model gives them.
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
    #[arg(long, default_value_t = 7)]
    rounds: usize,
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
    /// Train rows; an eighth of it for validation, another for the test
    #[arg(long, default_value_t = 16384)]
    rows: usize,
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
        let held_out = (self.rows / 8).max(2);
        [
            (Split::Train, self.rows),
            (Split::Validation, held_out),
            (Split::Test, held_out),
        ]
    }

    /// Multiplications and additions per row, the Gram matrix counted whole although only a triangle is computed.
    fn flops(self) -> f64 {
        2.0 * self.source as f64 * (self.source + self.target) as f64
    }

    fn arguments(self) -> [String; 8] {
        let text = |name: &str, value: u64| [format!("--{name}"), value.to_string()];
        let pairs = [
            text("source", self.source as u64),
            text("target", self.target as u64),
            text("rows", self.rows as u64),
            text("seed", self.seed),
        ];
        let [[a, b], [c, d], [e, f], [g, h]] = pairs;
        [a, b, c, d, e, f, g, h]
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.worker {
        Some(Worker::Worker {
            folder,
            precision,
            sizes,
        }) => {
            println!("{}", serde_json::to_string(&run_worker(&folder, &precision, sizes)?)?);
            Ok(())
        }
        None => {
            let sizes = args.sizes;
            ensure!(sizes.source > 0 && sizes.target > 0, "widths of 1 at least");
            ensure!(
                sizes.rows >= 2 && args.rounds > 0 && args.blocks > 0,
                "2 rows, 1 round and 1 block at least"
            );
            let cores = std::thread::available_parallelism()?;
            println!("{} -> {}, {cores} cores", sizes.source, sizes.target);
            sums(&args)?;
            whole_fits(sizes)
        }
    }
}

/// Synthetic streams: both are linear in the same few hidden directions, of which each weighs less than the one before,
/// plus noise and a mean.
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

    /// The next rows of both, row by row.
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
    // Odd multiples of a golden-ratio constant: distinct, and scattered over the 64 bits.
    let key = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let keys: Vec<u64> = (first..first + rows).map(key).collect();
    let rows = Rows {
        keys: &keys,
        source: vec![source],
        target: vec![target],
    };
    Ok(statistics.add(split, &rows)?)
}

/// Sums of rows against faer's own products of matrices that are ready, in turns.
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
    let mut doubles = Ready::new(
        sizes,
        states.each_ref().map(|s| s.iter().copied().map(f64::from).collect()),
        block,
    );
    let mut floats = Ready::new(sizes, states.clone(), block);
    let mut seconds: [[Vec<f64>; 2]; 2] = Default::default();
    let bar = ProgressBar::new(args.rounds as u64 + 1);
    for round in 0..=args.rounds {
        for (index, statistics) in statistics.iter_mut().enumerate() {
            let Ok(statistics) = statistics else {
                bail!("the sums don't fit in memory")
            };
            let mut ours = || -> Result<f64> {
                let start = Instant::now();
                // Whole blocks: all of them are multiplied now.
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
            // Each is first in every other round.
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

/// States as faer multiplies them, and what it adds to.
struct Ready<T> {
    sizes: Sizes,
    states: [Vec<T>; 2],
    block: usize,
    gram: Mat<T>,
    cross: Mat<T>,
}

impl<T: ComplexField + Copy> Ready<T> {
    fn new(sizes: Sizes, states: [Vec<T>; 2], block: usize) -> Self {
        Self {
            sizes,
            states,
            block,
            gram: Mat::zeros(sizes.source, sizes.source),
            cross: Mat::zeros(sizes.source, sizes.target),
        }
    }

    /// All products, in the blocks that the sums are made in.
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

/// What a worker tells.
#[derive(Serialize, Deserialize)]
struct Told {
    accumulate: f64,
    solve: f64,
    /// Bytes of the process's peak, and by how much that is more than it had before; 0 where the system doesn't tell.
    grown: u64,
    peak: u64,
    lambda: f64,
    r2: f64,
}

/// What scikit-learn's script tells.
#[derive(Deserialize)]
struct Sklearn {
    version: String,
    seconds: f64,
    grown: u64,
    peak: u64,
}

/// A whole fit from files, in a process of its own so that its memory can be told.
fn run_worker(folder: &Path, name: &str, sizes: Sizes) -> Result<Told> {
    let precision = match name {
        "f64" => Precision::F64,
        "f32" => Precision::F32,
        other => bail!("precision: found {other:?}, expected f64 or f32"),
    };
    let mut files = [open(folder, "source")?, open(folder, "target")?];
    let before = resident("VmRSS");
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
    let fitted = fit_pairs(&statistics, RidgeChoice::Auto, |_| ())?.remove(0);
    let solve = start.elapsed().as_secs_f64();
    let peak = resident("VmHWM");
    let weight = fitted.weight.transpose();
    let path = folder.join(format!("steermap-{name}.f32"));
    write(&mut BufWriter::new(File::create(path)?), weight.as_slice())?;
    Ok(Told {
        accumulate,
        solve,
        grown: peak.saturating_sub(before),
        peak,
        lambda: fitted.lambda,
        r2: fitted.r2,
    })
}

/// The whole fit in both precisions, and scikit-learn's.
fn whole_fits(sizes: Sizes) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut streams = Streams::new(sizes);
    let create = |name: &str| File::create(folder.path().join(format!("{name}.f32"))).map(BufWriter::new);
    let mut files = [create("source")?, create("target")?];
    for (_, rows) in sizes.splits() {
        for first in (0..rows).step_by(BATCH) {
            let states = streams.next(BATCH.min(rows - first));
            for (file, states) in files.iter_mut().zip(&states) {
                write(file, states)?;
            }
        }
    }
    for file in &mut files {
        file.flush()?;
    }
    let [(_, train), (_, validation), (_, test)] = sizes.splits();
    println!(
        "\nwhole fit: {train} train rows; steermap also sums {validation} validation and {test} test rows, chooses lambda and \
         measures"
    );
    println!("                       seconds  (sums + solve)   memory grown by, peak");
    let mut lambda = None;
    let mut paper = Vec::new();
    for precision in ["f64", "f32"] {
        let output = Command::new(std::env::current_exe()?)
            .args(["worker".as_ref(), folder.path().as_os_str(), precision.as_ref()])
            .args(sizes.arguments())
            .output()?;
        let told: Told = parse("the worker", &output)?;
        println!(
            "  steermap {precision}        {:>8.1}  ({:.1} + {:.1})   {}   lambda {:.2e}, R2 {:.4}",
            told.accumulate + told.solve,
            told.accumulate,
            told.solve,
            memory(told.grown, told.peak),
            told.lambda,
            told.r2
        );
        let rows = (train + validation + test) as f64;
        paper.push((precision, told.accumulate / rows * PAPER.0 + told.solve));
        // scikit-learn gets the same penalty.
        lambda = lambda.or(Some(told.lambda));
    }
    println!(
        "  (weights of f32 differ from those of f64 by {:.1e})",
        difference(folder.path(), sizes, "steermap-f32", "steermap-f64")?
    );
    match python() {
        Err(why) => println!("  scikit-learn         skipped: {why}"),
        Ok(python) => {
            let alpha = lambda.unwrap_or(0.0) * train as f64;
            for dtype in ["float64", "float32"] {
                let output = Command::new(&python)
                    .args(["-c", include_str!("../../bench/ridge_sklearn.py")])
                    .arg(folder.path())
                    .args([sizes.source, sizes.target, train].map(|n| n.to_string()))
                    .args([alpha.to_string(), dtype.to_owned()])
                    .output()?;
                let told: Sklearn = parse("scikit-learn", &output)?;
                println!(
                    "  scikit-learn {dtype} {:>5.1}                   {}   weights differ by {:.1e}, version {}",
                    told.seconds,
                    memory(told.grown, told.peak),
                    difference(folder.path(), sizes, "steermap-f64", "sklearn")?,
                    told.version
                );
            }
        }
    }
    println!(
        "\n10 million tokens, from the seconds per row above (the paper: {} minutes on a Grace Hopper node)",
        PAPER.1
    );
    for (precision, seconds) in paper {
        println!("  steermap {precision}  {:>7.1} minutes", seconds / 60.0);
    }
    Ok(())
}

/// Norm of the difference of two fits' weights over that of the second's.
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
    serde_json::from_slice(&output.stdout).with_context(|| format!("{who} said {:?}", output.stdout))
}

fn memory(grown: u64, peak: u64) -> String {
    format!(
        "{:>5.2}, {:>5.2} GiB",
        grown as f64 / f64::from(1 << 30),
        peak as f64 / f64::from(1 << 30)
    )
}

/// This process's resident size in bytes: `VmRSS` now, `VmHWM` at its peak; 0 where the system doesn't tell (Linux does).
fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.map_or(0, |kibibytes| kibibytes * 1024)
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

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}
