//! What the patch's products bring on a CPU in float32: `mistralrs_quant::cpu::linear` against candle's own product, in turns, on
//! the weights of one layer in as many copies as no cache holds. Run by `cargo xtask bench kernels`.

use std::time::Instant;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use clap::Parser;
use mistralrs_quant::cpu::linear;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of weights that are read in turn, so that each product finds its own in memory alone.
const WEIGHTS: usize = 128 << 20;

#[derive(Parser)]
struct Args {
    /// Outputs and inputs of the layers, as NxK
    #[arg(long, num_args = 1.., default_values = ["576x576", "1536x576", "576x1536", "49152x576", "4096x4096"])]
    layers: Vec<String>,
    /// Rows of the input
    #[arg(long, num_args = 1.., default_values_t = [1, 8, 32, 256])]
    rows: Vec<usize>,
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.rounds > 0, "--rounds: at least 1");
    println!(
        "float32, {} threads, medians of {} rounds",
        rayon::current_num_threads(),
        args.rounds
    );
    println!(
        "{:>14}{:>8}{:>18}{:>18}{:>8}{:>14}",
        "layer", "rows", "candle, GFLOP/s", "ours, GFLOP/s", "ratio", "ours, GB/s"
    );
    for layer in &args.layers {
        let sizes = layer
            .split_once('x')
            .and_then(|(n, k)| Some((n.parse().ok()?, k.parse().ok()?)));
        let Some((n, k)) = sizes.filter(|(n, k)| *n > 0 && *k > 0) else {
            anyhow::bail!("--layers: expected NxK with whole numbers above 0, found {layer:?}");
        };
        for &m in &args.rows {
            ensure!(m > 0, "--rows: at least 1");
            // As the engine's forward pass runs: inside the pool.
            rayon::scope(|_| measure(layer, m, n, k, args.rounds))?;
        }
    }
    Ok(())
}

fn measure(layer: &str, m: usize, n: usize, k: usize, rounds: usize) -> Result<()> {
    let copies = (WEIGHTS / (4 * n * k)).max(2);
    let weights = (0..copies).map(|_| Tensor::rand(-1f32, 1f32, (n, k), &Device::Cpu));
    let weights = weights.collect::<candle_core::Result<Vec<_>>>()?;
    let x = Tensor::rand(-1f32, 1f32, (m, k), &Device::Cpu)?;
    let candle = || -> Result<()> {
        for w in &weights {
            x.matmul(&w.t()?)?;
        }
        Ok(())
    };
    let ours = || -> Result<()> {
        for w in &weights {
            ensure!(linear(&x, w, None)?.is_some(), "the kernel takes float32 on a CPU");
        }
        Ok(())
    };
    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (a, b) = if round % 2 == 0 {
            (seconds(candle)?, seconds(ours)?)
        } else {
            let b = seconds(ours)?;
            (seconds(candle)?, b)
        };
        // The first round warms up.
        if round > 0 {
            theirs.push(a / copies as f64);
            own.push(b / copies as f64);
        }
    }
    let (theirs, own) = (median(theirs), median(own));
    let work = 2e-9 * (m * n * k) as f64;
    let bytes = 4e-9 * (n * k) as f64;
    println!(
        "{layer:>14}{m:>8}{:>18.1}{:>18.1}{:>8.2}{:>14.1}",
        work / theirs,
        work / own,
        theirs / own,
        bytes / own
    );
    Ok(())
}

fn seconds(run: impl Fn() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
