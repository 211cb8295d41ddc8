//! Speed of the patch's products on a CPU: `mistralrs_quant::cpu::linear` and `quantized_linear` against candle's own
//! products, in turns, on the weights of one layer in more copies than any cache holds. Run by `cargo xtask bench
//! kernels`.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use clap::Parser;
use mistralrs_quant::cpu::{linear, quantized_linear};
use steermap_mapper::statistics::median;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of weights that are read in turn, so that no product finds its weights in a cache.
const WEIGHTS: usize = 128 << 20;

#[derive(Parser)]
struct Args {
    /// Outputs and inputs of the layers, as NxK
    #[arg(long, num_args = 1.., default_values = ["576x576", "1536x576", "576x1536", "49152x576", "4096x4096"])]
    layers: Vec<String>,
    /// Formats of the weights
    #[arg(long, num_args = 1.., default_values = ["f32", "q8_0", "q5_0", "q4_k", "q6_k"])]
    formats: Vec<String>,
    /// Rows of the input
    #[arg(long, num_args = 1.., default_values_t = [1, 8, 32, 256])]
    rows: Vec<usize>,
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

fn main() -> Result<()> {
    steermap_cpu::check();
    let args = Args::parse();
    ensure!(args.rounds > 0, "--rounds: found 0, expected at least 1");
    println!(
        "{} threads, medians of {} rounds",
        rayon::current_num_threads(),
        args.rounds
    );
    println!(
        "{:>8}{:>14}{:>8}{:>18}{:>18}{:>8}{:>14}",
        "format", "layer", "rows", "candle, GFLOP/s", "ours, GFLOP/s", "ratio", "ours, GB/s"
    );
    for name in &args.formats {
        let format = format(name)?;
        for layer in &args.layers {
            let sizes = layer
                .split_once('x')
                .and_then(|(n, k)| Some((n.parse().ok()?, k.parse().ok()?)));
            let Some((n, k)) = sizes.filter(|(n, k)| *n > 0 && *k > 0) else {
                bail!("--layers: found {layer:?}, expected NxK with whole numbers above 0");
            };
            if format.is_some_and(|format| k % format.block_size() != 0) {
                println!("{name:>8}{layer:>14}    none: its blocks do not divide a row");
                continue;
            }
            for &m in &args.rows {
                ensure!(m > 0, "--rows: found 0, expected at least 1");
                // Inside the pool, as in the engine's forward pass.
                let [theirs, own, bytes] = rayon::scope(|_| match format {
                    None => float(m, n, k, args.rounds),
                    Some(format) => quantized(format, m, n, k, args.rounds),
                })?;
                let work = 2e-9 * (m * n * k) as f64;
                println!(
                    "{name:>8}{layer:>14}{m:>8}{:>18.1}{:>18.1}{:>8.2}{:>14.1}",
                    work / theirs,
                    work / own,
                    theirs / own,
                    1e-9 * bytes / own
                );
            }
        }
    }
    Ok(())
}

/// Parses llama.cpp's name of a format; `None` for float32.
fn format(name: &str) -> Result<Option<GgmlDType>> {
    use GgmlDType::*;
    Ok(Some(match name {
        "f32" => return Ok(None),
        "q4_0" => Q4_0,
        "q4_1" => Q4_1,
        "q5_0" => Q5_0,
        "q5_1" => Q5_1,
        "q8_0" => Q8_0,
        "q4_k" => Q4K,
        "q5_k" => Q5K,
        "q6_k" => Q6K,
        _ => bail!("--formats: found {name:?}, expected f32, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k or q6_k"),
    }))
}

/// Seconds of candle's product and of ours, and the bytes of the weights.
fn float(m: usize, n: usize, k: usize, rounds: usize) -> Result<[f64; 3]> {
    let copies = (WEIGHTS / (4 * n * k)).max(2);
    let weights = (0..copies).map(|_| Tensor::rand(-1f32, 1f32, (n, k), &Device::Cpu));
    let weights = weights.collect::<candle_core::Result<Vec<_>>>()?;
    let x = Tensor::rand(-1f32, 1f32, (m, k), &Device::Cpu)?;
    let candle = |w: &Tensor| Ok(x.matmul(&w.t()?)?);
    let ours = |w: &Tensor| linear(&x, w, None)?.context("no kernel for float32 on this machine");
    let [theirs, own] = in_turns(&weights, candle, ours, rounds)?;
    Ok([theirs, own, 4.0 * (n * k) as f64])
}

/// As [`float`], with quantized weights.
fn quantized(format: GgmlDType, m: usize, n: usize, k: usize, rounds: usize) -> Result<[f64; 3]> {
    let weights = QTensor::quantize(&Tensor::rand(-1f32, 1f32, (n, k), &Device::Cpu)?, format)?;
    let bytes = weights.storage_size_in_bytes();
    let copy = || {
        let data = weights.data()?.into_owned();
        let storage = candle_core::quantized::QStorage::from_data(data.into(), &Device::Cpu, format)?;
        let copy = Arc::new(QTensor::new(storage, (n, k))?);
        Ok((copy.clone(), QMatMul::from_arc(copy)?))
    };
    let copies = (WEIGHTS / bytes).max(2);
    let weights = (0..copies).map(|_| copy()).collect::<Result<Vec<_>>>()?;
    let x = Tensor::rand(-1f32, 1f32, (m, k), &Device::Cpu)?;
    type Weights = (Arc<QTensor>, QMatMul);
    let candle = |(_, w): &Weights| Ok(w.forward(&x)?);
    let ours = |(w, _): &Weights| quantized_linear(&x, w)?.context("no kernel for this format on this machine");
    let [theirs, own] = in_turns(&weights, candle, ours, rounds)?;
    Ok([theirs, own, bytes as f64])
}

/// Median seconds of each product with one copy of the weights.
fn in_turns<W>(
    weights: &[W],
    theirs: impl Fn(&W) -> Result<Tensor>,
    ours: impl Fn(&W) -> Result<Tensor>,
    rounds: usize,
) -> Result<[f64; 2]> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let times = if round % 2 == 0 {
            [seconds(weights, &theirs)?, seconds(weights, &ours)?]
        } else {
            let own = seconds(weights, &ours)?;
            [seconds(weights, &theirs)?, own]
        };
        // The first round warms up.
        if round > 0 {
            a.push(times[0]);
            b.push(times[1]);
        }
    }
    Ok([median(&a), median(&b)])
}

/// Seconds per product, over all weights.
fn seconds<W>(weights: &[W], product: &impl Fn(&W) -> Result<Tensor>) -> Result<f64> {
    let start = Instant::now();
    for w in weights {
        product(w)?;
    }
    Ok(start.elapsed().as_secs_f64() / weights.len() as f64)
}
