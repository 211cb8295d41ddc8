//! A block of staged rows, and how its products join the moments.
//!
//! The block's means are subtracted, so that what is multiplied is small and products don't cancel; then one product
//! per Gram matrix (lower triangle alone) and one per cross matrix adds to the moments, by the update of
//! [`moments`](super::moments). In f64 the update's rank-one term is one more row of the block, `sqrt(weight) * shift`,
//! so that it costs no pass over the matrices. Every product is cut into parts that each core multiplies by itself:
//! none waits for another before the end, which is what costs most where cores are shared.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::layout::LayoutPlan;
use super::moments::{Moments, MomentsUpdate, shift};

/// Rows that a thread centres at a time: enough to be worth a task, and the sums' order doesn't depend on the threads.
const CHUNK: usize = 128;

/// Parts of a product per thread: few, since each reads its factors anew, and enough that one that is held up doesn't
/// hold up all.
const PARTS: usize = 2;
/// Parts that are no wider and no higher than this are not cut.
const SMALLEST_PART: usize = 256;

/// Staged rows, which are multiplied once there are enough for an efficient product.
#[derive(Clone, Debug, Default)]
pub(super) struct Stage {
    pub rows: usize,
    /// Per unique source layer: `[rows, source_hidden]`, row by row.
    pub source: Vec<Vec<f32>>,
    /// Per unique target layer.
    pub target: Vec<Vec<f32>>,
}

impl Stage {
    pub fn new(plan: &LayoutPlan) -> Self {
        Self {
            rows: 0,
            source: vec![Vec::new(); plan.sources.len()],
            target: vec![Vec::new(); plan.targets.len()],
        }
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.source.iter_mut().chain(&mut self.target).for_each(Vec::clear);
    }
}

/// The type that a block is multiplied in.
pub(super) trait Number: ComplexField + Copy + Default + Send + Sync {
    fn from_f64(value: f64) -> Self;

    /// Makes a centred block ready to be multiplied.
    fn finish(block: &mut Centred<Self>, step: MomentsUpdate);

    /// Adds one part of a product, in this thread; only its lower triangle if `lower`.
    fn add_part(to: MatMut<'_, f64>, factors: ProductFactors<'_, Self>, lower: bool);
}

/// What is multiplied: `left right + weight * left_shift right_shift^T`, the last of which in f64 is in the first.
#[derive(Clone, Copy)]
pub(super) struct ProductFactors<'a, T> {
    left: MatRef<'a, T>,
    right: MatRef<'a, T>,
    left_shift: &'a [f64],
    right_shift: &'a [f64],
    weight: f64,
}

impl<'a, T> ProductFactors<'a, T> {
    fn new(left: &'a Centred<T>, right: &'a Centred<T>, step: MomentsUpdate) -> Self {
        fn view<T>(block: &Centred<T>) -> MatRef<'_, T> {
            MatRef::from_row_major_slice(&block.values, block.values.len() / block.width, block.width)
        }
        Self {
            left: view(left).transpose(),
            right: view(right),
            left_shift: &left.shift,
            right_shift: &right.shift,
            weight: step.weight,
        }
    }

    /// Those of the first rows of the product, and of the others.
    fn split_rows(self, at: usize) -> (Self, Self) {
        let (left, below) = self.left.split_at_row(at);
        let (left_shift, shift_below) = self.left_shift.split_at(at);
        let above = Self {
            left,
            left_shift,
            ..self
        };
        let below = Self {
            left: below,
            left_shift: shift_below,
            ..self
        };
        (above, below)
    }

    /// Those of the first columns of the product, and of the others.
    fn split_columns(self, at: usize) -> (Self, Self) {
        let (right, after) = self.right.split_at_col(at);
        let (right_shift, shift_after) = self.right_shift.split_at(at);
        let before = Self {
            right,
            right_shift,
            ..self
        };
        let after = Self {
            right: after,
            right_shift: shift_after,
            ..self
        };
        (before, after)
    }
}

/// One layer's rows of a block, less their mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Centred<T> {
    width: usize,
    /// `[rows, width]`, row by row; in f64 with one row more for the shift.
    values: Vec<T>,
    /// Mean of the block less that of the rows before. `[width]`
    shift: Vec<f64>,
    /// Sum of squares about the block's mean, per dimension. `[width]`
    squares: Vec<f64>,
    /// Sum of the rows' L2 norms.
    norms: f64,
}

