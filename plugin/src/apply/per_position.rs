//! Runs the plan of a layer on a CPU: each position separately, in one pass over the stream.
//!
//! Everything is computed in float32 and rounded to the stream's dtype once, at the end. The only allocation is the
//! resulting stream and, for a dtype other than float32, one state per task.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::component::{dot, norm};
use super::gains::Gains;
use super::plan::{LayerPlan, PassPlan, StepFactors};

/// Elements of the stream per task of the thread pool.
const TASK_ELEMENTS: usize = 1 << 15;

/// Steers `stream`, `[rows, width, hidden]`, by `here`, the part of `plan` for one layer, with the factors `gains` of
/// this pass; `None` if it does nothing.
///
/// # Errors
///
/// A direction has another width than the stream, or the dtype is not float32, float16 or bfloat16.
pub fn apply(plan: &PassPlan, here: &LayerPlan, gains: Option<&Gains>, stream: &Tensor) -> Result<Option<Tensor>> {
    if !here.layout.acts() {
        return Ok(None);
    }
    let (rows, width, hidden) = stream.dims3()?;
    for direction in &here.directions {
        let values = direction.values().len();
        if values != hidden {
            candle_core::bail!("a direction of {values} values for a stream of {hidden}");
        }
    }
    let index = plan.index();
    if index.len() != rows * width {
        candle_core::bail!(
            "a plan of {} positions for a stream of {rows} rows of {width}",
            index.len()
        );
    }
    let steer = Steer {
        index,
        here,
        gains,
        hidden,
    };
    stream.contiguous()?.apply_op1_no_bwd(&steer).map(Some)
}

struct Steer<'a> {
    /// By row and position, as [`PassPlan::index`].
    index: &'a [u32],
    here: &'a LayerPlan,
    gains: Option<&'a Gains>,
    hidden: usize,
}

impl CustomOp1 for Steer<'_> {
    fn name(&self) -> &'static str {
        "steer"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            candle_core::bail!("steer: the stream is not contiguous")
        };
        let out = match storage {
            CpuStorage::F32(stream) => {
                let mut out = stream[from..to].to_vec();
                self.tasks(&mut out, |states, index, first| {
                    for (number, (state, &set)) in states.chunks_exact_mut(self.hidden).zip(index).enumerate() {
                        steer(state, self.steps(set, first + number));
                    }
                });
                CpuStorage::F32(out)
            }
            CpuStorage::F16(stream) => CpuStorage::F16(self.rounded(&stream[from..to], f16::to_f32, f16::from_f32)),
            CpuStorage::BF16(stream) => CpuStorage::BF16(self.rounded(&stream[from..to], bf16::to_f32, bf16::from_f32)),
            _ => candle_core::bail!("steer: a stream of a dtype that models are not served in"),
        };
        Ok((out, layout.shape().clone()))
    }
}

impl Steer<'_> {
    /// The steps at a position of the stream whose set has index `set`.
    fn steps(&self, set: u32, position: usize) -> impl Iterator<Item = (&[f32], StepFactors, f32)> {
        let gains = self.gains.and_then(|gains| gains.at(position));
        let gain = move |step: u32| gains.and_then(|gains| gains.get(step as usize)).copied().unwrap_or(1.0);
        self.here
            .steps(set)
            .map(move |(direction, factors, step)| (direction, factors, gain(step)))
    }

    /// Splits `out` into tasks and calls `states` for each, with the set index of each position and the number of the
    /// first position.
    fn tasks<T: Send>(&self, out: &mut [T], states: impl Fn(&mut [T], &[u32], usize) + Sync) {
        let positions = (TASK_ELEMENTS / self.hidden).max(1);
        if self.index.len() <= positions {
            return states(out, self.index, 0);
        }
        out.par_chunks_mut(positions * self.hidden)
            .zip(self.index.par_chunks(positions))
            .enumerate()
            .for_each(|(task, (out, index))| states(out, index, task * positions));
    }

    fn rounded<T: Copy + Send + Sync>(&self, stream: &[T], widen: fn(T) -> f32, round: fn(f32) -> T) -> Vec<T> {
        let mut out = stream.to_vec();
        self.tasks(&mut out, |states, index, first| {
            let mut wide = vec![0f32; self.hidden];
            let positions = states.chunks_exact_mut(self.hidden).zip(index).enumerate();
            for (number, (state, &set)) in positions.filter(|(_, (_, set))| self.here.steps(**set).next().is_some()) {
                for (wide, x) in wide.iter_mut().zip(state.iter()) {
                    *wide = widen(*x);
                }
                steer(&mut wide, self.steps(set, first + number));
                for (x, wide) in state.iter_mut().zip(&wide) {
                    *x = round(*wide);
                }
            }
        });
        out
    }
}

/// Applies `steps` to one state, each multiplied by its gain.
fn steer<'a>(state: &mut [f32], steps: impl Iterator<Item = (&'a [f32], StepFactors, f32)>) {
    // Whether the norm is preserved depends on the program, so the first step decides for all.
    let mut preserved = None;
    for (number, (direction, factors, gain)) in steps.enumerate() {
        if number == 0 && factors.preserve != 0.0 {
            preserved = Some(norm(state));
        }
        let factor = if let Some([min, max]) = factors.clamp {
            let component = dot(state, direction);
            // NaN stays NaN.
            component.max(min).min(max) - component
        } else if factors.take == 0.0 {
            factors.set
        } else {
            factors.set - dot(state, direction) * factors.take
        };
        for (h, d) in state.iter_mut().zip(direction) {
            *h += d * (factor * gain);
        }
    }
    if let Some(before) = preserved {
        // A state of length 0 can't be scaled to another length. NaN stays NaN.
        let after = norm(state);
        let ratio = before
            / if after < f32::MIN_POSITIVE {
                f32::MIN_POSITIVE
            } else {
                after
            };
        let ratio = if ratio > f32::MAX { f32::MAX } else { ratio };
        state.iter_mut().for_each(|h| *h *= ratio);
    }
}
