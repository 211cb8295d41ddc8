//! The patch's kernels for CPUs (mistralrs_quant::cpu) against float64.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use mistralrs_quant::GluActivationType;
#[cfg(target_arch = "x86_64")]
use mistralrs_quant::cpu::{QuantizedKernel, quantized_linear_by};
use mistralrs_quant::cpu::{exp, glu, has_quantized_kernel, linear, quantized_linear, rms_norm};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(-0.5..0.5)).collect()
}

fn tensor(data: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(data, shape, &Device::Cpu).unwrap()
}

/// Asserts that each `y` is the product of a row of `x` with one of `w`, plus `b`, up to `tolerance`.
fn assert_products(y: &[Vec<f32>], x: &[f32], w: &[&[f32]], b: &[f32], tolerance: f64, what: &str) {
    assert_eq!((y.len(), y[0].len()), (x.len() / w[0].len(), w.len()), "{what}");
    for (r, (y, x)) in y.iter().zip(x.chunks_exact(w[0].len())).enumerate() {
        for (c, (y, w)) in y.iter().zip(w).enumerate() {
            let products = x.iter().zip(*w).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let expected = products.sum::<f64>() + f64::from(b[c]);
            let off = (f64::from(*y) - expected).abs();
            assert!(off < tolerance, "{what} at {r}, {c}: {y} instead of {expected}");
        }
    }
}

/// All remainders of rows, columns and lanes, and rows that are multiplied in several parts.
#[test]
fn linear_agrees_with_float64() -> Result<()> {
    for (m, n, k) in [
        (1, 1, 1),
        (2, 7, 5),
        (3, 50, 64),
        (4, 48, 641),
        (7, 97, 1300),
        (13, 9, 24),
        (32, 200, 576),
        (13, 50, 3300),
    ] {
        let (x, w, b) = (numbers(m * k, 1), numbers(n * k, 2), numbers(n, 3));
        let y = linear(&tensor(&x, &[m, k]), &tensor(&w, &[n, k]), Some(&tensor(&b, &[n])))?;
        let y = y.expect("float32 on a CPU").to_vec2::<f32>()?;
        let w: Vec<&[f32]> = w.chunks_exact(k).collect();
        assert_products(&y, &x, &w, &b, 1e-5, &format!("{m} x {n} x {k}"));
    }
    Ok(())
}

/// The answer to a request must not depend on the other rows of its batch.
#[test]
fn a_row_has_the_same_bits_in_any_batch() -> Result<()> {
    let (n, k) = (101, 1700);
    let x = tensor(&numbers(17 * k, 1), &[17, k]);
    let w = tensor(&numbers(n * k, 2), &[n, k]);
    let all = linear(&x, &w, None)?.expect("float32").to_vec2::<f32>()?;
    for m in 1..17 {
        let some = linear(&x.narrow(0, 0, m)?, &w, None)?.expect("float32");
        assert_eq!(some.to_vec2::<f32>()?[..], all[..m], "{m} rows");
    }
    Ok(())
}

/// Formats that have a kernel where the processor has AVX2.
const FORMATS: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

fn quantized(n: usize, k: usize, format: GgmlDType) -> Result<QTensor> {
    QTensor::quantize(&tensor(&numbers(n * k, 2), &[n, k]), format)
}

/// Weights as unpacked by candle; the input is rounded to 16 bits.
#[test]
fn products_with_quantized_weights_agree_with_float64() -> Result<()> {
    for format in FORMATS {
        // The last is multiplied in two parts; formats with small blocks have more than a multiple of 256.
        let rest = if format.block_size() == 32 { 96 } else { 0 };
        for (m, n, k) in [(1, 3, 256), (2, 40, 512), (15, 33, 768), (11, 35, 1280)] {
            let k = k + rest;
            let x = numbers(m * k, 1);
            let w = quantized(n, k, format)?;
            let Some(y) = quantized_linear(&tensor(&x, &[m, k]), &w)? else {
                assert!(!has_quantized_kernel(format));
                continue;
            };
            let (y, w) = (y.to_vec2::<f32>()?, w.dequantize(&Device::Cpu)?.to_vec2::<f32>()?);
            let w: Vec<&[f32]> = w.iter().map(Vec::as_slice).collect();
            assert_products(&y, &x, &w, &vec![0.0; n], 3e-4, &format!("{format:?}, {m} x {n} x {k}"));
        }
    }
    Ok(())
}