/// Buffers for multiplying a block, kept from block to block.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers<T> {
    sources: Vec<Centred<T>>,
    target: Centred<T>,
}

/// Joins all staged rows to the moments and empties the stage.
pub(super) fn absorb<T: Number>(plan: &LayoutPlan, stage: &mut Stage, moments: &mut Moments, buffers: &mut Buffers<T>) {
    if stage.rows == 0 {
        return;
    }
    let step = MomentsUpdate::new(moments.count, stage.rows as u64);
    let (source_hidden, target_hidden) = (plan.layout.source_hidden, plan.layout.target_hidden);
    buffers.sources.resize_with(plan.sources.len(), Centred::default);
    for (s, centred) in buffers.sources.iter_mut().enumerate() {
        centre(&stage.source[s], source_hidden, &moments.source_mean[s], centred);
        T::finish(centred, step);
        step.mean(&mut moments.source_mean[s], &centred.shift);
        moments.source_norms[s] += centred.norms;
    }
    let sources = &buffers.sources;
    let parts = PARTS * rayon::current_num_threads();
    for (input, gram) in plan.inputs.iter().zip(&mut moments.gram) {
        for (a, &left) in input.sources.iter().enumerate() {
            for (b, &right) in input.sources[..=a].iter().enumerate() {
                let (row, column) = (a * source_hidden, b * source_hidden);
                let to = gram.view_mut().submatrix_mut(row, column, source_hidden, source_hidden);
                let factors = ProductFactors::new(&sources[left], &sources[right], step);
                add_product(to, factors, a == b, parts);
            }
        }
    }
    for t in 0..plan.targets.len() {
        let centred = &mut buffers.target;
        centre(&stage.target[t], target_hidden, &moments.target_mean[t], centred);
        T::finish(centred, step);
        for (pair, cross) in plan.pairs.iter().zip(&mut moments.cross) {
            if pair.target == t {
                for (a, &source) in plan.inputs[pair.input].sources.iter().enumerate() {
                    let to = cross.view_mut().subrows_mut(a * source_hidden, source_hidden);
                    add_product(to, ProductFactors::new(&sources[source], centred, step), false, parts);
                }
            }
        }
        step.squares(&mut moments.target_squares[t], &centred.squares, &centred.shift);
        step.mean(&mut moments.target_mean[t], &centred.shift);
        moments.target_norms[t] += centred.norms;
    }
    moments.count += stage.rows as u64;
    stage.clear();
}

/// Fills `out` with the rows less their mean, and with all sums of one layer. Two passes: mean, then deviations.
fn centre<T: Number>(states: &[f32], width: usize, before: &[f64], out: &mut Centred<T>) {
    let rows = states.len() / width;
    let chunk = CHUNK * width;
    // Partial sums in order, whatever thread made them: the same rows always give the same bits.
    let sums: Vec<(Vec<f64>, f64)> = states.par_chunks(chunk).map(|rows| sum(rows, width)).collect();
    let mut mean = vec![0.0; width];
    out.norms = 0.0;
    for (sum, norms) in sums {
        add_to(&mut mean, &sum);
        out.norms += norms;
    }
    mean.iter_mut().for_each(|mean| *mean /= rows as f64);

    out.width = width;
    // In f64 there will be one row more: without room for it all would be copied, beside what it was.
    out.values.truncate(states.len());
    out.values.reserve_exact(states.len() + width - out.values.len());
    out.values.resize(states.len(), T::default());
    let squares: Vec<Vec<f64>> = states
        .par_chunks(chunk)
        .zip(out.values.par_chunks_mut(chunk))
        .map(|(states, values)| subtract(states, &mean, values))
        .collect();
    out.squares.clear();
    out.squares.resize(width, 0.0);
    squares.iter().for_each(|part| add_to(&mut out.squares, part));
    out.shift = shift(before, &mean);
}

/// Sum of the rows, and of their norms.
fn sum(states: &[f32], width: usize) -> (Vec<f64>, f64) {
    let mut sum = vec![0.0; width];
    let mut norms = 0.0;
    for row in states.chunks_exact(width) {
        for (sum, &value) in sum.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
        norms += norm(row);
    }
    (sum, norms)
}

