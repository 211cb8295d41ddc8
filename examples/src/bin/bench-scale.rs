//! Costs of fits of real sizes: peak memory against the plan, seconds per row, file sizes. Run by `cargo xtask bench
//! scale`.
//!
//! Synthetic streams go through the statistics and the fit as states of models do. Each case runs in a separate
//! process, whose peak memory the system counts. The last output is the plan of a case that is too large to run,
//! estimated from the measurements.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use indicatif::{HumanBytes, HumanDuration};
use serde::{Deserialize, Serialize};
use steermap_examples::memory::own_peak;
use steermap_fit::memory::{fitting_bytes, map_bytes};
use steermap_fit::stats::memory::{Memory, file_bytes};
use steermap_fit::stats::{Layout, PairSpec, Precision, Rows, Split, Statistics};
use steermap_fit::{FitError, RankChoice, RidgeChoice, fit_each};

/// Rows that are made and added at a time.
const BATCH: usize = 128;
/// Rows of the paper's corpus.
const PAPER_ROWS: f64 = 1e7;

// The allocator that the mapper uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Memory, time and file sizes of fits of real sizes")]
struct Args {
    #[command(subcommand)]
    worker: Option<Worker>,
    /// Blocks of train rows of each case
    #[arg(long, default_value_t = 2)]
    blocks: usize,
    /// Run only cases whose name contains this
    #[arg(long)]
    only: Option<String>,
}

#[derive(Subcommand)]
enum Worker {
    /// (used by the benchmark itself)
    Worker {
        case: String,
        folder: PathBuf,
        blocks: usize,
    },
}

/// Widths of two streams, and a number of pairs of layers, no two of which share a layer.
#[derive(Clone, Copy)]
struct Case {
    source: usize,
    target: usize,
    pairs: usize,
    precision: Precision,
}

const CASES: [Case; 4] = [
    Case {
        source: 2304,
        target: 3584,
        pairs: 1,
        precision: Precision::F64,
    },
    Case {
        source: 2304,
        target: 3584,
        pairs: 1,
        precision: Precision::F32,
    },
    Case {
        source: 2304,
        target: 3584,
        pairs: 26,
        precision: Precision::F64,
    },
    Case {
        source: 4096,
        target: 8192,
        pairs: 8,
        precision: Precision::F32,
    },
];

impl Case {
    fn name(self) -> String {
        let Self {
            source,
            target,
            pairs,
            precision,
        } = self;
        let plural = if pairs == 1 { "" } else { "s" };
        format!("{source} -> {target}, {pairs} pair{plural}, {}", precision.name())
    }

    /// Pairs that use `sources` layers of the source in turn.
    fn layout(self, sources: usize) -> Layout {
        let pair = |target_layer: usize| PairSpec {
            source_layers: vec![target_layer * sources / self.pairs],
            target_layer,
        };
        Layout {
            source_hidden: self.source,
            target_hidden: self.target,
            pairs: (0..self.pairs).map(pair).collect(),
        }
    }
}

/// Result of a worker.
#[derive(Serialize, Deserialize)]
struct WorkerReport {
    train_rows: usize,
    /// Seconds of adding the train rows.
    seconds: f64,
    saving: f64,
    fitting: f64,
    file: u64,
    before: u64,
    peak_reading: u64,
    peak_fitting: u64,
}

fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    if let Some(Worker::Worker { case, folder, blocks }) = args.worker {
        let case = CASES
            .into_iter()
            .find(|other| other.name() == case)
            .context("worker: found no case of this name")?;
        println!("{}", serde_json::to_string(&work(case, &folder, blocks)?)?);
        return Ok(());
    }
    ensure!(args.blocks > 0, "--blocks: found 0, expected at least 1");
    let folder = tempfile::tempdir()?;
    let mut per_row = None;
    for case in CASES {
        if args.only.as_ref().is_some_and(|only| !case.name().contains(only)) {
            continue;
        }
        let output = Command::new(std::env::current_exe()?)
            .args(["worker", &case.name()])
            .arg(folder.path())
            .arg(args.blocks.to_string())
            .output()?;
        if !output.status.success() {
            bail!("{}: {}", case.name(), String::from_utf8_lossy(&output.stderr));
        }
        let result: WorkerReport = serde_json::from_slice(&output.stdout)?;
        report(case, &result);
        let layout = case.layout(case.pairs);
        let seconds = result.seconds / result.train_rows as f64;
        per_row = Some((case.precision, seconds / products(&layout)));
    }
    if let Some((precision, seconds)) = per_row {
        on_paper(precision, seconds);
    }
    Ok(())
}

/// Multiplications per row.
fn products(layout: &Layout) -> f64 {
    let inputs = layout.inputs().len() as f64 * (layout.source_hidden as f64).powi(2) / 2.0;
    inputs + layout.pairs.len() as f64 * layout.source_hidden as f64 * layout.target_hidden as f64
}