#[test]
fn a_row_has_the_same_bits_in_any_batch_with_quantized_weights() -> Result<()> {
    let (n, k) = (37, 1280);
    let x = tensor(&numbers(16 * k, 1), &[16, k]);
    for format in FORMATS {
        let w = quantized(n, k, format)?;
        let Some(all) = quantized_linear(&x, &w)? else { continue };
        let all = all.to_vec2::<f32>()?;
        for m in 1..16 {
            let some = quantized_linear(&x.narrow(0, 0, m)?, &w)?.expect("as before");
            assert_eq!(some.to_vec2::<f32>()?[..], all[..m], "{format:?}, {m} rows");
        }
    }
    Ok(())
}

/// An answer must not depend on the processor's extensions.
#[cfg(target_arch = "x86_64")]
#[test]
fn all_kernels_of_quantized_weights_give_the_same_bits() -> Result<()> {
    let kernels = QuantizedKernel::available();
    assert_eq!(kernels.is_empty(), !has_quantized_kernel(GgmlDType::Q8_0));
    for format in FORMATS {
        for (m, n, k) in [(1, 5, 256), (15, 40, 1280)] {
            let (x, w) = (tensor(&numbers(m * k, 1), &[m, k]), quantized(n, k, format)?);
            let products = |&kernel| {
                quantized_linear_by(kernel, &x, &w)?
                    .expect("as it is available")
                    .to_vec2::<f32>()
            };
            let all: Vec<_> = kernels.iter().map(products).collect::<Result<_>>()?;
            all.iter()
                .for_each(|y| assert_eq!(*y, all[0], "{format:?}, {m} x {n} x {k}"));
        }
    }
    Ok(())
}

/// Streams have a few elements that are thousands of times larger than the others. The others are then rounded more
/// coarsely, by a 65,536th of the largest of 256 elements.
#[test]
fn a_large_element_costs_the_others_little_precision() -> Result<()> {
    for format in FORMATS {
        let w = quantized(9, 512, format)?;
        let mut x = numbers(512, 1);
        x[300] = 1000.0;
        let Some(y) = quantized_linear(&tensor(&x, &[1, 512]), &w)? else {
            continue;
        };
        let (y, w) = (y.to_vec2::<f32>()?, w.dequantize(&Device::Cpu)?.to_vec2::<f32>()?);
        let w: Vec<&[f32]> = w.iter().map(Vec::as_slice).collect();
        // Tolerance for a product of about 300: 256 errors of up to half a step, with weights of up to a half.
        assert_products(&y, &x, &w, &[0.0; 9], 0.2, &format!("{format:?}"));
    }
    Ok(())
}

/// A state that overflowed is not rounded to a valid one.
#[test]
fn non_finite_inputs_give_nan_with_quantized_weights() -> Result<()> {
    let w = quantized(32, 64, GgmlDType::Q8_0)?;
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = numbers(64, 1);
        x[40] = odd;
        let Some(y) = quantized_linear(&tensor(&x, &[1, 64]), &w)? else {
            continue;
        };
        assert!(y.to_vec2::<f32>()?[0].iter().all(|y| y.is_nan()), "{odd}");
    }
    // Zero and the largest float32 are valid inputs too.
    for (size, expected) in [(0.0, 0.0), (1e38, 1e38)] {
        let ones = QTensor::quantize(&tensor(&[1.0; 32], &[1, 32]), GgmlDType::Q8_0)?;
        let mut x = [0.0; 32];
        x[3] = size;
        let Some(y) = quantized_linear(&tensor(&x, &[1, 32]), &ones)? else {
            continue;
        };
        let y = y.to_vec2::<f32>()?[0][0];
        assert!((y - expected).abs() <= 1e-3 * expected, "{size}: {y}");
    }
    Ok(())
}