/// L2 norm of a row, in f64.
fn norm(row: &[f32]) -> f64 {
    // Eight sums side by side, which the compiler makes one vector of.
    let mut lanes = [0f64; 8];
    let (chunks, rest) = row.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

/// Writes the deviations; returns the sums of their squares.
fn subtract<T: Number>(states: &[f32], mean: &[f64], values: &mut [T]) -> Vec<f64> {
    let width = mean.len();
    let mut squares = vec![0.0; width];
    for (states, values) in states.chunks_exact(width).zip(values.chunks_exact_mut(width)) {
        for (((&state, mean), value), square) in states.iter().zip(mean).zip(values).zip(&mut squares) {
            let deviation = f64::from(state) - mean;
            *value = T::from_f64(deviation);
            *square += deviation * deviation;
        }
    }
    squares
}

fn add_to(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Adds a product on all cores, cut into about as many parts; only its lower triangle if `lower`.
fn add_product<T: Number>(to: MatMut<'_, f64>, factors: ProductFactors<'_, T>, lower: bool, parts: usize) {
    let (rows, columns) = (to.nrows(), to.ncols());
    if parts <= 1 || rows.max(columns) <= SMALLEST_PART {
        return T::add_part(to, factors, lower);
    }
    // Whole vectors of any width.
    let half = |length: usize| (length / 2).next_multiple_of(32);
    if lower {
        // The square below is as much work as both triangles.
        let at = half(rows);
        let (first, _, square, second) = to.split_at_mut(at, at);
        let (above, below) = factors.split_rows(at);
        let (below_before, below_after) = below.split_columns(at);
        let triangles = || {
            rayon::join(
                || add_product(first, above.split_columns(at).0, true, parts / 4),
                || add_product(second, below_after, true, parts / 4),
            )
        };
        rayon::join(|| add_product(square, below_before, false, parts / 2), triangles);
    } else if rows >= columns {
        let (above, below) = to.split_at_row_mut(half(rows));
        let (of_above, of_below) = factors.split_rows(half(rows));
        rayon::join(
            || add_product(above, of_above, false, parts / 2),
            || add_product(below, of_below, false, parts / 2),
        );
    } else {
        let (before, after) = to.split_at_col_mut(half(columns));
        let (of_before, of_after) = factors.split_columns(half(columns));
        rayon::join(
            || add_product(before, of_before, false, parts / 2),
            || add_product(after, of_after, false, parts / 2),
        );
    }
}

/// `to (+)= left right`, in this thread.
fn multiply<T: Number>(to: MatMut<'_, T>, how: Accum, factors: ProductFactors<'_, T>, lower: bool, one: T) {
    let (left, right) = (factors.left, factors.right);
    let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    if lower {
        triangular::matmul(to, half, how, left, all, right, all, one, Par::Seq);
    } else {
        matmul(to, how, left, right, one, Par::Seq);
    }
}

impl Number for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }

    fn finish(block: &mut Centred<Self>, step: MomentsUpdate) {
        if step.weight > 0.0 {
            let root = step.weight.sqrt();
            block.values.extend(block.shift.iter().map(|shift| root * shift));
        }
    }

    fn add_part(to: MatMut<'_, f64>, factors: ProductFactors<'_, Self>, lower: bool) {
        multiply(to, Accum::Add, factors, lower, 1.0);
    }
}

impl Number for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn finish(_: &mut Centred<Self>, _: MomentsUpdate) {}

    fn add_part(to: MatMut<'_, f64>, factors: ProductFactors<'_, Self>, lower: bool) {
        let rows = to.nrows();
        let mut product = vec![0f32; rows * to.ncols()];
        let part = MatMut::from_column_major_slice_mut(product.as_mut_slice(), rows, to.ncols());
        multiply(part, Accum::Replace, factors, lower, 1.0);
        let to = to.try_as_col_major_mut().expect("moments are kept column by column");
        for (j, (to, product)) in to.col_iter_mut().zip(product.chunks_exact(rows)).enumerate() {
            let start = if lower { j } else { 0 };
            let factor = factors.weight * factors.right_shift[j];
            let shifts = &factors.left_shift[start..];
            for ((to, &product), shift) in to.as_slice_mut()[start..].iter_mut().zip(&product[start..]).zip(shifts) {
                *to += f64::from(product) + factor * shift;
            }
        }
    }
}