fn report(case: Case, result: &WorkerReport) {
    let layout = case.layout(case.pairs);
    let rows = layout.held_out_rows();
    let memory = Memory::of(&layout, case.precision, rows);
    let fitting = memory.sums + memory.held_out + fitting_bytes(&layout, rows, RankChoice::Full);
    println!("{}", case.name());
    let line = |what: &str, peak: u64, planned: u64| {
        let taken = peak.saturating_sub(result.before);
        println!(
            "  {what:<9} peak {:>11}, planned {:>11}, ratio {:.2}",
            HumanBytes(taken).to_string(),
            HumanBytes(planned).to_string(),
            taken as f64 / planned as f64
        );
    };
    line("reading", result.peak_reading, memory.total());
    line(
        "fitting",
        result.peak_fitting.max(result.peak_reading),
        memory.total().max(fitting),
    );
    let speed = result.train_rows as f64 / result.seconds;
    let flops = 2.0 * products(&layout) * speed / 1e9;
    println!(
        "  {} train rows at {speed:.0} a second ({flops:.0} GFLOP/s): 10 million in {}",
        result.train_rows,
        HumanDuration(std::time::Duration::from_secs_f64(0.8 * PAPER_ROWS / speed))
    );
    println!(
        "  statistics {} (planned {}) written in {:.1} s; {} pairs fitted in {:.1} s; map {}",
        HumanBytes(result.file),
        HumanBytes(file_bytes(&layout, rows)),
        result.saving,
        case.pairs,
        result.fitting,
        HumanBytes(map_bytes(&layout))
    );
}

/// Plan for 32 layers of 4096 to 80 of 8192.
fn on_paper(precision: Precision, seconds: f64) {
    let case = Case {
        source: 4096,
        target: 8192,
        pairs: 80,
        precision,
    };
    let layout = case.layout(32);
    let rows = layout.held_out_rows();
    let memory = Memory::of(&layout, precision, rows);
    println!("on paper: 32 layers of 4096 -> 80 layers of 8192, {}", precision.name());
    println!(
        "  sums {}, held-out rows {} (2 x {rows}), staged rows {}; statistics {}, map {}",
        HumanBytes(memory.sums),
        HumanBytes(memory.held_out),
        HumanBytes(memory.stage + memory.products),
        HumanBytes(file_bytes(&layout, rows)),
        HumanBytes(map_bytes(&layout))
    );
    let all = 0.8 * PAPER_ROWS * products(&layout) * seconds;
    println!(
        "  sums of 10 million rows at this machine's speed: {}",
        HumanDuration(std::time::Duration::from_secs_f64(all))
    );
}

fn work(case: Case, folder: &Path, blocks: usize) -> Result<WorkerReport> {
    let layout = case.layout(case.pairs);
    let before = own_peak()?;
    let mut statistics = Statistics::new(layout.clone(), case.precision)?;
    let held_out = layout.held_out_rows();
    let train_rows = blocks * statistics.block_rows();
    let mut stream = Synthetic::new(&layout);
    let mut seconds = 0.0;
    for (split, rows) in [
        (Split::Validation, held_out),
        (Split::Test, held_out),
        (Split::Train, train_rows),
    ] {
        let mut left = rows;
        while left > 0 {
            let batch = stream.next(left.min(BATCH));
            left -= batch.keys.len();
            let rows = Rows {
                keys: &batch.keys,
                source: batch.source.iter().map(Vec::as_slice).collect(),
                target: batch.target.iter().map(Vec::as_slice).collect(),
            };
            let start = Instant::now();
            statistics.add(split, &rows)?;
            if split == Split::Train {
                seconds += start.elapsed().as_secs_f64();
            }
        }
    }
    let peak_reading = own_peak()?;
    statistics.flush();
    let path = folder.join("scale.stats");
    let start = Instant::now();
    statistics.save(&path, &())?;
    let saving = start.elapsed().as_secs_f64();
    let file = std::fs::metadata(&path)?.len();
    std::fs::remove_file(&path)?;
    let start = Instant::now();
    let mut fitted = 0;
    fit_each(&statistics, RidgeChoice::Auto, RankChoice::Full, |_, _| {
        fitted += 1;
        Ok::<_, FitError>(())
    })?;
    ensure!(fitted == case.pairs, "expected a map for every pair");
    Ok(WorkerReport {
        train_rows,
        seconds,
        saving,
        fitting: start.elapsed().as_secs_f64(),
        file,
        before,
        peak_reading,
        peak_fitting: own_peak()?,
    })
}

/// Pseudo-random states; those of the target are near those of the source.
struct Synthetic {
    state: u64,
    sources: usize,
    targets: usize,
    widths: [usize; 2],
}

struct Batch {
    keys: Vec<u64>,
    source: Vec<Vec<f32>>,
    target: Vec<Vec<f32>>,
}

impl Synthetic {
    fn new(layout: &Layout) -> Self {
        Self {
            state: 11,
            sources: layout.source_layers().len(),
            targets: layout.target_layers().len(),
            widths: [layout.source_hidden, layout.target_hidden],
        }
    }

    /// The next number of a linear congruential generator (Knuth's MMIX), its high half.
    fn number(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 32) as u32
    }

    fn next(&mut self, rows: usize) -> Batch {
        let keys = (0..rows)
            .map(|_| u64::from(self.number()) << 32 | u64::from(self.number()))
            .collect();
        let [source_width, target_width] = self.widths;
        let (sources, targets) = (self.sources, self.targets);
        let mut layer = |values: usize| -> Vec<f32> {
            (0..values)
                .map(|_| self.number() as f32 / u32::MAX as f32 - 0.5)
                .collect()
        };
        let source: Vec<Vec<f32>> = (0..sources).map(|_| layer(rows * source_width)).collect();
        let mut target: Vec<Vec<f32>> = (0..targets).map(|_| layer(rows * target_width)).collect();
        for (place, target) in target.iter_mut().enumerate() {
            let from = &source[place * source.len() / targets];
            for (target, source) in target
                .chunks_exact_mut(target_width)
                .zip(from.chunks_exact(source_width))
            {
                target
                    .iter_mut()
                    .zip(source)
                    .for_each(|(target, source)| *target += source);
            }
        }
        Batch { keys, source, target }
    }
}
