//! Components of states along directions, and their norms.

use candle_core::{CpuStorage, D, DType, Result, Storage, Tensor};
use half::{bf16, f16};

/// The components of `states`, `[tokens, hidden]`, along each of `directions`, `[hidden]`: by direction, then by token,
/// in float32. On a CPU the bits don't depend on the other tokens and directions.
///
/// # Errors
///
/// A direction has another width than the states, the dtype is not float32, float16 or bfloat16, or candle fails.
pub fn components(states: &Tensor, directions: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
    let (_, hidden) = states.dims2()?;
    if let Some(other) = directions.iter().find(|direction| direction.len() != hidden) {
        candle_core::bail!("a direction of {} values for a stream of {hidden}", other.len());
    }
    if states.device().is_cpu() {
        let each = |direction: &&[f32]| each(states, |state| dot(state, direction));
        return directions.iter().map(each).collect();
    }
    // One product, and one copy from the device.
    let directions = Tensor::from_vec(directions.concat(), (directions.len(), hidden), states.device())?;
    directions.matmul(&states.to_dtype(DType::F32)?.t()?)?.to_vec2()
}

/// The L2 norm of each of `states`, `[tokens, hidden]`.
///
/// # Errors
///
/// As [`components`].
pub fn norms(states: &Tensor) -> Result<Vec<f32>> {
    if states.device().is_cpu() {
        return each(states, norm);
    }
    states.to_dtype(DType::F32)?.sqr()?.sum(D::Minus1)?.sqrt()?.to_vec1()
}

/// `f` of each of `states`, `[tokens, hidden]`, which must be on the CPU.
fn each(states: &Tensor, f: impl Fn(&[f32]) -> f32) -> Result<Vec<f32>> {
    let (_, hidden) = states.dims2()?;
    let states = states.contiguous()?;
    let (storage, layout) = states.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        candle_core::bail!("states that are not on the CPU, or not contiguous")
    };
    Ok(match storage {
        CpuStorage::F32(values) => values[from..to].chunks_exact(hidden).map(f).collect(),
        CpuStorage::F16(values) => widened(&values[from..to], hidden, f16::to_f32, f),
        CpuStorage::BF16(values) => widened(&values[from..to], hidden, bf16::to_f32, f),
        _ => candle_core::bail!("a stream of a dtype that models are not served in"),
    })
}

fn widened<T: Copy>(values: &[T], hidden: usize, widen: fn(T) -> f32, f: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let mut wide = vec![0f32; hidden];
    let states = values.chunks_exact(hidden);
    states
        .map(|state| {
            for (wide, x) in wide.iter_mut().zip(state) {
                *wide = widen(*x);
            }
            f(&wide)
        })
        .collect()
}

/// The L2 norm of a state.
pub fn norm(state: &[f32]) -> f32 {
    dot(state, state).sqrt()
}

/// The dot product, summed in 16 parts so that the compiler vectorises it.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const PARTS: usize = 16;
    let (a, b) = (a.chunks_exact(PARTS), b.chunks_exact(PARTS));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0f32; PARTS];
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn components_and_norms_in_each_dtype() {
        let values: Vec<f32> = (0..3 * 37).map(|i| (i % 13) as f32 - 6.0).collect();
        let direction: Vec<f32> = (0..37).map(|i| (i % 5) as f32 / 4.0 - 0.5).collect();
        let states = Tensor::from_vec(values.clone(), (3, 37), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let states = states.to_dtype(dtype).unwrap();
            let rest = states.narrow(0, 1, 2).unwrap();
            let found = components(&rest, &[&direction, &direction]).unwrap();
            assert_eq!(found[0], found[1]);
            let found = &found[0];
            assert_eq!(found.len(), 2);
            for (token, found) in found.iter().enumerate() {
                let state = &values[(token + 1) * 37..(token + 2) * 37];
                let expected: f64 = state
                    .iter()
                    .zip(&direction)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
            }
            let first = values[..37].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!((f64::from(norms(&states).unwrap()[0]) - first).abs() < 1e-4);
        }
        assert!(components(&states, &[&direction[1..]]).is_err());
    }
}