#[test]
fn other_shapes_and_dtypes_are_left_to_candle() -> Result<()> {
    let w = quantized(4, 64, GgmlDType::Q8_0)?;
    assert!(quantized_linear(&Tensor::zeros((2, 64), DType::F16, &Device::Cpu)?, &w)?.is_none());
    assert!(quantized_linear(&Tensor::zeros((2, 32), DType::F32, &Device::Cpu)?, &w)?.is_none());
    let w = quantized(4, 256, GgmlDType::Q3K)?;
    assert!(!has_quantized_kernel(GgmlDType::Q3K));
    assert!(quantized_linear(&Tensor::zeros((2, 256), DType::F32, &Device::Cpu)?, &w)?.is_none());
    Ok(())
}

#[test]
fn other_dtypes_are_left_to_candle() -> Result<()> {
    let half = Tensor::zeros((2, 8), DType::F16, &Device::Cpu)?;
    assert!(linear(&half, &half, None)?.is_none());
    let x = Tensor::zeros((2, 8), DType::F32, &Device::Cpu)?;
    let strided = Tensor::zeros((2, 16), DType::F32, &Device::Cpu)?.narrow(1, 0, 8)?;
    assert!(linear(&x, &strided, None)?.is_none());
    assert!(rms_norm(&half, &half.narrow(0, 0, 1)?.squeeze(0)?, 1e-5)?.is_none());
    Ok(())
}

#[test]
fn exp_is_within_two_units_in_the_last_place() {
    let mut worst = 0.0f64;
    for i in -870_000..887_000 {
        let x = i as f32 * 1e-4;
        let expected = f64::from(x).exp();
        worst = worst.max((f64::from(exp(x)) - expected).abs() / expected / f64::from(f32::EPSILON));
    }
    assert!(worst < 2.0, "{worst} units");
    assert_eq!((exp(f32::NEG_INFINITY), exp(-1e30), exp(0.0)), (0.0, 0.0, 1.0));
    assert_eq!(exp(f32::INFINITY), f32::INFINITY);
    assert!(exp(f32::NAN).is_nan());
}

#[test]
fn gated_activations_agree_with_float64() {
    let a: Vec<f32> = (0..20_000).map(|i| (i as f32 - 10_000.0) * 1e-3).collect();
    let b = numbers(a.len(), 1);
    type Expected = fn(f64) -> f64;
    let activations: [(GluActivationType, Expected); 3] = [
        (GluActivationType::Silu, |x| x / (1.0 + (-x).exp())),
        (GluActivationType::Gelu, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        (GluActivationType::Relu, |x| x.max(0.0)),
    ];
    for (activation, expected) in activations {
        // Sizes for one thread, and for several.
        for len in [100, a.len()] {
            for ((found, a), b) in glu(&a[..len], &b[..len], activation).iter().zip(&a).zip(&b) {
                let expected = expected(f64::from(*a)) * f64::from(*b);
                assert!(
                    (f64::from(*found) - expected).abs() < 2e-6,
                    "{activation:?} of {a}, {b}: {found}"
                );
            }
        }
    }
}

#[test]
fn norms_agree_with_float64() -> Result<()> {
    for (rows, size) in [(1, 3), (5, 64), (3, 577), (200, 576)] {
        let (x, weight) = (numbers(rows * size, 1), numbers(size, 2));
        let found = rms_norm(&tensor(&x, &[rows, size]), &tensor(&weight, &[size]), 1e-5)?;
        let found = found.expect("float32 on a CPU").to_vec2::<f32>()?;
        for (found, x) in found.iter().zip(x.chunks(size)) {
            let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            let norm = (squares / size as f64 + 1e-5).sqrt();
            for ((found, x), weight) in found.iter().zip(x).zip(&weight) {
                let expected = f64::from(*x) / norm * f64::from(*weight);
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-6,
                    "{rows} x {size}: {found}, {expected}"
                );
            }
        }
    }
    Ok(())
}
